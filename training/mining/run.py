"""Mining a dataset: encode, rank, choose, write. What was done before a kill is not done again."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from mmseek._types import Content, Document, EncodeRequest, Pair
from mmseek.errors import InputError, StorageError
from mmseek.evaluation import Dataset, EvalQuery
from mmseek.training.data.rows import TrainingRow
from mmseek.training.data.triples import row_to_json
from mmseek.training.mining.choosing import Candidate, Choice, MiningOptions, choose, sets_of
from mmseek.training.mining.ranking import Asked, Best, best_of
from mmseek.training.mining.vectors import encode_all

if TYPE_CHECKING:
    from mmseek.protocols import Encoder, Reranker

__all__ = ["Example", "MiningReport", "mine", "work_folder"]

# Called with what is being done, how many are done, and of how many.
Progress: TypeAlias = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Example:
    """A query as it was mined, for people to look at."""

    query: EvalQuery
    positive: Document
    positive_rank: int | None
    positive_score: float
    negatives: tuple[tuple[Document, Choice], ...]


@dataclass(slots=True)
class MiningReport:
    """What came of the queries. Rates are shares of `queries`.

    Args:
        queries: those that were ranked.
        rows: lines written.
        with_c1, with_c2: queries with at least one candidate of the set.
        chosen_c1, chosen_c2: negatives of each.
        without_negative: rows that have none.
        refused: C2 candidates that the reranker did not confirm.
        wrong_modality_at_1: share whose best document is of a modality that was not asked for.
        positive_found: share whose labelled positive is among the first `depth`.
        failed_queries, failed_documents: what could not be encoded or read, and why.
    """

    queries: int = 0
    rows: int = 0
    with_c1: int = 0
    with_c2: int = 0
    chosen_c1: int = 0
    chosen_c2: int = 0
    without_negative: int = 0
    refused: int = 0
    wrong_modality_at_1: float = 0.0
    positive_found: float = 0.0
    failed_queries: list[tuple[str, str]] = field(default_factory=list)
    failed_documents: list[tuple[str, str]] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """As the report's file holds it."""
        return asdict(self)


def work_folder(output: Path) -> Path:
    """Where an unfinished mining keeps what it has; it is removed at the end."""
    return output.with_name(f"{output.name}.work")


def mine(
    data: Dataset,
    encoder: Encoder,
    output: Path,
    *,
    options: MiningOptions | None = None,
    reranker: Reranker | None = None,
    on_progress: Progress | None = None,
    examples: int = 24,
) -> tuple[MiningReport, list[Example]]:
    """Write a row of triples for every query of a split, with hard negatives where there are any.

    Started again after a kill, it goes on: vectors are kept beside the output until it is whole. The same seed, data
    and encoder give the same file.

    Args:
        data: queries, judgements and the whole pool.
        encoder: the current one.
        output: a JSONL file; written whole or not at all.
        options: thresholds.
        reranker: asked whether C2 candidates are negatives; its scores are written with rows that have C2 alone.
        on_progress: told after each shard or query.
        examples: how many queries are given back to be looked at.

    Raises:
        InputError: nothing could be encoded.
        StorageError: the disk is full or read-only.
    """
    options, tell = options or MiningOptions(), on_progress or (lambda _stage, _done, _total: None)
    work = work_folder(output)
    _prepare(work, encoder)
    try:
        miner = _Miner(data, encoder, options, work, tell)
        rows = miner.rows(reranker)
        report, shown = miner.report, miner.examples(examples)
        part = work / "rows.jsonl"
        with part.open("w", encoding="utf-8") as file:
            for row in rows:
                file.write(json.dumps(row_to_json(row, relative_to=output.parent), ensure_ascii=False) + "\n")
        part.replace(output)
    except OSError as error:
        raise StorageError(f"{output} cannot be written ({error.strerror}): make room on the disk") from error
    shutil.rmtree(work, ignore_errors=True)
    return report, shown


def _prepare(work: Path, encoder: Encoder) -> None:
    """A folder with nothing of another encoder in it."""
    mark = work / "encoder.txt"
    try:
        if not mark.is_file() or mark.read_text() != encoder.identity.fingerprint:
            shutil.rmtree(work, ignore_errors=True)
            work.mkdir(parents=True)
            mark.write_text(encoder.identity.fingerprint)
    except OSError as error:
        raise StorageError(f"{work} cannot be written ({error.strerror}): choose another output") from error


