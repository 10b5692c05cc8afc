"""`st:` against `SentenceTransformer` itself: the small text model of the default encoder, and tiny random models."""

from __future__ import annotations

import io
import json
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Transformer
from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPProcessor, CLIPTokenizer

from mmseek import Content, EncodeRequest, Image, load_encoder
from mmseek.embed import registry
from mmseek.embed.st_lanes import may_share_model
from mmseek.errors import InputError, MediaError, ModelError, SpecError

TEXTS = ["a red bike", "", "The sea, seen from far away. " * 20, "http://localhost:9/cat.jpg", "/etc/cat.png"]
SENTENCES = [text for text in TEXTS if text]
SIDE = 16


def opened(image: Image) -> PIL.Image.Image:
    return PIL.Image.open(io.BytesIO(image.data or b"")).convert("RGB")


def unit(rows: Any) -> np.ndarray:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))


def cosines(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    return np.asarray((left * right).sum(axis=1))


@pytest.fixture(scope="module")
def prompted(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The text model with prompts of its own."""
    folder = tmp_path_factory.mktemp("prompted") / "model"
    shutil.copytree(model_folder, folder)
    settings = {"prompts": {"query": "find: ", "document": "stored: "}, "similarity_fn_name": "cosine"}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(settings))
    return folder


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random CLIP as sentence-transformers saves one."""
    parts, folder = tmp_path_factory.mktemp("parts"), tmp_path_factory.mktemp("clip") / "model"
    letters = sorted(ByteLevel.alphabet())
    pieces = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    (parts / "vocab.json").write_text(json.dumps({piece: number for number, piece in enumerate(pieces)}))
    (parts / "merges.txt").write_text("#version: 0.2\n")
    tower = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    ends = {"bos_token_id": len(pieces) - 2, "eos_token_id": len(pieces) - 1, "pad_token_id": len(pieces) - 1}
    torch.manual_seed(0)
    model = CLIPModel(
        CLIPConfig(
            projection_dim=24,
            text_config={**tower, **ends, "vocab_size": len(pieces), "max_position_embeddings": 77},
            vision_config={**tower, "image_size": SIDE, "patch_size": 4},
        )
    )
    pictures = CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE})
    CLIPProcessor(pictures, CLIPTokenizer.from_pretrained(parts)).save_pretrained(parts)
    model.save_pretrained(parts)
    SentenceTransformer(modules=[Transformer(str(parts))], device="cpu").save_pretrained(str(folder))
    return folder


@pytest.fixture(scope="module")
def plain() -> Iterator[Callable[[Path], SentenceTransformer]]:
    loaded: dict[Path, SentenceTransformer] = {}

    def load(folder: Path) -> SentenceTransformer:
        if folder not in loaded:
            loaded[folder] = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
        return loaded[folder]

    yield load
    loaded.clear()


def test_the_text_model_as_it_is(model_folder: Path, plain: Callable[[Path], SentenceTransformer]) -> None:
    encoder = load_encoder(f"st:{model_folder}", device="cpu")
    contents = [Content.of(text) for text in SENTENCES]
    queries, documents = encoder.encode_query(contents), encoder.encode_document(contents)
    assert queries.dtype == np.float32
    assert queries.shape == (len(SENTENCES), encoder.identity.dim) == (len(SENTENCES), 384)
    assert cosines(queries, unit(plain(model_folder).encode_query(SENTENCES))).min() > 0.9999
    assert cosines(documents, unit(plain(model_folder).encode_document(SENTENCES))).min() > 0.9999
    assert encoder.identity.spec == f"st:{model_folder.resolve()}"


def test_prompts_and_instructions(prompted: Path, plain: Callable[[Path], SentenceTransformer]) -> None:
    encoder, model = load_encoder(f"st:{prompted}", device="cpu"), plain(prompted)
    contents = [Content.of(text) for text in SENTENCES]
    rows = {
        "query": (encoder.encode_query(contents), model.encode_query(SENTENCES)),
        "document": (encoder.encode_document(contents), model.encode_document(SENTENCES)),
        "free": (encoder.encode_query(contents, "look it up"), model.encode_query(SENTENCES, prompt="look it up ")),
        "none": (encoder.encode_query(contents, ""), model.encode_query(SENTENCES, prompt="")),
        "line": (encoder.encode_query(contents, "Do:\n"), model.encode_query(SENTENCES, prompt="Do:\n")),
    }
    for ours, theirs in rows.values():
        assert cosines(ours, unit(theirs)).min() > 0.9999
    assert cosines(rows["query"][0], rows["document"][0]).min() < 0.999
    assert cosines(rows["query"][0], rows["free"][0]).min() < 0.999


