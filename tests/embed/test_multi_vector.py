"""`colqwen2` and `biqwen2` on a random checkpoint made here, against plain calls of transformers; token pooling."""

import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers import Qwen2VLModel
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from mmseek import Content, EncodeRequest, Image, load_encoder
from mmseek.embed import load_multi_vector_encoder
from mmseek.embed.biqwen2 import render
from mmseek.embed.detect import detect
from mmseek.embed.multi_vector import EngineTokenEncoder
from mmseek.embed.token_pooling import pool_tokens
from mmseek.errors import ConfigError, InputError, MediaError, ModelError, SpecError
from mmseek.models.maxsim import maxsim
from mmseek.protocols import Encoder, MultiVectorEncoder
from mmseek.testing import noise_picture as picture
from mmseek.training.tiny import byte_tokenizer, tiny_qwen_vl

MARKS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>"]
PAGE = "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>Describe the image.<|im_end|><|endoftext|>"
MEAN, STD = [0.5, 0.4, 0.3], [0.2, 0.3, 0.4]
PIXELS = (56 * 56, 112 * 112)
DIM = 16


@pytest.fixture(scope="module")
def biqwen2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("biqwen2")
    tiny_qwen_vl(folder, key_heads=1)
    settings = {"image_mean": MEAN, "image_std": STD, "min_pixels": PIXELS[0], "max_pixels": PIXELS[1]}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    return folder


