"""What frozen towers give, kept in a file: the same training, without running them again."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from shutil import copytree
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch

from mmseek import EncodeRequest, load_encoder
from mmseek.errors import ConfigError, StorageError
from mmseek.training.data.rows import TrainingRow
from mmseek.training.data.triples import read_triples
from mmseek.training.families.stems import Kept, Stemmed
from mmseek.training.features import Features, requests_of
from mmseek.training.run import Run
from mmseek.training.settings import TrainConfig
from mmseek.training.tiny import tiny_clip

Configure = Callable[..., TrainConfig]
TOWERS = r"model.freeze=['^(text_model|vision_model)\.']"
PICTURES = r"model.freeze=['^vision_model\.']"
HEADS = "model.freeze=['^(?!correction|fusion)']"


@pytest.fixture
def mixed(triples: Path, tmp_path: Path) -> Path:
    """Rows some of whose queries have a picture as well."""
    copytree(triples.parent, tmp_path / "mixed")
    path = tmp_path / "mixed" / triples.name
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for number, row in enumerate(rows):
        if number % 2:
            row["query"]["image"] = f"{number}.png"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def asked_of(path: Path) -> list[EncodeRequest]:
    rows = [row for row in read_triples(path) if isinstance(row, TrainingRow)]
    return [request for row in rows for request in (row.query, *row.positives, *row.negatives)]


def losses(folder: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (folder / "log.jsonl").read_text().splitlines()]


def encoded(spec: str, asked: Sequence[EncodeRequest]) -> np.ndarray:
    return np.stack([each.vector for each in load_encoder(spec, device="cpu").stream(asked) if each.vector is not None])


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many units went through a stem, call by call."""
    seen: list[int] = []
    plain = Stemmed.rows

    def rows(self: Stemmed, kind: str, payloads: Sequence[Any]) -> torch.Tensor:
        seen.append(sum(not isinstance(payload, Kept) for payload in payloads))
        return plain(self, kind, payloads)

    monkeypatch.setattr(Stemmed, "rows", rows)
    return seen


@pytest.mark.parametrize(
    ("family", "changes", "held"),
    [
        ("uniir-clip-sf", (TOWERS, "batch.chunk=3"), 2**28),
        ("clip", (PICTURES, "loss.symmetric=true"), 2**28),
        ("mini", (HEADS, "model.encoder=mini"), 2000),
        ("mini", ("model.encoder=mini",), 2**28),
    ],
)
def test_the_same_training_as_without(
    configure: Configure,
    mixed: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    family: str,
    changes: tuple[str, ...],
    held: int,
) -> None:
    monkeypatch.setattr("mmseek.training.features._HELD", held)
    changes = (*changes, f"data.sources.0.path={mixed}", "schedule.steps=4")
    plain = Run(configure(family, *changes)).start()
    more = (f"run.features={tmp_path / 'features.sqlite'}", f"run.output={tmp_path / 'kept'}")
    kept = Run(configure(family, *changes, *more)).start()
    np.testing.assert_allclose(losses(tmp_path / "kept"), losses(tmp_path / "run"), rtol=2e-5)
    asked = asked_of(mixed)
    before = encoded(configure(family, *changes).model.encoder, asked)
    after = encoded(kept.spec, asked)
    np.testing.assert_allclose(after, encoded(plain.spec, asked), atol=2e-5)
    assert np.abs(after - before).max() > 1e-3


def test_frozen_towers_run_once(
    configure: Configure, mixed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = (TOWERS, f"data.sources.0.path={mixed}", f"run.features={tmp_path / 'features.sqlite'}")
    seen = counted(monkeypatch)
    Run(configure("clip", *changes)).start()
    assert seen
    assert not any(seen)
    run = Run(configure("clip", *changes))
    again = Features(run.trainable, tmp_path / "features.sqlite")
    assert again.fill(requests_of(run.sources)) == 0
    prepared = again.prepare(run.sources[0].row(1).query)
    assert [unit.kind for unit in prepared] == ["text", "image"]
    assert all(isinstance(unit.payload, Kept) for unit in prepared)


def test_processes_share_the_work(configure: Configure, mixed: Path, tmp_path: Path) -> None:
    run = Run(configure("clip", TOWERS, f"data.sources.0.path={mixed}"))
    alone = Features(run.trainable, tmp_path / "alone.sqlite").fill(requests_of(run.sources))
    shares = [
        Features(run.trainable, tmp_path / "shared.sqlite").fill(requests_of(run.sources, rank, 2)) for rank in (0, 1)
    ]
    assert min(shares) > 0
    assert sum(shares) == alone


def test_what_is_kept_is_of_one_model_and_one_picture(configure: Configure, mixed: Path, tmp_path: Path) -> None:
    path = tmp_path / "features.sqlite"
    run = Run(configure("clip", TOWERS, f"data.sources.0.path={mixed}"))
    features = Features(run.trainable, path)
    everything = features.fill(requests_of(run.sources))
    query = run.sources[0].row(1).query
    old = features.prepare(query)
    PIL.Image.new("RGB", (30, 40), (200, 10, 10)).save(mixed.parent / "1.png")
    assert [isinstance(unit.payload, Kept) for unit in features.prepare(query)] == [True, False]
    assert features.fill(requests_of(run.sources)) == 1
    new = features.prepare(query)
    np.testing.assert_array_equal(old[0].payload.stem, new[0].payload.stem)
    assert np.abs(old[1].payload.stem - new[1].payload.stem).max() > 1e-3
    another = f"model.encoder=clip:{tiny_clip(tmp_path / 'another', seed=5)}"
    other = Run(configure("clip", TOWERS, f"data.sources.0.path={mixed}", another))
    assert Features(other.trainable, path).fill(requests_of(other.sources)) == everything


def test_a_stopped_run_goes_on_with_the_same_losses(configure: Configure, mixed: Path, tmp_path: Path) -> None:
    path = tmp_path / "features.sqlite"
    changes = (HEADS, "model.encoder=mini", f"data.sources.0.path={mixed}", f"run.features={path}")
    changes = (*changes, "schedule.steps=6", "run.save_every=2")
    stopped = configure("mini", *changes, f"run.output={tmp_path / 'stopped'}")

    def stop(report: Any) -> None:
        if report.step == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Run(stopped).start(stop)
    assert Run(stopped).start().resumed_from == 4
    Run(configure("mini", *changes, f"run.output={tmp_path / 'whole'}")).start()
    assert losses(tmp_path / "stopped") == losses(tmp_path / "whole")


@pytest.mark.parametrize(
    ("family", "changes", "words"),
    [("vlm2vec", (), "the family vlm2vec has no part"), ("clip", (), "freeze a tower with model.freeze")],
)
def test_without_a_frozen_part_there_is_nothing_to_keep(
    configure: Configure, tmp_path: Path, family: str, changes: tuple[str, ...], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        Run(configure(family, *changes, f"run.features={tmp_path / 'features.sqlite'}")).start()


def test_a_file_that_cannot_be_written_is_named(configure: Configure, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(StorageError, match=r"run\.features: .*taken"):
        Run(configure("clip", TOWERS, f"run.features={tmp_path / 'taken' / 'features.sqlite'}")).start()


def test_a_tower_in_two_parts_is_the_tower() -> None:
    from mmseek.embed.mini.tower import load_tower

    tower = load_tower()
    pictures = torch.randint(0, 255, (3, 112, 112, 3), dtype=torch.uint8)
    with torch.no_grad():
        torch.testing.assert_close(tower.finish(tower.look(pictures)), tower(pictures), rtol=0, atol=1e-6)
