"""Reading benchmark folders: the layout, what is refused, and that nothing is dropped unnamed."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmseek import Document
from mmseek.errors import DatasetError, ItemError
from mmseek.evaluation import load_dataset
from mmseek.evaluation.qrels import read_qrels

WriteDataset = Callable[..., Path]

CORPUS = [{"id": "d1", "text": "one"}, {"id": "d2", "text": "two"}]
QUERIES = [{"id": "q1", "text": "first"}, {"id": "q2", "text": "second"}]
QRELS = [("q1", "d1", 1), ("q2", "d2", 2)]
HEADER = "query-id\tcorpus-id\tscore\n"


def test_layout(write_dataset: WriteDataset) -> None:
    queries = [
        {"id": "q1", "text": "first", "exclude": ["d2"], "metadata": {"task": "a"}},
        {"id": "q2", "image": "q.png", "text": "second", "candidates": ["d1", "d2"], "instruction": "find it"},
        {"id": "of another split", "text": "third"},
    ]
    dataset = load_dataset(write_dataset(CORPUS, queries, QRELS))
    first, second = dataset.queries
    assert (dataset.name, dataset.split, dataset.n_documents) == ("small", "test", 2)
    assert dataset.qrels == {"q1": {"d1": 1}, "q2": {"d2": 2}}
    assert (first.id, first.content.text, first.exclude, first.candidates) == ("q1", "first", {"d2"}, None)
    assert (first.task, first.instruction, second.task, second.instruction) == ("a", None, None, "find it")
    assert (second.exclude, second.candidates) == (frozenset(), {"d1", "d2"})
    assert second.content.images[0].path == dataset.path / "q.png"
    assert (dataset.skipped, dataset.warnings) == ((), ())
    assert [document.id for document in dataset.corpus() if isinstance(document, Document)] == ["d1", "d2"]
    assert len(list(dataset.corpus())) == 2, "the corpus can be read again"


def test_pictures_of_the_corpus_stand_beside_it(write_dataset: WriteDataset) -> None:
    corpus = [{"id": "d1", "image": "images/1.png", "metadata": {"label": "x"}}, CORPUS[1]]
    dataset = load_dataset(write_dataset(corpus, QUERIES, QRELS))
    document = next(iter(dataset.corpus()))
    assert isinstance(document, Document)
    assert document.content.images[0].path == dataset.path / "images" / "1.png"
    assert document.metadata == {"label": "x"}


def test_plain_beir(write_dataset: WriteDataset) -> None:
    corpus = [
        {"_id": "d1", "title": "A title", "text": "and a text", "metadata": {"url": "x"}, "url": "x"},
        {"_id": "d2", "title": "", "text": "only a text"},
        {"_id": "d3", "title": "only a title", "text": ""},
    ]
    queries = [{"_id": "q1", "text": "first"}, {"_id": "q2", "text": "second"}]
    dataset = load_dataset(write_dataset(corpus, queries, QRELS))
    documents = [document for document in dataset.corpus() if isinstance(document, Document)]
    assert [document.id for document in documents] == ["d1", "d2", "d3"]
    assert [document.content.text for document in documents] == ["A title\nand a text", "only a text", "only a title"]
    assert documents[0].metadata == {"url": "x"}
    assert [query.content.text for query in dataset.queries] == ["first", "second"]


def test_other_split(write_dataset: WriteDataset) -> None:
    write_dataset(CORPUS, QUERIES, [("q1", "d1", 1)], split="train")
    folder = write_dataset(CORPUS, QUERIES, [("q2", "d2", 1)], split="test")
    assert [query.id for query in load_dataset(folder, "train").queries] == ["q1"]
    assert [query.id for query in load_dataset(folder).queries] == ["q2"]


def test_split_that_is_not_there_names_those_that_are(write_dataset: WriteDataset) -> None:
    write_dataset(CORPUS, QUERIES, QRELS, split="train")
    folder = write_dataset(CORPUS, QUERIES, QRELS, split="dev")
    with pytest.raises(DatasetError, match=r"no split 'test': choose one of dev, train"):
        load_dataset(folder)
    with pytest.raises(DatasetError, match="no split"):
        load_dataset(folder, "../qrels/dev")


@pytest.mark.parametrize("missing", ["corpus.jsonl", "queries.jsonl", "qrels"])
def test_layout_with_a_part_missing(write_dataset: WriteDataset, missing: str) -> None:
    folder = write_dataset(CORPUS, QUERIES, QRELS)
    (folder / missing).rename(folder / "elsewhere")
    with pytest.raises(DatasetError, match=f"has no {re.escape(missing)}: a dataset is"):
        load_dataset(folder)


def test_qrels_folder_without_a_split(write_dataset: WriteDataset) -> None:
    folder = write_dataset(CORPUS, QUERIES, QRELS)
    (folder / "qrels" / "test.tsv").unlink()
    with pytest.raises(DatasetError, match=r"holds no \.tsv file"):
        load_dataset(folder)


@pytest.mark.parametrize(
    ("content", "line", "reason"),
    [
        ("", None, "is empty"),
        ("q1\td1\t1\n", 1, "the header must be"),
        ("query-id corpus-id score\nq1\td1\t1\n", 1, "the header must be"),
        (HEADER + "q1\td1\t1\nq1 d2 1\n", 3, "expected query id, document id and score"),
        (HEADER + "q1\td1\n", 2, "expected query id, document id and score"),
        (HEADER + "q1\td1\t1\t2\n", 2, "expected query id, document id and score"),
        (HEADER + "\td1\t1\n", 2, "expected query id, document id and score"),
        (HEADER + "q1\td1\tyes\n", 2, "the score must be a whole number, not 'yes'"),
        (HEADER + "q1\td1\t0.5\n", 2, "the score must be a whole number, not '0.5'"),
        (HEADER + "q1\td1\t1\n\nq1\td1\t2\n", 4, "have the score 2, but 1 on an earlier line"),
    ],
)
def test_broken_qrels_are_named_by_line(tmp_path: Path, content: str, line: int | None, reason: str) -> None:
    path = tmp_path / "test.tsv"
    path.write_text(content, encoding="utf-8")
    place = str(path) if line is None else f"{path}:{line}: "
    with pytest.raises(DatasetError, match=f"^{re.escape(place)}.*{re.escape(reason)}"):
        read_qrels(path)


def test_qrels_that_are_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "test.tsv"
    path.write_bytes(HEADER.encode() + b"q\xff\td1\t1\n")
    with pytest.raises(DatasetError, match=":2: the line is not UTF-8"):
        read_qrels(path)


def test_qrels_from_windows(tmp_path: Path) -> None:
    path = tmp_path / "test.tsv"
    path.write_bytes(b"\xef\xbb\xbfquery-id\tcorpus-id\tscore\r\nq1\td 1\t2\r\n\r\n")
    assert read_qrels(path).grades == {"q1": {"d 1": 2}}


IDS = st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=6)


@given(st.dictionaries(IDS, st.dictionaries(IDS, st.integers(-2, 3), min_size=1), max_size=5))
def test_qrels_keep_every_line(tmp_path_factory: pytest.TempPathFactory, rows: dict[str, dict[str, int]]) -> None:
    path = tmp_path_factory.mktemp("qrels") / "test.tsv"
    lines = [f"{query}\t{doc}\t{grade}\n" for query, row in rows.items() for doc, grade in row.items()]
    path.write_text(HEADER + "".join(lines), encoding="utf-8", newline="")
    judged = read_qrels(path)
    relevant = {query: {doc: grade for doc, grade in row.items() if grade > 0} for query, row in rows.items()}
    assert judged.grades == {query: row for query, row in relevant.items() if row}
    assert set(judged.without_relevant) == {query for query, row in relevant.items() if not row}
    assert judged.not_relevant + sum(map(len, judged.grades.values())) == len(lines)
    assert judged.repeated == 0


def test_what_is_odd_is_counted_and_named(write_dataset: WriteDataset) -> None:
    queries = [
        {"id": "q1", "text": "first", "exclude": ["d1"]},
        {"id": "q2", "text": "second", "candidates": ["d2", "ghost"]},
        {"id": "q3", "text": "third"},
        {"id": "q4", "text": "fourth", "exclude": "d1"},
        {"id": "q1", "text": "again"},
        "{broken",
        {"text": "nameless"},
        {"id": "not judged", "text": ""},
    ]
    qrels = [
        *(("q1", "d1", 1), ("q1", "lost", 1), ("q1", "lost", 1), ("q2", "d2", 1), ("q2", "d1", 0)),
        *(("q3", "d1", 0), ("q4", "d1", 1), ("gone", "d1", 1)),
    ]
    dataset = load_dataset(write_dataset(CORPUS, queries, qrels))
    assert [query.id for query in dataset.queries] == ["q1", "q2"]
    assert dataset.queries[0].content.text == "first"
    reasons = {problem.id: problem.reason for problem in dataset.skipped if problem.id}
    assert set(reasons) == {"q1", "q3", "q4", "gone"}
    assert "several lines" in reasons["q1"]
    assert "no document relevant" in reasons["q3"]
    assert "queries.jsonl:4: exclude must be a list" in reasons["q4"]
    assert "no line of queries.jsonl" in reasons["gone"]
    nameless = [problem.reason for problem in dataset.skipped if problem.id is None]
    assert [("queries.jsonl:6" in nameless[0], "queries.jsonl:7" in nameless[1])] == [(True, True)]
    assert len(nameless) == 2
    said = "\n".join(dataset.warnings)
    assert "6 queries were not evaluated" in said
    assert "2 judgements have a score of 0 or less and count as not relevant" in said
    assert "1 line of the qrels repeats" in said
    assert "1 relevant document is not in corpus.jsonl and never found: 'lost'" in said
    assert "1 candidate is not in corpus.jsonl: 'ghost'" in said
    assert "1 query excludes, or has not among the candidates, a document that is relevant: 'q1'" in said


def test_nothing_left_to_evaluate(write_dataset: WriteDataset) -> None:
    with pytest.raises(DatasetError, match="leaves no query to evaluate: 1 query was skipped, the first because"):
        load_dataset(write_dataset(CORPUS, QUERIES, [("elsewhere", "d1", 1)]))
    with pytest.raises(DatasetError, match="leaves no query to evaluate: it judges none"):
        load_dataset(write_dataset(CORPUS, QUERIES, []))


def test_ids_that_do_not_match_at_all(write_dataset: WriteDataset) -> None:
    with pytest.raises(DatasetError, match="the ids do not match"):
        load_dataset(write_dataset(CORPUS, QUERIES, [("q1", "D1", 1)]))


def test_empty_corpus(write_dataset: WriteDataset) -> None:
    with pytest.raises(DatasetError, match="holds no document with an id"):
        load_dataset(write_dataset([], QUERIES, QRELS))


def test_corpus_that_is_no_file(write_dataset: WriteDataset) -> None:
    folder = write_dataset(CORPUS, QUERIES, QRELS)
    (folder / "corpus.jsonl").unlink()
    (folder / "corpus.jsonl").mkdir()
    with pytest.raises(DatasetError, match="is a folder"):
        load_dataset(folder)


def test_bad_lines_of_the_corpus_are_errors_in_their_place(write_dataset: WriteDataset) -> None:
    corpus = [CORPUS[0], "{broken", {"text": "nameless"}, {"id": "d1", "text": "again"}, {"id": "empty"}, CORPUS[1]]
    dataset = load_dataset(write_dataset(corpus, QUERIES, QRELS))
    found = list(dataset.corpus())
    assert dataset.n_documents == len(found) == 6
    assert [item.line for item in found if isinstance(item, ItemError)] == [2, 3, 4, 5]
    assert [item.item_id for item in found if isinstance(item, ItemError)] == [None, None, "d1", "empty"]
    assert "line 1 has the id 'd1' already" in str(found[3])
    assert [item.content.text for item in found if isinstance(item, Document)] == ["one", "two"]


DATA = Path(__file__).parents[3] / "shared" / "data"
REAL = {
    "aerial_ucm": (840, {"train", "dev", "test"}),
    "apparel_women": (389, {"train", "dev", "test"}),
    "emoji": (1650, {"train", "dev", "test"}),
    "imagenet1k_sample": (1000, {"test"}),
    "nlvr_shapes": (1979, {"test"}),
    "scifact": (5183, {"train", "test"}),
    "textbook_figures": (1152, {"train", "dev", "test"}),
    "xquad_pages": (240, {"test"}),
}


@pytest.mark.parametrize("name", REAL)
def test_real_sets_are_read_whole(name: str) -> None:
    folder = DATA / name
    if not folder.is_dir():
        pytest.skip(f"{folder} is not on this machine")
    documents, splits = REAL[name]
    assert {path.stem for path in (folder / "qrels").glob("*.tsv")} == splits
    for split in splits:
        dataset = load_dataset(folder, split)
        judged = {line.split("\t")[0] for line in (folder / "qrels" / f"{split}.tsv").read_text().splitlines()[1:]}
        assert {query.id for query in dataset.queries} == judged
        assert all(query.task for query in dataset.queries)
        assert (dataset.skipped, dataset.warnings) == ((), ())
        assert dataset.n_documents == documents
    found = list(dataset.corpus())
    assert [item for item in found if isinstance(item, ItemError)] == []
    assert len(found) == documents


def test_real_candidates_and_exclusions() -> None:
    for name, key in (("nlvr_shapes", "candidates"), ("apparel_women", "exclude")):
        if not (DATA / name).is_dir():
            pytest.skip(f"{DATA / name} is not on this machine")
        lines = [json.loads(line) for line in (DATA / name / "queries.jsonl").read_text().splitlines()]
        wanted = {line["id"]: set(line[key]) for line in lines if key in line}
        queries = load_dataset(DATA / name).queries
        assert any(query.id in wanted for query in queries)
        for query in queries:
            assert (getattr(query, key) or set()) == wanted.get(query.id, set())