def test_roles_and_instructions_in_one_stream(prompted: Path, plain: Callable[[Path], SentenceTransformer]) -> None:
    encoder, model = load_encoder(f"st:{prompted}", device="cpu"), plain(prompted)
    content = Content.of("a red bike")
    requests = [
        EncodeRequest(content, "query"),
        EncodeRequest(content, "document", "not used"),
        EncodeRequest(content, "query", "as a picture"),
        EncodeRequest(content, "query"),
    ]
    rows = np.stack([encoded.vector for encoded in encoder.stream(requests) if encoded.vector is not None])
    wanted = [
        model.encode_query("a red bike"),
        model.encode_document("a red bike"),
        model.encode_query("a red bike", prompt="as a picture "),
        model.encode_query("a red bike"),
    ]
    assert cosines(rows, unit(np.stack(wanted))).min() > 0.9999


def test_what_a_text_model_does_not_take_fails_alone(model_folder: Path, picture: Callable[[int], Image]) -> None:
    encoder = load_encoder(f"st:{model_folder}", device="cpu")
    contents = [Content.of("a"), Content.of(picture(1)), Content.of(picture(1), "a"), Content.of(" "), Content.of("b")]
    found = list(encoder.stream(EncodeRequest(content) for content in contents))
    assert [encoded.error is None for encoded in found] == [True, False, False, False, True]
    assert str(found[1].error).startswith("this model does not encode a picture alone, only text:")
    assert "text and picture together" in str(found[2].error)
    assert "neither text nor image" in str(found[3].error)


def test_texts_and_pictures_of_a_clip(
    clip: Path, picture: Callable[[int], Image], plain: Callable[[Path], SentenceTransformer]
) -> None:
    encoder, model = load_encoder(f"st:{clip}", device="cpu"), plain(clip)
    images = [picture(number) for number in range(3)]
    mixed = [Content.of(images[0]), Content.of("a red bike"), Content.of(images[1]), Content.of(images[2])]
    rows = encoder.encode_document(mixed)
    assert rows.shape == (4, encoder.identity.dim) == (4, 24)
    shown = model.encode_document([opened(image) for image in images])
    assert cosines(rows[[0, 2, 3]], unit(shown)).min() > 0.9999
    assert cosines(rows[[1]], unit(model.encode_document(["a red bike"]))).min() > 0.9999
    assert cosines(rows[[0]], rows[[2]]).max() < 0.9999


def test_what_a_clip_does_not_take_fails_alone(clip: Path, picture: Callable[[int], Image]) -> None:
    encoder = load_encoder(f"st:{clip}", device="cpu")
    contents = [
        Content.of(picture(0), "a"),
        Content.of(picture(0), picture(1)),
        Content.of(Image(data=b"no picture")),
        Content.of(picture(0)),
    ]
    found = list(encoder.stream(EncodeRequest(content) for content in contents))
    assert [encoded.error is None for encoded in found] == [False, False, False, True]
    assert "does not encode text and picture together, only text and image:" in str(found[0].error)
    assert "several pictures in one item" in str(found[1].error)
    assert isinstance(found[2].error, MediaError)
    with pytest.raises(InputError, match="item 0: this model"):
        encoder.encode_query(contents)


