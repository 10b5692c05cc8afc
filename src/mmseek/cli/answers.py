"""`mmseek eval --rag`: how well questions are answered."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeAlias

import typer

from mmseek.cli.evaluating import Asked, Files, corpus_retriever, write_json
from mmseek.cli.failures import EXIT_PARTIAL
from mmseek.cli.options import writable_file, write_text
from mmseek.cli.output import count, one_line, say
from mmseek.cli.progress import Meter
from mmseek.cli.reranking import reranking_of
from mmseek.errors import InputError

if TYPE_CHECKING:
    from mmseek.cli.output import Output
    from mmseek.evaluation.rag import Judge, RagReport
    from mmseek.evaluation.rag.preferring import Preferences
    from mmseek.pipeline import Retriever
    from mmseek.pipeline.chat import Chat

RagOption: TypeAlias = Annotated[
    Path | None,
    typer.Option("--rag", metavar="PATH", help="Score answers: JSONL of questions, or the folder of WebQA or MMQA."),
]
LlmUrlOption: TypeAlias = Annotated[
    str | None, typer.Option("--llm-url", metavar="URL", help="With --rag: the chat API that answers, as OpenAI's.")
]
ModelOption: TypeAlias = Annotated[
    str | None, typer.Option("--model", metavar="NAME", help="With --rag: its model, by the name the endpoint knows.")
]
KeyFileOption: TypeAlias = Annotated[
    Path | None,
    typer.Option("--api-key-file", metavar="FILE", help="A file with the endpoint's key. [default: the setting's]"),
]
HitsOption: TypeAlias = Annotated[
    int, typer.Option("-k", metavar="N", min=1, help="With --rag: how many documents to answer from.")
]
ThresholdOption: TypeAlias = Annotated[
    str | None,
    typer.Option("--threshold", metavar="N|FILE", help="With --rag: answer from no hit below; as of mmseek ask."),
]
RequeryOption: TypeAlias = Annotated[
    bool, typer.Option("--requery", help="With --rag: let the model write each question anew for the search.")
]
CharsOption: TypeAlias = Annotated[
    int, typer.Option("--context-chars", metavar="N", min=0, help="With --rag: characters of documents that are sent.")
]
PicturesOption: TypeAlias = Annotated[
    int, typer.Option("--pictures", metavar="N", min=0, help="With --rag: pictures of documents that are sent.")
]
TokensOption: TypeAlias = Annotated[
    int, typer.Option("--max-tokens", metavar="N", min=1, help="With --rag: how long an answer may be.")
]
MmsearchOption: TypeAlias = Annotated[
    bool, typer.Option("--mmsearch", help="With --rag: measure MMSearch's four parts; asks two times more.")
]
JudgeUrlOption: TypeAlias = Annotated[
    str | None,
    typer.Option("--judge-url", metavar="URL", help="A chat API that grades answers: with --rag, or with --compare."),
]
JudgeModelOption: TypeAlias = Annotated[
    str | None,
    typer.Option("--judge-model", metavar="NAME", help="Its model; better not the one that answers."),
]
JudgeKeyOption: TypeAlias = Annotated[
    Path | None, typer.Option("--judge-api-key-file", metavar="FILE", help="A file with the judge's key.")
]
AnswersOption: TypeAlias = Annotated[
    Path | None,
    typer.Option("--answers", metavar="FILE", help="With --rag: keep each answer here; the same run again goes on."),
]
AtOnceOption: TypeAlias = Annotated[
    int, typer.Option("--at-once", metavar="N", min=1, help="With --rag: questions that are asked at a time.")
]
LimitOption: TypeAlias = Annotated[
    int | None, typer.Option("--limit", metavar="N", min=1, help="With --rag: only the first N questions.")
]


_JUDGE: Final = "--judge-url URL with --judge-model NAME"
_GRADE_TOKENS: Final = 256


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A chat endpoint as options name it."""

    url: str | None
    model: str | None
    key_file: Path | None

    def __bool__(self) -> bool:
        return self.url is not None or self.model is not None

    def chat(self, what: str, *, max_tokens: int = 1024) -> Chat:
        """The endpoint; `what` are its two options, for the message.

        Raises:
            InputError: one of them is missing.
            ConfigError: the key cannot be used.
        """
        from mmseek.pipeline.chat import Chat, read_key

        if self.url is None or self.model is None:
            raise InputError(f"a chat endpoint is needed, and the name of its model: give {what}")
        return Chat(self.url, self.model, read_key(self.key_file), max_tokens=max_tokens)


@dataclass(frozen=True, slots=True)
class RagAsked:
    """What the options say of questions and answers."""

    path: Path
    split: str | None
    limit: int | None
    endpoint: Endpoint
    judge: Endpoint
    k: int
    threshold: str | None
    requery: bool
    mmsearch: bool
    at_once: int
    answers: Path | None
    context_chars: int
    pictures: int
    max_tokens: int


