"""Mining: which candidates, in which modality, the same again after a kill, and what the report says."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from mmseek._types import Encoded, EncodeRequest, EncoderIdentity, Pair
from mmseek.errors import ConfigError, EncodeError, InputError
from mmseek.evaluation import Dataset, load_dataset
from mmseek.evaluation.ranking import Pool, rank
from mmseek.testing import FakeReranker
from mmseek.training.data.rows import TrainingRow
from mmseek.training.data.triples import read_triples
from mmseek.training.mining import MiningOptions, mine, vectors
from mmseek.training.mining.choosing import Candidate, choose, sets_of
from mmseek.training.mining.ranking import Asked, best_of
from mmseek.training.mining.run import work_folder

QUERIES, DOCUMENTS = 8, 40


class Scripted:
    """Vectors by name: a query's ranking is the one that its text asks for."""

    def __init__(self, fail_on: str = "never") -> None:
        self.identity = EncoderIdentity("scripted", "f" * 64, DOCUMENTS)
        self.fail_on, self.calls, self.stop_after = fail_on, 0, 10**9

    def stream(self, requests: Iterable[EncodeRequest]) -> Iterator[Encoded]:
        for request in requests:
            self.calls += 1
            if self.calls > self.stop_after:
                raise KeyboardInterrupt
            content = request.content
            if self.fail_on in content.text:
                yield Encoded(error=EncodeError("made to fail"))
                continue
            row = np.zeros(DOCUMENTS, dtype=np.float32)
            if request.role == "query":
                row[:] = np.random.default_rng(int(content.text.split()[1])).random(DOCUMENTS)
            else:
                name = content.images[0].path.stem if content.images else content.text.split()[1]  # type: ignore[union-attr]
                row[int(name)] = 1
            yield Encoded(vector=row)


@pytest.fixture
def data(tmp_path: Path) -> Dataset:
    """Even documents are texts, odd ones pictures; every query wants one picture."""
    folder = tmp_path / "data"
    (folder / "qrels").mkdir(parents=True)
    with (folder / "corpus.jsonl").open("w") as file:
        for number in range(DOCUMENTS):
            document: dict[str, Any] = {"id": f"d{number}", "text": f"document {number} of it"}
            if number % 2:
                PIL.Image.new("RGB", (8, 8), (number * 6, 0, 0)).save(folder / f"{number}.png")
                document = {"id": f"d{number}", "image": f"{number}.png"}
            file.write(json.dumps(document) + "\n")
    with (folder / "queries.jsonl").open("w") as file:
        for number in range(QUERIES):
            query = {
                "id": f"q{number}",
                "text": f"query {number} ?",
                "exclude": ["d7"],
                "instruction": "find a picture",
            }
            file.write(json.dumps(query) + "\n")
    wanted = "".join(f"q{number}\td{2 * number + 11}\t1\n" for number in range(QUERIES))
    (folder / "qrels" / "train.tsv").write_text(f"query-id\tcorpus-id\tscore\n{wanted}")
    return load_dataset(folder, "train")


OPTIONS = MiningOptions(depth=30, below=20, seed=3)


def scores(number: int) -> np.ndarray:
    return np.random.default_rng(number).random(DOCUMENTS).astype(np.float32)


def test_c1_stands_above_the_positive_and_c2_far_below(data: Dataset, tmp_path: Path) -> None:
    output = tmp_path / "mined.jsonl"
    report, examples = mine(data, Scripted(), output, options=OPTIONS)  # type: ignore[arg-type]
    rows = [row for row in read_triples(output) if isinstance(row, TrainingRow)]
    assert len(rows) == report.rows == report.queries == QUERIES
    kinds = {"C1": 0, "C2": 0}
    for number, row in enumerate(rows):
        order = [each for each in np.argsort(-scores(number)) if each != 7]
        place = {int(each): rank for rank, each in enumerate(order, 1)}
        positive = 2 * number + 11
        assert row.query.instruction == "find a picture"
        assert row.positives[0].content.images[0].path == data.path / f"{positive}.png"
        (negative,) = row.negatives
        if negative.content.images:
            chosen = int(negative.content.images[0].path.stem)  # type: ignore[union-attr]
            assert 20 < place[chosen] <= 30
            assert chosen not in (positive, 7)
            kinds["C2"] += 1
        else:
            assert place[int(negative.content.text.split()[1])] < min(place[positive], 31)
            kinds["C1"] += 1
    assert kinds == {"C1": report.chosen_c1, "C2": report.chosen_c2}
    assert min(kinds.values()) > 0
    tops = [next(each for each in np.argsort(-scores(number)) if each != 7) for number in range(QUERIES)]
    assert report.wrong_modality_at_1 == sum(top % 2 == 0 for top in tops) / QUERIES
    assert not work_folder(output).exists()
    assert {example.negatives[0][1].kind for example in examples} == {"C1", "C2"}


