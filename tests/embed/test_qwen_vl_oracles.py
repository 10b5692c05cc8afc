"""Vectors that the models' original code gave for tiny checkpoints: ours are the same.

The checkpoints and vectors are not part of the repository; without them there are the tests of the encoders against
plain calls of transformers.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from tokenizers import Tokenizer, processors

from mmseek import Content, EncodeRequest, Image, load_encoder
from mmseek._types import Part, Text
from mmseek.cli import app as program
from mmseek.cli import run
from mmseek.embed.qwen_vl import QwenVLEncoder

ORACLES = Path(__file__).resolve().parents[3] / "shared" / "oracles"
FAMILIES = {"vlm2vec": ORACLES / "vlm2vec_qwen2vl", "qwen3-vl": ORACLES / "qwen3_vl_embedding"}

pytestmark = pytest.mark.skipif(not ORACLES.is_dir(), reason="../shared/oracles is not on this machine")


def items(family: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (FAMILIES[family] / "items.jsonl").read_text().splitlines()]


def expected(family: str, name: str = "expected.npy") -> np.ndarray:
    vectors: np.ndarray = np.load(FAMILIES[family] / name, allow_pickle=False)
    return vectors


def evaluation_style(item: dict[str, Any]) -> dict[str, Any]:
    """MMEB's evaluation ends its prompts with a newline, and starts a question's instruction with one."""
    item = dict(item)
    style = item.pop("style", "plain")
    if style in ("mmeb_eval_qa", "mmeb_eval_t2i"):
        item["text"] += "\n"
    if style == "mmeb_eval_qa":
        item["instruction"] = f"\n{item['instruction']}"
    if style == "mmeb_eval":
        item["instruction"] += "\n"
    return item


def image(family: str, item: dict[str, Any], name: str) -> Image:
    path = FAMILIES[family] / name
    if family == "vlm2vec" and item.get("metadata", {}).get("alpha"):
        # The original drops the alpha channel; mmseek puts every picture on white, so it is given the colours alone.
        with PIL.Image.open(path) as picture:
            return Image.from_pil(picture.convert("RGB"))
    return Image(path=path)


def request(family: str, item: dict[str, Any]) -> EncodeRequest:
    item = evaluation_style(item)
    parts: list[Part] = [image(family, item, item["image"])] if "image" in item else []
    parts += [Text(item["text"])] if "text" in item else []
    for part in item.get("content", ()):
        parts.append(image(family, item, part["image"]) if part["type"] == "image" else Text(part["text"]))
    return EncodeRequest(Content(tuple(parts)), item["role"], item.get("instruction"))


def stream(encoder: QwenVLEncoder, requests: list[EncodeRequest]) -> np.ndarray:
    rows = []
    for encoded in encoder.stream(requests):
        assert encoded.vector is not None, encoded.error
        rows.append(encoded.vector)
    return np.stack(rows)


def load(family: str, folder: Path | None = None) -> QwenVLEncoder:
    encoder = load_encoder(f"{family}:{folder or FAMILIES[family] / 'checkpoint'}", device="cpu")
    assert isinstance(encoder, QwenVLEncoder)
    return encoder


@pytest.mark.parametrize("family", FAMILIES)
def test_every_item(family: str) -> None:
    encoder = load(family)
    requests = [request(family, item) for item in items(family)]
    single = np.concatenate([stream(encoder, [each]) for each in requests])
    assert (single * expected(family)).sum(axis=1).min() > 0.9999
    np.testing.assert_allclose(single, expected(family), atol=5e-6)
    units = [encoder.prepare(each)[0] for each in requests]
    rows = [row for row, unit in enumerate(units) if unit.cost < 500]  # the longest is slow to pad the others to
    assert len(rows) == len(units) - 1
    backwards = rows[::-1]
    np.testing.assert_allclose(stream(encoder, [requests[row] for row in backwards]), single[backwards], atol=1e-5)
    left = type(encoder)(encoder._checkpoint, spec="left", padding="left")
    for padded in (encoder, left):
        found = padded.forward("sequence", [units[row].payload for row in rows])
        np.testing.assert_allclose(found, single[rows], atol=1e-5)


def test_the_tokenizer_decides_about_the_end_of_text(tmp_path: Path) -> None:
    folder = tmp_path / "with-end"
    shutil.copytree(FAMILIES["qwen3-vl"] / "checkpoint", folder)
    (folder / "tokenizer.json").chmod(0o644)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    end = "<|endoftext|>"
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {end}", special_tokens=[(end, tokenizer.token_to_id(end))]
    )
    (folder / "tokenizer.json").unlink()
    tokenizer.save(str(folder / "tokenizer.json"))
    found = stream(load("qwen3-vl", folder), [request("qwen3-vl", item) for item in items("qwen3-vl")])
    np.testing.assert_allclose(found, expected("qwen3-vl", "expected_eot.npy"), atol=5e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_command(family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "hush", lambda: None)  # of the whole process
    rows = [
        number
        for number, item in enumerate(items(family))
        # An alpha channel: see `image`. Nothing at all is no item to the command, only to the library.
        if not (family == "vlm2vec" and "metadata" in item) and {"text", "image", "content"} & set(item)
    ]
    shutil.copytree(FAMILIES[family] / "images", tmp_path / "images")
    lines = [json.dumps(evaluation_style(items(family)[row])) for row in rows]
    (tmp_path / "items.jsonl").write_text("\n".join(lines))
    out = tmp_path / "out.npy"
    arguments = ["embed", str(tmp_path / "items.jsonl"), "-e", f"{family}:{FAMILIES[family] / 'checkpoint'}"]
    assert run([*arguments, "--device", "cpu", "-o", str(out)]) == 0
    np.testing.assert_allclose(np.load(out), expected(family)[rows], atol=5e-6)
    assert len(rows) == {"vlm2vec": 11, "qwen3-vl": 10}[family]
