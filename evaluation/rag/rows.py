"""Questions with their right answers and what they are answered from: JSONL, WebQA and MMQA."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from mmseek._types import Content, Document, Text
from mmseek.errors import DatasetError, InputError, ItemError
from mmseek.evaluation.formats.contents import pictures_in
from mmseek.evaluation.formats.facts import list_of, mmqa_evidence, mmqa_wanted, one_file, webqa_facts
from mmseek.evaluation.report import Problem
from mmseek.evaluation.tables import TableRow, read_table
from mmseek.items import parse_item, read_items

if TYPE_CHECKING:
    from mmseek._types import Hit

__all__ = ["QARow", "RagData", "Relevant", "load_rag"]

_ITEM_KEYS: Final = ("text", "image", "content")
_KEYS: Final = frozenset(
    {
        "id",
        "question",
        "answer",
        "answers",
        "relevant",
        "unsure",
        "requery",
        "candidates",
        "filter",
        "task",
        *_ITEM_KEYS,
    }
)

Corpus: TypeAlias = Callable[[], Iterator[Document | ItemError]]


@dataclass(frozen=True, slots=True)
class Relevant:
    """What answers a question: a document or any of its pages, or one page of it.

    Args:
        document: an id, of what is indexed or of what it is a part of.
        page: from 1; None for the whole document.
    """

    document: str
    page: int | None = None

    def is_met_by(self, hit: Hit) -> bool:
        """Whether a hit is it."""
        document = hit.document
        if self.page is None:
            return self.document in (document.id, document.parent_id)
        return (document.parent_id or document.id) == self.document and document.metadata.get("page") == self.page

    @property
    def id(self) -> str:
        """Under which it is indexed, as readers of documents name pages."""
        return self.document if self.page is None else f"{self.document}#{self.page}"


@dataclass(frozen=True, slots=True)
class QARow:
    """One question.

    Args:
        id: in messages and results.
        question: text, picture or both.
        answers: any of them is right; none if the corpus does not answer the question.
        relevant: what it is answered from.
        unsure: documents that count half where MMSearch's rerank is scored.
        requery: queries for it that are right, of MMSearch.
        candidates: if given, only these documents are searched.
        filter: a condition on metadata, of the search.
        task: the group that it is reported under.
    """

    id: str
    question: Content
    answers: tuple[str, ...]
    relevant: tuple[Relevant, ...]
    unsure: tuple[Relevant, ...] = ()
    requery: tuple[str, ...] = ()
    candidates: frozenset[str] | None = None
    filter: str | None = None
    task: str | None = None


@dataclass(frozen=True, slots=True)
class RagData:
    """Questions, and the corpus that they are asked of where it comes with them.

    Args:
        name: of the file or folder.
        path: of the file of questions.
        rows: in its order.
        skipped: rows that cannot be used, and why.
        digest: of the file of questions.
        read: opens the corpus; None if there is none beside the questions.
        n_documents: about how many documents it has.
    """

    name: str
    path: Path
    rows: tuple[QARow, ...]
    skipped: tuple[Problem, ...]
    digest: str
    read: Corpus | None = None
    n_documents: int = 0

    def corpus(self) -> Iterator[Document | ItemError]:
        """Every document, or the error of one that cannot be used.

        Raises:
            InputError: there is no corpus.
        """
        if self.read is None:
            raise InputError(f"there is no corpus.jsonl beside {self.path}: give --collection, where it is indexed")
        return self.read()


def load_rag(path: Path | str, split: str | None = None, *, limit: int | None = None) -> RagData:
    """Read questions.

    Args:
        path: a `.jsonl` of `{"id", "question", "answers", "relevant"}`, beside which `corpus.jsonl` may stand; the
            JSON file of WebQA or its folder; the folder of MMQA.
        split: of WebQA, by default `val`, and of MMQA, `dev`.
        limit: only so many questions.

    Raises:
        DatasetError: it holds no usable question.
        InputError: it cannot be read, or is none of these.
    """
    path = Path(path)
    file, parse, read, count = _format(path, split)
    rows: dict[str, QARow] = {}
    skipped: list[Problem] = []
    for row in read_table(file):
        if limit is not None and len(rows) == limit:
            break
        try:
            parsed = _placed(parse, row, rows)
        except ItemError as error:
            skipped.append(Problem(error.item_id, str(error)))
            continue
        if parsed is not None:
            rows[parsed.id] = parsed
    if not rows:
        reason = f": {skipped[0].reason}" if skipped else ""
        raise DatasetError(f"{file} holds no question that can be asked{reason}")
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    return RagData(path.stem, file, tuple(rows.values()), tuple(skipped), digest, read, count)


_Parse: TypeAlias = Callable[[Mapping[str, Any], str], QARow | None]
_Format: TypeAlias = tuple[Path, _Parse, Corpus | None, int]


def _format(path: Path, split: str | None) -> _Format:
    if path.is_dir() and list(path.glob("MMQA_*.jsonl")):
        return _mmqa(path, split or "dev")
    if path.suffix == ".json" or (path.is_dir() and list(path.glob("WebQA*.json"))):
        return _webqa(path, split or "val")
    if path.is_dir():
        raise InputError(f"{path} holds neither WebQA*.json nor MMQA_*.jsonl: give the file with the questions")
    return _own(path)


def _placed(parse: _Parse, row: TableRow | ItemError, before: Mapping[str, QARow]) -> QARow | None:
    if isinstance(row, ItemError):
        raise row
    try:
        found = parse(row.value, f"q{row.line}")
    except ItemError as error:
        raise row.error(error.reason, error.item_id) from error
    if found is not None and found.id in before:
        raise row.error(f"repeats the id {found.id!r}", found.id)
    return found


def _own(path: Path) -> _Format:
    corpus = path.parent / "corpus.jsonl"

    def read() -> Iterator[Document | ItemError]:
        for item in read_items(corpus):
            try:
                yield item if isinstance(item, ItemError) else item.to_document()
            except ItemError as error:
                yield error

    def parse(value: Mapping[str, Any], name: str) -> QARow:
        unknown = sorted(set(value) - _KEYS)
        if unknown:
            raise ItemError(f"has the unknown field {unknown[0]!r}: the fields are {', '.join(sorted(_KEYS))}")
        return QARow(
            id=_string(value, "id") or name,
            question=_question(value, path.parent),
            answers=_strings(value, "answers") if "answers" in value else _strings(value, "answer"),
            relevant=_relevant(value, "relevant"),
            unsure=_relevant(value, "unsure"),
            requery=_strings(value, "requery"),
            candidates=frozenset(_strings(value, "candidates")) if "candidates" in value else None,
            filter=_string(value, "filter"),
            task=_string(value, "task"),
        )

    if not corpus.is_file():
        return path, parse, None, 0
    with corpus.open("rb") as lines:
        return path, parse, read, sum(1 for line in lines if line.strip())


def _question(value: Mapping[str, Any], folder: Path) -> Content:
    item = {key: value[key] for key in _ITEM_KEYS if key in value}
    question = _string(value, "question")
    if question is not None:
        if "text" in item or "content" in item:
            raise ItemError("has a question and a text: give one of them")
        item["text"] = question
    return parse_item(item, base=folder).content


def _relevant(value: Mapping[str, Any], key: str) -> tuple[Relevant, ...]:
    given = value.get(key, [])
    if not isinstance(given, list):
        raise ItemError(f"{key} must be a list of ids, or of objects with document and page")
    found = []
    for each in given:
        if isinstance(each, str):
            found.append(Relevant(each))
            continue
        page = each.get("page") if isinstance(each, dict) else None
        if not isinstance(each, dict) or not isinstance(each.get("document"), str) or not isinstance(page, int | None):
            raise ItemError(f"{key} must be a list of ids, or of objects with document and page")
        found.append(Relevant(each["document"], page))
    return tuple(dict.fromkeys(found))


def _string(value: Mapping[str, Any], key: str) -> str | None:
    given = value.get(key)
    if given is not None and not isinstance(given, str):
        raise ItemError(f"{key} must be a text")
    return given


def _strings(value: Mapping[str, Any], key: str) -> tuple[str, ...]:
    given = value.get(key, [])
    given = [given] if isinstance(given, str) else given
    if not isinstance(given, list) or not all(isinstance(each, str) for each in given):
        raise ItemError(f"{key} must be a text or a list of texts")
    return tuple(given)


def _webqa(path: Path, split: str) -> _Format:
    file = one_file(path, "WebQA*.json") if path.is_dir() else path
    find = pictures_in(file.parent)

    def parse(value: Mapping[str, Any], name: str) -> QARow | None:
        question, answers = value.get("Q"), value.get("A")
        if value.get("split") not in (None, split):
            return None
        if not isinstance(question, str) or not question.strip():
            raise ItemError("has no Q: every entry of WebQA asks something")
        right = [Relevant(fact) for fact, _ in webqa_facts(value, "posFacts", find)]
        said = [each.strip('"') for each in answers] if isinstance(answers, list) else []
        guid, kind = value.get("guid"), value.get("Qcate")
        return QARow(
            guid if isinstance(guid, str) else name,
            Content((Text(question.strip('"')),)),
            tuple(said),
            tuple(dict.fromkeys(right)),
            task=kind if isinstance(kind, str) else None,
        )

    def read() -> Iterator[Document | ItemError]:
        seen: set[str] = set()
        for row in read_table(file):
            try:
                if isinstance(row, ItemError):
                    raise row
                facts = [fact for kind in ("posFacts", "negFacts") for fact in webqa_facts(row.value, kind, find)]
            except ItemError as error:
                yield error
                continue
            for name, content in facts:
                if name not in seen:
                    seen.add(name)
                    yield Document(name, content)

    return file, parse, read, 0


def _mmqa(folder: Path, split: str) -> _Format:
    file = one_file(folder, f"MMQA_{split}.jsonl")
    contents = mmqa_evidence(folder)

    def parse(value: Mapping[str, Any], name: str) -> QARow:
        question, qid = value.get("question"), value.get("qid")
        if not isinstance(question, str) or not question.strip():
            raise ItemError("has no question")
        answers = [each.get("answer") for each in list_of(value, "answers")]
        wanted = mmqa_wanted(value, contents)
        return QARow(
            qid if isinstance(qid, str) else name,
            Content((Text(question),)),
            tuple(str(each) for each in answers if each is not None),
            tuple(Relevant(each) for each in wanted),
        )

    def read() -> Iterator[Document | ItemError]:
        return (Document(name, content) for name, content in contents.items())

    return file, parse, read, len(contents)
