"""Each format of a benchmark from tiny files written by hand, and what an encoder that knows nothing scores on it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from PIL import Image as Pictures
from pyarrow import parquet

from mmseek._types import Document
from mmseek.errors import DatasetError, InputError, ItemError
from mmseek.evaluation import Dataset, evaluate, load_dataset
from mmseek.evaluation.formats import detect
from mmseek.evaluation.formats.mmeb import as_list, unmarked
from mmseek.testing import FakeEncoder

Json = dict[str, Any]


def put(path: Path, rows: Iterable[Json]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        parquet.write_table(pa.Table.from_pylist(list(rows)), path)
    else:
        path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))


def picture(path: Path, colour: str = "red") -> bytes:
    path.parent.mkdir(parents=True, exist_ok=True)
    Pictures.new("RGB", (8, 8), colour).save(path)
    return path.read_bytes()


def documents(data: Dataset) -> dict[str, Document]:
    return {each.id: each for each in data.corpus() if isinstance(each, Document)}


@pytest.fixture
def mbeir(tmp_path: Path) -> Path:
    """Two tasks with a pool each; the second pool's candidate is better for the first task's query than its own."""
    root = tmp_path / "M-BEIR"
    put(
        root / "query/test/mbeir_mscoco_task0_test.jsonl",
        [{"qid": "9:1", "query_txt": "a dog", "query_modality": "text"}],
    )
    put(
        root / "query/test/mbeir_fashioniq_task7_test.jsonl",
        [{"qid": "7:1", "query_txt": "in red", "query_img_path": "q.png", "query_modality": "image,text"}],
    )
    for task, dataset in (("mscoco_task0", 9), ("fashioniq_task7", 7)):
        number = task[-1]
        (root / "qrels/test").mkdir(parents=True, exist_ok=True)
        (root / f"qrels/test/mbeir_{task}_test_qrels.txt").write_text(f"{dataset}:1 0 {dataset}:11 1 {number}\n")
    own = [{"did": "9:11", "txt": None, "img_path": "dog.png", "modality": "image"}, {"did": "9:12", "txt": "a cat"}]
    other = [{"did": "7:11", "txt": "a dog", "img_path": None, "modality": "text"}]
    put(root / "cand_pool/local/mbeir_mscoco_task0_test_cand_pool.jsonl", own)
    put(root / "cand_pool/local/mbeir_fashioniq_task7_cand_pool.jsonl", other)
    put(root / "cand_pool/global/mbeir_union_test_cand_pool.jsonl", own + other)
    (root / "instructions").mkdir()
    (root / "instructions/query_instructions.tsv").write_text(
        "query_modality\tcand_modality\tdataset_name\tdataset_id\tprompt_1\tprompt_2\tprompt_3\tprompt_4\n"
        "text\timage\tMSCOCO\t9\tFind the picture.\tb\tc\td\n"
    )
    for name in ("q.png", "dog.png"):
        picture(root / name)
    return root


def test_mbeir_ranks_the_pool_of_the_task_or_all_of_them(mbeir: Path) -> None:
    assert detect(mbeir) == "mbeir"
    local, union = load_dataset(mbeir), load_dataset(mbeir, pool="global")
    assert [(query.id, query.task, query.instruction) for query in local.queries] == [
        ("7:1", "fashioniq_task7", None),
        ("9:1", "mscoco_task0", "Find the picture."),
    ]
    assert local.queries[0].content.modality == "image,text"
    assert local.queries[1].candidates == {"9:11", "9:12"}
    assert union.queries[1].candidates is None
    assert set(documents(local)) == set(documents(union)) == {"9:11", "9:12", "7:11"}
    assert (local.headline, local.headlines) == ("hit@5", {"fashioniq_task7": "hit@10"})
    # The text "a dog" of the other set is nearest: only the global pool has it before the right picture.
    report = evaluate(union, FakeEncoder(dim=64), details=True)
    assert report.by_task["mscoco_task0"].metrics["hit@1"] == 0.0
    assert evaluate(local, FakeEncoder(dim=64)).by_task["fashioniq_task7"].metrics["hit@1"] == 1.0
    one = load_dataset(mbeir, tasks=("mscoco_task0",))
    assert (one.name, one.n_documents, len(one.queries)) == ("mscoco_task0", 2, 1)


def test_hit_and_recall_are_named_apart(mbeir: Path) -> None:
    (mbeir / "qrels/test/mbeir_mscoco_task0_test_qrels.txt").write_text("9:1 0 9:11 1 0\n9:1 0 9:12 1 0\n")
    report = evaluate(load_dataset(mbeir, tasks=("mscoco_task0",)), FakeEncoder())
    assert (report.metrics["hit@1"], report.metrics["recall@1"]) == (1.0, 0.5)


@pytest.mark.parametrize(
    ("file", "text", "reason"),
    [
        ("qrels/test/mbeir_mscoco_task0_test_qrels.txt", "9:1 0 9:11 1\n", "qrels.txt:1: expected five columns"),
        ("qrels/test/mbeir_mscoco_task0_test_qrels.txt", "9:1 0 9:11 x 0\n", "qrels.txt:1: the relevance must be"),
        ("qrels/test/mbeir_mscoco_task0_test_qrels.txt", "9:1 0 9:11 1 9\n", "one from 0 to 8"),
        ("instructions/query_instructions.tsv", "a\tb\n", "tsv:1: the header must begin"),
    ],
)
def test_what_is_broken_in_mbeir_is_named(mbeir: Path, file: str, text: str, reason: str) -> None:
    (mbeir / file).write_text(text)
    with pytest.raises(DatasetError, match=reason):
        load_dataset(mbeir)


def test_mbeir_without_a_pool_or_task_says_so(mbeir: Path) -> None:
    with pytest.raises(DatasetError, match="no task 'cirr_task7' in test: choose of fashioniq_task7, mscoco_task0"):
        load_dataset(mbeir, tasks=("cirr_task7",))
    with pytest.raises(DatasetError, match="no split 'val': choose one of test"):
        load_dataset(mbeir, "val")
    (mbeir / "cand_pool/global/mbeir_union_test_cand_pool.jsonl").unlink()
    with pytest.raises(DatasetError, match="is the pool that the queries rank"):
        load_dataset(mbeir, pool="global")


@pytest.fixture(params=["parquet", "jsonl"])
def mmeb(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """Forty queries with a hundred candidates each, the right one first, as published."""
    root = tmp_path / "MMEB"
    picture(root / "images/q.png")
    rows = [
        {
            "qry_inst": "<|image_1|> Represent the given image for classification",
            "qry_text": f"<|image_1|>\nquery {number}",
            "qry_img_path": "q.png",
            "tgt_inst": "",
            "tgt_text": [f"label {(number + step) % 120}" for step in range(100)],
            "tgt_img_path": [""] * 100,
        }
        for number in range(40)
    ]
    put(root / f"ImageNet-1K/test-00000-of-00001.{request.param}", rows)
    return root


def test_mmeb_gives_nothing_for_the_first_place(mmeb: Path, table_encoder: Any) -> None:
    assert detect(mmeb) == "mmeb"
    data = load_dataset(mmeb)
    query = data.queries[0]
    assert query.instruction == "Represent the given image for classification"
    assert query.content.text == "\nquery 0"
    assert query.content.images[0].path == mmeb / "images/q.png"
    assert (query.task, len(query.candidates or ()), data.n_documents) == ("ImageNet-1K", 100, 120)
    texts = [f"label {number}" for number in range(120)] + [f"\nquery {number}" for number in range(40)]
    constant = evaluate(data, table_encoder({text: [1.0, 0.0] for text in texts}, 2))
    # recall@100 of a hundred candidates is 1 in any order.
    assert {name: value for name, value in constant.metrics.items() if value > constant.overall.chance[name]} == {}
    assert (constant.metrics["hit@1"], constant.tie_rate) == (0.0, 1.0)
    random = evaluate(data, FakeEncoder(dim=64))
    for name, (low, high) in random.overall.confidence.items():
        assert abs(random.metrics[name] - random.overall.chance[name]) <= max(high - low, 0.06), name


def test_lists_that_were_written_as_text_are_parsed_and_never_run() -> None:
    assert as_list("['it''s', \"b\"]", "x") == ["its", "b"]
    assert as_list('["a", null]', "x") == ["a", None]
    assert as_list("plain", "x") == ["plain"]
    assert as_list(None, "x") == as_list("", "x") == []
    for bad in ("[__import__('os').getcwd()]", "[1", "[" * 5000 + "]" * 5000):
        if bad == "[1":
            assert as_list(bad, "x") == [bad]
            continue
        with pytest.raises(ItemError, match="begins like a list"):
            as_list(bad, "x")
    assert unmarked("<|image_1|>\nWhat <image> is it") == "\nWhat is it"


def test_candidates_that_do_not_go_together_cost_their_query_alone(tmp_path: Path) -> None:
    good = {"qry_text": "a", "qry_img_path": "", "tgt_text": ["x", "y"], "tgt_img_path": ["", ""]}
    put(tmp_path / "T.jsonl", [good, good | {"tgt_img_path": [""]}, good | {"tgt_text": [], "tgt_img_path": []}])
    data = load_dataset(tmp_path)
    assert [problem.id for problem in data.skipped] == ["T-1", "T-2"]
    assert "T.jsonl:2: has 2 texts and 1 pictures" in data.skipped[0].reason
    assert "T.jsonl:3: has no candidates" in data.skipped[1].reason


def test_xtd_reads_captions_and_photos_line_by_line(tmp_path: Path) -> None:
    (tmp_path / "test_image_names.txt").write_text("COCO_1.jpg\nCOCO_2.jpg\n")
    (tmp_path / "test_1kcaptions_de.txt").write_text("ein Hund\neine Katze\n")
    (tmp_path / "test_1kcaptions_en.txt").write_text("a dog\na cat\n")
    picture(tmp_path / "val2014/COCO_1.jpg")
    assert detect(tmp_path) == "xtd"
    data = load_dataset(tmp_path)
    assert [(query.task, query.content.text) for query in data.queries][::3] == [("de", "ein Hund"), ("en", "a cat")]
    assert data.qrels["en-2"] == {"COCO_2.jpg": 1}
    assert documents(data)["COCO_1.jpg"].content.images[0].path == tmp_path / "val2014/COCO_1.jpg"
    assert data.headline == "hit@10"
    report = evaluate(load_dataset(tmp_path, tasks=("de",)), FakeEncoder())
    assert (report.n_queries, [problem.id for problem in report.failed_corpus]) == (2, ["COCO_2.jpg"])
    (tmp_path / "test_1kcaptions_de.txt").write_text("ein Hund\n")
    with pytest.raises(DatasetError, match="has 1 lines for 2 photos"):
        load_dataset(tmp_path)


@pytest.mark.parametrize("suffix", ["parquet", "jsonl"])
def test_pages_in_three_tables(tmp_path: Path, suffix: str) -> None:
    first = picture(tmp_path / "1.png")
    picture(tmp_path / "images/2.png", "blue")
    one: Any = {"bytes": first, "path": "1.png"} if suffix == "parquet" else "1.png"
    two: Any = {"bytes": None, "path": "2.png"} if suffix == "parquet" else "2.png"
    put(tmp_path / f"corpus/test-0.{suffix}", [{"corpus-id": 1, "image": one}, {"corpus-id": 2, "image": two}])
    put(tmp_path / f"queries/test-0.{suffix}", [{"query-id": 7, "query": "what?", "language": "french"}])
    put(tmp_path / f"qrels/test-0.{suffix}", [{"query-id": 7, "corpus-id": 2, "score": 2}])
    data = load_dataset(tmp_path)
    assert (detect(tmp_path), data.headline, dict(data.qrels)) == ("vidore", "ndcg@5", {"7": {"2": 2}})
    assert [query.task for query in data.queries] == ["french"]
    assert evaluate(data, FakeEncoder()).n_documents == 2


def test_pages_in_one_table(tmp_path: Path) -> None:
    page = {"bytes": picture(tmp_path / "p.png"), "path": "p.png"}
    rows = [
        {"query": "what?", "image": page, "image_filename": "a.png"},
        {"query": None, "image": page, "image_filename": "b.png"},
        {"query": "what?", "image": page, "image_filename": "b.png"},
    ]
    put(tmp_path / "data/test-0.parquet", rows)
    data = load_dataset(tmp_path)
    assert [dict(row) for row in data.qrels.values()] == [{"a.png": 1, "b.png": 1}]
    assert set(documents(data)) == {"a.png", "b.png"}


def test_a_picture_never_leads_out_of_the_folder(tmp_path: Path) -> None:
    put(tmp_path / "T.jsonl", [{"qry_text": "a", "tgt_text": ["", "b"], "tgt_img_path": ["../x.png", ""]}])
    errors = [each for each in load_dataset(tmp_path).corpus() if isinstance(each, ItemError)]
    assert "leads out of the folder" in str(errors[0])


def test_no_format_and_a_wrong_one_are_told(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="has none of the formats beir, mbeir, xtd, vidore, mmeb"):
        load_dataset(tmp_path)
    with pytest.raises(InputError, match="no format 'mteb': choose one of"):
        load_dataset(tmp_path, format="mteb")
    with pytest.raises(InputError, match="has one pool"):
        load_dataset(tmp_path, format="xtd", pool="global")
