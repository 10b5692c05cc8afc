"""Help, exit codes, errors and streams: what holds for every verb."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import mmseek
from mmseek.cli.failures import Stopped

VERBS = (
    *("index", "search", "embed", "rerank", "info", "delete", "verify", "compact", "eval", "models", "serve", "demo"),
    *("ask", "snapshot", "restore", "export", "import", "alias", "reembed", "duplicates", "mine", "train", "merge"),
    *("copy", "tune", "calibrate", "mcp", "keys"),
)
Cli = Callable[..., Any]


def test_help_of_everything_loads_no_heavy_library() -> None:
    code = f"""
import sys
from mmseek.cli import run
codes = [run([])] + [run([verb, "--help"]) for verb in {VERBS!r}]
heavy = {{"torch", "transformers", "faiss", "numpy", "PIL", "fastapi", "ranx"}} & set(sys.modules)
print(codes, heavy, file=sys.stderr)
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=240, check=True)
    assert ran.stderr.strip() == f"{[0] * (len(VERBS) + 1)} set()"
    for verb in VERBS:
        assert f"Usage: mmseek {verb}" in ran.stdout
        assert f"\n  {verb} " in ran.stdout


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself_and_knows_json(cli: Cli, verb: str) -> None:
    shown = cli(verb, "--help")
    assert shown.code == 0
    assert "--json" in shown.out


def test_the_list_of_verbs_is_not_cut_short(cli: Cli) -> None:
    assert "..." not in cli("--help").out.partition("Commands:")[2]


def test_version(cli: Cli) -> None:
    assert cli("--version").out == f"mmseek {mmseek.__version__}\n"


def test_the_module_and_the_console_script_are_one_program(process: Callable[..., Any]) -> None:
    module = subprocess.run([sys.executable, "-m", "mmseek", "frob"], capture_output=True, text=True, check=False)
    script = process("frob")
    assert module.returncode == script.returncode == 2
    assert module.stderr == script.stderr == "error: no such command 'frob'; see mmseek --help\n"
    assert module.stdout == script.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["frob"], "no such command 'frob'; see mmseek --help"),
        (["--frob"], "no such option"),
        (["search"], "missing option '--collection'"),
        (["index", "-c", "c"], "missing argument 'SRC'; see mmseek index --help"),
        (
            ["search", "red", "bike", "-c", "c"],
            "(bike): put quotes around words that belong together; see mmseek search",
        ),
        (["search", "red", "-c", "c", "--encoder", "mini"], ": a collection remembers its encoder; see mmseek search"),
        (["index", "x", "-c", "c", "--engine", "dask"], "'dask'"),
        (["index", ".", "-c", "qdrant-edge:e", "--engine", "ray"], "is open to one process at a time"),
        (["search", "x", "-c", "c", "-k", "many"], "'-k'"),
        (["info", "-c", "weaviate://host:6333/name"], "nothing here speaks with"),
        (["info", "-c", "qdrant://host:6333"], "no name of a collection"),
        (["info", "-c", "qdrant-local:folder"], "pickles"),
        (["info", "-c", "qdrant-edge:nowhere"], "nowhere does not exist"),
        (["copy", "--from", "nowhere", "--to", "elsewhere"], "nowhere does not exist"),
        (["info", "-c", ""], "--collection is empty"),
        (["info", "-c", "nowhere"], "nowhere does not exist"),
        (["verify", "-c", "nowhere"], "nowhere does not exist"),
        (["delete", "x", "-c", "nowhere", "--yes"], "nowhere"),
        (["search", "x", "-c", "nowhere"], "nowhere does not exist"),
        (["search", "-c", "nowhere"], "give a text, --image FILE, or both"),
        (["search", " ", "-c", "nowhere"], "give a text, --image FILE, or both"),
        (["search", "x", "-c", "nowhere", "-k", "0"], "at least 1"),
        (["search", "--image", "nix.jpg", "-c", "nowhere"], "nix.jpg"),
        (["search", "x", "-c", "nowhere", "--html", "no/such/folder.html"], "no folder no/such"),
        (["index", "nowhere.jsonl", "-c", "c"], "nowhere.jsonl does not exist"),
        (["embed", "nowhere.jsonl", "-o", "out.npy"], "nowhere.jsonl does not exist"),
        (["embed", "nowhere.jsonl", "-o", "out.txt"], "does not end in .npy"),
        (["rerank", "nowhere.jsonl", "-r", "cross-encoder:x", "-o", "out.npy"], "nowhere.jsonl does not exist"),
        (["rerank", "nowhere.jsonl", "-r", "cross-encoder:x", "-o", "out.txt"], "does not end in .npy"),
        (["rerank", "nowhere.jsonl", "-o", "out.npy"], "missing option '--reranker'"),
        (["eval", "-d", "nowhere"], "nowhere"),
        (["eval", "-d", "."], "."),
        (["eval"], "missing option '--dataset'"),
        (["eval", "-d", ".", "--format", "mteb"], "there is no format 'mteb'"),
        (["serve", "-c", "nowhere"], "nowhere"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(
    cli: Cli, fake: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], part: str
) -> None:
    monkeypatch.chdir(tmp_path)
    told = cli(*arguments)
    assert told.code == 2
    assert part in told.error
    assert told.err == f"error: {told.error}\n"
    assert told.out == ""
    as_json = cli(*arguments, "--json")
    assert as_json.code == 2
    assert as_json.document == {"error": {"code": as_json.document["error"]["code"], "message": told.error}}
    assert as_json.error == told.error
    assert not any(tmp_path.iterdir()), "a refused command leaves nothing behind"


