"""What an evaluation found, and what it could not use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

NAMED_AT_MOST = 5  # a sentence names this many ids; the lists of a report name all of them


@dataclass(frozen=True, slots=True)
class Problem:
    """One item that was left out, or that could not be encoded.

    `id` is None where it could not be read; then `reason` has file and line.
    """

    id: str | None
    reason: str

    def to_json(self) -> dict[str, str | None]:
        """`{"id", "reason"}`."""
        return {"id": self.id, "reason": self.reason}


@dataclass(frozen=True, slots=True)
class GroupResult:
    """The metrics of a group of queries: all of them, or those of one task.

    Args:
        n_queries: how many queries the means are over.
        metrics: mean of each metric, in [0, 1].
        confidence: 95 % bootstrap interval of each mean.
        chance: what a random order of the same pools scores on average.
        tie_rate: share of the queries in whose ranking another order of equal scores would change which relevance
            stands at some place. Such ties count against the relevant documents.
    """

    n_queries: int
    metrics: Mapping[str, float]
    confidence: Mapping[str, tuple[float, float]]
    chance: Mapping[str, float]
    tie_rate: float

    def to_json(self) -> dict[str, Any]:
        """The fields under their names; an interval is `[low, high]`."""
        return {
            "n_queries": self.n_queries,
            "metrics": dict(self.metrics),
            "confidence": {name: list(interval) for name, interval in self.confidence.items()},
            "chance": dict(self.chance),
            "tie_rate": self.tie_rate,
        }


@dataclass(frozen=True, slots=True)
class RerankedResult:
    """The same queries in a reranker's order, to be read beside the order that it was given.

    Args:
        reranker, fingerprint: its identity.
        depth: how many of each ranking it ordered.
        overall, by_task: as in `EvalReport`.
        gain: of each metric the mean difference to the order before, and its 95 % bootstrap interval: mean, low, high.
        warnings: as in `EvalReport`.
    """

    reranker: str
    fingerprint: str
    depth: int
    overall: GroupResult
    by_task: Mapping[str, GroupResult]
    gain: Mapping[str, tuple[float, float, float]]
    warnings: Sequence[str] = ()

    def to_json(self) -> dict[str, Any]:
        """The fields under their names; a gain is `[mean, low, high]`."""
        return {
            "reranker": self.reranker,
            "fingerprint": self.fingerprint,
            "depth": self.depth,
            **self.overall.to_json(),
            "gain": {name: list(values) for name, values in self.gain.items()},
            "by_task": {task: group.to_json() for task, group in self.by_task.items()},
        }


@dataclass(frozen=True, slots=True)
class EvalReport:
    """How well an encoder finds what a dataset calls relevant.

    Args:
        dataset: name of the dataset's folder.
        split: which qrels.
        encoder: spec of the encoder.
        fingerprint: of the encoder.
        n_documents: how many documents were ranked.
        overall: over all evaluated queries, those that failed (and score zero) included.
        by_task: for each `metadata.task`; empty if no query names one.
        warnings: one sentence for each kind of thing that makes the figures less than plain.
        skipped_queries: not evaluated, because the dataset does not give what is needed.
        failed_queries: evaluated with a score of zero, because they could not be encoded.
        failed_corpus: documents that could not be read or encoded; they are never found.
        reranked: the same in a reranker's order, if there was one; all else is without it.
    """

    dataset: str
    split: str
    encoder: str
    fingerprint: str
    n_documents: int
    overall: GroupResult
    by_task: Mapping[str, GroupResult]
    warnings: Sequence[str]
    skipped_queries: Sequence[Problem]
    failed_queries: Sequence[Problem]
    failed_corpus: Sequence[Problem]
    reranked: RerankedResult | None = None

    @property
    def n_queries(self) -> int:
        return self.overall.n_queries

    @property
    def metrics(self) -> Mapping[str, float]:
        return self.overall.metrics

    @property
    def tie_rate(self) -> float:
        return self.overall.tie_rate

    def to_json(self) -> dict[str, Any]:
        """One JSON object, as `mmseek eval --json` prints it."""
        return {
            "dataset": self.dataset,
            "split": self.split,
            "encoder": self.encoder,
            "fingerprint": self.fingerprint,
            "n_documents": self.n_documents,
            **self.overall.to_json(),
            "by_task": {task: group.to_json() for task, group in self.by_task.items()},
            **({} if self.reranked is None else {"reranked": self.reranked.to_json()}),
            "warnings": list(self.warnings),
            "skipped": {"queries": [problem.to_json() for problem in self.skipped_queries]},
            "failed": {
                "queries": [problem.to_json() for problem in self.failed_queries],
                "corpus": [problem.to_json() for problem in self.failed_corpus],
            },
        }


def naming(ids: Sequence[str | None]) -> str:
    """`"'a', 'b' and 3 more"`: the first few ids, for a sentence."""
    known = [repr(item_id) for item_id in ids if item_id is not None][:NAMED_AT_MOST]
    rest = len(ids) - len(known)
    if not known:
        return f"{rest} without a readable id"
    return ", ".join(known) + (f" and {rest} more" if rest else "")


def counted(count: int, singular: str, plural: str | None = None) -> str:
    """`"1 query"`, `"2 queries"`."""
    return f"{count} {singular if count == 1 else plural or singular + 's'}"
