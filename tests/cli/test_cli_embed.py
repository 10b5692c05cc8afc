"""`mmseek embed`: rows in input order, lines that failed named, the file whole or not there."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmseek._types import Content, Encoded, EncodeRequest
from mmseek.cli.rows import RowWriter
from mmseek.embed.output import quantised
from mmseek.errors import ConfigError
from mmseek.testing import FakeEncoder

Cli = Callable[..., Any]
Lines = Callable[..., Path]


@pytest.fixture
def source(tmp_path: Path, lines: Lines) -> Path:
    """Eighteen good items, and lines 3, 8, 9 and 11 that cannot be used; line 5 is blank."""
    rows: list[Any] = [{"id": f"i{number}", "text": f"text {number}"} for number in range(1, 24)]
    rows[2] = "{"
    rows[4] = ""
    rows[7] = {"id": "bad", "text": "unspeakable"}
    rows[8] = "[]"  # noticed before the encoder says that line 8 fails
    rows[10] = {"image": "nowhere.png"}
    return lines(tmp_path / "items.jsonl", *rows)


def test_rows_are_in_input_order_and_failures_are_named(
    cli: Cli, fake: FakeEncoder, source: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out.npy"
    done = cli("embed", source, "-o", output, "--json")
    assert done.code == 1
    good = [number for number in range(1, 24) if number not in (3, 5, 8, 9, 11)]
    plain = fake.encode_document([Content.of(f"text {number}") for number in good])
    written = np.load(output, allow_pickle=False)
    assert written.dtype == np.float32
    np.testing.assert_array_equal(written, plain)
    found = done.document
    assert found.pop("seconds") >= 0
    assert found == {
        "output": str(output),
        "rows": 18,
        "dim": 16,
        "dtype": "float32",
        "encoder": "mini",
        "fingerprint": fake.identity.fingerprint,
        "failed": 4,
        "failed_lines": [3, 8, 9, 11],
        "report": f"{output}.failures.jsonl",
    }
    report = [json.loads(line) for line in Path(f"{output}.failures.jsonl").read_text().splitlines()]
    assert [row["line"] for row in report] == [3, 8, 9, 11]
    assert f"{source}:8: " in done.err
    assert "told to fail" in report[1]["reason"]


def test_all_good_is_exit_code_0_and_clears_the_old_report(
    cli: Cli, fake: FakeEncoder, tmp_path: Path, lines: Lines
) -> None:
    source = lines(tmp_path / "items.jsonl", "{", {"text": "a"})
    assert cli("embed", source, "-o", tmp_path / "out.npy").code == 1
    lines(source, {"text": "a"})
    done = cli("embed", source, "-o", tmp_path / "out.npy")
    assert (done.code, done.err) == (0, "")
    assert done.out == f"wrote 1 row of 16 dimensions to {tmp_path / 'out.npy'}\n"
    assert {path.name for path in tmp_path.iterdir()} == {"items.jsonl", "out.npy"}


def test_nothing_usable_leaves_the_old_file(cli: Cli, fake: FakeEncoder, tmp_path: Path, lines: Lines) -> None:
    output = tmp_path / "out.npy"
    output.write_bytes(b"old")
    for rows in ([], ["{"], [{"text": "unspeakable"}]):
        refused = cli("embed", lines(tmp_path / "items.jsonl", *rows), "-o", output)
        assert refused.code == 2
        assert "nothing was written" in refused.error
        assert output.read_bytes() == b"old"
    assert {path.name for path in tmp_path.iterdir()} == {"items.jsonl", "out.npy"}


def test_role_and_instruction_reach_the_encoder(
    cli: Cli, fake: FakeEncoder, tmp_path: Path, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[EncodeRequest] = []
    stream = fake.stream

    def listening(requests: Iterable[EncodeRequest]) -> Iterator[Encoded]:
        asked.extend(requests)
        return stream(asked)

    monkeypatch.setattr(fake, "stream", listening)
    source = lines(
        tmp_path / "items.jsonl", {"text": "a"}, {"text": "b", "role": "query", "instruction": "find the like"}
    )
    assert cli("embed", source, "-o", tmp_path / "out.npy").code == 0
    assert [(each.role, each.instruction) for each in asked] == [("document", None), ("query", "find the like")]


def test_truncated_rows_have_length_1(cli: Cli, fake: FakeEncoder, tmp_path: Path, lines: Lines) -> None:
    source = lines(tmp_path / "items.jsonl", {"text": "a"}, {"text": "b"})
    full, short = tmp_path / "full.npy", tmp_path / "short.npy"
    assert cli("embed", source, "-o", full).code == 0
    cut = cli("embed", source, "-o", short, "--truncate-dim", "5", "--json")
    assert cut.document["dim"] == 5
    assert cut.err.startswith("note: cut vectors")
    head = np.load(full)[:, :5]
    expected = head / np.linalg.norm(head, axis=1, keepdims=True)
    np.testing.assert_allclose(np.load(short), expected, rtol=1e-6)
    for wrong in ("0", "17", "-1"):
        refused = cli("embed", source, "-o", short, "--truncate-dim", wrong)
        assert refused.code == 2
        assert "between 1 and 16" in refused.error


@pytest.mark.parametrize("dtype", ["float16", "int8", "binary"])
def test_rows_of_other_types(cli: Cli, fake: FakeEncoder, tmp_path: Path, lines: Lines, dtype: str) -> None:
    source = lines(tmp_path / "items.jsonl", {"text": "a"}, {"text": "b"}, {"text": "c"})
    assert cli("embed", source, "-o", tmp_path / "full.npy").code == 0
    done = cli("embed", source, "-o", tmp_path / "out.npy", "--dtype", dtype, "--truncate-dim", "13", "--json")
    assert (done.code, done.document["dtype"], done.document["dim"]) == (0, dtype, 13)
    head = np.load(tmp_path / "full.npy")[:, :13]
    head = head / np.linalg.norm(head, axis=1, keepdims=True)
    rows = np.load(tmp_path / "out.npy", allow_pickle=False)
    np.testing.assert_array_equal(rows, quantised(head, dtype))  # type: ignore[arg-type]
    assert cli("embed", source, "-o", tmp_path / "out.npy", "--dtype", "int4").code == 2


def test_the_options_of_the_model_reach_the_loader(
    cli: Cli, tmp_path: Path, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, object]] = []

    def loader(spec: str, **options: object) -> FakeEncoder:
        asked.append(options)
        return FakeEncoder(spec=spec)

    monkeypatch.setattr("mmseek.embed.load_encoder", loader)
    source = lines(tmp_path / "items.jsonl", {"text": "a"})
    assert cli("embed", source, "-o", tmp_path / "out.npy", "--device", "cpu,cpu").code == 0
    assert cli("embed", source, "-o", tmp_path / "out.npy", "--cache", "--precision", "bfloat16").code == 0
    assert asked == [{"device": "cpu,cpu"}, {"device": None, "cache": True, "precision": "bfloat16"}]
    for spec, dim, words in (("qwen3-vl:x", 32, "not to 32"), ("qwen3-vl:x", 64, ""), ("st:x", 8, "its page says")):
        monkeypatch.setattr("mmseek.embed.load_encoder", lambda spec, device=None: FakeEncoder(128, spec=spec))
        note = cli("embed", source, "-o", tmp_path / "out.npy", "-e", spec, "--truncate-dim", dim).err
        assert words in note
        assert bool(note) == bool(words)


def test_a_second_run_with_the_cache_encodes_nothing(
    cli: Cli, tmp_path: Path, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MMSEEK_CACHE_DIR", str(tmp_path / "kept"))
    monkeypatch.setattr("mmseek.embed.registry._load", lambda spec, device: FakeEncoder(spec=str(spec)))
    source = lines(tmp_path / "items.jsonl", {"text": "a"}, {"text": "b"}, {"text": "a"})
    counts = []
    for name in ("first.npy", "second.npy"):
        done = cli("embed", source, "-o", tmp_path / name, "--cache", "--json")
        counts.append((done.document["cached"], done.document["encoded"]))
    assert counts == [(0, 3), (3, 0)]
    assert (tmp_path / "first.npy").read_bytes() == (tmp_path / "second.npy").read_bytes()
    assert "cached" not in cli("embed", source, "-o", tmp_path / "plain.npy", "--json").document


def test_an_encoder_that_breaks_off_leaves_no_file(
    cli: Cli, fake: FakeEncoder, tmp_path: Path, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(requests: Iterable[EncodeRequest]) -> Iterator[Encoded]:
        yield Encoded(vector=fake.encode_document([Content.of("a")])[0])
        raise KeyboardInterrupt

    def deque_aware(requests: Iterable[EncodeRequest]) -> Iterator[Encoded]:
        next(iter(requests))
        return broken(requests)

    monkeypatch.setattr(fake, "stream", deque_aware)
    stopped = cli("embed", lines(tmp_path / "items.jsonl", {"text": "a"}), "-o", tmp_path / "out.npy")
    assert stopped.code == 130
    assert {path.name for path in tmp_path.iterdir()} == {"items.jsonl"}


@pytest.mark.parametrize("rows", [0, 1, 9, 10, 1000])
def test_the_row_writer_writes_what_numpy_writes(tmp_path: Path, rows: int) -> None:
    values = np.random.default_rng(0).standard_normal((rows, 3)).astype(np.float32)
    with RowWriter(tmp_path / "rows.npy", 3) as writer:
        for row in values:
            writer.add(row)
        assert not (tmp_path / "rows.npy").exists()
        writer.finish()
    loaded = np.load(tmp_path / "rows.npy", allow_pickle=False)
    assert loaded.shape == (rows, 3)
    np.testing.assert_array_equal(loaded, values)
    np.testing.assert_array_equal(np.load(tmp_path / "rows.npy", mmap_mode="r"), values)
    assert [path.name for path in tmp_path.iterdir()] == ["rows.npy"]


def test_the_row_writer_writes_single_numbers(tmp_path: Path) -> None:
    for count in (0, 1, 9, 10, 1000):
        values = np.random.default_rng(0).standard_normal(count).astype(np.float32)
        with RowWriter(tmp_path / "rows.npy", None) as writer:
            for value in values:
                writer.add(np.asarray(value))
            writer.finish()
        np.testing.assert_array_equal(np.load(tmp_path / "rows.npy", allow_pickle=False), values)


def test_the_row_writer_refuses_rows_of_another_length(tmp_path: Path) -> None:
    with RowWriter(tmp_path / "rows.npy", 3) as writer, pytest.raises(ValueError, match="shape"):
        writer.add(np.zeros(4, dtype=np.float32))


def test_a_full_disk_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import errno
    import os

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with RowWriter(tmp_path / "rows.npy", 1) as writer:
        writer.add(np.zeros(1, dtype=np.float32))
        with pytest.raises(ConfigError, match="No space left"):
            writer.finish()
    assert not any(tmp_path.iterdir())
