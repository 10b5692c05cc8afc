"""Words and numbers as they are shown, and the meter."""

from __future__ import annotations

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmseek.cli.output import clean, count, duration, one_line, size, write_json
from mmseek.cli.progress import Meter


@given(st.text())
def test_clean_text_has_no_control_characters_and_the_same_length(text: str) -> None:
    cleaned = clean(text)
    assert len(cleaned) == len(text)
    assert all(char.isprintable() or char.isspace() or ord(char) > 0xA0 for char in cleaned)
    assert not set(cleaned) & {"\x1b", "\x9b", "\r", "\n", "\u202e", "\u2028"}


@given(st.text(), st.integers(2, 20))
def test_one_line_is_one_line_within_its_limit(text: str, limit: int) -> None:
    line = one_line(text, limit)
    assert len(line) <= limit
    assert len(line.splitlines()) <= 1


def test_one_line_says_that_it_was_cut() -> None:
    assert one_line("abc def", 7) == "abc def"
    assert one_line("abc  def g", 7) == "abc de…"
    assert one_line("abc defghi", 5) == "abc…"


@pytest.mark.parametrize(
    ("number", "shown"), [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (123_456, "123 kB"), (999_950, "1.0 MB")]
)
def test_size(number: int, shown: str) -> None:
    assert size(number) == shown


def test_count_and_duration() -> None:
    assert [count(1, "item"), count(1200, "item"), count(2, "query", "queries")] == [
        "1 item",
        "1,200 items",
        "2 queries",
    ]
    assert [duration(0.4), duration(99), duration(150), duration(9000)] == ["0 s", "99 s", "2 min", "2.5 h"]


@given(st.dictionaries(st.text(), st.text() | st.integers() | st.none()))
def test_json_is_one_line_that_reads_back(document: dict[str, object]) -> None:
    for encoding in ("utf-8", "ascii"):
        raw = io.BytesIO()
        stream = io.TextIOWrapper(raw, encoding=encoding)
        write_json(document, stream)
        text = raw.getvalue().decode(encoding)
        assert text.count("\n") == 1
        assert json.loads(text) == document


def test_json_escapes_what_utf8_cannot_say() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="utf-8")
    write_json({"id": "\ud800"}, stream)
    assert json.loads(raw.getvalue()) == {"id": "\ud800"}


def test_a_document_with_nan_is_a_fault_and_not_a_wrong_answer() -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_json({"score": float("nan")}, io.StringIO())


def test_the_meter_says_where_it_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    meter = Meter("indexing", total=1000)
    now = 10.0
    meter.update(200, 3)
    assert meter.line() == "indexing: 200 of 1,000 items, 20/s, 40 s left, 3 failed"
    meter.phase("ranking", 5, 50)
    now = 11.0
    assert meter.line() == "ranking: 5 of 50 items, 5/s, 9 s left"


def test_the_meter_speaks_seldom_in_a_log(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    with Meter("indexing") as meter:
        for second in range(1, 26):
            now = float(second)
            meter.update(second)
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["indexing: 10 items, 1/s", "indexing: 20 items, 1/s"]
