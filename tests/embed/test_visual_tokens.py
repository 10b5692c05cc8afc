"""Fewer visual tokens: what is kept, where it stands, and that all tokens are the plain path."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch

from mmseek import Content, EncodeRequest, Image, load_encoder
from mmseek.embed import load_multi_vector_encoder
from mmseek.embed.qwen_vl import QwenVLEncoder
from mmseek.errors import SpecError
from mmseek.models.significance import LlavaSignificance, QwenSignificance
from mmseek.models.spec import Spec, absolute, parse_spec, with_visual_tokens
from mmseek.models.token_reduction import Reduced, Row, merged, pruned, read, received
from mmseek.models.visual_tokens import METHODS, VisualTokens, parse_visual_tokens

Vectors = Callable[[Any, Sequence[EncodeRequest]], np.ndarray]

FAMILIES = [
    ("vlm2vec", "qwen2_vl"),
    ("vlm2vec", "qwen2_5_vl"),
    ("vlm2vec", "llava_next"),
    ("qwen3-vl", "qwen3_vl"),
    ("gme", "qwen2_vl"),
    ("jina-v4", "jina_v4"),
    ("e5-v", "llava_next"),
]


def picture(width: int, height: int) -> Image:
    pixels = np.random.default_rng(width * height).integers(0, 255, (height // 10, width // 10, 3), dtype=np.uint8)
    return Image.from_pil(PIL.Image.fromarray(pixels).resize((width, height)))


ONE, OTHER = picture(200, 150), picture(100, 180)
REQUESTS = [
    EncodeRequest(Content.of("a text")),
    EncodeRequest(Content.of(ONE)),
    EncodeRequest(Content.of(OTHER), "query"),
    EncodeRequest(Content.of(ONE, "a text")),
    EncodeRequest(Content.of("one", OTHER, "two", ONE, "three")),
]


def loaded(tiny_vlm: Callable[[str], Path], family: str, kind: str, amount: str | None = None) -> Any:
    return load_encoder(with_visual_tokens(f"{family}:{tiny_vlm(kind)}", amount), device="cpu")


@pytest.mark.parametrize(("family", "kind"), FAMILIES)
def test_all_tokens_are_the_plain_path(
    tiny_vlm: Callable[[str], Path], family: str, kind: str, vectors: Vectors
) -> None:
    plain = loaded(tiny_vlm, family, kind)
    rows = vectors(plain, REQUESTS)
    whole = loaded(tiny_vlm, family, kind, "1.0")
    assert whole.identity == plain.identity
    np.testing.assert_array_equal(vectors(whole, REQUESTS), rows)
    for method in METHODS:  # through the other way of reading, with nothing to leave out
        many = loaded(tiny_vlm, family, kind, f"99999:{method}")
        assert many.identity.fingerprint != plain.identity.fingerprint
        np.testing.assert_allclose(vectors(many, REQUESTS), rows, atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("family", "kind"), FAMILIES)
def test_an_item_has_one_vector_in_any_company(
    tiny_vlm: Callable[[str], Path], family: str, kind: str, method: str, vectors: Vectors
) -> None:
    model = loaded(tiny_vlm, family, kind, f"0.5:{method}")
    rows = vectors(model, REQUESTS)
    np.testing.assert_allclose(vectors(model, REQUESTS[::-1])[::-1], rows, atol=1e-5)
    alone = np.stack([vectors(model, [request])[0] for request in REQUESTS])
    np.testing.assert_allclose(alone, rows, atol=1e-5)
    if isinstance(model, QwenVLEncoder) and family != "jina-v4":
        left = type(model)(model.checkpoint, spec="left", padding="left")
        np.testing.assert_allclose(vectors(left, REQUESTS), rows, atol=1e-5)
    plain = vectors(loaded(tiny_vlm, family, kind), REQUESTS)
    np.testing.assert_allclose(rows[0], plain[0], atol=1e-6)  # a text has nothing to leave out
    assert (np.abs(rows[1:] - plain[1:]).max(axis=1) > 1e-4).all()


@pytest.mark.parametrize(("family", "kind"), [("vlm2vec", "qwen2_5_vl"), ("vlm2vec", "llava_next")])
def test_batches_are_cut_by_what_is_read(tiny_vlm: Callable[[str], Path], family: str, kind: str) -> None:
    request = EncodeRequest(Content.of("one", OTHER, "two", ONE, "three"))
    (plain,) = loaded(tiny_vlm, family, kind).prepare(request)
    (fewer,) = loaded(tiny_vlm, family, kind, "3").prepare(request)
    mark = 258 if kind == "llava_next" else 261
    visual = int((plain.payload.tokens == mark).sum())
    assert visual > 20
    assert fewer.cost == plain.cost - visual + 2 * 3
    assert plain.cost == len(plain.payload.tokens)


def test_many_vectors_are_those_of_what_is_left(tiny_vlm: Callable[[str], Path], tmp_path: Path) -> None:
    import shutil

    from safetensors.torch import load_file, save_file

    folder = tmp_path / "colqwen2"
    shutil.copytree(tiny_vlm("qwen2_vl"), folder)
    weights = load_file(folder / "model.safetensors")
    generator = torch.Generator().manual_seed(0)
    weights |= {
        "custom_text_proj.weight": torch.randn(8, 32, generator=generator),
        "custom_text_proj.bias": torch.ones(8),
    }
    save_file(weights, folder / "model.safetensors")
    plain = load_multi_vector_encoder(f"colqwen2:{folder}", device="cpu")
    fewer = load_multi_vector_encoder(f"colqwen2:{folder}?visual-tokens=4:rank", device="cpu")
    (all_tokens,) = plain.encode_document_tokens([Content.of(ONE)])
    (kept,) = fewer.encode_document_tokens([Content.of(ONE)])
    visual = 7 * 5
    assert len(all_tokens) - len(kept) == visual - 4
    assert fewer.identity.spec.endswith("?visual-tokens=4:rank")


@pytest.mark.parametrize("kind", ["qwen2_vl", "qwen2_5_vl", "qwen3_vl"])
def test_significance_is_of_the_towers_own_attention(tiny_vlm: Callable[[str], Path], kind: str) -> None:
    """The queries and keys that are looked at, with the values, give what the layer itself gives."""
    from transformers.models.qwen2_vl.modeling_qwen2_vl import apply_rotary_pos_emb_vision

    family = "qwen3-vl" if kind == "qwen3_vl" else "vlm2vec"
    encoder = loaded(tiny_vlm, family, kind)
    (unit,) = encoder.prepare(EncodeRequest(Content.of(ONE)))
    inputs = encoder._visual(unit.payload.pictures)
    visual = encoder.model.visual
    significance, grids = QwenSignificance(visual), inputs["image_grid_thw"]
    with torch.inference_mode(), significance.look() as noted:
        out = encoder.model.get_image_features(inputs["pixel_values"], grids, return_dict=True)
    with torch.inference_mode():
        (scores,) = significance.scores(noted, grids)
        attention, states = significance._watched.attention, noted["hidden_states"]
        queries, keys, values = attention.qkv(states).reshape(len(states), 3, attention.num_heads, -1).unbind(1)
        queries, keys = apply_rotary_pos_emb_vision(queries, keys, *noted["position_embeddings"])
        weights = torch.softmax(torch.einsum("qhd,khd->hqk", queries, keys) * attention.scaling, dim=-1)
        given = attention.proj(torch.einsum("hqk,khd->qhd", weights, values).flatten(1))
        torch.testing.assert_close(given, attention(**noted), atol=1e-5, rtol=1e-4)
        order = significance._order(grids)
        expected = weights.mean(dim=(0, 1)).view(-1, 4).mean(dim=1)[order]
        torch.testing.assert_close(scores, expected)
        if kind != "qwen3_vl":  # the same order as the tower's output has
            torch.testing.assert_close(visual.merger(out.last_hidden_state)[order], out.pooler_output[0])
    assert float(scores.max() / scores.min()) > 1.1


def test_llavas_significance_has_a_score_for_each_state(tiny_vlm: Callable[[str], Path]) -> None:
    encoder = loaded(tiny_vlm, "vlm2vec", "llava_next")
    (unit,) = encoder.prepare(EncodeRequest(Content.of(ONE)))
    model = encoder._checkpoint
    (seen,) = unit.payload.pictures
    inputs = model._visual([seen])
    significance = LlavaSignificance(model.model)
    with torch.inference_mode(), significance.look() as noted:
        out = model.model.get_image_features(**inputs, return_dict=True)
    with torch.inference_mode():
        (pair,) = significance.scores(noted, [len(seen.pixels)], inputs["image_sizes"])
    scores, rows = pair
    assert len(scores) == len(rows) == seen.states == len(out.pooler_output[0])
    newline = (out.pooler_output[0] == model.model.image_newline).all(dim=1)
    assert (scores[newline] == 0).all()
    assert (scores[~newline] > 0).all()
    # The whole picture has two rows of two; in the grid each row ends with its mark.
    assert rows[:4].tolist() == [0, 0, 1, 1]
    assert (rows[newline].diff() == 1).all()
    assert rows[4] == 2


def test_similar_tokens_are_merged_and_places_stay() -> None:
    generator = torch.Generator().manual_seed(0)
    kinds = torch.randn(3, 8, generator=generator)
    states = kinds[[0, 0, 1, 1, 2, 2]]
    left = merged(states, [states * 2], 3)
    torch.testing.assert_close(left.states, kinds)
    torch.testing.assert_close(left.deeper[0], kinds * 2)
    assert left.places.tolist() == [1, 3, 5]
    one = merged(states[:2] * torch.tensor([[1.0], [3.0]]), (), 1)
    torch.testing.assert_close(one.states[0], kinds[0] * 2)
    for count in range(1, 8):
        some = merged(torch.randn(7, 8, generator=generator), (), count)
        assert len(some.states) == len(some.places) == count
        assert some.places.tolist() == sorted(set(some.places.tolist()))


def test_the_most_significant_are_kept_in_their_order() -> None:
    states = torch.arange(6.0)[:, None]
    scores = torch.tensor([0.1, 0.5, 0.2, 0.2, 0.3, 0.0])
    assert pruned(states, (), 3, scores, None).places.tolist() == [1, 2, 4]  # of equals the first
    rows = torch.tensor([0, 0, 1, 1, 2, 2])
    assert pruned(states, [states], 3, scores, rows).places.tolist() == [0, 1, 2]  # row 0, and the first of the next
    assert pruned(states, [states], 3, scores, rows).deeper[0].flatten().tolist() == [0, 1, 2]
    torch.testing.assert_close(received(torch.zeros(2, 3, 4), torch.zeros(2, 3, 4), 0.5), torch.full((3,), 1 / 3))


def test_what_is_kept_keeps_its_positions() -> None:
    seen: dict[str, Any] = {}

    def language_model(**inputs: Any) -> Any:
        seen.update(inputs)
        return SimpleNamespace(last_hidden_state=inputs["inputs_embeds"])

    embedding = torch.nn.Embedding(20, 2)
    model = SimpleNamespace(get_input_embeddings=lambda: embedding, language_model=language_model)
    tokens = np.array([3, 9, 9, 9, 9, 4])
    positions = np.array([[0, 1, 1, 1, 1, 3], [0, 1, 1, 2, 2, 3], [0, 1, 2, 1, 2, 3]])
    left = Reduced(torch.ones(2, 2), (torch.full((2, 2), 5.0),), torch.tensor([1, 2]))
    rows = [
        Row(tokens, positions, tokens == 9, [left], [4]),
        Row(np.array([7]), np.zeros((3, 1), dtype=np.int64), np.array([False])),
    ]
    with torch.inference_mode():
        states = read(model, rows, "cpu", left=True, deepstack=True)
    assert [len(each) for each in states] == [4, 1]
    assert seen["position_ids"][:, 0].tolist() == [[0, 1, 1, 3], [0, 1, 2, 3], [0, 2, 1, 3]]
    assert seen["attention_mask"].tolist() == [[1, 1, 1, 1], [0, 0, 0, 1]]
    assert seen["visual_pos_masks"].tolist() == [[False, True, True, False], [False] * 4]
    torch.testing.assert_close(seen["deepstack_visual_embeds"][0], left.deeper[0])
    torch.testing.assert_close(states[0][1:3], left.states)


@pytest.mark.parametrize(
    ("text", "expected", "kept"),
    [
        ("0.5", VisualTokens(0.5), [1, 1, 2, 50]),
        ("0.25:rank", VisualTokens(0.25, "rank"), [1, 1, 1, 25]),
        ("64:rows", VisualTokens(64, "rows"), [1, 2, 3, 64]),
        ("1", VisualTokens(1), [1, 1, 1, 1]),
        ("1.0", None, []),
    ],
)
def test_amounts(text: str, expected: VisualTokens | None, kept: list[int]) -> None:
    found = parse_visual_tokens(text)
    assert found == expected
    if found is not None:
        assert [found.kept(tokens) for tokens in (1, 2, 3, 100)] == kept
        assert parse_visual_tokens(str(found)) == found


def test_is_part_of_the_spec(tmp_path: Path) -> None:
    spec = parse_spec("vlm2vec:some/model@main#some/adapter?visual-tokens=0.5:rank", ["vlm2vec"])
    assert spec == Spec("vlm2vec", "some/model", "main", "some/adapter", VisualTokens(0.5, "rank"))
    assert str(spec) == "vlm2vec:some/model@main#some/adapter?visual-tokens=0.5:rank"
    assert absolute(parse_spec(f"gme:{tmp_path}?visual-tokens=8", ["gme"])) == f"gme:{tmp_path}?visual-tokens=8"
    assert parse_spec("gme:a?visual-tokens=1.0", ["gme"]) == Spec("gme", "a")
    for wrong in ("", "0", "1.5", "-1", "half", "0.5:best", "nan"):
        with pytest.raises(SpecError, match="write the share to keep"):
            parse_spec(f"gme:a?visual-tokens={wrong}", ["gme"])
    with pytest.raises(SpecError, match="mini has no visual tokens to leave out"):
        with_visual_tokens("mini", "0.5")
    with pytest.raises(SpecError, match="given twice"):
        with_visual_tokens("gme:a?visual-tokens=8", "0.5")


def test_families_that_read_all_tokens_say_so(tiny_vlm: Callable[[str], Path]) -> None:
    with pytest.raises(SpecError, match="mme5 reads all visual tokens: leave the amount out, or use one of vlm2vec"):
        loaded(tiny_vlm, "mme5", "mllama", "0.5")
    with pytest.raises(SpecError, match="mini reads all visual tokens"):
        load_encoder("mini:folder?visual-tokens=0.5")
    with pytest.raises(SpecError, match=r"Phi-3\.5-V reads all visual tokens"):
        loaded(tiny_vlm, "vlm2vec", "phi3_v", "0.5")


def test_jina_names_its_task_and_its_tokens(tiny_vlm: Callable[[str], Path]) -> None:
    folder = tiny_vlm("jina_v4")
    model = load_encoder(f"jina-v4:{folder}#text-matching?visual-tokens=0.5", device="cpu")
    assert model.identity.spec == f"jina-v4:{folder}#text-matching?visual-tokens=0.5"
    assert load_encoder(model.identity.spec, device="cpu").identity == model.identity
