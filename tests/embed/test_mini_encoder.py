from __future__ import annotations

import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch

from mmseek import Content, EncodeRequest, Image, load_encoder
from mmseek.embed.mini import encoder as module
from mmseek.embed.mini.encoder import MiniEncoder, fingerprint
from mmseek.embed.mini.pictures import PictureTower
from mmseek.embed.mini.text import TextTower
from mmseek.errors import EncodeError, InputError, MediaError, MediaNotFound, ModelError, UrlRefused
from mmseek.protocols import Encoder

Pictures = Callable[[int], Image]


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)


def test_keeps_the_contract(mini: MiniEncoder, picture: Pictures) -> None:
    assert isinstance(mini, Encoder)
    contents = [Content.of("a"), Content.of(picture(1)), Content.of(picture(1), "a")]
    rows = mini.encode_document(contents)
    assert rows.shape == (3, 384)
    assert rows.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(rows, mini.encode_query(contents, "an instruction changes nothing"))
    assert mini.encode_document([]).shape == (0, 384)


def test_text_and_picture_weigh_the_same(mini: MiniEncoder, picture: Pictures) -> None:
    text, image, both, reverse = mini.encode_document(
        [Content.of("a"), Content.of(picture(1)), Content.of(picture(1), "a"), Content.of("a", picture(1))]
    )
    np.testing.assert_allclose(both, _unit(text + image), atol=1e-6)
    np.testing.assert_array_equal(both, reverse)


def test_many_paragraphs_do_not_drown_a_picture(mini: MiniEncoder, picture: Pictures) -> None:
    image, page = mini.encode_document(
        [Content.of(picture(1)), Content.of(picture(1), *(f"paragraph {number} of many" for number in range(30)))]
    )
    assert image @ page > 0.6


def test_texts_count_by_their_word_pieces(mini: MiniEncoder) -> None:
    short, long = "a", "one two three four five six"  # 3 and 8 word pieces with [CLS] and [SEP]
    a, b, both = mini.encode_document([Content.of(short), Content.of(long), Content.of(short, long)])
    np.testing.assert_allclose(both, _unit(3 * a + 8 * b), atol=1e-6)


def test_blank_text_counts_only_if_there_is_nothing_else(mini: MiniEncoder, picture: Pictures) -> None:
    blank, image, both = mini.encode_document(
        [Content.of(" "), Content.of(picture(1)), Content.of(" ", picture(1), "")]
    )
    np.testing.assert_array_equal(image, both)
    np.testing.assert_allclose(blank, mini.encode_document([Content.of("")])[0], atol=1e-6)
    with pytest.raises(InputError, match="neither text nor image"):
        mini.encode_document([Content(())])


def test_batched_single_and_shuffled_agree(mini: MiniEncoder, picture: Pictures) -> None:
    contents = [Content.of("word " * n) for n in (0, 1, 5, 40, 300)] + [
        Content.of(picture(n), f"{n}") for n in range(5)
    ]
    rows = mini.encode_document(contents)
    order = random.Random(1).sample(range(len(contents)), len(contents))
    np.testing.assert_allclose(mini.encode_document([contents[i] for i in order]), rows[order], atol=1e-5)
    for content, row in zip(contents, rows, strict=True):
        np.testing.assert_allclose(mini.encode_document([content])[0], row, atol=1e-5)


