"""UniIR's own code on a tiny checkpoint, where its inputs and vectors are at hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from mmseek import EncodeRequest, Image, load_encoder
from mmseek._types import Content
from mmseek.cli import app, run
from mmseek.items import Item, read_items

ORACLE = Path(__file__).parents[3] / "shared" / "oracles" / "uniir_clip_sf"
pytestmark = pytest.mark.skipif(not ORACLE.is_dir(), reason=f"{ORACLE} is not on this machine")
LAYOUTS = ["checkpoint", "checkpoint_original"]


def items() -> list[Item]:
    found = list(read_items(ORACLE / "items.jsonl"))
    return [item for item in found if isinstance(item, Item)]


def without_alpha(content: Content) -> Content:
    """The original drops transparency, where mmseek puts the picture on white."""
    return Content(
        tuple(
            Image.from_pil(PIL.Image.open(part.path).convert("RGB")) if isinstance(part, Image) and part.path else part
            for part in content.parts
        )
    )


@pytest.mark.parametrize("layout", LAYOUTS)
def test_vectors(layout: str) -> None:
    encoder = load_encoder(f"uniir-clip-sf:{ORACLE / layout}", device="cpu")
    wanted = np.load(ORACLE / "expected.npy", allow_pickle=False)
    requests = [EncodeRequest(without_alpha(item.content), item.role, item.instruction) for item in items()]
    assert len(requests) == len(wanted) == 11
    for encoded, row in zip(encoder.stream(requests), wanted, strict=True):
        assert encoded.vector is not None
        assert np.abs(encoded.vector - row).max() < 1e-5


def test_only_the_transparent_picture_differs_as_it_is() -> None:
    encoder = load_encoder(f"uniir-clip-sf:{ORACLE / 'checkpoint'}", device="cpu")
    wanted = np.load(ORACLE / "expected.npy", allow_pickle=False)
    requests = [EncodeRequest(item.content, item.role, item.instruction) for item in items()]
    found = np.stack([encoded.vector for encoded in encoder.stream(requests) if encoded.vector is not None])
    differs = np.abs(found - wanted).max(axis=1) > 1e-5
    transparent = [bool(item.metadata.get("alpha")) for item in items()]
    assert differs.tolist() == transparent


def test_the_command_writes_the_rows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = (ORACLE / "items.jsonl").read_text(encoding="utf-8").splitlines()
    objects = [json.loads(line) for line in lines]
    for item in objects:
        if "image" in item:
            picture = tmp_path / f"{item['id']}.png"
            PIL.Image.open(ORACLE / item["image"]).convert("RGB").save(picture)
            item["image"] = picture.name
    source, output = tmp_path / "items.jsonl", tmp_path / "out.npy"
    source.write_text("\n".join(map(json.dumps, objects)), encoding="utf-8")
    spec = f"uniir-clip-sf:{ORACLE / 'checkpoint'}"
    monkeypatch.setattr(app, "hush", lambda: None)
    code = run(["embed", str(source), "--encoder", spec, "--output", str(output), "--device", "cpu", "--json"])
    assert code == 0, capsys.readouterr().err
    wanted = np.load(ORACLE / "expected.npy", allow_pickle=False)
    assert np.abs(np.load(output, allow_pickle=False) - wanted).max() < 1e-5
