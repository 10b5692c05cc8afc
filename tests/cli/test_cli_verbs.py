"""`mmseek eval`, `models`, `serve` and `demo`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mmseek._network import is_loopback
from mmseek.cli.models import _PARTS
from mmseek.embed import FAMILIES
from mmseek.testing import FakeEncoder

Cli = Callable[..., Any]
Lines = Callable[..., Path]


@pytest.fixture
def dataset(tmp_path: Path, lines: Lines) -> Path:
    """Two queries that find their document by equal text, and one that finds nothing."""
    folder = tmp_path / "tiny"
    (folder / "qrels").mkdir(parents=True)
    lines(folder / "corpus.jsonl", *({"id": f"d{number}", "text": f"text {number}"} for number in range(12)))
    lines(
        folder / "queries.jsonl",
        {"id": "q1", "text": "text 1", "metadata": {"task": "easy"}},
        {"id": "q2", "text": "text 2", "metadata": {"task": "easy"}},
        {"id": "q3", "text": "something else", "metadata": {"task": "hard"}},
    )
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq1\td1\t1\nq2\td2\t1\nq3\td3\t1\n")
    return folder


def test_eval(cli: Cli, fake: FakeEncoder, dataset: Path, tmp_path: Path) -> None:
    done = cli("eval", "-d", dataset, "-o", tmp_path / "report.json", "--json")
    found = done.document
    assert done.code == 0
    assert {"dataset", "split", "encoder", "n_queries", "metrics", "by_task", "tie_rate"} <= set(found)
    assert (found["dataset"], found["split"], found["encoder"], found["n_queries"]) == ("tiny", "test", "mini", 3)
    assert {"ndcg@10", "recall@10", "hit@1"} <= set(found["metrics"])
    assert found["by_task"]["easy"]["metrics"]["hit@1"] == 1.0
    assert found["metrics"]["hit@1"] == pytest.approx(2 / 3)
    written = json.loads((tmp_path / "report.json").read_text())
    assert written.pop("per_query")["ids"] == ["q1", "q2", "q3"]
    assert written == found


def test_eval_for_people(cli: Cli, fake: FakeEncoder, dataset: Path) -> None:
    shown = cli("eval", "-d", dataset)
    lines = shown.out.splitlines()
    assert lines[0] == "tiny, split test: encoder mini, 3 queries over 12 documents"
    assert lines[1].split() == ["all", "easy", "hard"]
    assert lines[2].split() == ["queries", "3", "2", "1"]
    (row,) = [line.split() for line in lines if line.split()[:1] == ["hit@1"]]
    assert row[1] == "0.667"
    assert row[4] == "1.000"


def test_eval_of_a_whole_retriever(cli: Cli, fake: FakeEncoder, dataset: Path, tmp_path: Path) -> None:
    words = cli("eval", "-d", dataset, "--mode", "lexical", "--json").document
    assert (words["searched"], words["by_task"]["easy"]["metrics"]["hit@1"]) == ("lexical", 1.0)
    cli("index", dataset / "corpus.jsonl", "-c", tmp_path / "c")
    kept = cli("eval", "-d", dataset, "-c", tmp_path / "c", "--json").document
    alone = cli("eval", "-d", dataset, "--json").document
    assert kept["searched"] == "dense"
    assert kept["metrics"] == alone["metrics"]


def test_eval_compares_two(cli: Cli, fake: FakeEncoder, dataset: Path, tmp_path: Path) -> None:
    cli("eval", "-d", dataset, "-o", tmp_path / "a.json")
    page, table = tmp_path / "page.html", tmp_path / "table.md"
    both = cli(
        "eval", "-d", dataset, "--compare", tmp_path / "a.json", "mini", "--html", page, "--markdown", table, "--json"
    )
    assert both.code == 0
    assert both.document["metrics"]["hit@1"]["gain"] == [0.0, 0.0, 0.0]
    assert both.document["metrics"]["hit@1"]["p"] == 1.0
    assert both.document["queries"] == {"better": 0, "worse": 0, "alike": 3}
    assert page.read_text().count("data:image/svg+xml") == 3
    assert "should have been found" in page.read_text()
    assert "| all | hit@1 | 0.667 | 0.667 |" in table.read_text()
    shown = cli("eval", "--compare", tmp_path / "a.json", tmp_path / "a.json")
    assert "B is better on 0, worse on 0, alike on 3" in shown.out
    assert "give --dataset" in cli("eval", "--compare", tmp_path / "a.json", "mini").error
    assert (
        "no rankings to show"
        in cli("eval", "--compare", tmp_path / "a.json", tmp_path / "a.json", "--html", page).error
    )


def test_eval_with_an_item_that_fails(cli: Cli, fake: FakeEncoder, dataset: Path, lines: Lines) -> None:
    lines(dataset / "corpus.jsonl", *({"id": f"d{number}", "text": f"text {number}"} for number in range(12)), "{")
    done = cli("eval", "-d", dataset, "--json")
    assert done.code == 1
    assert len(done.document["failed"]["corpus"]) == 1
    assert "note: " in done.err


def test_eval_of_a_split_that_is_not_there(cli: Cli, fake: FakeEncoder, dataset: Path) -> None:
    refused = cli("eval", "-d", dataset, "--split", "dev", "--json")
    assert refused.code == 2
    assert refused.document["error"]["code"] == "bad_dataset"
    assert "dev" in refused.error


def test_models(cli: Cli) -> None:
    found = cli("models", "--json").document
    assert [family["name"] for family in found["families"]] == list(FAMILIES)
    assert found["device"]
    mini = found["families"][0]
    assert mini["ready"] == (None not in mini["parts"].values())
    assert "device: " in cli("models").out


def test_models_says_what_fits_and_what_to_take(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmseek.models.device.memory_bytes", lambda _: 16 * 2**30)
    document = cli("models", "--json").document
    assert document["memory_bytes"] == 16 * 2**30
    gme = next(family for family in document["families"] if family["name"] == "gme")
    small, large = gme["published"]
    assert (small["dim"], small["fits_here"], large["fits_here"]) == (1536, True, False)
    assert small["gib_float32"] == pytest.approx(2 * small["gib_bfloat16"], abs=0.1)
    assert [each["spec"].partition(":")[0] for each in document["recommended"]] == ["mini", *["qwen3-vl"] * 3]
    shown = cli("models").out
    assert "too large for this machine" in shown
    assert "trained for it, down to 64 dimensions" in shown
    monkeypatch.setattr("mmseek.models.device.memory_bytes", lambda _: None)
    assert cli("models", "--json").document["families"][0]["published"][0]["fits_here"] is None


def test_models_says_what_is_missing(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmseek.embed.mini.weights.local_text_model", lambda: None)
    mini = cli("models", "--json").document["families"][0]
    assert mini["ready"] is False
    assert mini["parts"]["text weights"] is None
    shown = cli("models").out
    assert "not ready; it needs: pip install" in shown
    assert "not found" in shown


def test_every_family_can_be_looked_for() -> None:
    assert set(_PARTS) == set(FAMILIES)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "[::1]", "localhost"])
def test_addresses_of_this_machine(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "example.org", "", "127.0.0.1.example.org"])
def test_addresses_of_other_machines(host: str) -> None:
    assert not is_loopback(host)


others_asked: list[dict[str, Any]] = []


def serving(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Replace the server by one that says it is ready and ends; returns what it was asked."""
    asked: list[dict[str, Any]] = []
    others_asked.clear()

    def server(retriever: Any = None, *, host: str, port: int, on_ready: Callable[[str], None], **others: Any) -> None:
        documents = None if retriever is None else retriever.collection.info().documents
        asked.append({"host": host, "port": port, "documents": documents})
        others_asked.append(others)
        on_ready(f"http://{host}:{port}")

    monkeypatch.setattr("mmseek.api.server.serve", server)
    return asked