@pytest.fixture(scope="module")
def colqwen2(biqwen2: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "colqwen2"
    shutil.copytree(biqwen2, folder)
    generator = torch.Generator().manual_seed(1)
    weights = load_file(folder / "model.safetensors") | {
        "custom_text_proj.weight": torch.randn(DIM, 32, generator=generator),
        "custom_text_proj.bias": torch.randn(DIM, generator=generator),
    }
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.fixture(scope="module")
def encoder(colqwen2: Path) -> EngineTokenEncoder:
    found = load_multi_vector_encoder(f"colqwen2:{colqwen2}", device="cpu")
    assert isinstance(found, EngineTokenEncoder)
    return found


REQUESTS = [
    EncodeRequest(Content.of("What is shown?"), "query"),
    EncodeRequest(Content.of("a longer text that stands in a document")),
    EncodeRequest(Content.of(picture(90, 60))),
    EncodeRequest(Content.of(picture(300, 400))),  # more pixels than the checkpoint allows
    EncodeRequest(Content.of("one", picture(64, 64), "two", picture(84, 56), "three")),
    EncodeRequest(Content.of(picture(50, 20), "which colour?"), "query"),
]


def plain_states(folder: Path, request: EncodeRequest) -> torch.Tensor:
    """One request through transformers' own picture processor and model, which makes the rotary positions itself."""
    model = Qwen2VLModel.from_pretrained(folder, dtype=torch.float32).eval()
    prompt = render(request.content, request.role)
    inputs: dict[str, Any] = {}
    if request.content.images:
        processor = Qwen2VLImageProcessorPil(
            image_mean=MEAN, image_std=STD, size={"shortest_edge": PIXELS[0], "longest_edge": PIXELS[1]}
        )
        opened = [PIL.Image.open(io.BytesIO(image.data or b"")) for image in request.content.images]
        inputs = dict(processor(images=opened, return_tensors="pt"))
        for grid in inputs["image_grid_thw"]:
            prompt = prompt.replace("<|image_pad|>", "<|placeholder|>" * int(grid.prod() // 4), 1)
        prompt = prompt.replace("<|placeholder|>", "<|image_pad|>")
    ids = torch.tensor([byte_tokenizer(*MARKS).encode(prompt).ids])
    inputs["mm_token_type_ids"] = (ids == model.config.image_token_id).int()
    with torch.no_grad():
        states: torch.Tensor = model(input_ids=ids, **inputs).last_hidden_state[0]
    return states


def plain(folder: Path, request: EncodeRequest) -> np.ndarray:
    weights = load_file(folder / "model.safetensors")
    vectors = plain_states(folder, request) @ weights["custom_text_proj.weight"].T + weights["custom_text_proj.bias"]
    return np.asarray(vectors / vectors.norm(dim=-1, keepdim=True))


def tokens(encoder: MultiVectorEncoder, requests: list[EncodeRequest]) -> list[np.ndarray]:
    found = []
    for encoded in encoder.stream_tokens(requests):
        assert encoded.vector is not None, encoded.error
        found.append(encoded.vector)
    return found


def close(one: list[np.ndarray], other: list[np.ndarray]) -> None:
    for mine, theirs in zip(one, other, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-5)


@pytest.mark.parametrize(
    ("content", "role", "expected"),
    [
        (Content.of("What?"), "query", "What?" + "<|endoftext|>" * 10),
        (Content.of("What?"), "document", "What?"),
        (Content.of(picture(8, 8)), "document", PAGE),
        (
            Content.of("A", picture(8, 8), "B"),
            "document",
            "<|im_start|>user\nA<|vision_start|><|image_pad|><|vision_end|>BDescribe the image.<|im_end|><|endoftext|>",
        ),
    ],
)
def test_prompts(content: Content, role: Any, expected: str) -> None:
    assert render(content, role) == expected


def test_equal_to_plain_transformers(encoder: EngineTokenEncoder, colqwen2: Path) -> None:
    found = tokens(encoder, REQUESTS)
    close(found, [plain(colqwen2, request) for request in REQUESTS])
    assert all(each.dtype == np.float32 and each.shape[1] == encoder.identity.dim == DIM for each in found)
    # 14 letters and ten marks; 3 x 4 visual tokens of the large picture, and its prompt
    assert len(found[0]) == 24
    assert len(found[3]) == len(byte_tokenizer(*MARKS).encode(PAGE).ids) - 1 + 12


def test_what_it_reads_has_a_vector_a_token(encoder: EngineTokenEncoder) -> None:
    for request, vectors in zip(REQUESTS, tokens(encoder, REQUESTS), strict=True):
        read = encoder.reads(request)
        assert read.prompt == render(request.content, request.role)
        assert read.tokens == len(vectors)
        assert len(read.picture_tokens) == len(request.content.images)
    assert encoder.reads(REQUESTS[2]).picture_tokens == (6,)  # 84 x 56 pixels of 28 x 28 a token


def test_batches_change_nothing(encoder: EngineTokenEncoder) -> None:
    single = [tokens(encoder, [request])[0] for request in REQUESTS]
    close(tokens(encoder, REQUESTS), single)
    order = [3, 0, 5, 1, 4, 2, 0]
    close(tokens(encoder, [REQUESTS[n] for n in order]), [single[n] for n in order])
    payloads = [encoder.recipe.prepare(request)[0].payload for request in REQUESTS]
    close(list(encoder.recipe.forward("sequence", payloads)), single)  # one batch, padded
    assert not np.allclose(single[0][:4], single[1][:4], atol=0.1)


def test_the_two_sides(encoder: EngineTokenEncoder) -> None:
    contents = [request.content for request in REQUESTS]
    (query,) = encoder.encode_query_tokens(contents[:1], "ignored")
    close([query], tokens(encoder, REQUESTS[:1]))
    close(encoder.encode_document_tokens(contents[1:5]), tokens(encoder, REQUESTS[1:5]))
    assert len(encoder.encode_document_tokens(contents[:1])[0]) == len(query) - 10
    with pytest.raises(InputError, match="item 1: an item has neither text nor image"):
        encoder.encode_document_tokens([contents[0], Content(())])


def test_a_bad_item_fails_alone(encoder: EngineTokenEncoder) -> None:
    bad = [EncodeRequest(Content.of(Image(data=b"no picture"))), EncodeRequest(Content(()))]
    found = list(encoder.stream_tokens([*bad, REQUESTS[0]]))
    assert [type(encoded.error) for encoded in found] == [MediaError, InputError, type(None)]


def test_biqwen2_is_the_last_state(biqwen2: Path) -> None:
    encoder = load_encoder(f"biqwen2:{biqwen2}", device="cpu")
    expected = torch.stack([plain_states(biqwen2, request)[-1] for request in REQUESTS])
    found = [encoded.vector for encoded in encoder.stream(REQUESTS)]
    close(found, list(torch.nn.functional.normalize(expected, dim=1).numpy()))  # type: ignore[arg-type]
    assert encoder.identity.dim == 32


def test_the_two_kinds_of_encoders_are_never_mixed(colqwen2: Path, biqwen2: Path, encoder: EngineTokenEncoder) -> None:
    assert isinstance(encoder, MultiVectorEncoder)
    assert not isinstance(encoder, Encoder)
    assert not isinstance(load_encoder(f"biqwen2:{biqwen2}", device="cpu"), MultiVectorEncoder)
    for spec in (f"colqwen2:{colqwen2}", f"auto:{colqwen2}"):
        with pytest.raises(SpecError, match="gives a vector for each token and this needs one an item"):
            load_encoder(spec)
    with pytest.raises(SpecError, match=r"gives one vector an item .* use one of colqwen2"):
        load_multi_vector_encoder("mini")


def test_auto(colqwen2: Path, biqwen2: Path) -> None:
    found = detect(colqwen2)
    assert (found.family, found.reason) == (
        "colqwen2",
        "its config.json says qwen2_vl and its weights have custom_text_proj",
    )
    assert detect(biqwen2).family == "biqwen2"
    assert isinstance(load_multi_vector_encoder(f"auto:{colqwen2}", device="cpu"), MultiVectorEncoder)


def test_a_checkpoint_without_the_layer(biqwen2: Path) -> None:
    with pytest.raises(ModelError, match="has no layer custom_text_proj or multi_vector_projector from 32 dimensions"):
        load_multi_vector_encoder(f"colqwen2:{biqwen2}", device="cpu")


def test_limits_that_are_none(colqwen2: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(colqwen2, folder)
    settings = {"image_mean": MEAN, "image_std": STD, "size": {"shortest_edge": 9000, "longest_edge": 4000}}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    with pytest.raises(ModelError, match="limits pictures to 9000 to 4000 pixels"):
        load_multi_vector_encoder(f"colqwen2:{folder}", device="cpu")


def unit(rows: np.ndarray) -> np.ndarray:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)


def test_maxsim_is_the_plain_loop() -> None:
    random = np.random.default_rng(0)
    query, document = unit(random.normal(size=(5, 8))), unit(random.normal(size=(7, 8)))
    expected = sum(max(float(q @ d) for d in document) for q in query)
    assert maxsim(query, document) == pytest.approx(expected, abs=1e-5)


@settings(max_examples=40)
@given(st.integers(1, 40), st.integers(1, 6), st.integers(0, 1000))
def test_what_pooling_costs(count: int, factor: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    vectors, query = unit(random.normal(size=(count, 8))), unit(random.normal(size=(5, 8)))
    pooled = pool_tokens(vectors, factor)
    assert 1 <= len(pooled) <= max(count // factor, 1)
    np.testing.assert_allclose(np.linalg.norm(pooled, axis=1), 1, atol=1e-5)
    distances = np.linalg.norm(vectors[:, None] - pooled[None], axis=2)
    hausdorff = max(distances.min(axis=0).max(), distances.min(axis=1).max())
    assert abs(maxsim(query, vectors) - maxsim(query, pooled)) <= len(query) * hausdorff + 1e-4


def test_pooling_equal_vectors_loses_nothing() -> None:
    random = np.random.default_rng(0)
    kept, query = unit(random.normal(size=(6, 16))), unit(random.normal(size=(4, 16)))
    repeated = np.repeat(kept, 3, axis=0)[random.permutation(18)]
    pooled = pool_tokens(repeated, 3)
    assert pooled.shape == (6, 16)
    assert maxsim(query, pooled) == pytest.approx(maxsim(query, repeated), abs=1e-5)


def test_pooling_is_wards_clustering() -> None:
    """Ward's clusters of the rows of 1 - similarity, written out greedily: join the pair that adds least variance."""
    vectors = unit(np.random.default_rng(3).normal(size=(9, 5)))
    rows = 1 - vectors @ vectors.T
    groups = [[number] for number in range(len(rows))]

    def spread(group: list[int]) -> float:
        return float(((rows[group] - rows[group].mean(axis=0)) ** 2).sum())

    while len(groups) > 3:
        pairs = [(a, b) for a in range(len(groups)) for b in range(a)]
        a, b = min(
            pairs, key=lambda p: spread(groups[p[0]] + groups[p[1]]) - spread(groups[p[0]]) - spread(groups[p[1]])
        )
        joined = groups[a] + groups[b]
        groups = [group for place, group in enumerate(groups) if place not in (a, b)] + [joined]
    expected = unit(np.stack([vectors[group].mean(axis=0) for group in groups]))
    found = pool_tokens(vectors, 3)
    order = lambda rows: rows[np.lexsort(rows.T)]  # noqa: E731
    np.testing.assert_allclose(order(found), order(expected), atol=1e-6)


def test_factors() -> None:
    vectors = unit(np.random.default_rng(0).normal(size=(4, 8)))
    assert pool_tokens(vectors, 1) is vectors
    assert len(pool_tokens(vectors, 99)) == 1
    with pytest.raises(ConfigError, match="at least 1, not 0"):
        pool_tokens(vectors, 0)


def test_from_the_command_line(encoder: EngineTokenEncoder, colqwen2: Path, tmp_path: Path) -> None:
    """A reranker over the encoder gives MaxSim of what `embed` wrote."""
    from mmseek.cli import run

    PIL.Image.open(io.BytesIO(REQUESTS[2].content.images[0].data or b"")).save(tmp_path / "page.png")
    question, page = {"text": "What is shown?"}, {"image": "page.png"}
    items, pairs = tmp_path / "items.jsonl", tmp_path / "pairs.jsonl"
    items.write_text(json.dumps({"id": "q", "role": "query", **question}) + "\n" + json.dumps({"id": "d", **page}))
    pairs.write_text(json.dumps({"query": question, "document": page}))
    spec = f"colqwen2:{colqwen2}"
    out, scores = tmp_path / "out.npz", tmp_path / "scores.npy"
    assert run(["embed", str(items), "-o", str(out), "--encoder", spec, "--device", "cpu"]) == 0
    rerank = ["rerank", str(pairs), "-o", str(scores), "--reranker", f"late-interaction:{spec}", "--device", "cpu"]
    assert run(rerank) == 0
    with np.load(out, allow_pickle=False) as found:
        close([found["q"], found["d"]], [plain(colqwen2, REQUESTS[0]), plain(colqwen2, REQUESTS[2])])
        assert np.load(scores) == pytest.approx([maxsim(found["q"], found["d"])], abs=1e-4)
