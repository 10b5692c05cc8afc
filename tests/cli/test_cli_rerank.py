"""`mmseek rerank` and `mmseek search --rerank`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmseek._types import Pair
from mmseek.errors import EncodeError
from mmseek.rerank import FAMILIES
from mmseek.testing import FakeReranker

Cli = Callable[..., Any]
Lines = Callable[..., Path]


@pytest.fixture
def scorer(monkeypatch: pytest.MonkeyPatch) -> FakeReranker:
    """Scores a document by its length; a picture counts 100."""

    def judge(pair: Pair) -> float:
        if "unspeakable" in pair.document.text:
            raise EncodeError("told to fail")
        return len(pair.document.text) + 100.0 * len(pair.document.images)

    reranker = FakeReranker(judge)
    monkeypatch.setattr(
        "mmseek.pipeline.rerankers.load_reranker", lambda spec, *, device=None: {"fake:x": reranker}[spec]
    )
    return reranker


def test_scores_are_in_input_order_and_failures_are_named(
    cli: Cli, scorer: FakeReranker, tmp_path: Path, lines: Lines
) -> None:
    query = {"text": "q"}
    source = lines(
        tmp_path / "pairs.jsonl",
        {"query": query, "document": {"text": "four"}},
        "{",
        {"query": query, "document": {"text": "unspeakable"}, "id": "p3"},
        "",
        {"query": query, "document": {"text": "x", "image": "never-opened.png"}, "instruction": "Find."},
        {"query": query},
        {"query": query, "document": {}},
        {"query": query, "document": {"text": 7}},
        {"query": {**query, "instruction": "Look."}, "document": "a text alone"},
    )
    output = tmp_path / "out.npy"
    done = cli("rerank", source, "--reranker", "fake:x", "--output", output, "--json")
    assert done.code == 1
    written = np.load(output, allow_pickle=False)
    assert (written.dtype, written.tolist()) == (np.float32, [4.0, 101.0, 0.0, 12.0])
    assert [pair.instruction for pair in scorer.pairs] == [None, None, "Find.", None, "Look."]
    assert scorer.pairs[2].document.images[0].path == tmp_path / "never-opened.png"
    found = done.document
    assert found.pop("seconds") >= 0
    assert found == {
        "output": str(output),
        "scores": 4,
        "reranker": "fake",
        "fingerprint": scorer.identity.fingerprint,
        "failed": 4,
        "failed_lines": [2, 3, 6, 8],
        "report": f"{output}.failures.jsonl",
    }
    report = [json.loads(line) for line in Path(f"{output}.failures.jsonl").read_text().splitlines()]
    assert [row["line"] for row in report] == [2, 3, 6, 8]
    assert (report[1]["id"], report[1]["reason"]) == ("p3", "told to fail")
    assert report[2]["reason"].startswith("the pair's document is missing")
    assert report[3]["reason"].startswith("its document: ")
    assert f"{source}:6: " in done.err


def test_all_good_is_exit_code_0(cli: Cli, scorer: FakeReranker, tmp_path: Path, lines: Lines) -> None:
    source = lines(tmp_path / "pairs.jsonl", {"query": {"text": "q"}, "document": {"text": "d"}})
    done = cli("rerank", source, "-r", "fake:x", "-o", tmp_path / "out.npy")
    assert (done.code, done.err, done.out) == (0, "", f"wrote 1 score to {tmp_path / 'out.npy'}\n")
    assert {path.name for path in tmp_path.iterdir()} == {"pairs.jsonl", "out.npy"}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("[]", "not a JSON object"),
        ({"query": {"text": "q"}, "document": 7}, "neither a text nor an object"),
        ({"query": {"text": "q"}, "document": {"text": "d"}, "instruction": 7}, "instruction is not a text"),
        ({"query": {"text": "q"}, "document": {"text": "d"}, "passage": "d"}, "unknown key 'passage'"),
        ({"query": {"text": "q"}, "document": {"words": "d"}}, "'words'"),
        ({"query": {"image": "http://x/y.png"}, "document": {"text": "d"}}, "its query: "),
    ],
)
def test_what_is_no_pair_is_one_sentence(
    cli: Cli, scorer: FakeReranker, tmp_path: Path, lines: Lines, row: Any, reason: str
) -> None:
    output = tmp_path / "out.npy"
    output.write_bytes(b"old")
    refused = cli("rerank", lines(tmp_path / "pairs.jsonl", row), "-r", "fake:x", "-o", output)
    assert refused.code == 2
    assert reason in refused.error
    assert "nothing was written" in refused.error
    assert output.read_bytes() == b"old"


def test_search_in_two_stages(cli: Cli, scorer: FakeReranker, collection: Path) -> None:
    found = cli("search", "a red bike", "-c", collection, "--rerank", "fake:x", "-k", "2", "--json").document
    assert [(hit["id"], hit["score"]) for hit in found["hits"]] == [("b", 107.0), ("i", 100.0)]
    assert [set(hit["scores"]) for hit in found["hits"]] == [{"dense", "rerank"}] * 2
    assert found["reranker"] == "fake"
    assert set(found["timings"]) == {"encode", "search", "rerank"}
    assert found["unscored"] == []
    one = cli(
        "search", "a red bike", "-c", collection, "--rerank", "fake:x", "--rerank-depth", "1", "-k", "1", "--json"
    )
    assert [hit["id"] for hit in one.document["hits"]] == ["t"]
    shown = cli("search", "a red bike", "-c", collection, "--rerank", "fake:x")
    assert shown.out.splitlines()[1].split()[:3] == ["1", "107.0000", "b"]


def test_a_hit_that_cannot_be_scored_is_said(
    cli: Cli, fake: object, scorer: FakeReranker, tmp_path: Path, lines: Lines
) -> None:
    source = lines(tmp_path / "i.jsonl", {"id": "a", "text": "good"}, {"id": "c", "text": "also good"})
    assert cli("index", source, "-c", tmp_path / "c").code == 0
    scorer._judge = lambda pair: (_ for _ in ()).throw(EncodeError("gone")) if pair.document.text == "good" else 1.0
    told = cli("search", "good", "-c", tmp_path / "c", "--rerank", "fake:x", "--json")
    assert [hit["id"] for hit in told.document["hits"]] == ["c", "a"]
    assert told.document["unscored"] == [{"id": "a", "reason": "gone"}]
    assert "note: a was not scored by the reranker and comes last: gone" in told.err


def test_who_follows_the_instruction(
    cli: Cli, collection: Path, scorer: FakeReranker, monkeypatch: pytest.MonkeyPatch
) -> None:
    for family, noted in (("cross-encoder", True), ("qwen3-vl-reranker", False)):
        monkeypatch.setattr("mmseek.pipeline.rerankers.load_reranker", lambda spec, *, device=None: scorer)
        told = cli("search", "x", "-c", collection, "--rerank", f"{family}:m", "--instruction", "find bikes", "--json")
        assert told.code == 0
        assert ("does not follow instructions" in told.err) is noted


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--rerank", "nothing"], "unknown reranker 'nothing'"),
        (["--rerank", "cross-encoder:/no/where"], "/no/where does not exist"),
        (["--rerank", "cross-encoder:x", "--rerank-depth", "0"], "--rerank-depth"),
    ],
)
def test_a_reranker_that_is_none(cli: Cli, collection: Path, options: list[str], sentence: str) -> None:
    refused = cli("search", "x", "-c", collection, *options, "--json")
    assert refused.code == 2
    assert sentence in refused.error


def test_models_lists_rerankers(cli: Cli) -> None:
    found = cli("models", "--json").document["rerankers"]
    assert [family["name"] for family in found] == list(FAMILIES)
    assert set(found[0]) == {"name", "summary", "modalities", "takes_instruction", "needs"}
    shown = cli("models").out
    assert all(name in shown for name in FAMILIES)


def test_the_verb_gives_the_scores_of_the_published_code(cli: Cli, tmp_path: Path) -> None:
    oracle = Path(__file__).parents[3] / "shared" / "oracles" / "qwen3_vl_reranker"
    if not oracle.is_dir():
        pytest.skip(f"{oracle} is not here")
    output = tmp_path / "out.npy"
    spec = f"qwen3-vl-reranker:{oracle / 'checkpoint'}"
    done = cli("rerank", oracle / "pairs.jsonl", "--reranker", spec, "--output", output, "--device", "cpu", "--json")
    assert done.code == 0
    expected = np.load(oracle / "expected.npy", allow_pickle=False)
    np.testing.assert_allclose(np.load(output, allow_pickle=False), expected, atol=1e-4, rtol=0)


def test_a_chain_with_all_its_options(cli: Cli, scorer: FakeReranker, collection: Path) -> None:
    line = ["search", "a red bike", "-c", collection, "--rerank", "fake:x", "--rerank", "fake:x", "--json"]
    options = ["--rerank-depth", "3", "--rerank-depth", "2", "--rerank-budget", "60", "--rerank-fusion", "rrf"]
    found = cli(*line, *options, "--explain").document
    assert [(each["asked"], each["scored"], each["complete"]) for each in found["rerankers"]] == [
        (3, 3, True),
        (2, 2, True),
    ] or found["rerankers"][0]["asked"] == 3
    for hit in found["hits"]:
        assert hit["explain"]["first_rank"] in (1, 2, 3)
        assert hit["explain"]["sent"] is None
    shown = cli(*line[:-1], *options, "--explain")
    assert "before rank" in shown.out


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--rerank-budget", "1"], "need a reranker"),
        (["--rerank-depth", "5"], "needs a reranker"),
        (["--rerank", "fake:x", "--rerank-fusion", "much"], "rrf or a weight"),
        (["--rerank", "fake:x", "--rerank-budget", "0"], "above 0"),
        (["--threshold", "often"], "neither a number nor a file"),
        (["--rerank", "fake:x", "--rerank-depth", "2", "--rerank-depth", "1"], "give one for each"),
    ],
)
def test_options_that_make_no_sense(
    cli: Cli, scorer: FakeReranker, collection: Path, options: list[str], sentence: str
) -> None:
    refused = cli("search", "x", "-c", collection, *options)
    assert refused.code == 2
    assert sentence in refused.error


def test_calibrate_and_search_with_what_it_found(
    cli: Cli, scorer: FakeReranker, collection: Path, tmp_path: Path, lines: Lines
) -> None:
    folder = tmp_path / "data"
    (folder / "qrels").mkdir(parents=True)
    lines(folder / "corpus.jsonl", *({"id": f"d{n}", "text": "x" * (n + 1)} for n in range(20)))
    lines(folder / "queries.jsonl", {"id": "q", "text": "q"})
    judged = "".join(f"q\td{n}\t1\n" for n in range(12, 20))
    (folder / "qrels" / "dev.tsv").write_text(f"query-id\tcorpus-id\tscore\n{judged}")
    file, picture = tmp_path / "threshold.json", tmp_path / "plot.png"
    line = ["calibrate", "-d", folder, "-r", "fake:x", "-o", file, "--plot", picture]
    found = cli(*line, "--json").document
    assert found["threshold"] == 12.5
    assert (found["relevant"], found["irrelevant"], found["precision"], found["recall"]) == (8, 12, 1.0, 1.0)
    assert found["about"] == {"dataset": "data", "split": "dev", "encoder": "mini", "depth": 20}
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert "threshold 12.5" in cli(*line).out
    assert cli("rerank", *line, "--json").document == found
    search = ["search", "a red bike", "-c", collection, "--rerank", "fake:x", "--threshold", file]
    kept = cli(*search, "--json").document
    assert [hit["id"] for hit in kept["hits"]] == ["b", "i"]  # a picture counts 100
    assert kept["below_threshold"] == 1
    none = cli(*search[:-1], "1000")
    assert none.out == "no hits: of 3 that were found none reaches the threshold\n"
    both = cli("eval", "-d", folder, "--split", "dev", "--rerank", "fake:x", "--rerank-depth", "20")
    assert "no reranking" in both.out
    assert "reranked" in both.out
    report = cli("eval", "-d", folder, "--split", "dev", "--rerank", "fake:x", "--json").document
    assert report["reranked"]["metrics"]["ndcg@10"] == 1.0
