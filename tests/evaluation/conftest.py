"""Small datasets written for one test, and encoders whose answers are known."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmseek._types import Content, Encoded, EncodeRequest, EncoderIdentity
from mmseek.errors import EncodeError

Json = dict[str, Any]
WriteDataset = Callable[..., Path]


class TableEncoder:
    """An encoder that looks the vector of a text up in a table; a text without one is an error of that item alone."""

    def __init__(self, table: Mapping[str, Sequence[float]], dim: int) -> None:
        self.identity = EncoderIdentity(spec="table", fingerprint="0" * 64, dim=dim)
        self.table = table
        self.requests: list[EncodeRequest] = []

    def encode_query(self, contents: Sequence[Content], instruction: str | None = None) -> np.ndarray:
        raise NotImplementedError

    def encode_document(self, contents: Sequence[Content]) -> np.ndarray:
        raise NotImplementedError

    def stream(self, requests: Iterable[EncodeRequest]) -> Iterator[Encoded]:
        for request in requests:
            self.requests.append(request)
            vector = self.table.get(request.content.text)
            if vector is None:
                yield Encoded(error=EncodeError("no vector for this text"))
            else:
                yield Encoded(vector=np.array(vector, dtype=np.float32))


@pytest.fixture
def write_dataset(tmp_path: Path) -> WriteDataset:
    """Write a dataset: documents and queries as objects (or raw lines), qrels as (query, document, score)."""

    def write(
        corpus: Iterable[Json | str],
        queries: Iterable[Json | str],
        qrels: Iterable[tuple[str, str, int]] | str,
        *,
        split: str = "test",
        name: str = "small",
    ) -> Path:
        folder = tmp_path / name
        (folder / "qrels").mkdir(parents=True, exist_ok=True)
        for file, rows in (("corpus.jsonl", corpus), ("queries.jsonl", queries)):
            lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
            (folder / file).write_text("".join(line + "\n" for line in lines), encoding="utf-8")
        if not isinstance(qrels, str):
            qrels = "query-id\tcorpus-id\tscore\n" + "".join(f"{q}\t{d}\t{score}\n" for q, d, score in qrels)
        (folder / "qrels" / f"{split}.tsv").write_text(qrels, encoding="utf-8")
        return folder

    return write


@pytest.fixture
def table_encoder() -> type[TableEncoder]:
    return TableEncoder
