"""Training of Yes/No rerankers: the loss, what comes out of it, and that it learns."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch

from mmseek import load_reranker
from mmseek._types import Content, Image, Pair
from mmseek.errors import ConfigError, DatasetError, ModelError, SpecError
from mmseek.training.configuring import from_mapping, overridden
from mmseek.training.data.rows import TrainingRow
from mmseek.training.data.triples import read_triples
from mmseek.training.reranker import RerankerConfig, RerankerRun
from mmseek.training.reranker.loop import backward
from mmseek.training.reranker.pairs import pairs_of
from mmseek.training.tiny import tiny_qwen_vl

COLOURS = {"red": (220, 30, 30), "blue": (30, 30, 220), "green": (30, 200, 30)}
WORDS = ("yes", "no", "Yes", "No", *COLOURS, "Question", "Query", "Document")
KINDS = {"qwen3-vl-reranker": "qwen3_vl", "ragllava": "qwen2_vl"}
Configure = Callable[..., RerankerConfig]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    made: dict[str, Path] = {}

    def make(family: str) -> Path:
        if family not in made:
            made[family] = tiny_qwen_vl(tmp_path_factory.mktemp(family), KINDS[family], words=WORDS, std=0.2)
        return made[family]

    return make


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A colour's name asks for a picture of it; pictures of the others are hard negatives."""
    folder = tmp_path_factory.mktemp("colours")
    for name, colour in COLOURS.items():
        for copy in range(2):
            tinted = tuple(max(0, each - 8 * copy) for each in colour)
            PIL.Image.new("RGB", (56, 56), tinted).save(folder / f"{name}{copy}.png")
    lines = [
        {
            "query": {"text": name},
            "positives": [{"image": f"{name}{copy}.png"}],
            "negatives": [{"image": f"{other}{copy}.png"} for other in COLOURS if other != name],
        }
        for name in COLOURS
        for copy in range(2)
    ]
    path = folder / "rows.jsonl"
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return path


@pytest.fixture
def configure(checkpoint: Callable[[str], Path], rows: Path, tmp_path: Path) -> Configure:
    def make(family: str = "qwen3-vl-reranker", *changes: str) -> RerankerConfig:
        settings: dict[str, Any] = {
            "model": {"reranker": f"{family}:{checkpoint(family)}", "tune": {"rank": 8, "dropout": 0.0}},
            "data": {"sources": [{"path": str(rows)}], "negatives": 1},
            "batch": {"size": 6, "chunk": 5},
            "optimizer": {"rate": 1e-2},
            "schedule": {"steps": 3},
            "run": {"output": str(tmp_path / "run"), "device": "cpu", "save_every": 0, "tensorboard": False},
        }
        return from_mapping(RerankerConfig, overridden(settings, changes))

    return make


def pairs(rows: Path) -> list[tuple[Pair, bool]]:
    found = [row for row in read_triples(rows) if isinstance(row, TrainingRow)]
    return [pair for number, row in enumerate(found) for pair in pairs_of(row, 2, number)]


def scores(reranker: Any, rows: Path) -> np.ndarray:
    return np.array([each.score for each in reranker.stream(pair for pair, _ in pairs(rows))])


@pytest.mark.parametrize("family", list(KINDS))
def test_the_adapter_loads_with_the_scores_that_training_ended_with(
    configure: Configure, rows: Path, family: str
) -> None:
    config = configure(family)
    run = RerankerRun(config)
    trained = run.start()
    expected = scores(run.trainable.reranker, rows)
    assert sorted(path.name for path in (run.output / "model").iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    np.testing.assert_allclose(scores(load_reranker(trained.spec, device="cpu"), rows), expected, atol=1e-5, rtol=0)
    before = scores(load_reranker(config.model.reranker, device="cpu"), rows)
    assert np.abs(expected - before).max() > 1e-3


def test_the_loss_is_the_plain_cross_entropy_and_chunks_change_nothing(
    configure: Configure, checkpoint: Callable[[str], Path]
) -> None:
    import transformers

    texts = [("red", "red", True), ("blue", "green", False), ("green", "red blue", False)]
    folder = checkpoint("qwen3-vl-reranker")
    plain = transformers.Qwen3VLForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
    losses, gradients = [], []
    for chunk in (0, 1):
        run = RerankerRun(configure("qwen3-vl-reranker", f"batch.chunk={chunk}"))
        trainable = run.trainable
        labelled = [(trainable.prepare(Pair(Content.of(q), Content.of(d))), yes) for q, d, yes in texts]
        torch.manual_seed(1)
        for name, weight in trainable.module.named_parameters():
            if "lora_B" in name:
                weight.data.normal_(0, 0.01)  # as it begins it is zero, and then lora_A has no gradient
        losses.append(backward(trainable, labelled, run.config))
        gradients.append(torch.cat([w.grad.flatten() for w in trainable.module.parameters() if w.grad is not None]))
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)
    torch.testing.assert_close(gradients[0], gradients[1], atol=1e-6, rtol=1e-4)

    fresh = RerankerRun(configure("qwen3-vl-reranker"))
    yes, no = (fresh.trainable.reranker.backbone.tokenizer.token_to_id(word) for word in ("yes", "no"))
    written_out = []
    for query, document, relevant in texts:
        tokens = fresh.trainable.prepare(Pair(Content.of(query), Content.of(document))).payload
        with torch.no_grad():
            logits = plain(input_ids=torch.tensor(tokens.numbers)[None]).logits[0, -1]
        written_out.append(float(-logits[[yes, no]].log_softmax(0)[0 if relevant else 1]))
    labelled = [(fresh.trainable.prepare(Pair(Content.of(q), Content.of(d))), y) for q, d, y in texts]
    assert backward(fresh.trainable, labelled, fresh.config) == pytest.approx(np.mean(written_out), abs=1e-5)


