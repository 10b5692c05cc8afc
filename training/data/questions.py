"""WebQA and MMQA: questions whose evidence is pictures with captions, or texts.

WebQA (Chang et al. 2022, arXiv:2109.00590) is one JSON file, `guid -> {"Q", "split", "img_posFacts", "img_negFacts",
"txt_posFacts", "txt_negFacts"}`, pictures as `images/{image_id}.jpg` or `.png`. MMQA (Talmor et al. 2021,
arXiv:2104.06039) is `MMQA_{split}.jsonl`, `{"qid", "question", "supporting_context": [{"doc_id", "doc_part"}]}`, and
beside it `MMQA_images.jsonl` and `MMQA_texts.jsonl`, pictures in `final_dataset_images/`. Tables are no evidence here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmseek._types import Content, Text
from mmseek.errors import ItemError
from mmseek.evaluation.formats.contents import pictures_in
from mmseek.evaluation.formats.facts import mmqa_evidence, mmqa_wanted, one_file, webqa_facts
from mmseek.training.data.rows import TrainingRow
from mmseek.training.data.tables import Parse, TableSource, documents, query_of

if TYPE_CHECKING:
    from mmseek.training.settings import SourceConfig

__all__ = ["open_mmqa", "open_webqa"]


def open_webqa(config: SourceConfig) -> TableSource:
    """The reader of `format: webqa`: the JSON file, or the folder with `WebQA_train_val.json`.

    Raises:
        InputError: there is no such file.
    """
    path = Path(config.path)
    if path.is_dir():
        path = one_file(path, "WebQA*.json")
    find = pictures_in(path.parent)
    return TableSource(
        [path], _webqa(find, config.split, config.instruction), name=config.name or path.stem, limit=config.limit
    )


def _webqa(find: Callable[[str], Path], split: str, instruction: str | None) -> Parse:
    def parse(value: Mapping[str, Any]) -> TrainingRow:
        question, part = value.get("Q"), value.get("split")
        if not isinstance(question, str) or not question.strip():
            raise ItemError("has no Q: every entry of WebQA asks something")
        if part not in (None, split):
            raise ItemError(f"is of the split {part!r}, not {split!r}")
        right, wrong = ([content for _, content in webqa_facts(value, kind, find)] for kind in ("posFacts", "negFacts"))
        if not right:
            raise ItemError("has neither img_posFacts nor txt_posFacts")
        guid = value.get("guid")
        query = query_of(Content((Text(question.strip('"')),)), instruction)
        return TrainingRow(query, documents(right), documents(wrong), id=guid if isinstance(guid, str) else None)

    return parse


def open_mmqa(config: SourceConfig) -> TableSource:
    """The reader of `format: mmqa`: the file of questions, or the folder with `MMQA_{split}.jsonl`.

    Raises:
        InputError: there is no such file, or neither pictures nor texts beside it.
    """
    path = Path(config.path)
    if path.is_dir():
        path = one_file(path, f"MMQA_{config.split}.jsonl")
    contents = mmqa_evidence(path.parent)
    return TableSource([path], _mmqa(contents, config.instruction), name=config.name or path.stem, limit=config.limit)


def _mmqa(contents: Mapping[str, Content], instruction: str | None) -> Parse:
    def parse(value: Mapping[str, Any]) -> TrainingRow:
        question, qid = value.get("question"), value.get("qid")
        if not isinstance(question, str) or not question.strip():
            raise ItemError("has no question")
        right = [contents[each] for each in mmqa_wanted(value, contents)]
        query = query_of(Content((Text(question),)), instruction)
        return TrainingRow(query, documents(right), id=qid if isinstance(qid, str) else None)

    return parse
