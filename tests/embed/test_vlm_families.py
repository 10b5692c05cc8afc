"""What holds for all families on vision-language models that read a content as one sequence."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch

from mmseek import Content, EncodeRequest, load_encoder
from mmseek.cli import app as program
from mmseek.cli import run
from mmseek.embed.detect import detect
from mmseek.errors import InputError
from mmseek.testing import noise_picture as picture

Vectors = Callable[[Any, Sequence[EncodeRequest]], np.ndarray]

# Family and the kind of its tiny checkpoint, and the mark of a picture in its prompt. mm-embed has its own tests for
# the same; e5-v and notellm2 have fixed forms, whose texts and pictures are no sequence.
IN_ORDER = {
    ("vlm2vec", "qwen2_vl"): r"<\|image_pad\|>",
    ("vlm2vec", "qwen2_5_vl"): r"<\|image_pad\|>",
    ("vlm2vec", "llava_next"): "<image>",
    ("vlm2vec", "phi3_v"): r"<\|image_\d\|>",
    ("qwen3-vl", "qwen3_vl"): r"<\|image_pad\|>",
    ("gme", "qwen2_vl"): r"<\|image_pad\|>",
    ("mme5", "mllama"): r"<\|image\|>",
    ("jina-v4", "jina_v4"): r"<\|image_pad\|>",
}
FAMILIES = [*IN_ORDER, ("e5-v", "llava_next"), ("notellm2", "notellm2")]
FOUND = {"phi3_v": "vlm2vec", "mllama": "mme5", "jina_v4": "jina-v4", "notellm2": "notellm2", "qwen3_vl": "qwen3-vl"}


ONE, OTHER = picture(40, 30), picture(30, 60)
REQUESTS = [
    EncodeRequest(Content.of("a text")),
    EncodeRequest(Content.of("a longer text, as a query"), "query", "Find it:"),
    EncodeRequest(Content.of(ONE)),
    EncodeRequest(Content.of(OTHER), "query"),
    EncodeRequest(Content.of(ONE, "a text")),
    EncodeRequest(Content.of(ONE, OTHER, "a text")),
    EncodeRequest(Content.of(OTHER, ONE, "a text")),
    EncodeRequest(Content.of("one", ONE, "two", OTHER, "three")),
    EncodeRequest(Content.of("one", OTHER, "two", ONE, "three")),
    EncodeRequest(Content.of("two", ONE, "one", OTHER, "three")),
    EncodeRequest(Content.of(ONE, OTHER, "one", "two", "three")),
]
INTERLEAVED = slice(7, 11)


@pytest.fixture(scope="session")
def encoder(tiny_vlm: Callable[[str], Path]) -> Callable[[str, str], Any]:
    made: dict[tuple[str, str], Any] = {}

    def load(family: str, kind: str) -> Any:
        if (family, kind) not in made:
            made[family, kind] = load_encoder(f"{family}:{tiny_vlm(kind)}", device="cpu")
        return made[family, kind]

    return load


@pytest.mark.parametrize(("family", "kind"), FAMILIES)
def test_all_kinds_of_items_in_one_call(
    encoder: Callable[[str, str], Any], family: str, kind: str, vectors: Vectors
) -> None:
    model = encoder(family, kind)
    single = np.concatenate([vectors(model, [request]) for request in REQUESTS])
    np.testing.assert_allclose(np.linalg.norm(single, axis=1), 1, atol=1e-5)
    nothing = EncodeRequest(Content.of(""))
    found = list(model.stream([*REQUESTS[::-1], nothing, REQUESTS[0]]))
    assert (found[-2].error is None) is (family == "qwen3-vl")  # which reads it as NULL
    assert family == "qwen3-vl" or isinstance(found[-2].error, InputError)
    rows = np.stack([one.vector for one in [*found[:-2], found[-1]]])
    np.testing.assert_allclose(rows, np.concatenate([single[::-1], single[:1]]), atol=1e-5)


@pytest.mark.parametrize(("family", "kind"), IN_ORDER)
def test_parts_are_read_in_their_order(
    encoder: Callable[[str, str], Any], family: str, kind: str, vectors: Vectors
) -> None:
    model = encoder(family, kind)
    prompt = re.sub(IN_ORDER[family, kind], "PICTURE", model.prompt(REQUESTS[INTERLEAVED.start]))
    order = re.findall(r"PICTURE|\bone|two|three", prompt)
    assert order == ["one", "PICTURE", "two", "PICTURE", "three"]
    rows = vectors(model, REQUESTS[INTERLEAVED])
    assert (rows @ rows.T - 2 * np.eye(len(rows))).max() < 0.9999  # another order, another vector


@pytest.mark.parametrize(("family", "kind"), FAMILIES)
def test_half_precision(tiny_vlm: Callable[[str], Path], family: str, kind: str, vectors: Vectors) -> None:
    """As on an accelerator, with the same parts in the smaller type."""
    model = load_encoder(f"{family}:{tiny_vlm(kind)}", device="cpu")
    full = vectors(model, REQUESTS)
    model._checkpoint.model.to(torch.bfloat16)  # type: ignore[attr-defined]
    half = vectors(model, REQUESTS)
    assert half.dtype == np.float32
    assert 0.97 < (full * half).sum(axis=1).min() < 0.99999


@pytest.mark.parametrize(("kind", "family"), FOUND.items())
def test_auto_finds_the_family(tiny_vlm: Callable[[str], Path], kind: str, family: str) -> None:
    assert detect(tiny_vlm(kind)).family == family


@pytest.mark.parametrize(("family", "kind"), FAMILIES)
def test_the_command(
    encoder: Callable[[str, str], Any],
    tiny_vlm: Callable[[str], Path],
    family: str,
    kind: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    vectors: Vectors,
) -> None:
    monkeypatch.setattr(program, "hush", lambda: None)  # of the whole process
    (tmp_path / "one.png").write_bytes(ONE.data or b"")
    encoded = base64.b64encode(OTHER.data or b"").decode()
    assert PIL.Image.open(io.BytesIO(OTHER.data or b"")).size == (30, 60)
    items = [
        {"id": "a", "text": "a text"},
        {"id": "b", "text": "a longer text, as a query", "role": "query", "instruction": "Find it:"},
        {"id": "c", "image": "one.png"},
        {"id": "d", "image": f"data:image/png;base64,{encoded}", "role": "query"},
        {"id": "e", "image": "one.png", "text": "a text"},
    ]
    (tmp_path / "items.jsonl").write_text("\n".join(json.dumps(item) for item in items))
    out = tmp_path / "out.npy"
    spec = f"{family}:{tiny_vlm(kind)}"
    assert run(["embed", str(tmp_path / "items.jsonl"), "--encoder", spec, "--device", "cpu", "-o", str(out)]) == 0
    np.testing.assert_allclose(np.load(out), vectors(encoder(family, kind), REQUESTS[:5]), atol=1e-5)
