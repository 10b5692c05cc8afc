"""The layout of benchmark folders as training data: the queries of a split and what its qrels call relevant.

Queries and the relevant documents are held in memory, pictures as paths.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmseek._types import Content, Document, EncodeRequest
from mmseek.errors import InputError, ItemError
from mmseek.evaluation import Dataset, EvalQuery, load_dataset
from mmseek.training.data.rows import TrainingRow

if TYPE_CHECKING:
    from mmseek.training.settings import SourceConfig

__all__ = ["BenchmarkRows", "open_source"]


def open_source(config: SourceConfig) -> BenchmarkRows:
    """The reader of `format: dataset`."""
    data = load_dataset(config.path, config.split)
    return BenchmarkRows(data, name=config.name, instruction=config.instruction, limit=config.limit)


class BenchmarkRows:
    """One row a query of the split.

    Args:
        data: a loaded dataset.
        name: for messages and logs.
        instruction: for queries that have none of their own.
        limit: only so many queries.

    Raises:
        InputError: no query has a relevant document that can be read.
    """

    def __init__(
        self, data: Dataset, *, name: str = "", instruction: str | None = None, limit: int | None = None
    ) -> None:
        self.name = name or data.name
        wanted = {document_id for query in data.queries for document_id in data.qrels[query.id]}
        contents: dict[str, Content] = {}
        bad: list[ItemError] = []
        for document in data.corpus():
            if isinstance(document, Document):
                if document.id in wanted:
                    contents[document.id] = document.content
            elif document.item_id is None or document.item_id in wanted:
                bad.append(document)
        bad += [ItemError(problem.reason, source=data.path, item_id=problem.id) for problem in data.skipped]
        rows = (_row(query, data, contents, instruction) for query in data.queries)
        self._rows = [row for row in rows if row is not None][:limit]
        self.bad = tuple(bad)
        if not self._rows:
            raise InputError(f"{data.path} holds no row to train on: no relevant document of {data.split} can be read")

    def __len__(self) -> int:
        return len(self._rows)

    def row(self, number: int) -> TrainingRow:
        """See `Source`."""
        return self._rows[number]


def _row(query: EvalQuery, data: Dataset, contents: dict[str, Content], instruction: str | None) -> TrainingRow | None:
    positives = tuple(EncodeRequest(contents[each]) for each in data.qrels[query.id] if each in contents)
    asked = instruction if query.instruction is None else query.instruction
    return TrainingRow(EncodeRequest(query.content, "query", asked), positives, id=query.id) if positives else None
