"""WebQA and MMQA: questions whose evidence is pictures with captions, or texts.

WebQA (Chang et al. 2022, arXiv:2109.00590) is one JSON file, `guid -> {"Q", "split", "img_posFacts", "img_negFacts",
"txt_posFacts", "txt_negFacts"}`, pictures as `images/{image_id}.jpg` or `.png`. MMQA (Talmor et al. 2021,
arXiv:2104.06039) is `MMQA_{split}.jsonl`, `{"qid", "question", "supporting_context": [{"doc_id", "doc_part"}]}`, and
beside it `MMQA_images.jsonl` and `MMQA_texts.jsonl`, pictures in `final_dataset_images/`. Tables are no evidence here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mmseek._types import Content, Text
from mmseek.errors import InputError, ItemError
from mmseek.evaluation.formats.contents import content_of, picture_of, pictures_in
from mmseek.evaluation.tables import read_table
from mmseek.training.data.rows import TrainingRow
from mmseek.training.data.tables import Parse, TableSource, documents, query_of

if TYPE_CHECKING:
    from mmseek.training.settings import SourceConfig

__all__ = ["open_mmqa", "open_webqa"]

_SUFFIXES: Final = (".jpg", ".png", ".jpeg", ".webp")


def open_webqa(config: SourceConfig) -> TableSource:
    """The reader of `format: webqa`: the JSON file, or the folder with `WebQA_train_val.json`.

    Raises:
        InputError: there is no such file.
    """
    path = Path(config.path)
    if path.is_dir():
        path = _one(path, "WebQA*.json")
    find = pictures_in(path.parent)
    return TableSource(
        [path], _webqa(find, config.split, config.instruction), name=config.name or path.stem, limit=config.limit
    )


def _one(folder: Path, pattern: str) -> Path:
    found = sorted(folder.glob(pattern))
    if not found:
        raise InputError(f"{folder} holds no {pattern}: give the file, or its folder")
    return found[0]


def _webqa(find: Callable[[str], Path], split: str, instruction: str | None) -> Parse:
    def parse(value: Mapping[str, Any]) -> TrainingRow:
        question, part = value.get("Q"), value.get("split")
        if not isinstance(question, str) or not question.strip():
            raise ItemError("has no Q: every entry of WebQA asks something")
        if part not in (None, split):
            raise ItemError(f"is of the split {part!r}, not {split!r}")
        right, wrong = _facts(value, "posFacts", find), _facts(value, "negFacts", find)
        if not right:
            raise ItemError("has neither img_posFacts nor txt_posFacts")
        guid = value.get("guid")
        query = query_of(Content((Text(question.strip('"')),)), instruction)
        return TrainingRow(query, documents(right), documents(wrong), id=guid if isinstance(guid, str) else None)

    return parse


def _facts(value: Mapping[str, Any], kind: str, find: Callable[[str], Path]) -> list[Content]:
    found = []
    for fact in _list(value, f"img_{kind}"):
        picture = picture_of(_named(str(fact.get("image_id") or ""), find), find)
        if picture is None:
            raise ItemError(f"img_{kind} holds a fact without image_id")
        found.append(content_of(fact.get("caption") or fact.get("title"), picture))
    for fact in _list(value, f"txt_{kind}"):
        words = "\n".join(each for each in (fact.get("title"), fact.get("fact")) if isinstance(each, str) and each)
        found.append(content_of(words, None))
    return found


def _list(value: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    found = value.get(key) or []
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise ItemError(f"{key} must be a list of objects")
    return found


def _named(image_id: str, find: Callable[[str], Path]) -> str:
    """The file of a picture that is known by its number."""
    if not image_id or Path(image_id).suffix in _SUFFIXES:
        return image_id
    return next((name for suffix in _SUFFIXES if find(name := image_id + suffix).is_file()), image_id + _SUFFIXES[0])


def open_mmqa(config: SourceConfig) -> TableSource:
    """The reader of `format: mmqa`: the file of questions, or the folder with `MMQA_{split}.jsonl`.

    Raises:
        InputError: there is no such file, or neither pictures nor texts beside it.
    """
    path = Path(config.path)
    if path.is_dir():
        path = _one(path, f"MMQA_{config.split}.jsonl")
    contents = _evidence(path.parent)
    return TableSource([path], _mmqa(contents, config.instruction), name=config.name or path.stem, limit=config.limit)


def _evidence(folder: Path) -> dict[str, Content]:
    find = pictures_in(folder, folder / "final_dataset_images")
    found: dict[str, Content] = {}
    files = [path for path in (folder / "MMQA_images.jsonl", folder / "MMQA_texts.jsonl") if path.is_file()]
    if not files:
        raise InputError(f"{folder} holds neither MMQA_images.jsonl nor MMQA_texts.jsonl: they have the evidence")
    for row in (row for path in files for row in read_table(path)):
        if isinstance(row, ItemError) or not isinstance(row.value.get("id"), str):
            continue  # a question that needs it says that it is not there
        value = row.value
        words = "\n".join(each for each in (value.get("title"), value.get("text")) if isinstance(each, str) and each)
        try:
            found[value["id"]] = content_of(words, picture_of(value.get("path"), find))
        except ItemError:
            continue  # likewise
    return found


def _mmqa(contents: Mapping[str, Content], instruction: str | None) -> Parse:
    def parse(value: Mapping[str, Any]) -> TrainingRow:
        question, qid = value.get("question"), value.get("qid")
        if not isinstance(question, str) or not question.strip():
            raise ItemError("has no question")
        wanted = [
            str(each.get("doc_id")) for each in _list(value, "supporting_context") if each.get("doc_part") != "table"
        ]
        if not wanted:
            raise ItemError("has no picture and no text in supporting_context")
        missing = [each for each in wanted if each not in contents]
        if missing:
            raise ItemError(f"the evidence {missing[0]!r} is neither in MMQA_images.jsonl nor in MMQA_texts.jsonl")
        right = [contents[each] for each in dict.fromkeys(wanted)]
        query = query_of(Content((Text(question),)), instruction)
        return TrainingRow(query, documents(right), id=qid if isinstance(qid, str) else None)

    return parse