def test_it_learns_which_picture_is_meant(configure: Configure, rows: Path) -> None:
    run = RerankerRun(configure("qwen3-vl-reranker", "schedule.steps=60", "data.negatives=2"))
    run.start()
    relevant = np.array([yes for _, yes in pairs(rows)])
    after = scores(run.trainable.reranker, rows)
    assert after[relevant].min() > after[~relevant].max()
    before = scores(load_reranker(run.config.model.reranker, device="cpu"), rows)
    assert before[relevant].min() <= before[~relevant].max()


def test_only_the_language_models_adapter_is_trained(configure: Configure) -> None:
    model = RerankerRun(configure("ragllava")).trainable.reranker.backbone.model
    trained = [name for name, weight in model.named_parameters() if weight.requires_grad]
    assert trained
    assert all(".lora_" in name and "visual" not in name for name in trained)


def test_a_killed_run_goes_on_with_the_same_losses(configure: Configure) -> None:
    config = configure("qwen3-vl-reranker", "schedule.steps=4", "run.save_every=2", "model.tune.dropout=0.2")
    run = RerankerRun(config)
    run.start()
    whole = [json.loads(line)["loss"] for line in (run.output / "log.jsonl").read_text().splitlines()]
    weights = (run.output / "model" / "adapter_model.safetensors").read_bytes()
    shutil.rmtree(run.output / "checkpoint-4")
    shutil.rmtree(run.output / "model")
    again = RerankerRun(config)
    assert again.start().resumed_from == 2
    assert [json.loads(line)["loss"] for line in (run.output / "log.jsonl").read_text().splitlines()] == whole
    assert (run.output / "model" / "adapter_model.safetensors").read_bytes() == weights


def test_what_cannot_be_trained_is_told(configure: Configure, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.negatives must be at least 1"):
        configure("qwen3-vl-reranker", "data.negatives=0")
    with pytest.raises(SpecError, match="'cross-encoder' cannot be trained here"):
        _ = RerankerRun(configure("ragllava", "model.reranker=cross-encoder:x")).trainable
    with pytest.raises(ConfigError, match="name no layer"):
        _ = RerankerRun(configure("ragllava", "model.tune.targets=[nothing]")).trainable
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(ModelError, match="is an adapter already"):
        _ = RerankerRun(configure("ragllava", f"model.reranker=ragllava:{tmp_path}")).trainable


def test_a_row_that_cannot_be_used_is_named_or_left_out(configure: Configure, rows: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.jsonl"
    gone = {"query": "red", "positives": [{"image": "gone.png"}], "negatives": ["blue"]}
    good = {"query": "red", "positives": ["red"], "negatives": ["blue"]}
    broken.write_text(f"{json.dumps(gone)}\n{json.dumps(good)}\n")
    source = f"data.sources=[{{path: {broken}}}]"
    with pytest.raises(DatasetError, match=r"row 0 of broken: .*gone\.png"):
        RerankerRun(configure("qwen3-vl-reranker", source)).start()
    trained = RerankerRun(configure("qwen3-vl-reranker", source, "data.skip_bad_rows=true")).start()
    assert len(trained.skipped) == 1


def test_pairs_of_a_row_are_drawn_alike_for_equal_numbers(rows: Path) -> None:
    row = next(row for row in read_triples(rows) if isinstance(row, TrainingRow))
    drawn = pairs_of(row, 5, 7)
    assert [yes for _, yes in drawn] == [True, False, False]
    assert drawn == pairs_of(row, 5, 7)
    assert {pair.document for pair, yes in drawn if not yes} == {each.content for each in row.negatives}
    assert all(isinstance(part, Image) for pair, _ in drawn for part in pair.document.parts)