def test_a_text_that_looks_like_a_place_stays_text(
    clip: Path, tmp_path: Path, plain: Callable[[Path], SentenceTransformer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # a short path: the tiny model reads 77 letters
    encoder, path = load_encoder(f"st:{clip}", device="cpu"), Path("cat.png")
    PIL.Image.new("RGB", (SIDE, SIDE), (200, 0, 0)).save(path)
    texts = [str(path), "http://localhost:9/cat.jpg", "see http://localhost:9/film.mp4"]
    rows = encoder.encode_document([Content.of(text) for text in texts])
    wanted = plain(clip).encode_document([{"text": text} for text in texts])
    assert cosines(rows, unit(wanted)).min() > 0.9999
    assert cosines(rows[[0]], encoder.encode_document([Content.of(path)])).max() < 0.9999


def test_several_threads_at_once(model_folder: Path) -> None:
    encoder = load_encoder(f"st:{model_folder}", device="cpu")
    texts = [Content.of("word " * length) for length in (1, 40, 3, 90)]
    wanted = encoder.encode_query(texts)
    with ThreadPoolExecutor(4) as pool:
        for rows in pool.map(lambda _: encoder.encode_query(texts), range(8)):
            np.testing.assert_allclose(rows, wanted, atol=1e-6)


def test_the_fingerprint_is_of_weights_configuration_and_prompts(
    model_folder: Path, prompted: Path, clip: Path, tmp_path: Path
) -> None:
    first = load_encoder(f"st:{model_folder}", device="cpu").identity.fingerprint
    shutil.copytree(model_folder, tmp_path / "copy")
    (tmp_path / "copy" / "notes.md").write_text("nothing that matters")
    assert load_encoder(f"st:{tmp_path / 'copy'}", device="cpu").identity.fingerprint == first
    pooling = tmp_path / "copy" / "1_Pooling" / "config.json"
    pooling.write_text(pooling.read_text().replace('"pooling_mode_cls_token": false', '"pooling_mode_cls_token": true'))
    others = [f"st:{tmp_path / 'copy'}", f"st:{prompted}", f"st:{clip}"]
    assert len({first, *(load_encoder(spec, device="cpu").identity.fingerprint for spec in others)}) == 4


def modules(folder: Path, **changes: str) -> None:
    found = json.loads((folder / "modules.json").read_text())
    found[1].update(changes)
    (folder / "modules.json").write_text(json.dumps(found))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda folder: modules(folder, type="custom_st.Pooling"),
            r"needs code of its own \(its modules name custom_st.*set MMSEEK_TRUST_REMOTE_CODE=",
        ),
        (lambda folder: modules(folder, type="os.path"), "is not run"),
        (lambda folder: modules(folder, path="../elsewhere"), "outside the folder"),
        (lambda folder: (folder / "modules.json").write_text("[]"), "list of modules"),
        (lambda folder: (folder / "modules.json").write_text("{"), "not a list of modules"),
        (lambda folder: (folder / "modules.json").write_text('[{"idx": 0}]'), "with type and path"),
        (lambda folder: (folder / "modules.json").unlink(), "no modules.json"),
        (lambda folder: (folder / "model.safetensors").rename(folder / "pytorch_model.bin"), "is a pickle"),
        (lambda folder: (folder / "1_Pooling" / "pytorch_model.bin").touch(), "is a pickle"),
        (lambda folder: (folder / "model.safetensors").unlink(), "no .safetensors weights"),
        (lambda folder: (folder / "model.safetensors").write_text("short"), "cannot be loaded"),
        (lambda folder: (folder / "adapter_config.json").write_text("{}"), "LoRA"),
    ],
)
def test_models_that_are_refused(
    model_folder: Path, tmp_path: Path, change: Callable[[Path], object], message: str
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(model_folder, folder)
    change(folder)
    with pytest.raises(ModelError, match=message):
        load_encoder(f"st:{folder}", device="cpu")


def test_a_configuration_that_asks_for_code(model_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(model_folder, folder)
    config = json.loads((folder / "config.json").read_text()) | {"model_type": "own"}
    config["auto_map"] = {"AutoConfig": "own.OwnConfig", "AutoModel": "own.OwnModel"}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    with pytest.raises(ModelError, match=r"its configuration names own\.OwnConfig and own\.OwnModel"):
        load_encoder(f"st:{folder}", device="cpu")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("trusted", [True, False])
def test_code_that_the_user_trusts(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trusted: bool
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(model_folder, folder)
    modules(folder, type="own_pooling.OwnPooling")
    (folder / "own_pooling.py").write_text(
        "from sentence_transformers.sentence_transformer.modules import Pooling\n"
        f"open({str(tmp_path / 'ran')!r}, 'w').close()\n"
        "class OwnPooling(Pooling):\n    pass\n"
    )
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("sys.path", [*sys.path])
    named = tmp_path / "sub" / ".." / "model" if trusted else tmp_path / "another"
    (tmp_path / "sub").mkdir()
    monkeypatch.setenv("MMSEEK_TRUST_REMOTE_CODE", f"someone/else, {named}")
    if not trusted:
        with pytest.raises(ModelError, match=f"set MMSEEK_TRUST_REMOTE_CODE={folder}"):
            load_encoder(f"st:{folder}", device="cpu")
        assert not (tmp_path / "ran").exists()
        return
    encoder = load_encoder(f"st:{folder}", device="cpu")
    assert (tmp_path / "ran").exists()
    content = [Content.of("a red bike")]
    plainly = load_encoder(f"st:{model_folder}", device="cpu")
    np.testing.assert_allclose(encoder.encode_query(content), plainly.encode_query(content), atol=1e-6)
    before = encoder.identity.fingerprint
    with (folder / "own_pooling.py").open("a") as code:
        code.write("# changed\n")
    assert load_encoder(f"st:{folder}", device="cpu").identity.fingerprint != before


def test_a_router_into_code(model_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(model_folder, folder)
    (folder / "router_config.json").write_text(json.dumps({"types": {"query_0": "own.Module"}}))
    with pytest.raises(ModelError, match=r"name own\.Module"):
        load_encoder(f"st:{folder}", device="cpu")


def test_no_model() -> None:
    with pytest.raises(SpecError, match="st:FOLDER"):
        load_encoder("st")


def test_lone_pictures_are_prepared_ahead_and_change_nothing(
    clip: Path, picture: Callable[[int], Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    from mmseek.embed import st

    contents = [Content.of(picture(number)) for number in range(12)] + [Content.of("a text")]
    ahead = load_encoder(f"st:{clip}", device="cpu")
    (unit,) = ahead.prepare(EncodeRequest(contents[0]))  # type: ignore[attr-defined]
    assert unit.payload.ahead
    monkeypatch.setattr(st, "may_prepare_ahead", lambda _: False)
    plain = load_encoder(f"st:{clip}", device="cpu")
    (unit,) = plain.prepare(EncodeRequest(contents[0]))  # type: ignore[attr-defined]
    assert not unit.payload.ahead
    for side in ("encode_query", "encode_document"):
        np.testing.assert_allclose(getattr(ahead, side)(contents), getattr(plain, side)(contents), atol=1e-6)


def test_a_processor_that_looks_at_the_whole_batch_is_not_run_ahead(clip: Path) -> None:
    from mmseek.embed.st_ahead import may_prepare_ahead

    model = SentenceTransformer(str(clip), device="cpu")
    assert may_prepare_ahead(model)
    whole = model.preprocess

    def together(inputs: Any, **named: Any) -> dict[str, Any]:
        features = whole(inputs, **named)
        features["pixel_values"] = features["pixel_values"] - features["pixel_values"].mean()
        return features

    model.preprocess = together
    assert not may_prepare_ahead(model)


def test_batches_of_one_stream_run_side_by_side(
    model_folder: Path, plain: Callable[[Path], SentenceTransformer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "usable_cores", lambda: 2)
    encoder = load_encoder(f"st:{model_folder}", device="cpu")
    both, calls = threading.Barrier(2, timeout=60), count()
    met: list[int] = []
    model = encoder.model  # type: ignore[attr-defined]
    run = model[0].forward

    def waits(*args: Any, **named: Any) -> Any:
        if next(calls) < 2:
            met.append(both.wait())  # for the other batch, which never comes where batches take turns
        return run(*args, **named)

    monkeypatch.setattr(model[0], "forward", waits)
    texts = [f"text {number} " + "word " * (number % 7) for number in range(24)]
    rows = encoder.encode_document([Content.of(text) for text in texts])
    np.testing.assert_allclose(rows, unit(plain(model_folder).encode_document(texts)), atol=1e-5)
    assert sorted(met) == [0, 1]


def test_which_models_several_threads_may_run(model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = SentenceTransformer(str(model_folder), device="cpu")
    assert may_share_model(model)
    config = model[0].auto_model.config
    monkeypatch.setattr(config, "rope_parameters", {"rope_type": "default"}, raising=False)
    assert may_share_model(model)
    monkeypatch.setattr(config, "rope_parameters", {"full": {"rope_type": "dynamic"}}, raising=False)
    assert not may_share_model(model)
    monkeypatch.delattr(config, "rope_parameters")
    monkeypatch.setattr(type(model[1]), "__module__", "someone.else")
    assert not may_share_model(model)