class _Miner:
    """One mining, stage by stage."""

    def __init__(self, data: Dataset, encoder: Encoder, options: MiningOptions, work: Path, tell: Progress) -> None:
        self._data, self._options, self._tell, self._work = data, options, tell, work
        self.report = MiningReport()
        self._ids: list[str] = []
        self._modalities: list[str] = []
        documents = encode_all(
            self._documents(), encoder, work, "corpus", lambda done: tell("corpus", done, data.n_documents)
        )
        self.report.failed_documents += [(self._ids[row], reason) for row, reason in documents.failures.items()]
        total = len(data.queries)
        requests = (EncodeRequest(each.content, "query", each.instruction) for each in data.queries)
        queries = encode_all(requests, encoder, work, "queries", lambda done: tell("queries", done, total))
        self.report.failed_queries += [(data.queries[row].id, reason) for row, reason in queries.failures.items()]
        self._row_of = {name: row for row, name in enumerate(self._ids)}
        usable = [row for row in range(total) if row not in queries.failures]
        self._queries = [data.queries[row] for row in usable if self._labelled(data.queries[row])]
        if not self._queries or not self._ids:
            reason = next(iter(queries.failures.values()), "no labelled document could be read")
            raise InputError(f"{data.path} leaves no query to mine: {reason}")
        kept = {query.id for query in self._queries}
        chosen = [row for row in usable if data.queries[row].id in kept]
        asked = [self._asked(query) for query in self._queries]
        self._asked_rows = asked
        self._best: Best = best_of(queries.whole()[chosen], documents, asked, options.depth)
        tell("ranking", len(chosen), len(chosen))
        self._choices: list[list[Choice]] = []
        self._scores: list[tuple[float, ...] | None] = []
        self._contents: dict[int, Document] = {}

    def _documents(self) -> Iterator[EncodeRequest]:
        for document in self._data.corpus():
            if isinstance(document, Document):
                self._ids.append(document.id)
                self._modalities.append(document.content.modality)
                yield EncodeRequest(document.content)
            else:
                self.report.failed_documents.append((document.item_id or "", str(document)))

    def _labelled(self, query: EvalQuery) -> list[int]:
        return [self._row_of[name] for name in self._data.qrels[query.id] if name in self._row_of]

    def _asked(self, query: EvalQuery) -> Asked:
        def rows(names: frozenset[str]) -> Any:
            return np.array(sorted(self._row_of[name] for name in names if name in self._row_of), dtype=np.int64)

        allowed = None if query.candidates is None else rows(query.candidates)
        return Asked(rows(query.exclude), allowed, np.array(self._labelled(query), dtype=np.int64))

    def _look_at(self, place: int) -> tuple[list[Candidate], int | None, float, int]:
        """A query's ranking without relevant documents, and rank, score and row of its best labelled one."""
        labelled, scores = self._asked_rows[place].labelled, self._best.labelled[place]
        # What could not be encoded has no score and stands last.
        best = int(np.argmax(np.nan_to_num(scores, nan=-np.inf)))
        score = float(scores[best]) if math.isfinite(scores[best]) else -1.0
        wanted = {self._modalities[row] for row in labelled.tolist()}
        known = set(labelled.tolist())
        ranking, positive_rank = [], None
        rows, values = self._best.rows[place].tolist(), self._best.scores[place].tolist()
        for rank, (row, value) in enumerate(zip(rows, values, strict=True), start=1):
            if row < 0:
                break
            if row in known:
                positive_rank = positive_rank or rank
            else:
                ranking.append(Candidate(row, rank, value, self._modalities[row] in wanted))
        return ranking, positive_rank, score, int(labelled[best])

    def rows(self, reranker: Reranker | None) -> list[TrainingRow]:
        """Choose for every query, count, and make the rows."""
        report, looked = self.report, [self._look_at(place) for place in range(len(self._queries))]
        sets = [sets_of(ranking, rank, score, self._options) for ranking, rank, score, _ in looked]
        report.queries = len(looked)
        at_first = [ranking[0] for ranking, _, _, _ in looked if ranking and ranking[0].rank == 1]
        report.wrong_modality_at_1 = sum(not each.right for each in at_first) / len(looked)
        report.positive_found = sum(rank is not None for _, rank, _, _ in looked) / len(looked)
        report.with_c1 = sum(bool(first) for first, _ in sets)
        report.with_c2 = sum(bool(second) for _, second in sets)
        if reranker is None:
            self._choices = [
                choose(query.id, *both, self._options) for query, both in zip(self._queries, sets, strict=True)
            ]
            self._scores = [None] * len(looked)
        else:
            self._confirmed(reranker, looked, sets)
        drawn = [choice for choices in self._choices for choice in choices]
        report.chosen_c1 = sum(choice.kind == "C1" for choice in drawn)
        report.chosen_c2 = len(drawn) - report.chosen_c1
        report.without_negative = sum(not choices for choices in self._choices)
        self._contents = self._read({choice.candidate.row for choice in drawn})
        rows = [self._row(place) for place in range(len(self._queries))]
        report.rows = len(rows)
        return rows

    def _confirmed(
        self,
        reranker: Reranker,
        looked: Sequence[tuple[list[Candidate], int | None, float, int]],
        sets: Sequence[tuple[list[Candidate], list[Candidate]]],
    ) -> None:
        """Choose with a reranker's word on C2; decisions are kept, for they are dear."""
        contents = self._read({each.row for _, second in sets for each in second} | {best for *_, best in looked})
        judge = _Judge(reranker, self._work / "judged.jsonl", self._ids)
        for place, (query, (first, second)) in enumerate(zip(self._queries, sets, strict=True)):
            positive = judge.score(query, looked[place][3], contents)

            def confirm(candidate: Candidate, query: EvalQuery = query, positive: float = positive) -> bool:
                good = judge.score(query, candidate.row, contents) < positive - self._options.confirm_margin
                self.report.refused += not good
                return good

            choices = choose(query.id, first, second, self._options, confirm)
            self._choices.append(choices)
            labelled = self._asked_rows[place].labelled.tolist()
            self._scores.append(None)
            if len(labelled) == 1 and choices and all(choice.kind == "C2" for choice in choices):
                # Confirmed, so that all of them are numbers.
                own = (judge.score(query, choice.candidate.row, contents) for choice in choices)
                self._scores[-1] = (positive, *own)
            self._tell("reranking", place + 1, len(self._queries))

    def _read(self, rows: set[int]) -> dict[int, Document]:
        """The documents of some rows, and all labelled ones: a second pass, so that the pool need not be held."""
        wanted = rows | {row for asked in self._asked_rows for row in asked.labelled.tolist()}
        found: dict[int, Document] = {}
        for document in self._data.corpus():
            if isinstance(document, Document) and (row := self._row_of[document.id]) in wanted:
                found[row] = document
        return found

    def _row(self, place: int) -> TrainingRow:
        query = self._queries[place]
        labelled = self._asked_rows[place].labelled.tolist()
        return TrainingRow(
            EncodeRequest(query.content, "query", query.instruction),
            tuple(EncodeRequest(self._contents[row].content) for row in labelled),
            tuple(EncodeRequest(self._contents[each.candidate.row].content) for each in self._choices[place]),
            self._scores[place],
            query.id,
        )

    def examples(self, count: int) -> list[Example]:
        """Some queries with negatives, spread evenly over all."""
        places = [place for place, choices in enumerate(self._choices) if choices]
        step = max(1, len(places) // max(count, 1))
        found = []
        for place in places[::step][:count]:
            _, rank, score, best = self._look_at(place)
            negatives = tuple((self._contents[each.candidate.row], each) for each in self._choices[place])
            found.append(Example(self._queries[place], self._contents[best], rank, score, negatives))
        return found


class _Judge:
    """A reranker that remembers, in a file that survives a kill."""

    def __init__(self, reranker: Reranker, path: Path, ids: Sequence[str]) -> None:
        self._reranker, self._path, self._ids = reranker, path, ids
        self._known: dict[tuple[str, str], float] = {}
        fingerprint = reranker.identity.fingerprint
        for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
            try:
                mark, query, document, score = json.loads(line)
            except ValueError:
                continue  # the line that a killed run was writing
            if mark == fingerprint:
                self._known[query, document] = score

    def score(self, query: EvalQuery, row: int, contents: dict[int, Document]) -> float:
        """Higher is better; NaN, which confirms nothing, where the reranker fails."""
        key = (query.id, self._ids[row])
        if key not in self._known:
            self._known[key] = self._ask(query, contents[row].content)
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps([self._reranker.identity.fingerprint, *key, self._known[key]]) + "\n")
        return self._known[key]

    def _ask(self, query: EvalQuery, document: Content) -> float:
        (outcome,) = self._reranker.stream([Pair(query.content, document, query.instruction)])
        return math.nan if outcome.score is None else float(outcome.score)
