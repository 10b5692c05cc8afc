"""The formats of benchmarks: one reader a format, each a file of this folder.

A new format is one entry of `FORMATS` and a module with `is_here(folder) -> bool` and
`load(folder, wanted) -> Dataset`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from mmseek.errors import DatasetError, InputError

if TYPE_CHECKING:
    from mmseek.evaluation.dataset import Dataset

__all__ = ["FORMATS", "PoolName", "Wanted", "detect", "load_dataset"]

PoolName: TypeAlias = Literal["local", "global"]

FORMATS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "beir": "mmseek.evaluation.formats.beir",
        "mbeir": "mmseek.evaluation.formats.mbeir",
        "xtd": "mmseek.evaluation.formats.xtd",
        "vidore": "mmseek.evaluation.formats.vidore",
        "mmeb": "mmseek.evaluation.formats.mmeb",
    }
)
"""Name -> module, in the order in which a folder is tried."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is read of a benchmark.

    Args:
        split: which judgements.
        pool: `local`: each query ranks the pool of its own set; `global`: the union of all. Only M-BEIR has both.
        tasks: only these tasks of a benchmark that has several; all of them if none is named.
    """

    split: str = "test"
    pool: PoolName = "local"
    tasks: tuple[str, ...] = ()


def detect(folder: Path) -> str:
    """The name of the format that a folder has.

    Raises:
        DatasetError: there is no such folder, or it has none of the formats.
    """
    if not folder.is_dir():
        raise DatasetError(f"{folder} is not a folder: give the folder of a dataset")
    for name in FORMATS:
        if _module(name).is_here(folder):
            return name
    raise DatasetError(
        f"{folder} has none of the formats {', '.join(FORMATS)}: a dataset of mmseek's own has corpus.jsonl, "
        "queries.jsonl and qrels/SPLIT.tsv"
    )


def load_dataset(
    path: str | Path,
    split: str = "test",
    *,
    format: str | None = None,  # noqa: A002  # the word of the command line
    pool: PoolName = "local",
    tasks: tuple[str, ...] = (),
) -> Dataset:
    """Read the queries and judgements of a benchmark's split, and the ids of its corpus.

    Args:
        path: its folder.
        split: which judgements.
        format: a name of `FORMATS`; without it, what the folder looks like.
        pool, tasks: see `Wanted`.

    Raises:
        DatasetError: the folder does not have the format, has no such split or task, a judgement is broken, or nothing
            is left to evaluate. What is merely incomplete is counted and named in `skipped` and `warnings`.
        InputError: there is no format or pool of this name.
    """
    if format is not None and format not in FORMATS:
        raise InputError(f"there is no format {format!r}: choose one of {', '.join(FORMATS)}")
    if pool not in ("local", "global"):
        raise InputError(f"the pool is local or global, not {pool!r}")
    folder = Path(path)
    name = format or detect(folder)
    if pool == "global" and name != "mbeir":
        raise InputError(f"the format {name} has one pool: only mbeir has a global one")
    found: Dataset = _module(name).load(folder, Wanted(split, pool, tasks))
    return found


def _module(name: str) -> Any:
    return import_module(FORMATS[name])