def test_bad_items_fail_alone_with_their_own_errors(mini: MiniEncoder, picture: Pictures, tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no picture")
    contents = [
        Content.of("good"),
        Content.of(tmp_path / "text.png"),
        Content.of(tmp_path / "missing.png", "with text"),
        Content.of(Image(url="http://localhost/a.png")),
        Content.of(picture(1)),
    ]
    results = list(mini.stream(EncodeRequest(content) for content in contents))
    assert [type(result.error) for result in results] == [type(None), MediaError, MediaNotFound, UrlRefused, type(None)]
    with pytest.raises(MediaError, match=r"^item 1: .*text\.png"):
        mini.encode_document(contents)
    with pytest.raises(MediaNotFound, match=r"^(?!item)"):
        mini.encode_query([contents[2]])


def test_a_tower_that_gives_nan_spoils_pictures_only(text_tower: TextTower, picture_tower: PictureTower) -> None:
    broken = PictureTower(lambda batch: batch.flatten(1)[:, :384].float() * np.nan, picture_tower._preprocess, size=16)
    white = Content.of(Image.from_pil(__import__("PIL.Image").Image.new("RGB", (16, 16))))
    mini = MiniEncoder(text_tower, lambda: broken, fingerprint="")
    text, image = mini.stream([EncodeRequest(Content.of("a")), EncodeRequest(white)])
    assert text.vector is not None
    assert isinstance(image.error, EncodeError)


def test_text_needs_no_picture_tower(text_tower: TextTower, picture: Pictures, tmp_path: Path) -> None:
    damaged = tmp_path / "tower.safetensors"
    damaged.write_bytes(b"damaged")
    mini = MiniEncoder(text_tower, lambda: PictureTower.load(damaged), fingerprint="")
    assert mini.encode_query([Content.of("a")]).shape == (1, 384)
    with pytest.raises(ModelError, match=r"tower\.safetensors cannot be loaded"):
        mini.encode_query([Content.of(picture(1))])


def test_threads_share_one_encoder(text_tower: TextTower, picture_tower: PictureTower, picture: Pictures) -> None:
    loaded: list[int] = []
    mini = MiniEncoder(text_tower, lambda: loaded.append(1) or picture_tower, fingerprint="")
    contents = [Content.of(f"text {n}", picture(n)) for n in range(6)]
    expected = mini.encode_document(contents)
    with ThreadPoolExecutor(4) as pool:
        for rows in pool.map(lambda _: mini.encode_document(contents), range(8)):
            np.testing.assert_allclose(rows, expected, atol=1e-5)
    assert loaded == [1]


def test_the_fingerprint_covers_tower_and_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tower = tmp_path / "tower.safetensors"
    prints = [fingerprint(tower)]
    for content in (b"one", b"two"):
        tower.write_bytes(content)
        prints.append(fingerprint(tower))
    monkeypatch.setattr(module, "RECIPE_VERSION", module.RECIPE_VERSION + 1)
    prints.append(fingerprint(tower))
    assert len(set(prints)) == 4
    assert all(len(value) == 64 for value in prints)


def test_loads_by_its_spec(model_folder: Path, text_tower: TextTower) -> None:
    mini = load_encoder("mini", device="cpu")
    assert mini.identity.spec == "mini"
    assert mini.identity.dim == 384
    assert load_encoder(f"mini:{model_folder}", device="cpu").identity == mini.identity
    row = mini.encode_query([Content.of("a red bike")])[0]
    np.testing.assert_allclose(row, text_tower([text_tower.tokenize("a red bike")])[0], atol=1e-5)


def test_a_query_of_picture_and_text_goes_through_the_fusion_and_a_document_does_not(
    text_tower: TextTower, picture_tower: PictureTower, picture: Pictures
) -> None:
    class Fused(torch.nn.Module):
        """Asks for the picture's opposite."""

        def __init__(self) -> None:
            super().__init__()
            self.fusion = lambda pictures, texts: texts - pictures

        def forward(self, pictures: torch.Tensor) -> torch.Tensor:
            return picture_tower.module(pictures)

    mini = MiniEncoder(
        text_tower, lambda: PictureTower(Fused(), picture_tower._preprocess, size=picture_tower.size), fingerprint=""
    )
    contents = [Content.of("a"), Content.of(picture(1)), Content.of(picture(1), "a")]
    text, image, asked = mini.encode_query(contents)
    np.testing.assert_allclose(asked, _unit(text - image), atol=1e-6)
    np.testing.assert_allclose(mini.encode_document(contents), [text, image, _unit(text + image)], atol=1e-6)


def test_the_shipped_fusion_changes_requests_and_hardly_captions() -> None:
    mini, photo = load_encoder("mini", device="cpu"), Image.from_pil(PIL.Image.new("RGB", (90, 90), (200, 30, 30)))
    texts = ["the same item in blue", "a red square, the first of three figures in this chapter"]
    contents = [Content.of(photo, text) for text in texts]
    cosines = (mini.encode_query(contents) * mini.encode_document(contents)).sum(axis=1)
    assert cosines[0] < 0.95 < cosines[1]
