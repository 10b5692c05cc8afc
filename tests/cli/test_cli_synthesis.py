"""`mmseek synthesize` from the command line, to rows that `mmseek train` takes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from PIL import Image as Pillow

from mmseek.training.tiny import tiny_clip

Cli = Callable[..., Any]


def _answer(body: dict[str, Any]) -> str:
    text = body["messages"][1]["content"][-1]["text"]
    wanted = json.JSONDecoder().raw_decode(text[text.index("{\n") :])[0]
    descriptions = [dict.fromkeys(each, "red") for each in wanted["descriptions"]]
    scores = dict.fromkeys(("alignment", "positive", "hard_negative"), 4) | {"problem": ""}
    draft = {field: f"{field} of {len(text)}" for field in wanted["draft"]}
    return json.dumps(
        {"descriptions": descriptions, "draft": draft, "evaluation": scores, "final": draft, "keep": True}
    )


def test_pictures_to_rows_to_a_dry_run(cli: Cli, tmp_path: Path, fake_chat: Any) -> None:
    (tmp_path / "p").mkdir()
    for number in range(5):
        Pillow.new("RGB", (16, 16), (50 * number, 0, 0)).save(tmp_path / "p" / f"{number}.png")
    (tmp_path / "p" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    (tmp_path / "key").write_text("sk-secret")
    fake_chat.answers = [_answer]
    rows = tmp_path / "rows.jsonl"
    line = ("synthesize", tmp_path / "p", "--llm-url", fake_chat.url, "--model", "m", "-o", rows, "--rows", 20)
    line += (
        "--encoder",
        f"clip:{tiny_clip(tmp_path / 'start')}",
        "--device",
        "cpu",
        "--api-key-file",
        tmp_path / "key",
        "--answer-tokens",
        900,
        "--temperature",
        0.5,
    )

    found = cli(*line, "--json")
    assert found.code == 1
    assert found.document["rows"] == found.document["asked"] == 20
    ((broken, _),) = found.document["failed_pictures"]
    assert "broken.png" in broken
    assert (fake_chat.bodies[0]["max_tokens"], fake_chat.bodies[0]["temperature"]) == (900, 0.5)
    assert set(fake_chat.keys) == {"Bearer sk-secret"}
    assert json.loads(Path(f"{rows}.report.json").read_text())["rows"] == 20
    assert "sk-secret" not in rows.read_text() + Path(f"{rows}.answers.jsonl").read_text()

    (tmp_path / "p" / "broken.png").unlink()
    shown = cli(*line, "--max-calls", 21)
    assert shown.code == 0
    assert "wrote 20 rows of 20 asked for" in shown.out
    assert "20 answers were there already" in shown.out

    stopped = cli(*line, "--max-calls", 21, "--seed", 4)
    assert stopped.code == 1
    assert "note: not all was asked for: --max-calls is reached" in stopped.err

    config = tmp_path / "config.yaml"
    settings = {
        "model": {"encoder": f"clip:{tmp_path / 'start'}"},
        "data": {"sources": [{"path": str(rows)}], "negatives": 1},
        "batch": {"size": 4},
        "run": {"output": str(tmp_path / "run"), "device": "cpu"},
    }
    config.write_text(yaml.safe_dump(settings))
    assert cli(*line, "--json").code == 0
    assert "5 steps of 4 queries, 1 hard negative each" in cli("train", "--config", config, "--dry-run").out


def test_what_is_wrong_is_one_sentence(cli: Cli, tmp_path: Path, fake_chat: Any) -> None:
    Pillow.new("RGB", (16, 16)).save(tmp_path / "a.png")
    line = ("synthesize", tmp_path / "a.png", "--llm-url", fake_chat.url, "--model", "m", "-o", tmp_path / "rows.jsonl")
    assert "there is no task 'x': the tasks are classification" in cli(*line, "--task", "x").error
    assert "make no row" in cli(*line, "--task", "retrieval:image->image", "--encoder", "mini").error
    fake_chat.answers = ["What a nice picture!"]
    failed = cli(*line, "--task", "vqa", "--rows", 1)
    assert failed.code == 2
    assert failed.error.startswith("no row came of it: the answer is not one JSON object")
    assert not (tmp_path / "rows.jsonl").exists()
    (tmp_path / "none").mkdir()
    assert "there is no picture" in cli("synthesize", tmp_path / "none", *line[2:]).error
