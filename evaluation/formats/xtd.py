"""XTD: 1,000 photos and a caption of each in eleven languages (Aggarwal and Kale 2020, arXiv:2012.05107).

`test_image_names.txt` and `test_1kcaptions_{language}.txt`, line by line together; photos in the folder, or in its
`images/`, `train2014/` or `val2014/`. Text finds picture; each language is a task. Compared by hit@10, which its tables
call recall@10.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mmseek._types import Content, Document, Image, Text
from mmseek.errors import DatasetError, ItemError
from mmseek.evaluation.dataset import Dataset, EvalQuery, assemble, check_split
from mmseek.evaluation.formats.contents import pictures_in
from mmseek.evaluation.qrels import Judgements
from mmseek.evaluation.report import Problem

if TYPE_CHECKING:
    from mmseek.evaluation.formats import Wanted

__all__ = ["is_here", "load"]

_NAMES: Final = "test_image_names.txt"
_CAPTIONS: Final = "test_1kcaptions_"


def is_here(folder: Path) -> bool:
    """Whether there are the names of photos."""
    return (folder / _NAMES).is_file()


def load(folder: Path, wanted: Wanted) -> Dataset:
    """Read captions; each finds the photo of its line.

    Raises:
        DatasetError: a file is missing, or captions and photos are not equally many.
    """
    check_split(wanted.split, ["test"], folder)
    names = _lines(folder / _NAMES)
    files = {path.stem.removeprefix(_CAPTIONS): path for path in sorted(folder.glob(f"{_CAPTIONS}*.txt"))}
    missing = [task for task in wanted.tasks if task not in files]
    if missing or not files:
        named = f"captions in {missing[0]!r}: choose of {', '.join(files)}" if missing else f"{_CAPTIONS}*.txt"
        raise DatasetError(f"{folder} has no {named}")
    judged = Judgements()
    queries, unreadable = [], []
    for language, path in files.items():
        if wanted.tasks and language not in wanted.tasks:
            continue
        captions = _lines(path)
        if len(captions) != len(names):
            raise DatasetError(
                f"{path} has {len(captions)} lines for {len(names)} photos: they go together line by line"
            )
        for number, (caption, name) in enumerate(zip(captions, names, strict=True), start=1):
            query_id = f"{language}-{number}"
            if not caption:
                unreadable.append(Problem(query_id, f"{path}:{number}: the caption is empty"))
                continue
            queries.append(EvalQuery(query_id, Content((Text(caption),)), task=language))
            judged.grades[query_id] = {name: 1}
    return assemble(
        name=folder.resolve().name,
        path=folder,
        split=wanted.split,
        judged=judged,
        queries=queries,
        unreadable=unreadable,
        ids=set(names),
        n_documents=len(set(names)),
        read=lambda: _photos(folder, names),
        qrels_name=_NAMES,
        corpus_name=_NAMES,
        headline="hit@10",
    )


def _lines(path: Path) -> list[str]:
    try:
        return [line.strip() for line in path.read_text(encoding="utf-8-sig").rstrip("\n").split("\n")]
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path} cannot be read as UTF-8 text: {error}") from error


def _photos(folder: Path, names: list[str]) -> Iterator[Document | ItemError]:
    find = pictures_in(folder)
    for number, name in enumerate(dict.fromkeys(names), start=1):
        try:
            yield Document(name, Content((Image(path=find(name)),)))
        except ItemError as error:
            yield ItemError(error.reason, source=folder / _NAMES, line=number, item_id=name)