def evaluate_answers(out: Output, rag: RagAsked, encoder: str, asked: Asked, files: Files) -> None:
    """Ask every question, and show and write what came of it.

    Raises:
        MmseekError: something cannot be loaded, or the endpoint fails again and again.
    """
    from mmseek.evaluation.rag import Judge, RagSetup, evaluate_rag, load_rag
    from mmseek.pipeline.asking import Asking
    from mmseek.pipeline.context import Budget

    if rag.answers is not None:
        writable_file(rag.answers, "--answers")
    chat = rag.endpoint.chat("--llm-url URL with --model NAME", max_tokens=rag.max_tokens)
    judge: Judge | None = None
    if rag.judge:
        judge = Judge(rag.judge.chat(_JUDGE, max_tokens=_GRADE_TOKENS))
    data = load_rag(rag.path, rag.split, limit=rag.limit)
    if data.read is None and asked.collection is None:
        raise InputError(f"there is no corpus.jsonl beside {data.path}: give --collection, where it is indexed")
    with corpus_retriever(data, encoder, asked) as (retriever, failed_corpus), Meter("questions") as meter:
        setup = RagSetup(
            rag.k,
            asked.mode or "dense",
            None,
            Asking(
                reranking=reranking_of(retriever, threshold=rag.threshold, fusion=None, budget=None),
                budget=Budget(rag.context_chars, rag.pictures),
                requery=rag.requery,
            ),
            rag.mmsearch,
            rag.at_once,
        )
        report = evaluate_rag(data, retriever, chat, setup, judge=judge, answers=rag.answers, on_progress=meter.phase)
        _write(report, retriever, files)
    _show(out, report)
    for problem in failed_corpus:
        say(f"note: {problem.reason}")
    if report.failed or failed_corpus:
        raise typer.Exit(EXIT_PARTIAL)


def judged_runs(names: tuple[str, str], judge: Endpoint) -> Preferences:
    """What a judge thinks of the answers in two files of `--output`.

    Raises:
        InputError: one of them is no such file.
    """
    from mmseek.evaluation.rag.preferring import prefer, read_answers

    chat = judge.chat(_JUDGE, max_tokens=_GRADE_TOKENS)
    first, second = (read_answers(Path(name)) for name in names)
    with Meter("questions") as meter:
        return prefer(chat, first, second, on_progress=meter.phase)


def show_preferences(out: Output, found: Preferences) -> None:
    """In a sentence."""
    out.show(
        f"judge, asked in both orders: B is preferred on {found.b:,}, A on {found.a:,}, neither on {found.alike:,} "
        f"(on {found.by_place:,} of these only the place decided); p {found.p:.4f}"
    )
    if found.unread:
        say(f"note: on {count(found.unread, 'question')} the judge gave no verdict that can be read")


def _write(report: RagReport, retriever: Retriever, files: Files) -> None:
    from mmseek.evaluation.rag.markdown import rag_markdown

    if files.output is not None:
        write_json(files.output, report.to_json(per_query=True))
    if files.markdown is not None:
        write_text(files.markdown, rag_markdown(report))
    if files.html is not None:
        from mmseek.api.pages.answers import render_answers, shown_ids

        write_text(files.html, render_answers(report, retriever.collection.get(shown_ids(report))))


def _show(out: Output, report: RagReport) -> None:
    out.json(report.to_json())
    heading = f"{one_line(report.dataset)}: {one_line(report.system)}, {count(report.overall.n_questions, 'question')}"
    out.show(heading, _figures(report), _retrieval(report))
    if report.overall.mmsearch is not None:
        out.show(f"MMSearch {report.overall.mmsearch:.3f}")
    for warning in report.warnings:
        say(f"note: {warning}")


def _figures(report: RagReport) -> Any:
    from rich.table import Table
    from rich.text import Text

    groups = {"all": report.overall, **report.by_task}
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("", *groups):
        table.add_column(Text(one_line(name)), justify="right" if name else "left")
    table.add_row("questions", *(f"{group.n_questions:,}" for group in groups.values()))
    for metric in report.overall.figures:
        found = [group.figures.get(metric) for group in groups.values()]
        cells = [f"{each.mean:.3f} [{each.low:.3f}, {each.high:.3f}]" if each else "" for each in found]
        table.add_row(metric, *cells)
    return table


def _retrieval(report: RagReport) -> Any:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("retrieval, micro", "precision", "recall", "F1", "(by chance)"):
        table.add_column(name, justify="left" if name.startswith("retr") else "right")
    for depth, each in report.overall.retrieval.items():
        chance = "{:.3f}, {:.3f}".format(*each.chance)
        table.add_row(f"first {depth}", f"{each.precision:.3f}", f"{each.recall:.3f}", f"{each.f1:.3f}", chance)
    return table