def test_the_same_seed_gives_the_same_file_and_a_killed_mining_goes_on(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [tmp_path / f"{name}.jsonl" for name in ("one", "two", "other", "killed")]
    for path in files[:2]:
        mine(data, Scripted(), path, options=OPTIONS)  # type: ignore[arg-type]
    mine(data, Scripted(), files[2], options=MiningOptions(depth=30, below=20, seed=4))  # type: ignore[arg-type]
    assert files[0].read_bytes() == files[1].read_bytes() != files[2].read_bytes()
    monkeypatch.setattr(vectors, "SHARD", 8)
    encoder = Scripted()
    encoder.stop_after = 27
    with pytest.raises(KeyboardInterrupt):
        mine(data, encoder, files[3], options=OPTIONS)  # type: ignore[arg-type]
    assert not files[3].exists()
    again = Scripted()
    mine(data, again, files[3], options=OPTIONS)  # type: ignore[arg-type]
    assert again.calls == DOCUMENTS + QUERIES - 24  # three shards of eight were kept
    assert files[3].read_bytes() == files[0].read_bytes()


def test_a_reranker_confirms_c2_and_its_scores_are_kept(data: Dataset, tmp_path: Path) -> None:
    def judge(pair: Pair) -> float:
        number = int(pair.document.images[0].path.stem)  # type: ignore[union-attr]
        wanted = 2 * int(pair.query.text.split()[1]) + 11
        return 1.0 if number == wanted else (2.0 if number % 4 == 1 else 0.0)

    reranker, output = FakeReranker(judge), tmp_path / "mined.jsonl"
    options = MiningOptions(depth=30, below=10, c1_share=0.0, negatives=2, seed=1)
    report, _ = mine(data, Scripted(), output, options=options, reranker=reranker)  # type: ignore[arg-type]
    rows = [row for row in read_triples(output) if isinstance(row, TrainingRow)]
    pictures = [each.content.images[0] for row in rows for each in row.negatives if each.content.images]
    assert pictures
    assert all(int(picture.path.stem) % 4 == 3 for picture in pictures)  # type: ignore[union-attr]
    assert report.refused > 0
    assert {row.scores for row in rows if len(row.negatives) == 2} <= {(1.0, 0.0, 0.0), None}
    assert any(row.scores for row in rows)


def test_what_cannot_be_encoded_is_told_and_the_rest_goes_on(data: Dataset, tmp_path: Path) -> None:
    report, _ = mine(data, Scripted("document 4 "), tmp_path / "mined.jsonl", options=OPTIONS)  # type: ignore[arg-type]
    assert report.failed_documents == [("d4", "made to fail")]
    assert report.rows == QUERIES
    with pytest.raises(InputError, match="no query to mine: made to fail"):
        mine(data, Scripted("query"), tmp_path / "none.jsonl", options=OPTIONS)  # type: ignore[arg-type]


def candidates(*rights: bool) -> list[Candidate]:
    return [Candidate(row, row + 1, 1 - row / 10, right) for row, right in enumerate(rights)]


def test_thresholds_are_asked_about_c2_only() -> None:
    ranking = candidates(False, True, False, True, True)
    options = MiningOptions(depth=5, below=1)
    first, second = sets_of(ranking, 3, 0.8, options)
    assert [each.rank for each in first] == [1]
    assert [each.rank for each in second] == [2, 4, 5]
    assert [each.rank for each in sets_of(ranking, None, 0.1, options)[0]] == [1, 3]
    near = MiningOptions(depth=5, below=1, ratio=0.95)
    assert [each.rank for each in sets_of(ranking, 3, 0.8, near)[1]] == [4, 5]
    assert [len(each) for each in sets_of(ranking, 3, -0.5, near)] == [1, 0]
    far = MiningOptions(depth=5, below=1, margin=0.15)
    assert [each.rank for each in sets_of(ranking, 3, 0.8, far)[1]] == [5]


def test_either_set_as_often_as_asked_and_both_where_one_is_short() -> None:
    first, second = candidates(False) * 4, candidates(True) * 4
    for share in (0.0, 0.3, 1.0):
        options = MiningOptions(c1_share=share)
        kinds = [choose(f"q{n}", first, second, options)[0].kind for n in range(600)]
        assert abs(kinds.count("C1") / 600 - share) < 0.07
    assert [each.kind for each in choose("q", [], second, MiningOptions())] == ["C2"]
    assert len(choose("q", first, second[:1], MiningOptions(negatives=9))) == 5
    assert choose("q", [], [], MiningOptions()) == []


@pytest.mark.parametrize(
    "wrong", [{"depth": 0}, {"below": 50}, {"negatives": 0}, {"c1_share": 2.0}, {"ratio": float("nan")}]
)
def test_options_that_do_not_fit(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        MiningOptions(**wrong)


@pytest.mark.parametrize("k", [3, 10, 80])
def test_the_best_are_those_of_the_plain_ranking(k: int) -> None:
    rng = np.random.default_rng(0)
    queries, pool = (rng.integers(-2, 3, (n, 6)).astype(np.float32) for n in (9, 60))  # small integers: many ties
    nothing = np.empty(0, dtype=np.int64)
    asked = [Asked(nothing, None, np.array([3])) for _ in range(8)]
    asked.append(Asked(np.array([5, 40]), np.arange(0, 60, 2), np.array([2, 59])))
    best = best_of(queries, np.array_split(pool, 7), asked, k)
    pools = [Pool(nothing, nothing, each.excluded, each.allowed) for each in asked]
    for row, plain in enumerate(rank(queries, pool, pools, k)):
        assert best.rows[row][: len(plain.rows)].tolist() == plain.rows.tolist()
        assert (best.rows[row][len(plain.rows) :] == -1).all()
    np.testing.assert_array_equal(best.labelled[8], (queries[8] @ pool.T)[[2, 59]])
