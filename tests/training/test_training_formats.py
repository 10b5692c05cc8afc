"""Each format of training data from a tiny file written by hand."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Pictures
from pyarrow import parquet

from mmseek._types import EncodeRequest, Image
from mmseek.errors import InputError, ItemError
from mmseek.evaluation.formats.mmeb import as_list
from mmseek.training.data import FORMATS, open_source
from mmseek.training.data.rows import Source
from mmseek.training.settings import SourceConfig

Json = dict[str, Any]


def put(path: Path, rows: Iterable[Json | str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        table = pa.Table.from_pylist([row for row in rows if isinstance(row, dict)])
        parquet.write_table(table, path, row_group_size=2)
    else:
        path.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows))


def opened(path: Path, form: str, **more: Any) -> Source:
    return open_source(SourceConfig(str(path), format=form, **more))


def texts(requests: Iterable[EncodeRequest]) -> list[str]:
    return [request.content.text for request in requests]


def where(request: EncodeRequest) -> Path | None:
    (image,) = request.content.images
    return image.path


def test_every_format_has_a_reader(tmp_path: Path) -> None:
    assert set(FORMATS) >= {"triples", "dataset", "beir", "mbeir", "mmeb", "mme5", "swift", "webqa", "mmqa", "table"}
    for name in FORMATS:
        with pytest.raises(InputError):
            opened(tmp_path / "nowhere", name)


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_mmeb(tmp_path: Path, suffix: str) -> None:
    row = {
        "qry": "<|image_1|>\nWhat is it?",
        "qry_image_path": "images/a.png",
        "pos_text": "a dog",
        "pos_image_path": "",
        "neg_text": "",
        "neg_image_path": "",
    }
    bad = row | {"pos_text": ""}
    put(tmp_path / f"OK-VQA/train-0.{suffix}", [row, bad, row | {"pos_text": "a cat"}])
    (tmp_path / "images").mkdir()
    (tmp_path / "images/a.png").write_bytes(b"")
    source = opened(tmp_path / "OK-VQA", "mmeb", instruction="by default")
    assert [texts(source.row(n).positives) for n in range(len(source))] == [["a dog"], ["a cat"]]
    first = source.row(0)
    assert first.query.content.text == "What is it?"
    assert where(first.query) == tmp_path / "images/a.png"
    assert (first.query.role, first.query.instruction, first.negatives) == ("query", "by default", ())
    assert [str(error) for error in source.bad] == [f"{tmp_path}/OK-VQA/train-0.{suffix}:2: the positive is empty"]
    assert len(opened(tmp_path / "OK-VQA", "mmeb", limit=1)) == 1


def test_mme5_lists_that_were_written_as_text(tmp_path: Path) -> None:
    row = {
        "qry": "a",
        "pos_text": "['b']",
        "pos_image_path": "['']",
        "neg_text": '["it\'s", "d"]',
        "neg_image_path": "['', 'e.png']",
    }
    harm = row | {"neg_text": "[__import__('pathlib').Path('harm').touch()]"}
    put(tmp_path / "rows.jsonl", [row, harm, row | {"neg_text": "['x']"}])
    source = opened(tmp_path / "rows.jsonl", "mme5")
    assert texts(source.row(0).positives) == ["b"]
    assert texts(source.row(0).negatives) == ["it's", "d"]
    assert where(source.row(0).negatives[1]) == tmp_path / "e.png"
    assert [error.line for error in source.bad] == [2, 3]
    assert "begins like a list but cannot be read" in str(source.bad[0])
    assert "has 1 entries, but neg_image_path 2" in str(source.bad[1])


@given(st.lists(st.text() | st.none()))
def test_a_list_is_the_same_however_it_was_written(values: list[str | None]) -> None:
    assert as_list(repr(values), "x") == as_list(json.dumps(values), "x") == as_list(values, "x") == values


def test_mbeir(tmp_path: Path) -> None:
    put(
        tmp_path / "query/train/mbeir_nights_task4_train.jsonl",
        [
            {
                "qid": "4:1",
                "query_img_path": "q.png",
                "query_modality": "image",
                "pos_cand_list": ["4:2"],
                "neg_cand_list": ["4:3"],
            },
            {"qid": "4:2", "query_img_path": "q.png", "query_modality": "image", "pos_cand_list": ["4:9"]},
            {"qid": "4:3", "query_txt": "x", "query_modality": "text", "pos_cand_list": []},
        ],
    )
    pool = [
        {"did": "4:2", "img_path": "d.png", "modality": "image"},
        "broken",
        {"did": "4:3", "txt": "no", "modality": "text"},
    ]
    put(tmp_path / "cand_pool/local/mbeir_nights_task4_cand_pool.jsonl", pool)
    (tmp_path / "instructions").mkdir()
    (tmp_path / "instructions/query_instructions.tsv").write_text(
        "query_modality\tcand_modality\tdataset_name\tdataset_id\tprompt_1\tprompt_2\tprompt_3\tprompt_4\n"
        "image\timage\tNIGHTS\t4\tone\ttwo\tthree\tfour\n"
    )
    source = opened(tmp_path, "mbeir")
    assert len(source) == 1
    row = source.row(0)
    assert (row.id, where(row.positives[0]), texts(row.negatives)) == ("4:1", tmp_path / "d.png", ["no"])
    assert row.query.instruction in {"one", "two", "three", "four"}
    assert source.row(0) == row
    assert [(error.line, error.reason) for error in source.bad] == [
        (2, "the candidate '4:9' is in no pool"),
        (3, "has no candidate in pos_cand_list"),
    ]
    alone = opened(tmp_path / "query/train/mbeir_nights_task4_train.jsonl", "mbeir")
    assert alone.row(0) == row


def test_swift(tmp_path: Path) -> None:
    user = [{"role": "system", "content": "Find a picture."}, {"role": "user", "content": "a <image> b"}]
    row = {
        "messages": user,
        "images": ["q.png"],
        "positive_messages": [[{"role": "user", "content": "<image>"}]],
        "positive_images": [["p.png"]],
        "negative_messages": [[{"role": "user", "content": "no"}], [{"role": "user", "content": "nor this"}]],
    }
    older = {"query": "q", "response": "r", "rejected_response": ["s"], "images": []}
    lines = [row, row | {"images": []}, older, {"messages": "x"}, row | {"positive_messages": []}]
    put(tmp_path / "rows.jsonl", lines)
    source = opened(tmp_path / "rows.jsonl", "swift", instruction="by default")
    first, second = source.row(0), source.row(1)
    assert [type(part) is Image for part in first.query.content.parts] == [False, True, False]
    assert (first.query.instruction, second.query.instruction) == ("Find a picture.", "by default")
    assert where(first.positives[0]) == tmp_path / "p.png"
    assert (texts(first.negatives), texts(second.positives)) == (["no", "nor this"], ["r"])
    assert [error.line for error in source.bad] == [2, 4, 5]
    assert "the query has 1 marks <image> for 0 pictures" in str(source.bad[0])


def test_webqa(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images/30.png").write_bytes(b"")
    good = {
        "Q": '"Which colour?"',
        "A": ["red"],
        "split": "train",
        "img_posFacts": [{"image_id": 30, "caption": "a bike"}],
        "txt_posFacts": [],
        "txt_negFacts": [{"title": "T", "fact": "F"}],
    }
    entries = {"g1": good, "g2": good | {"split": "val"}, "g3": good | {"img_posFacts": []}}
    (tmp_path / "WebQA_train_val.json").write_text(json.dumps(entries))
    source = opened(tmp_path, "webqa")
    row = source.row(0)
    assert (len(source), row.id, row.query.content.text) == (1, "g1", "Which colour?")
    assert where(row.positives[0]) == tmp_path / "images/30.png"
    assert (texts(row.positives), texts(row.negatives)) == (["a bike"], ["T\nF"])
    assert [error.line for error in source.bad] == [2, 3]


def test_mmqa(tmp_path: Path) -> None:
    put(tmp_path / "MMQA_images.jsonl", [{"id": "i1", "title": "Bike", "path": "b.jpg"}])
    put(tmp_path / "MMQA_texts.jsonl", [{"id": "t1", "title": "T", "text": "words"}])
    context = [{"doc_id": "i1", "doc_part": "image"}, {"doc_id": "t1", "doc_part": "text"}]
    rows = [
        {"qid": "q1", "question": "which?", "supporting_context": [*context, {"doc_id": "x", "doc_part": "table"}]},
        {"qid": "q2", "question": "which?", "supporting_context": [{"doc_id": "x", "doc_part": "table"}]},
        {"qid": "q3", "question": "which?", "supporting_context": [{"doc_id": "gone", "doc_part": "text"}]},
    ]
    put(tmp_path / "MMQA_train.jsonl", rows)
    source = opened(tmp_path, "mmqa")
    assert (len(source), texts(source.row(0).positives)) == (1, ["Bike", "T\nwords"])
    assert [(error.line, error.reason[:24]) for error in source.bad] == [
        (2, "has no picture and no te"),
        (3, "the evidence 'gone' is n"),
    ]


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_pairs_and_triples_in_tables(tmp_path: Path, suffix: str) -> None:
    rows: list[Json] = [
        {"anchor": f"q{n}", "positive": f"p{n}", "positive_image": "p.png", "negative_1": "a", "negative_2": "b"}
        for n in range(5)
    ]
    put(tmp_path / f"train.{suffix}", [*rows, {"anchor": "q", "positive": None}])
    source = opened(tmp_path, "table")
    assert [source.row(n).query.content.text for n in (4, 0, 3)] == ["q4", "q0", "q3"]
    assert texts(source.row(2).negatives) == ["a", "b"]
    assert source.row(2).positives[0].content.modality == "image,text"
    assert [error.line for error in source.bad] == [6]


def test_pictures_and_own_triples_in_parquet(tmp_path: Path) -> None:
    Pictures.new("RGB", (4, 4)).save(tmp_path / "a.png")
    data = (tmp_path / "a.png").read_bytes()
    put(tmp_path / "p.parquet", [{"query_image": {"bytes": data, "path": "a.png"}, "positive": ["x", "y"]}])
    row = opened(tmp_path / "p.parquet", "table").row(0)
    assert (row.query.content.images[0].data, texts(row.positives)) == (data, ["x", "y"])
    own = [
        {"query": {"text": "a", "image": None}, "positives": [{"text": "b"}], "scores": None},
        {"query": {"text": None, "image": "a.png"}, "positives": [{"text": "c"}], "scores": [0.5]},
    ]
    put(tmp_path / "t.parquet", own)
    source = opened(tmp_path / "t.parquet", "table")
    assert (source.row(1).scores, where(source.row(1).query)) == ((0.5,), tmp_path / "a.png")


def test_a_file_that_changes_while_it_is_used(tmp_path: Path) -> None:
    put(tmp_path / "r.jsonl", [{"query": "a", "positive": "b"}, "not JSON", {"query": "c", "positive": "d"}])
    source = opened(tmp_path / "r.jsonl", "table")
    assert [error.line for error in source.bad] == [2]
    (tmp_path / "r.jsonl").write_text("changed")
    with pytest.raises(ItemError, match=r"r\.jsonl:\d: .*leave the file alone"):
        source.row(1)
