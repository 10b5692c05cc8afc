"""M-BEIR's training queries: `query/train/*.jsonl`, their candidates by id from the pools, an instruction for each.

A query is drawn with one of its four prompts, the same one every time for the same query. The files' layout is in
`mmseek.evaluation.formats.mbeir`. Where candidates stand in the pools is held in memory, about 100 bytes each.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmseek._types import Content
from mmseek.errors import DatasetError, InputError, ItemError
from mmseek.evaluation.formats.contents import pictures_in
from mmseek.evaluation.formats.mbeir import TARGETS, Instructions, candidate_content, query_content, task_files
from mmseek.training.data.rows import TrainingRow
from mmseek.training.data.tables import TableSource, documents, query_of

if TYPE_CHECKING:
    from mmseek.training.settings import SourceConfig

__all__ = ["open_source"]


def open_source(config: SourceConfig) -> TableSource:
    """The reader of `format: mbeir`: a folder of M-BEIR, or one file of queries in it.

    Raises:
        InputError: the folder has no queries of the split, or no pool.
    """
    path = Path(config.path)
    one = path.is_file()
    folder = path.parents[2] if one else path
    if not (folder / "query").is_dir():
        raise InputError(f"{folder} has no folder query: give the folder of M-BEIR")
    files = [path] if one else list(task_files(folder, config.split).values())
    pool = _Pool(folder, pictures_in(folder))
    parse = _Parser(pool, Instructions.read(folder), config.instruction)
    return TableSource(files, parse, name=config.name or path.stem, limit=config.limit)


class _Pool:
    """Candidates by id, read where they stand."""

    def __init__(self, folder: Path, find: Callable[[str], Path]) -> None:
        self.find = find
        self._files = _pools(folder)
        self._places: dict[str, tuple[int, int]] = {}
        for number, path in enumerate(self._files):
            place = 0
            with path.open("rb") as file:
                for raw in file:
                    did = _did(raw)
                    if did is not None:
                        self._places.setdefault(did, (number, place))
                    place += len(raw)

    def content(self, did: object) -> Content:
        """The candidate's content.

        Raises:
            ItemError: the pools have no such candidate, or it has no content.
        """
        value = self.value(did)
        try:
            return candidate_content(value, self.find)
        except ItemError as error:
            raise ItemError(f"the candidate {did!r} {error.reason}") from error

    def value(self, did: object) -> Mapping[str, Any]:
        """The candidate's line."""
        if not isinstance(did, str) or did not in self._places:
            raise ItemError(f"the candidate {did!r} is in no pool")
        number, place = self._places[did]
        with self._files[number].open("rb") as file:
            file.seek(place)
            found: Mapping[str, Any] = json.loads(file.readline())
        return found


def _pools(folder: Path) -> Sequence[Path]:
    place = folder / "cand_pool"
    union = sorted((place / "global").glob("mbeir_union_train*.jsonl"))
    files = union or [*sorted((place / "local").glob("*.jsonl")), *sorted((place / "global").glob("*.jsonl"))]
    if not files:
        raise DatasetError(f"{place} holds no pool of candidates")
    return files


def _did(raw: bytes) -> str | None:
    try:
        value = json.loads(raw)
    except ValueError:
        return None  # a query that wants it says that it is in no pool
    did = value.get("did") if isinstance(value, dict) else None
    return did if isinstance(did, str) else None


class _Parser:
    def __init__(self, pool: _Pool, instructions: Instructions, instruction: str | None) -> None:
        self._pool, self._instructions, self._instruction = pool, instructions, instruction

    def __call__(self, value: Mapping[str, Any]) -> TrainingRow:
        qid = value.get("qid")
        if not isinstance(qid, str):
            raise ItemError("has no qid: every query of M-BEIR needs one, a string")
        right = list(self._ids(value, "pos_cand_list"))
        if not right:
            raise ItemError("has no candidate in pos_cand_list")
        content = query_content(value, self._pool.find)
        target = str(self._pool.value(right[0]).get("modality") or self._pool.content(right[0]).modality)
        if target not in TARGETS:
            raise ItemError(f"the candidate {right[0]!r} has the unknown modality {target!r}")
        prompts = self._instructions.of(qid, str(value.get("query_modality") or content.modality), target)
        # Any of the prompts will do, but a resumed run must see the same.
        prompt = prompts[zlib.crc32(qid.encode()) % len(prompts)] if prompts else self._instruction
        return TrainingRow(
            query_of(content, prompt),
            documents([self._pool.content(each) for each in right]),
            documents([self._pool.content(each) for each in self._ids(value, "neg_cand_list")]),
            id=qid,
        )

    @staticmethod
    def _ids(value: Mapping[str, Any], key: str) -> Iterator[object]:
        found = value.get(key) or ()
        if not isinstance(found, list | tuple):
            raise ItemError(f"{key} must be a list of candidates' ids")
        yield from found
