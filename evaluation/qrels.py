"""Reading `qrels/{split}.tsv`: which documents are relevant to which query."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mmseek.errors import DatasetError

HEADER = ("query-id", "corpus-id", "score")


@dataclass(slots=True)
class Judgements:
    """The lines of one qrels file.

    Args:
        grades: query id -> document id -> grade; only grades of 1 and more, which mean relevant.
        without_relevant: queries whose every line has a grade of 0 or less.
        not_relevant: how many lines have a grade of 0 or less: judged, and judged not relevant.
        repeated: how many lines say again what an earlier one said.
    """

    grades: dict[str, dict[str, int]] = field(default_factory=dict)
    without_relevant: list[str] = field(default_factory=list)
    not_relevant: int = 0
    repeated: int = 0


def split_file(folder: Path, split: str) -> Path:
    """The qrels file of a split.

    Raises:
        DatasetError: there is no such split; names those that there are.
    """
    splits = sorted(path.stem for path in (folder / "qrels").glob("*.tsv"))
    if not splits:
        raise DatasetError(f"{folder / 'qrels'} holds no .tsv file: put the judgements of a split there as test.tsv")
    if split not in splits:
        raise DatasetError(f"{folder} has no split {split!r}: choose one of {', '.join(splits)}")
    return folder / "qrels" / f"{split}.tsv"


def read_qrels(path: Path) -> Judgements:
    """Read one qrels file: tab-separated, with the header `query-id corpus-id score`.

    Raises:
        DatasetError: a line does not have the format or contradicts an earlier one; names file and line.
    """
    return collect(path, _lines(path))


def collect(path: Path, lines: Iterable[tuple[int, str, str, int]]) -> Judgements:
    """Gather judgements: the number of the line, query, document and grade of each.

    Raises:
        DatasetError: a line contradicts an earlier one.
    """
    found: dict[str, dict[str, int]] = {}
    judged = Judgements()
    for number, query_id, document_id, grade in lines:
        row = found.setdefault(query_id, {})
        if document_id not in row:
            row[document_id] = grade
        elif row[document_id] == grade:
            judged.repeated += 1
        else:
            raise DatasetError(
                f"{path}:{number}: query {query_id!r} and document {document_id!r} have the score {grade}, "
                f"but {row[document_id]} on an earlier line: keep one of the two"
            )
    for query_id, row in found.items():
        relevant = {document_id: grade for document_id, grade in row.items() if grade > 0}
        judged.not_relevant += len(row) - len(relevant)
        if relevant:
            judged.grades[query_id] = relevant
        else:
            judged.without_relevant.append(query_id)
    return judged


def _lines(path: Path) -> Iterator[tuple[int, str, str, int]]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error.strerror}") from error
    seen_header = False
    for number, raw in enumerate(content.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        fields = _fields(path, number, raw)
        if fields == [""]:
            continue
        if not seen_header:
            if tuple(fields) != HEADER:
                raise DatasetError(f"{path}:{number}: the header must be {' '.join(HEADER)!r}, separated by tabs")
            seen_header = True
            continue
        yield _judgement(path, number, fields)
    if not seen_header:
        raise DatasetError(f"{path} is empty: it needs the header {' '.join(HEADER)!r}, separated by tabs")


def _fields(path: Path, number: int, raw: bytes) -> list[str]:
    try:
        return raw.removesuffix(b"\r").decode("utf-8").split("\t")
    except UnicodeDecodeError as error:
        raise DatasetError(f"{path}:{number}: the line is not UTF-8") from error


def _judgement(path: Path, number: int, fields: list[str]) -> tuple[int, str, str, int]:
    if len(fields) != len(HEADER) or not fields[0] or not fields[1]:
        raise DatasetError(f"{path}:{number}: expected query id, document id and score, separated by tabs")
    try:
        grade = int(fields[2])
    except ValueError as error:
        raise DatasetError(f"{path}:{number}: the score must be a whole number, not {fields[2]!r}") from error
    return number, fields[0], fields[1], grade
