"""`--encoder auto:FOLDER`: the note, and what a collection remembers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mmseek.embed.mini.weights import find_text_model
from mmseek.index import open_collection

Cli = Callable[..., Any]


def test_the_note_and_the_family_that_is_kept(cli: Cli, tmp_path: Path, lines: Callable[..., Path]) -> None:
    model, place = find_text_model().resolve(), tmp_path / "collection"
    source = lines(tmp_path / "items.jsonl", {"id": "a", "text": "a red bike"}, {"id": "b", "text": "the sea"})
    done = cli("index", source, "-c", place, "--encoder", f"auto:{model}", "--json")
    assert done.code == 0
    assert f"note: auto:{model} is st:{model}, for it has a modules.json" in done.err
    json.loads(done.out)
    assert open_collection(place).info().encoder.spec == f"st:{model}"
    found = cli("search", "bicycle", "-c", place, "--json")
    assert found.document["hits"][0]["id"] == "a"
    assert "auto" not in found.err


def test_a_folder_of_several_families(cli: Cli, tmp_path: Path, lines: Callable[..., Path]) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "qwen2_vl"}')
    source = lines(tmp_path / "items.jsonl", {"id": "a", "text": "a red bike"})
    refused = cli("embed", source, "-o", tmp_path / "out.npy", "--encoder", f"auto:{folder}")
    assert refused.code != 0
    assert f"write vlm2vec:{folder} or gme:{folder}" in refused.err
