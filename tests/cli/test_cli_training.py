"""`mmseek mine`, `train` and `merge` from the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image as Pillow

from mmseek.testing import FakeEncoder
from mmseek.training.tiny import tiny_clip, tiny_qwen_vl

Cli = Callable[..., Any]


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    folder = tmp_path / "pool"
    (folder / "qrels").mkdir(parents=True)
    for number in range(6):
        Pillow.new("RGB", (16, 16), (40 * number, 10, 10)).save(folder / f"{number}.png")
    documents = [{"id": f"i{n}", "image": f"{n}.png"} for n in range(6)] + [
        {"id": f"t{n}", "text": f"word {n}"} for n in range(6)
    ]
    (folder / "corpus.jsonl").write_text("".join(f"{json.dumps(each)}\n" for each in documents))
    queries = [{"id": f"q{n}", "text": f"word {n}", "metadata": {"task": "t->i"}} for n in range(6)]
    (folder / "queries.jsonl").write_text("".join(f"{json.dumps(each)}\n" for each in queries))
    lines = "".join(f"q{n}\ti{n}\t1\n" for n in range(6))
    for split in ("train", "test"):
        (folder / "qrels" / f"{split}.tsv").write_text(f"query-id\tcorpus-id\tscore\n{lines}")
    return folder


def test_mine_train_embed_and_eval_in_a_row(cli: Cli, dataset: Path, tmp_path: Path) -> None:
    start, mined, page = tiny_clip(tmp_path / "start"), tmp_path / "mined.jsonl", tmp_path / "mined.html"
    line = ["mine", "-d", dataset, "-e", f"clip:{start}", "-o", mined, "--depth", 12, "--below", 6, "--html", page]
    found = cli(*line, "--device", "cpu", "--json")
    assert found.code == 0
    assert found.document["rows"] == found.document["queries"] == 6
    assert found.document["wrong_modality_at_1"] == 1.0  # every query is a document's own text
    assert found.document["chosen_c1"] > 0
    assert json.loads(Path(f"{mined}.report.json").read_text())["rows"] == 6
    assert "C1 at rank" in page.read_text()

    config = tmp_path / "config.yaml"
    settings = {
        "model": {"encoder": f"clip:{start}"},
        "data": {"sources": [{"path": str(mined)}], "negatives": 1},
        "batch": {"size": 6},
        "schedule": {"steps": 4},
        "run": {"output": str(tmp_path / "run"), "device": "cpu"},
    }
    config.write_text(yaml.safe_dump(settings))
    planned = cli("train", "--config", config, "--dry-run")
    assert planned.code == 0
    assert "4 steps of 6 queries, 1 hard negative each, in 1 chunk" in planned.out
    assert not (tmp_path / "run").exists()
    trained = cli("train", "--config", config, "--set", "optimizer.rate=0.01", "--set", "run.seed=1", "--json")
    assert trained.code == 0
    assert trained.document["steps"] == 4
    assert "samples/s" in trained.err
    assert list((tmp_path / "run" / "tensorboard").iterdir())
    scored = cli("eval", "-d", dataset, "-e", trained.document["encoder"], "--device", "cpu", "--json")
    assert scored.code == 0
    again = [*line[:3], "-e", trained.document["encoder"], *line[5:6], tmp_path / "again.jsonl", *line[7:]]
    told = cli(*again, "--before", f"{mined}.report.json", "--device", "cpu")
    assert told.code == 0
    assert "(1.000 before)" in told.out
    assert json.loads((tmp_path / "again.jsonl.report.json").read_text())["wrong_modality_at_1_before"] == 1.0
    assert "(1.000 before)" in page.read_text()
    assert "is no report of mmseek mine" in cli(*again, "--before", config).error
    assert "is of" in cli(*again, "--before", f"{mined}.report.json", "--split", "test").error

    merged = cli("merge", tmp_path / "start", tmp_path / "run" / "model", "-o", tmp_path / "merged", "--json")
    assert merged.code == 0
    assert merged.document["tensors"] > 10
    assert cli("merge", start, start, "-o", tmp_path / "merged").error.endswith("give a new folder")


def test_a_reranker_is_trained_and_reranks(cli: Cli, tmp_path: Path) -> None:
    base = tiny_qwen_vl(tmp_path / "base", "qwen3_vl", words=("yes", "no", "red", "blue"))
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"query": "red", "positives": ["red"], "negatives": ["blue"]}\n')
    config = tmp_path / "config.yaml"
    settings = {
        "model": {"reranker": f"qwen3-vl-reranker:{base}"},
        "data": {"sources": [{"path": str(rows)}], "negatives": 1},
        "batch": {"size": 2},
        "schedule": {"steps": 2},
        "run": {"output": str(tmp_path / "run"), "device": "cpu", "tensorboard": False},
    }
    config.write_text(yaml.safe_dump(settings))
    planned = cli("train-reranker", "--config", config, "--dry-run")
    assert planned.code == 0
    assert "2 steps of 2 rows, each with a positive and 1 hard negative" in planned.out
    assert not (tmp_path / "run").exists()
    trained = cli("train-reranker", "--config", config, "--set", "optimizer.rate=0.01", "--json")
    assert (trained.code, trained.document["steps"]) == (0, 2)
    pairs, scores = tmp_path / "pairs.jsonl", tmp_path / "scores.npy"
    pairs.write_text('{"query": {"text": "red"}, "document": {"text": "blue"}}\n')
    assert cli("rerank", pairs, "--reranker", trained.document["reranker"], "-o", scores, "--device", "cpu").code == 0
    assert np.load(scores, allow_pickle=False).shape == (1,)
    assert "unknown key model.encoder" in cli("train-reranker", "--config", config, "--set", "model.encoder=x").error


def test_errors_are_one_sentence(cli: Cli, dataset: Path, tmp_path: Path, fake: FakeEncoder) -> None:
    assert "unknown key loss.temprature" in cli("train", "--config", "vlm2vec-v2", "--set", "loss.temprature=1").error
    assert "the recipes are" in cli("train", "--config", "nothing").error
    assert "below is less than depth" in cli("mine", "-d", dataset, "-o", tmp_path / "o.jsonl", "--below", 60).error
    assert "give the name of a file" in cli("mine", "-d", dataset, "-o", tmp_path).error


def test_a_document_that_fails_is_told_and_the_code_is_1(
    cli: Cli, dataset: Path, tmp_path: Path, fake: FakeEncoder
) -> None:
    with (dataset / "corpus.jsonl").open("a") as file:
        file.write('{"id": "bad", "text": "unspeakable"}\n')
    found = cli("mine", "-d", dataset, "-o", tmp_path / "mined.jsonl", "--depth", 10, "--below", 2)
    assert found.code == 1
    assert "failed: bad: the fake encoder was told to fail" in found.err
    assert "wrote 6 rows" in found.out
