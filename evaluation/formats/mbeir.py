"""M-BEIR: eight tasks over ten data sets, with a pool for each set and one for all (Wei et al. 2023, arXiv:2311.17136).

    query/{split}/mbeir_{dataset}_{task}_{split}.jsonl          qrels/{split}/mbeir_{dataset}_{task}_{split}_qrels.txt
    cand_pool/local/mbeir_{dataset}_{task}[_{split}]_cand_pool.jsonl
    cand_pool/global/mbeir_union[_{split}]_cand_pool.jsonl      instructions/query_instructions.tsv

What M-BEIR's tables call recall@k is hit@k here. A query gets the first of its four prompts as its instruction.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mmseek._types import Content, Document
from mmseek.errors import DatasetError, ItemError
from mmseek.evaluation.dataset import Dataset, EvalQuery, assemble, check_split
from mmseek.evaluation.formats.contents import content_of, picture_of, pictures_in
from mmseek.evaluation.qrels import Judgements, collect
from mmseek.evaluation.report import Problem
from mmseek.evaluation.tables import TableRow, read_table

if TYPE_CHECKING:
    from collections.abc import Callable

    from mmseek.evaluation.formats import Wanted

__all__ = ["TARGETS", "Instructions", "candidate_content", "is_here", "load", "query_content", "task_files"]

TARGETS: Final[Sequence[str]] = (*("image", "text", "image,text") * 3,)
"""What each of the tasks 0 to 8 looks for."""
_DEEPER: Final = ("fashion200k", "fashioniq")  # compared at 10 instead of 5
_HEADER: Final = ("query_modality", "cand_modality", "dataset_name", "dataset_id")
_PROMPTS: Final = 4
_QREL_FIELDS: Final = 5


def is_here(folder: Path) -> bool:
    """Whether there are queries and pools."""
    return (folder / "query").is_dir() and (folder / "cand_pool").is_dir()


@dataclass(frozen=True, slots=True)
class Instructions:
    """The prompts, by the data set's number, the query's modality and the modality looked for."""

    prompts: Mapping[tuple[str, str, str], Sequence[str]]

    @classmethod
    def read(cls, folder: Path) -> Instructions:
        """Read `instructions/query_instructions.tsv`; without the file there are none.

        Raises:
            DatasetError: the table has another header, or a line lacks a column.
        """
        path = folder / "instructions" / "query_instructions.tsv"
        if not path.is_file():
            return cls({})
        rows = [line.split("\t") for line in path.read_text(encoding="utf-8-sig").splitlines()]
        if not rows or tuple(rows[0][: len(_HEADER)]) != _HEADER:
            raise DatasetError(f"{path}:1: the header must begin with {' '.join(_HEADER)!r}, separated by tabs")
        prompts: dict[tuple[str, str, str], list[str]] = {}
        for number, row in enumerate(rows[1:], start=2):
            if row == [""]:
                continue
            if len(row) <= len(_HEADER):
                raise DatasetError(f"{path}:{number}: expected modalities, data set and at least one prompt")
            given = [prompt.strip() for prompt in row[len(_HEADER) : len(_HEADER) + _PROMPTS] if prompt.strip()]
            prompts[row[3].strip(), row[0].strip(), row[1].strip()] = given
        return cls(prompts)

    def of(self, query_id: str, modality: str, target: str) -> Sequence[str]:
        """The prompts for a query, or nothing."""
        return self.prompts.get((query_id.partition(":")[0], modality, target), ())


def task_files(folder: Path, split: str, tasks: Sequence[str] = ()) -> dict[str, Path]:
    """The files of queries by the name of their task, such as `cirr_task7`.

    Raises:
        DatasetError: there is no such split or task.
    """
    check_split(split, (each.name for each in (folder / "query").iterdir() if each.is_dir()), folder)
    found = {
        path.stem.removeprefix("mbeir_").removesuffix(f"_{split}"): path
        for path in sorted((folder / "query" / split).glob("*.jsonl"))
    }
    if not found:
        raise DatasetError(f"{folder / 'query' / split} holds no .jsonl file of queries")
    for task in tasks:
        if task not in found:
            raise DatasetError(f"{folder} has no task {task!r} in {split}: choose of {', '.join(found)}")
    return {name: path for name, path in found.items() if not tasks or name in tasks}


def load(folder: Path, wanted: Wanted) -> Dataset:
    """Read tasks, judgements and pools; the queries of all tasks stand in one dataset, each under its task.

    Raises:
        DatasetError: a file is missing or broken.
    """
    files = task_files(folder, wanted.split, wanted.tasks)
    pools = {task: _local_pool(folder, task, wanted.split) for task in files}
    paths = list(dict.fromkeys(pools.values())) if wanted.pool == "local" else [_global_pool(folder, wanted.split)]
    members = {path: _ids(path) for path in paths}
    reading = _Reading(folder, wanted, Instructions.read(folder), pictures_in(folder))
    grades: dict[str, dict[str, int]] = {}
    judged, queries, unreadable = Judgements(), [], []
    for task, path in files.items():
        own, targets = _read_qrels(folder / "qrels" / wanted.split / f"mbeir_{task}_{wanted.split}_qrels.txt")
        pool = members[pools[task]][0] if wanted.pool == "local" and len(paths) > 1 else None
        good, bad = reading.queries(task, path, own, targets, pool)
        clash = next((query_id for query_id in own.grades if query_id in grades), None)
        if clash is not None:
            raise DatasetError(f"{path}: the query {clash!r} is one of another task too: evaluate with --task {task}")
        queries += good
        unreadable += bad
        grades |= own.grades
        judged = _joined(judged, own)
    headlines = {task: "hit@10" for task in files if task.startswith(_DEEPER)}
    return assemble(
        name=folder.resolve().name if len(files) > 1 else next(iter(files)),
        path=folder,
        split=wanted.split,
        judged=judged,
        queries=queries,
        unreadable=unreadable,
        ids=set().union(*(ids for ids, _ in members.values())),
        n_documents=sum(lines for _, lines in members.values()),
        read=lambda: _read_pools(paths, reading.find),
        corpus_name="the pool",
        queries_name="its file of queries",
        headline="hit@10" if len(headlines) == len(files) else "hit@5",
        headlines=headlines,
    )


def _joined(first: Judgements, second: Judgements) -> Judgements:
    return Judgements(
        first.grades | second.grades,
        first.without_relevant + second.without_relevant,
        first.not_relevant + second.not_relevant,
        first.repeated + second.repeated,
    )


def _local_pool(folder: Path, task: str, split: str) -> Path:
    place = folder / "cand_pool" / "local"
    for name in (f"mbeir_{task}_{split}_cand_pool.jsonl", f"mbeir_{task}_cand_pool.jsonl"):
        if (place / name).is_file():
            return place / name
    return place / f"mbeir_{task}_cand_pool.jsonl"


def _global_pool(folder: Path, split: str) -> Path:
    place = folder / "cand_pool" / "global"
    named = place / f"mbeir_union_{split}_cand_pool.jsonl"
    return named if named.is_file() else place / "mbeir_union_cand_pool.jsonl"


def _ids(path: Path) -> tuple[frozenset[str], int]:
    if not path.is_file():
        raise DatasetError(f"{path} is not there: it is the pool that the queries rank")
    ids, lines = set(), 0
    for row in read_table(path):
        lines += 1
        did = None if isinstance(row, ItemError) else row.value.get("did")
        if isinstance(did, str):
            ids.add(did)
    return frozenset(ids), lines


def _read_pools(paths: Sequence[Path], find: Callable[[str], Path]) -> Iterator[Document | ItemError]:
    seen: set[str] = set()
    for path in paths:
        here: set[str] = set()
        for row in read_table(path):
            document = row if isinstance(row, ItemError) else _candidate(row, find)
            if isinstance(document, Document):
                if document.id in here and isinstance(row, TableRow):
                    document = row.error(f"an earlier line has the id {document.id!r} already", document.id)
                elif document.id in seen:
                    continue  # a candidate of two pools is one document
                else:
                    here.add(document.id)
            yield document
        seen |= here


def _candidate(row: TableRow, find: Callable[[str], Path]) -> Document | ItemError:
    did = row.value.get("did")
    if not isinstance(did, str) or not did:
        return row.error("has no did: every candidate needs one, a string")
    try:
        return Document(did, candidate_content(row.value, find))
    except ItemError as error:
        return row.error(error.reason, did)


def candidate_content(value: Mapping[str, Any], find: Callable[[str], Path]) -> Content:
    """The content of a candidate's line.

    Raises:
        ItemError: it has none.
    """
    return content_of(value.get("txt"), picture_of(value.get("img_path"), find))


def query_content(value: Mapping[str, Any], find: Callable[[str], Path]) -> Content:
    """The content of a query's line.

    Raises:
        ItemError: it has none.
    """
    return content_of(value.get("query_txt"), picture_of(value.get("query_img_path"), find))


@dataclass(frozen=True, slots=True)
class _Reading:
    folder: Path
    wanted: Wanted
    instructions: Instructions
    find: Callable[[str], Path]

    def queries(
        self, task: str, path: Path, judged: Judgements, targets: Mapping[str, str], pool: frozenset[str] | None
    ) -> tuple[list[EvalQuery], list[Problem]]:
        """The usable queries of one task's file."""
        found: dict[str, EvalQuery] = {}
        problems = []
        for row in read_table(path):
            if isinstance(row, ItemError):
                problems.append(Problem(row.item_id, str(row)))
                continue
            qid = row.value.get("qid")
            if not isinstance(qid, str) or qid not in judged.grades or qid in found:
                reason = "has its id on several lines" if qid in found else "is not judged, or has no qid"
                problems += [] if isinstance(qid, str) and qid in judged.without_relevant else [_problem(row, reason)]
                continue
            try:
                content = query_content(row.value, self.find)
            except ItemError as error:
                problems.append(Problem(qid, str(row.error(error.reason, qid))))
                continue
            modality = str(row.value.get("query_modality") or content.modality)
            prompts = self.instructions.of(qid, modality, targets[qid])
            found[qid] = EvalQuery(qid, content, prompts[0] if prompts else None, candidates=pool, task=task)
        return list(found.values()), problems


def _problem(row: TableRow, reason: str) -> Problem:
    qid = row.value.get("qid")
    return Problem(qid if isinstance(qid, str) else None, str(row.error(reason)))


def _read_qrels(path: Path) -> tuple[Judgements, dict[str, str]]:
    """Judgements, and what each query looks for, by the fifth column."""
    if not path.is_file():
        raise DatasetError(f"{path} is not there: it has the judgements of the queries")
    targets: dict[str, str] = {}

    def lines() -> Iterator[tuple[int, str, str, int]]:
        for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), start=1):
            fields = line.split()
            if not fields:
                continue
            if len(fields) != _QREL_FIELDS:
                raise DatasetError(f"{path}:{number}: expected five columns: query, 0, candidate, relevance, task")
            qid, _, did, grade, task = fields
            try:
                targets[qid] = dict(enumerate(TARGETS))[int(task)]
                yield number, qid, did, int(grade)
            except (ValueError, KeyError) as error:
                reason = "the relevance must be a whole number and the task one from 0 to 8"
                raise DatasetError(f"{path}:{number}: {reason}") from error

    return collect(path, lines()), targets