def test_serve(cli: Cli, collection: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = serving(monkeypatch)
    served = cli("serve", "-c", collection, "--port", "8123", "--json")
    assert served.code == 0
    assert served.document == {"url": "http://127.0.0.1:8123", "collection": str(collection)}
    assert asked == [{"host": "127.0.0.1", "port": 8123, "documents": 3}]
    assert cli("serve", "-c", collection).err.startswith(f"serving {collection} at http://127.0.0.1:8000 until Ctrl-C")


def test_serve_lets_nobody_in_unasked(cli: Cli, collection: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = serving(monkeypatch)
    refused = cli("serve", "-c", collection, "--host", "0.0.0.0")
    assert refused.code == 2
    assert "--allow-remote" in refused.error
    assert asked == []
    assert cli("serve", "-c", collection, "--host", "0.0.0.0", "--allow-remote").code == 0
    assert asked[0]["host"] == "0.0.0.0"


def test_serve_models_alone(cli: Cli, fake: FakeEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = serving(monkeypatch)
    served = cli("serve", "--encoder", "mini", "--name", "text-embedding-3-small", "--port", "0", "--json")
    assert served.document == {"url": "http://127.0.0.1:0", "model": "mini"}
    assert asked == [{"host": "127.0.0.1", "port": 0, "documents": None}]
    assert others_asked[0]["encoder"].identity.spec == fake.identity.spec
    assert others_asked[0]["names"] == ("text-embedding-3-small",)
    assert "nothing to serve" in cli("serve").error
    assert "not both" in cli("serve", "-c", "x", "-e", "fake").error


def test_serve_says_which_folder_is_none(cli: Cli, collection: Path, tmp_path: Path) -> None:
    a_file = tmp_path / "a.txt"
    a_file.write_text("a")
    assert f"give it as --collection {collection}" in cli("serve", "--collections", collection).error
    assert "--collections" in cli("serve", "--collections", a_file).error
    assert "is a file: name a folder" in cli("serve", "-c", collection, "--data-dir", a_file).error
    assert "is no folder" in cli("serve", "-c", collection, "--import-root", tmp_path / "nowhere").error
    unknown = cli("index", a_file, "-c", tmp_path / "c", "--ocr", "sometimes").error
    assert "'sometimes' is not one of" in unknown
    assert "Value error" not in unknown


def test_serve_answers_by_the_endpoint_that_is_named(
    cli: Cli, collection: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serving(monkeypatch)
    key = tmp_path / "key"
    key.write_text("sk-secret\n")
    line = ("serve", "-c", collection, "--llm-url", "http://localhost:1/v1", "--llm-model", "m")
    monkeypatch.setenv("MMSEEK_SERVE_LLM_MAX_TOKENS", "77")
    monkeypatch.setenv("MMSEEK_SERVE_LLM_AT_ONCE", "2")
    served = cli(*line, "--llm-api-key-file", key)
    assert served.code == 0
    answering = others_asked[0]["answering"]
    assert (answering.chat.url, answering.chat.model, answering.chat.api_key) == (line[4], "m", "sk-secret")
    assert (answering.chat.max_tokens, answering.at_once, answering.budget.chars) == (77, 2, 12_000)
    assert "sk-secret" not in served.out + served.err
    assert "sk-secret" not in cli(*line, "--llm-api-key-file", key, "--print-config").out
    assert cli("serve", "-c", collection).code == 0
    assert others_asked[-1]["answering"] is None
    assert "--llm-model NAME" in cli(*line[:-2]).error
    assert "--collection PLACE" in cli("serve", "-e", "mini", *line[3:]).error
    assert "for all to read" in cli(*line[:4], "http://example.org/v1", *line[5:], "--llm-api-key-file", key).error
    assert "cannot be read" in cli(*line, "--llm-api-key-file", tmp_path / "none").error


def test_serve_a_folder_of_collections(
    cli: Cli, collection: Path, tmp_path: Path, fake: FakeEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    serving(monkeypatch)
    root = tmp_path / "root"
    served = cli("serve", "--collections", root, "--import-root", tmp_path, "--json")
    assert served.document == {"url": "http://127.0.0.1:8000", "collections": str(root)}
    others = others_asked[0]
    assert others["root"].folder == root
    assert [each.identity.spec for each in others["root"].encoders] == [fake.identity.spec]
    assert (others["data"], others["import_root"]) == (None, tmp_path)
    both = cli("serve", "-c", collection, "--collections", root, "--allow-encoder", "mini", "--data-dir", tmp_path)
    assert both.code == 0
    assert others_asked[1]["data"] == tmp_path
    assert len(others_asked[1]["root"].encoders) == 2
    assert cli("serve", "-c", collection, "--allow-encoder", "mini").code == 0
    assert len(others_asked[2]["encoders"]) == 1
    assert "add --encoder SPEC" in cli("serve", "--rerank", "mini", "--allow-encoder", "mini").error
    assert "bulk jobs" in cli("serve", "-e", "mini", "--data-dir", tmp_path).error


def test_keys_let_other_machines_in(
    cli: Cli, fake: FakeEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = serving(monkeypatch)
    file = tmp_path / "keys.jsonl"
    made = cli("keys", "--file", file, "--add", "ci", "--scope", "write", "--per-minute", "60", "--json").document
    assert (made["name"], made["scope"]) == ("ci", "write")
    assert made["key"] not in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600
    assert cli("serve", "-e", "mini", "--host", "0.0.0.0", "--api-key-file", file).code == 0
    assert asked[0]["host"] == "0.0.0.0"
    assert others_asked[0]["keys"].find(made["key"]).name == "ci"
    assert cli("keys", "--file", file, "--add", "ci").code == 2
    assert cli("keys", "--file", file, "--add", "a", "--remove", "b").code == 2
    shown = cli("keys", "--file", file, "--json").document
    assert shown == {"keys": [{"name": "ci", "scope": "write", "per_minute": 60}]}
    assert cli("keys", "--file", file, "--add", "other").out.startswith("mmseek_")
    assert cli("keys", "--file", file, "--remove", "nobody").code == 2
    assert cli("keys", "--file", file, "--remove", "ci").out.split() == ["other", "read"]
    cli("keys", "--file", file, "--remove", "other")
    assert "has no key" in cli("serve", "-e", "mini", "--api-key-file", file).error


def test_serve_settings_come_from_flags_then_environment_then_file(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "serve.toml"
    file.write_text('encoder = "fake"\nport = 1\nmax_k = 7\nmax_waiting = 3\nmax_body_bytes = "1MiB"\n')
    monkeypatch.setenv("MMSEEK_SERVE_MAX_K", "9")
    monkeypatch.setenv("MMSEEK_SERVE_PORT", "2")
    told = cli("serve", "--config", file, "--port", "3", "--print-config", "--json").document
    assert (told["port"], told["max_k"], told["max_waiting"], told["max_body_bytes"]) == (3, 9, 3, 1024**2)
    text = cli("serve", "--config", file, "--print-config").out
    again = tmp_path / "again.toml"
    again.write_text(text)
    assert cli("serve", "--config", again, "--print-config").out == text
    file.write_text("ports = 1")
    assert "unknown setting 'ports'" in cli("serve", "--config", file).error
    file.write_text("port = 99999")
    monkeypatch.delenv("MMSEEK_SERVE_PORT")
    assert "port is 99999 but must be a port" in cli("serve", "--config", file).error
    assert "cannot be read" in cli("serve", "--config", tmp_path / "none.toml").error
    file.write_text("port =")
    assert "no TOML" in cli("serve", "--config", file).error
    monkeypatch.setenv("MMSEEK_SERVE_MAX_K", "many")
    assert "the variable MMSEEK_SERVE_MAX_K is 'many'" in cli("serve").error


def test_demo(cli: Cli, fake: FakeEncoder, tmp_path: Path) -> None:
    done = cli("demo", "-o", tmp_path, "--json")
    found = done.document
    assert done.code == 0
    assert found["indexed"] >= 40
    assert found["failed"] == 0
    assert all(query["hits"] for query in found["queries"])
    assert any(query["images"] and query["text"] for query in found["queries"])
    assert (tmp_path / "demo.html").read_text().count("data:image/") > 10
    assert cli("verify", "-c", tmp_path / "demo_collection").code == 0
    assert str(tmp_path / "demo_collection") in done.err
    again = cli("demo", "-o", tmp_path)
    assert again.code == 0
    assert f"indexed 0 items, {found['indexed']} unchanged" in again.err
    assert found["queries"][0]["title"] in again.out


def test_demo_over_a_collection_of_another_encoder(
    cli: Cli, fake: FakeEncoder, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mmseek.demo.build_demo_corpus", lambda _: corpus)
    assert cli("index", corpus, "-c", tmp_path / "demo_collection", "-e", "other").code == 0
    refused = cli("demo", "-o", tmp_path)
    assert refused.code == 2
    assert "delete it, or give another --output" in refused.error


def test_demo_into_a_file(cli: Cli, fake: FakeEncoder, corpus: Path) -> None:
    refused = cli("demo", "-o", corpus)
    assert refused.code == 2
    assert str(corpus) in refused.error
