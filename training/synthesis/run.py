"""From jobs to a file of rows: asked for side by side, written in order, whole or not at all."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, Final

from mmseek.errors import ConfigError, EndpointError, InputError, MmseekError, StorageError
from mmseek.media import MediaLimits
from mmseek.pipeline.chat import Chat
from mmseek.training.synthesis.answers import Judged
from mmseek.training.synthesis.journal import Journal, Spending
from mmseek.training.synthesis.kinds import KINDS, Job, Kind, Plan
from mmseek.training.synthesis.making import Maker, Outcome
from mmseek.training.synthesis.pool import Pool

__all__ = ["SynthesisOptions", "SynthesisReport", "answers_file", "synthesize"]

# So many rows in a row that the endpoint fails, and it is taken to be down.
_GIVE_UP: Final = 5
_NAMED: Final = 100


@dataclass(frozen=True, slots=True)
class SynthesisOptions:
    """What is asked for.

    Args:
        rows: how many are asked for; those that are given up are not made up for.
        kinds: to draw from.
        languages: to draw from.
        seed: of all that is drawn.
        attempts: how often a row is asked for whose answer cannot be used.
        review: let the model judge each row once more, in a call of its own.
        min_score: a row that the model scores lower in any respect, 1 to 5, is dropped.
        side: pictures are sent no larger than this, in pixels.
        parallel: calls at once.
        max_calls, max_tokens: see `Spending`.

    Raises:
        ConfigError: a number is out of its range.
    """

    rows: int
    kinds: tuple[Kind, ...] = KINDS
    languages: tuple[str, ...] = ("English",)
    seed: int = 0
    attempts: int = 2
    review: bool = False
    min_score: int = 3
    side: int = 768
    parallel: int = 4
    max_calls: int | None = None
    max_tokens: int | None = None

    def __post_init__(self) -> None:
        for name in ("rows", "attempts", "side", "parallel"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, not {getattr(self, name)}")
        if not 1 <= self.min_score <= 5:
            raise ConfigError(f"the lowest score must be from 1 to 5, not {self.min_score}")


@dataclass(slots=True)
class SynthesisReport:
    """What came of it.

    Args:
        asked: rows that were asked for.
        rows: lines written.
        revised: of them, those that the model wrote again after judging them.
        dropped: rows that the model did not stand by, or scored too low.
        doubles: rows left out because an earlier one has the same texts.
        unusable: rows whose answers could not be used, after all attempts.
        bad_answers: answers that could not be used, by kind, those included that were made good at another attempt.
        named: of them, row and reason, the first hundred.
        failed: rows for which there was no answer, or a picture could not be used, and why.
        by_kind, by_language: of the rows written.
        calls, prompt_tokens, completion_tokens, tokens_guessed: see `Spending`.
        known: answers that were there from an earlier run.
        stopped: why not all was asked for; None if all was.
    """

    asked: int = 0
    rows: int = 0
    revised: int = 0
    dropped: int = 0
    doubles: int = 0
    unusable: int = 0
    bad_answers: dict[str, int] = field(default_factory=dict)
    named: list[tuple[str, str]] = field(default_factory=list)
    failed: list[tuple[str, str]] = field(default_factory=list)
    by_kind: dict[str, int] = field(default_factory=dict)
    by_language: dict[str, int] = field(default_factory=dict)
    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    tokens_guessed: bool = False
    known: int = 0
    stopped: str | None = None


def answers_file(output: Path) -> Path:
    """Where the answers are kept."""
    return output.with_name(f"{output.name}.answers.jsonl")


def synthesize(
    pool: Pool,
    chat: Chat,
    output: Path,
    options: SynthesisOptions,
    *,
    limits: MediaLimits,
    on_progress: Callable[[int, int], None] | None = None,
) -> SynthesisReport:
    """Write rows that `mmseek train` reads, each with where it comes from in its `metadata`.

    Answers are kept in `answers_file(output)`, by what was asked: started again after a kill, or with more rows, it
    asks for what is not there.

    Args:
        pool: pictures; compared, if rows of several pictures are wanted.
        chat: who writes.
        output: a JSONL file.
        options: see there.
        limits: of pictures.
        on_progress: told how many rows are behind us, and how many of them failed.

    Raises:
        InputError: no row came of it.
        EndpointError: no row came of it, because the endpoint failed.
        StorageError: the disk is full or read-only.
    """
    spending = Spending(options.max_calls, options.max_tokens)
    plan = Plan(len(pool), options.kinds, options.languages, pool.near, options.seed)
    journal = Journal(answers_file(output), spending)
    report = SynthesisReport(known=spending.calls)
    maker = Maker(
        pool, chat, journal, limits, options.seed, attempts=options.attempts, review=options.review, side=options.side
    )
    run = _Run(maker, plan, options, report, on_progress or (lambda _done, _failed: None))
    part = output.with_name(f".{output.name}.part")
    try:
        with part.open("w", encoding="utf-8") as file:
            for row in run.rows(output.parent):
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
        if not report.rows:
            raise _nothing(report)
        part.replace(output)
    except OSError as error:
        raise StorageError(f"{output} cannot be written ({error.strerror}): make room on the disk") from error
    finally:
        part.unlink(missing_ok=True)
        journal.close()
    report.calls, report.tokens_guessed = spending.calls, spending.guessed
    report.prompt_tokens, report.completion_tokens = spending.prompt_tokens, spending.completion_tokens
    return report


def _nothing(report: SynthesisReport) -> MmseekError:
    if report.failed:
        return EndpointError(f"no row came of it: {report.failed[0][1]}")
    reason = report.stopped or (report.named[0][1] if report.named else "the model stands by none of them")
    return InputError(f"no row came of it: {reason}")


@dataclass(slots=True)
class _Run:
    """Jobs under way, and the counting of what becomes of them."""

    maker: Maker
    plan: Plan
    options: SynthesisOptions
    report: SynthesisReport
    tell: Callable[[int, int], None]
    seen: set[int] = field(default_factory=set)
    down: int = 0

    def rows(self, folder: Path) -> Iterator[dict[str, Any]]:
        """The rows in the order of their jobs, a bounded number under way."""
        waiting: deque[Future[Outcome]] = deque()
        numbers = iter(range(self.options.rows))
        with ThreadPoolExecutor(self.options.parallel, "mmseek-synthesis") as threads:
            try:
                for done in count(1):
                    while self.report.stopped is None and len(waiting) < 2 * self.options.parallel:
                        if (number := next(numbers, None)) is None:
                            break
                        waiting.append(threads.submit(self.maker.made, self.plan.job(number)))
                    if not waiting:
                        return
                    outcome = waiting.popleft().result()
                    made = self._counted(outcome)
                    self.tell(done, len(self.report.failed) + self.report.unusable)
                    if made:
                        yield self.maker.line(outcome, folder)
            finally:
                threads.shutdown(wait=True, cancel_futures=True)

    def _counted(self, outcome: Outcome) -> bool:
        """Count a job; whether it makes a row."""
        report, name = self.report, self.maker.name(outcome.job)
        for bad in outcome.bad:
            report.bad_answers[bad.kind] = report.bad_answers.get(bad.kind, 0) + 1
            if len(report.named) < _NAMED:
                report.named.append((name, str(bad)))
        if outcome.limit is not None:
            report.stopped = report.stopped or f"{outcome.limit} is reached"
            return False
        report.asked += 1
        self._watch(outcome)
        if outcome.error is not None:
            report.failed.append((name, str(outcome.error)))
        elif outcome.judged is None:
            report.unusable += 1
        elif not outcome.judged.keep or min(outcome.judged.scores.values()) < self.options.min_score:
            report.dropped += 1
        else:
            return self._kept(outcome.job, outcome.judged)
        return False

    def _watch(self, outcome: Outcome) -> None:
        """An endpoint that fails again and again is not asked any more."""
        self.down = self.down + 1 if isinstance(outcome.error, EndpointError) else 0
        if self.down == _GIVE_UP and self.report.stopped is None:
            self.report.stopped = f"the endpoint failed {_GIVE_UP} times running: {outcome.error}"

    def _kept(self, job: Job, judged: Judged) -> bool:
        report = self.report
        same = hash((job.kind, job.pictures, tuple(judged.final.values())))
        if same in self.seen:
            report.doubles += 1
            return False
        self.seen.add(same)
        report.rows += 1
        report.revised += judged.revised
        for found, key in ((report.by_kind, job.kind.name), (report.by_language, job.language)):
            found[key] = found.get(key, 0) + 1
        return True
