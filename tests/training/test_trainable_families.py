"""Families that are put together of several models, and their recipes, on tiny checkpoints."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch

from mmseek import EncodeRequest, load_encoder
from mmseek.embed import load_multi_vector_encoder
from mmseek.errors import ConfigError
from mmseek.evaluation import load_dataset
from mmseek.training.data.rows import TrainingRow
from mmseek.training.data.triples import read_triples
from mmseek.training.gradcache import backward_in_chunks
from mmseek.training.loss import Contrastive
from mmseek.training.mining import MiningOptions, mine
from mmseek.training.plan import plan
from mmseek.training.run import Run, load_config
from mmseek.training.settings import TrainConfig

Configure = Callable[..., TrainConfig]
LATE = ("colqwen2", "colpali")


def encoded(spec: str, asked: Sequence[EncodeRequest]) -> list[np.ndarray]:
    """Vectors, or a matrix of them for each item."""
    if spec.startswith(LATE):
        outcomes = list(load_multi_vector_encoder(spec, device="cpu").stream_tokens(asked))
    else:
        outcomes = list(load_encoder(spec, device="cpu").stream(asked))
    return [each.vector for each in outcomes if each.vector is not None]


@pytest.fixture
def mixed(triples: Path, tmp_path: Path) -> Path:
    """Rows of every modality on both sides."""
    rows = [json.loads(line) for line in triples.read_text().splitlines()]
    for number, row in enumerate(rows):
        for item in (row["query"], *row["positives"], *row["negatives"]):
            if "image" in item:
                item["image"] = str(triples.parent / item["image"])
        if number % 2:
            row["query"]["image"] = str(triples.parent / f"{number}.png")
        if number % 3:
            row["positives"][0]["text"] = "seen " * (number % 4)
    path = tmp_path / "mixed.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def asked_of(rows: Path) -> list[EncodeRequest]:
    """Queries and documents of every modality."""
    found = [row for row in read_triples(rows) if isinstance(row, TrainingRow)]
    return [each for row in found[:3] for each in (row.query, *row.positives, *row.negatives)]


@pytest.mark.parametrize(
    ("family", "method"),
    [
        ("mm-embed", "full"),
        ("colpali", "full"),
    ],
)
def test_what_was_trained_is_what_embed_loads(configure: Configure, mixed: Path, family: str, method: str) -> None:
    changes = [f"model.tune.method={method}", "model.tune.rank=2", f"data.sources.0.path={mixed}", "batch.chunk=3"]
    changes += ["model.gradient_checkpointing=true"] if method == "full" else []
    run = Run(configure(family, *changes))
    asked = asked_of(mixed)
    before = encoded(run.config.model.encoder, asked)
    _compare(run, asked, before)
    trained = run.start()
    after = encoded(trained.spec, asked)
    _compare(run, asked, after)
    assert max(float(np.abs(one - other).max()) for one, other in zip(before, after, strict=True)) > 1e-3


def _compare(run: Run, asked: Sequence[EncodeRequest], wanted: Sequence[np.ndarray]) -> None:
    """Training sees what encoding sees."""
    run.trainable.eval()
    two, run.trainable.two_vectors = run.trainable.two_vectors, False
    with torch.no_grad():
        found = run.trainable.vectors([run.trainable.prepare(request) for request in asked]).numpy()
    run.trainable.two_vectors = two
    for row, vector in zip(found, wanted, strict=True):
        np.testing.assert_allclose(row[: len(vector)], vector, atol=2e-5)
        assert not row[len(vector) :].any()


@pytest.mark.parametrize("family", ["colqwen2", "notellm2"])
def test_chunks_give_the_gradients_of_the_whole(configure: Configure, mixed: Path, family: str) -> None:
    visual = ["loss.visual=0.5"] if family == "notellm2" else []
    run = Run(configure(family, f"data.sources.0.path={mixed}", *visual))
    batch = next(iter(run._loader()))
    loss = Contrastive(run.config.loss, run.trainable).eval()
    found = []
    for chunks in ([list(range(len(batch.items)))], [[n] for n in range(len(batch.items))]):
        run.trainable.zero_grad()
        backward_in_chunks(
            run.trainable.vectors, batch.items, chunks, lambda rows: loss(rows[batch.places], batch.layout)
        )
        found.append({n: p.grad.clone() for n, p in run.trainable.named_parameters() if p.grad is not None})
    assert found[0].keys() == found[1].keys()
    for name, gradient in found[0].items():
        scale = float(gradient.abs().max())
        torch.testing.assert_close(gradient, found[1][name], rtol=1e-3, atol=1e-4 * max(scale, 1e-3))


def test_a_pictures_loss_wants_a_family_that_has_it(configure: Configure) -> None:
    with pytest.raises(ConfigError, match=r"loss\.visual: the family clip has no vectors of pictures"):
        _ = Run(configure("clip", "loss.visual=0.5")).trainable


def recipe(name: str, encoder: str, rows: Path, folder: Path, *more: str) -> Run:
    """A recipe, made small: published numbers stay where size is not the point."""
    changes = [f"model.encoder={encoder}", f"data.sources=[{{path: {rows}}}]", "batch.size=4", "batch.chunk=2"]
    changes += ["run.device=cpu", "run.precision=fp32", "run.tensorboard=false", f"run.output={folder}"]
    return Run(load_config(name, [*changes, "schedule.steps=3", "schedule.warmup=0", *more]))


@pytest.mark.parametrize(
    ("name", "family"), [("mme5", "mme5"), ("notellm2", "notellm2"), ("colqwen", "colqwen2"), ("colqwen", "colpali")]
)
def test_recipes_plan_and_run(
    name: str, family: str, checkpoints: Callable[[str], Path], mixed: Path, tmp_path: Path
) -> None:
    run = recipe(name, f"{family}:{checkpoints(family)}", mixed, tmp_path / "out")
    made = plan(run)
    assert made.sources[0].rows == 12
    assert 0 < made.trained <= made.parameters
    assert min(made.memory.values()) > 0
    assert not (tmp_path / "out").exists()
    asked = asked_of(mixed)
    before = encoded(run.config.model.encoder, asked)
    _compare(run, asked, before)
    trained = run.start()
    assert trained.steps == 3
    after = encoded(trained.spec, asked)
    _compare(run, asked, after)
    assert max(float(np.abs(one - other).max()) for one, other in zip(before, after, strict=True)) > 1e-6


def test_mm_embed_in_its_stages(checkpoints: Callable[[str], Path], mixed: Path, tmp_path: Path) -> None:
    """M_rand, mining with it, M_hard begun anew, and text besides."""
    start = f"mm-embed:{checkpoints('mm-embed')}"
    first = recipe("mm-embed-1-random", start, mixed, tmp_path / "1").start()
    data = _pool(tmp_path / "pool")
    report, _ = mine(
        load_dataset(data, "train"),
        load_encoder(first.spec, device="cpu"),
        tmp_path / "hard.jsonl",
        options=MiningOptions(depth=8, below=4),
    )
    assert report.rows == 4
    second = recipe("mm-embed-2-hard", start, tmp_path / "hard.jsonl", tmp_path / "2")
    assert (second.config.data.negatives, second.config.model.encoder) == (1, start)
    hard = second.start()
    third = recipe("mm-embed-3-text", hard.spec, tmp_path / "hard.jsonl", tmp_path / "3").start()
    vectors = [encoded(spec, [EncodeRequest(_first(data))])[0] for spec in (start, first.spec, hard.spec, third.spec)]
    for one, other in pairwise(vectors):
        assert np.abs(one - other).max() > 1e-4


def _first(data: Path) -> Any:
    return next(iter(load_dataset(data, "train").corpus())).content  # type: ignore[union-attr]


def _pool(folder: Path) -> Path:
    (folder / "qrels").mkdir(parents=True)
    documents: list[dict[str, Any]] = []
    for number in range(4):
        PIL.Image.new("RGB", (20, 20), (60 * number, 9, 9)).save(folder / f"{number}.png")
        documents += [{"id": f"i{number}", "image": f"{number}.png"}, {"id": f"t{number}", "text": f"word {number}"}]
    (folder / "corpus.jsonl").write_text("".join(f"{json.dumps(each)}\n" for each in documents))
    queries = [{"id": f"q{number}", "text": f"word {number}"} for number in range(4)]
    (folder / "queries.jsonl").write_text("".join(f"{json.dumps(each)}\n" for each in queries))
    lines = "".join(f"q{number}\ti{number}\t1\n" for number in range(4))
    (folder / "qrels" / "train.tsv").write_text(f"query-id\tcorpus-id\tscore\n{lines}")
    return folder


def test_recipes_name_what_was_published() -> None:
    assert load_config("notellm2").loss.visual == 0.9
    assert load_config("colqwen").model.tune.rank == 32