def test_the_codes_of_errors_are_those_of_the_library(cli: Cli, tmp_path: Path) -> None:
    assert cli("info", "-c", tmp_path / "nowhere", "--json").document["error"]["code"] == "not_a_collection"
    assert cli("info", "-c", "s3://bucket", "--json").document["error"]["code"] == "unknown_spec"
    assert cli("info", "--json").document["error"]["code"] == "usage"


def break_info(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def broken(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("mmseek.index.open_collection", broken)


def test_a_fault_of_our_own_is_a_sentence_with_advice(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    break_info(monkeypatch, ZeroDivisionError("two\nlines"))
    told = cli("info", "-c", "a b", "--json")
    assert told.code == 70
    assert told.document["error"]["code"] == "internal"
    assert told.err == (
        "error: mmseek met a fault of its own (ZeroDivisionError: two lines); "
        "for the traceback run: mmseek --debug info -c 'a b' --json\n"
    )


@pytest.mark.parametrize("line", [["--debug", "info", "-c", "c"], ["info", "-c", "c", "--debug"]])
def test_debug_prints_the_traceback(cli: Cli, monkeypatch: pytest.MonkeyPatch, line: list[str]) -> None:
    break_info(monkeypatch, ZeroDivisionError("why"))
    told = cli(*line)
    assert told.code == 70
    assert "Traceback" in told.err
    assert told.err.splitlines()[-1].startswith("error: ")


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (KeyboardInterrupt(), "stopped before it was done; nothing was changed"),
        (Stopped("stopped; 7 are kept"), "stopped; 7 are kept"),
    ],
)
def test_ctrl_c(cli: Cli, monkeypatch: pytest.MonkeyPatch, error: BaseException, sentence: str) -> None:
    break_info(monkeypatch, error)
    told = cli("info", "-c", "c", "--json")
    assert told.code == 130
    assert told.error == sentence
    assert told.document["error"]["code"] == "stopped"


def test_memory_that_runs_out_is_no_fault_of_ours(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    break_info(monkeypatch, MemoryError())
    told = cli("info", "-c", "c")
    assert told.code == 2
    assert "not enough memory" in told.error


def test_what_the_system_refuses_is_a_sentence(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    break_info(monkeypatch, PermissionError(13, "Permission denied", "/some/where"))
    told = cli("info", "-c", "c")
    assert told.code == 2
    assert told.error == "the system says 'Permission denied' for /some/where: see to that and run it again"


def test_what_libraries_print_does_not_reach_the_document(
    cli: Cli, collection: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mmseek.index import open_collection

    def chatty(*arguments: Any, **options: Any) -> Any:
        print("noise of a library")
        return open_collection(*arguments, **options)

    monkeypatch.setattr("mmseek.index.open_collection", chatty)
    told = cli("info", "-c", collection, "--json")
    assert told.document["documents"] == 3
    assert "noise of a library" in told.err


def test_what_c_libraries_print_does_not_reach_the_document(tmp_path: Path) -> None:
    code = """
import os, sys
from mmseek.cli.output import verb_output
with verb_output(True) as out:
    os.write(1, b"noise of a C library\\n")
    out.json({"answer": 1})
os.write(1, b"after\\n")
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=240, check=True)
    assert ran.stdout == '{"answer": 1}\nafter\n'
    assert ran.stderr == "noise of a C library\n"


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_reader_that_goes_away_is_no_error(collection: Path, options: list[str]) -> None:
    command = [sys.executable, "-m", "mmseek", "info", "-c", str(collection), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        running.stdout.close()
        assert running.stderr is not None
        assert running.stderr.read() == ""
    assert running.returncode == 141


def test_a_message_cannot_command_the_terminal(cli: Cli) -> None:
    told = cli("info", "-c", "no\x1b[31mwhere\n\u202e")
    assert "\x1b" not in told.err
    assert "\u202e" not in told.err
    assert len(told.err.splitlines()) == 1


def test_json_is_written_even_where_the_encoding_lacks_the_letters(process: Callable[..., Any]) -> None:
    import os

    ran = process("info", "-c", "缺", "--json", env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert ran.returncode == 2
    assert "缺" in json.loads(ran.stdout)["error"]["message"]
    assert "Traceback" not in ran.stderr


def test_the_guide_names_every_verb_and_option(cli: Cli) -> None:
    guide = (Path(__file__).parents[2] / "docs" / "cli.md").read_text(encoding="utf-8")
    for verb in VERBS:
        assert any(verb in line for line in guide.splitlines() if line.startswith("## ")), verb
        options = re.findall(r"--[a-z][a-z-]+", cli(verb, "--help").out.partition("Options:")[2])
        assert [option for option in options if option not in guide and option != "--help"] == [], verb
