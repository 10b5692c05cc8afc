"""Asking every question of a file: several at a time, each outcome kept at once, a failure only its question's."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mmseek._types import Document, Hit, Query
from mmseek.errors import DatasetError, EndpointError, InputError, MmseekError
from mmseek.evaluation.rag.judging import Judge
from mmseek.evaluation.rag.records import FoundHit, RagRecord, Records
from mmseek.evaluation.rag.report import RagReport, make_report
from mmseek.evaluation.rag.rows import QARow, RagData, Relevant
from mmseek.evaluation.report import Problem
from mmseek.pipeline.asking import Answer, Asking, Found, conclude, find, rewriting, rewritten
from mmseek.pipeline.chat import Chat
from mmseek.pipeline.context import NOT_FOUND, messages_for, pack

if TYPE_CHECKING:
    from mmseek._types import SearchMode
    from mmseek.pipeline import Retriever, SearchResult

__all__ = ["RagSetup", "evaluate_rag"]

_GIVE_UP: Final = 8


@dataclass(frozen=True, slots=True)
class RagSetup:
    """How questions are asked.

    Args:
        k: how many hits at most; M-LongDoc (arXiv:2411.06176) takes the five best pages.
        mode, instruction: of the search.
        how: threshold, budget and requery.
        mmsearch: measure the four parts of MMSearch: requery, and ask each question once more from what is relevant.
        at_once: questions that are asked at a time.

    Raises:
        InputError: k or `at_once` is below 1.
    """

    k: int = 5
    mode: SearchMode = "dense"
    instruction: str | None = None
    how: Asking = field(default_factory=Asking)
    mmsearch: bool = False
    at_once: int = 4

    def __post_init__(self) -> None:
        if self.k < 1 or self.at_once < 1:
            raise InputError("the hits of a question and the questions at a time must be at least 1")

    def to_json(self) -> dict[str, Any]:
        """What answers depend on."""
        reranking = self.how.reranking
        return {
            "k": self.k,
            "mode": self.mode,
            "instruction": self.instruction,
            "threshold": None if reranking is None else reranking.threshold,
            "requery": self.how.requery,
            "context_chars": self.how.budget.chars,
            "pictures": self.how.budget.pictures,
            "mmsearch": self.mmsearch,
        }


def evaluate_rag(
    data: RagData,
    retriever: Retriever,
    chat: Chat,
    setup: RagSetup | None = None,
    *,
    judge: Judge | None = None,
    answers: Path | None = None,
    on_progress: Callable[[str, int, int], None] | None = None,
) -> RagReport:
    """Ask every question as `mmseek ask` does, and compare answers and hits with what is right.

    Args:
        data: the questions.
        retriever: what is searched, with its rerankers.
        chat: who answers.
        setup: how.
        judge: who grades the answers too, if anyone.
        answers: a file that keeps what became of each question; a run that ended goes on where it stopped.
        on_progress: called after each question.

    Raises:
        DatasetError: the collection holds nothing that any question needs.
        EndpointError: the endpoint failed at several questions in a row; what was answered is kept.
        InputError: the file of answers is of another run.
    """
    setup = setup or RagSetup()
    info = retriever.collection.info()
    run = _Run(data, retriever, chat, setup, judge, threading.Lock())
    run.check()
    described = {
        "questions": data.digest,
        "encoder": str(info.encoder),
        "documents": info.documents,
        "rerankers": [str(stage.reranker.identity) for stage in retriever.stages],
        "model": chat.model,
        "max_tokens": chat.max_tokens,
        **setup.to_json(),
        "judge": None if judge is None else judge.chat.model,
    }
    with Records(answers, described) as records:
        failed = run.ask_all(records, on_progress or (lambda *_: None))
    order = {row.id: place for place, row in enumerate(data.rows)}
    reranked = f", reranked by {retriever.stages[-1].reranker.identity.spec}" if retriever.stages else ""
    return make_report(
        dataset=data.name,
        system=f"{chat.model} over {info.encoder.spec}, {setup.mode}{reranked}",
        setup=described,
        rows=data.rows,
        records={name: each for name, each in records.done.items() if name in order},
        k=setup.k,
        n_documents=info.documents,
        skipped=data.skipped,
        failed=sorted(failed, key=lambda problem: order[problem.id or ""]),
    )


class _OneAtATime:
    """A retriever for several threads: models and collections are asked by one of them at a time."""

    def __init__(self, retriever: Retriever, lock: threading.Lock) -> None:
        self._retriever = retriever
        self._lock = lock

    def search(self, query: Query, **options: Any) -> SearchResult:
        """As that of the retriever."""
        with self._lock:
            return self._retriever.search(query, **options)


@dataclass(frozen=True, slots=True)
class _Run:
    data: RagData
    retriever: Retriever
    chat: Chat
    setup: RagSetup
    judge: Judge | None
    lock: threading.Lock

    def check(self) -> None:
        """Refuse a collection that has nothing to do with the questions."""
        wanted = {each for row in self.data.rows for each in row.relevant}
        if not wanted:
            return
        known = {each.document for each in wanted}
        for document in self.retriever.collection.documents():
            if document.id in known or document.parent_id in known:
                return
        raise DatasetError(
            f"{self.retriever.collection.info().location} holds nothing that {self.data.path.name} calls relevant: "
            "index its documents there"
        )

    def ask_all(self, records: Records, tell: Callable[[str, int, int], None]) -> list[Problem]:
        """Ask what is not answered yet; the questions that failed."""
        failed: list[Problem] = []
        in_a_row = 0
        total = len(self.data.rows)
        rows = iter([row for row in self.data.rows if row.id not in records.done])
        with ThreadPoolExecutor(self.setup.at_once, thread_name_prefix="mmseek-asking") as pool:
            running = dict(self._begin(pool, rows, self.setup.at_once))
            while running:
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    row = running.pop(future)
                    try:
                        records.add(future.result())
                        in_a_row = 0
                    except MmseekError as error:
                        failed.append(Problem(row.id, str(error)))
                        in_a_row += isinstance(error, EndpointError)
                        if in_a_row >= _GIVE_UP:
                            raise EndpointError(
                                f"{in_a_row} questions failed in a row, the last because {error}; what was answered "
                                "is kept in the file of --answers, if there is one"
                            ) from error
                    tell("questions", len(records.done) + len(failed), total)
                running |= dict(self._begin(pool, rows, len(done)))
        return failed

    def _begin(
        self, pool: ThreadPoolExecutor, rows: Iterator[QARow], count: int
    ) -> Iterator[tuple[Future[RagRecord], QARow]]:
        for _, row in zip(range(count), rows, strict=False):
            yield pool.submit(self.ask, row), row

    def ask(self, row: QARow) -> RagRecord:
        """Ask one question; safe to call from several threads."""
        began = time.perf_counter()
        setup, how = self.setup, self.setup.how
        query = Query(
            row.question,
            setup.instruction,
            k=setup.k,
            candidates=row.candidates,
            mode=setup.mode,
            filter=row.filter,
        )
        said = self.chat.complete(rewriting(query, how)) if how.requery or setup.mmsearch else None
        asked = query if said is None else rewritten(query, said)
        found = find(_OneAtATime(self.retriever, self.lock), asked, how)
        answer = self._answer(query, found)
        record = RagRecord(
            id=row.id,
            answer=answer.text,
            found=answer.found,
            hits=tuple(_found(hit, row) for hit in found.hits),
            cited=tuple(source.hit.id for source in answer.cited),
            invented=answer.invented,
            searched=found.searched,
            below=found.below,
            took_ms=(time.perf_counter() - began) * 1000,
            requeried=said if setup.mmsearch else None,
            first_unsure=bool(found.hits) and _is_one_of(found.hits[0], row.unsure),
            summary=self._summary(query, row) if setup.mmsearch else None,
        )
        if self.judge is None:
            return record
        return replace(record, judged=self.judge.grade(row.question.text, row.answers, record.answer))

    def _answer(self, query: Query, found: Found) -> Answer:
        how = self.setup.how
        if not found.sources:
            return conclude(NOT_FOUND, found, 0.0)
        return conclude(
            self.chat.complete(messages_for(query.content, found.sources, how.budget, how.limits)), found, 0.0
        )

    def _summary(self, query: Query, row: QARow) -> str | None:
        """The answer where nothing but what is relevant is given; None where none of it is at hand."""
        with self.lock:
            documents = self.retriever.collection.get([each.id for each in row.relevant])
        hits = [_hit(rank, document) for rank, document in enumerate(documents.values(), start=1)]
        sources = pack(hits, self.setup.how.budget, self.setup.how.limits)
        return self._answer(query, Found(sources, query.content.text)).text if sources else None


def _hit(rank: int, document: Document) -> Hit:
    return Hit(rank, document.id, 0.0, {}, document)


def _is_one_of(hit: Hit, wanted: tuple[Relevant, ...]) -> bool:
    return any(each.is_met_by(hit) for each in wanted)


def _found(hit: Hit, row: QARow) -> FoundHit:
    page = hit.document.metadata.get("page")
    return FoundHit(
        hit.id,
        hit.document.parent_id or hit.id,
        page if isinstance(page, int) else None,
        float(hit.score),
        tuple(place for place, each in enumerate(row.relevant) if each.is_met_by(hit)),
    )
