from __future__ import annotations

import json
import math
import os
import threading
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmseek.errors import InputError, ItemError
from mmseek.jsonl import MAX_DEPTH, MAX_LINE_BYTES, JsonLine, check_json, read_json_lines


def read(path: Path, data: bytes, **options: int) -> list[Any]:
    """Values of good lines; (line, reason) of bad ones."""
    path.write_bytes(data)
    rows = list(read_json_lines(path, **options))
    for row in rows:
        assert isinstance(row, JsonLine | ItemError)
        if isinstance(row, ItemError):
            assert str(row) == f"{path}:{row.line}: {row.reason}"
            assert "\n" not in str(row)
    return [row.value if isinstance(row, JsonLine) else (row.line, row.reason) for row in rows]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "corpus.jsonl"


def test_lines_and_their_numbers(file: Path) -> None:
    file.write_bytes(b'{"a":1}\n\n   \t\r\n{"b":2}\r\n{"c":3}')
    assert list(read_json_lines(file)) == [JsonLine(1, {"a": 1}), JsonLine(4, {"b": 2}), JsonLine(5, {"c": 3})]
    assert list(read_json_lines(str(file))) == list(read_json_lines(file))


@pytest.mark.parametrize("data", [b"", b"\n", b"\r\n\r\n", b"\xef\xbb\xbf", b"\xef\xbb\xbf\n"])
def test_nothing_in_it(file: Path, data: bytes) -> None:
    assert read(file, data) == []


def test_byte_order_mark(file: Path) -> None:
    assert read(file, b'\xef\xbb\xbf{"a":1}\n') == [{"a": 1}]


def test_line_separators_of_unicode_do_not_split(file: Path) -> None:
    assert read(file, '{"a":"x\u2028y\u2029z\x85"}\n'.encode()) == [{"a": "x\u2028y\u2029z\x85"}]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"a": "\xff"}', "is not UTF-8 (byte 8 of the line): save the file as UTF-8"),
        (b'{"a": 1', "is not JSON: Expecting ',' delimiter at column 8"),
        (b'{"a": 1}}', "is not JSON: Extra data at column 9"),
        (b"{'a': 1}", "is not JSON: Expecting property name enclosed in double quotes at column 2"),
        (b'{"a": NaN}', "is not JSON: NaN is no number that JSON knows"),
        (b'{"a": [-Infinity]}', "is not JSON: -Infinity is no number that JSON knows"),
        (b"Infinity", "is not JSON: Infinity is no number that JSON knows"),
        (b"[1]", "is a list, not a JSON object"),
        (b'"a"', "is a string, not a JSON object"),
        (b"1.5", "is a number, not a JSON object"),
        (b"true", "is a truth value, not a JSON object"),
        (b"null", "is null, not a JSON object"),
        (b'{"a": 1, "b": 2, "a": 1}', "has the key 'a' twice"),
        (b'{"m": {"x": 1, "x": 2}}', "has the key 'x' twice"),
        (b"[" * 100_000, "is nested too deeply"),
        (b'{"a":' * 100_000, "is nested too deeply"),
        (b'{"a": ' + b"9" * 5000 + b"}", "holds a number with too many digits"),
        (b"\xef\xbb\xbf{}", "is not JSON: Unexpected UTF-8 BOM (decode using utf-8-sig) at column 1"),
        (b'{"a": "x\ty"}', "is not JSON: Invalid control character at column 9"),
    ],
)
def test_bad_line_is_told_and_the_rest_goes_on(file: Path, line: bytes, reason: str) -> None:
    assert read(file, b'{"a":1}\n' + line + b'\n{"b":2}\n') == [{"a": 1}, (2, reason), {"b": 2}]


def test_long_line(file: Path) -> None:
    reason = "is longer than 50 bytes: split it or keep its pictures in files"
    for length in (51, 60, 5000):
        data = b'{"a":1}\n' + b'{"b":"' + b"x" * (length - 8) + b'"}\n{"c":3}\n'
        assert read(file, data, max_line_bytes=50) == [{"a": 1}, (2, reason), {"c": 3}]
    whole = {"b": "x" * 42}
    assert read(file, json.dumps(whole, separators=(",", ":")).encode() + b"\n{}", max_line_bytes=50) == [whole, {}]
    assert read(file, json.dumps(whole, separators=(",", ":")).encode(), max_line_bytes=50) == [whole]
    assert read(file, b"x" * 51, max_line_bytes=50) == [(1, reason)]


def test_huge_line_takes_little_memory(file: Path) -> None:
    with file.open("wb") as out:
        out.truncate(100 * 1024**2)  # a hole: 100 MiB without a line end
        out.seek(0, os.SEEK_END)
        out.write(b'\n{"a":1}\n')
    tracemalloc.start()
    try:
        rows = list(read_json_lines(file, max_line_bytes=1 << 20))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert isinstance(rows[0], ItemError)
    assert rows[1:] == [JsonLine(2, {"a": 1})]
    assert peak < 8 * 1024**2


def test_default_limit_leaves_room_for_a_picture() -> None:
    assert MAX_LINE_BYTES - 4 * 64 * 1024**2 / 3 >= 16 * 1024**2


def test_lines_are_read_as_they_are_asked_for(file: Path) -> None:
    file.write_bytes(b'{"a":1}\n' * 1000 + b"broken")
    assert next(iter(read_json_lines(file))) == JsonLine(1, {"a": 1})


@pytest.mark.parametrize(
    ("start", "message"),
    [
        ('{"a":1}'.encode("utf-16"), "is UTF-16, not UTF-8: save it as UTF-8"),
        ("\ufeff{}".encode("utf-16-be"), "is UTF-16, not UTF-8: save it as UTF-8"),
        (b"\x1f\x8b\x08\0\0", "is packed with gzip: unpack it first"),
        (b"PK\x03\x04rest", "is a ZIP archive: unpack it first"),
    ],
)
def test_another_kind_of_file(file: Path, start: bytes, message: str) -> None:
    file.write_bytes(start)
    with pytest.raises(InputError) as error:
        list(read_json_lines(file))
    assert str(error.value) == f"{file} {message}"


@pytest.mark.timeout(120)
def test_missing_folder_and_device(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"")
    for path in (tmp_path / "none.jsonl", tmp_path / "f" / "none.jsonl"):
        with pytest.raises(InputError, match="does not exist: check the path"):
            list(read_json_lines(path))
    with pytest.raises(InputError, match="is a folder, not a JSONL file"):
        list(read_json_lines(tmp_path))
    with pytest.raises(InputError, match="is a device, not a JSONL file"):
        list(read_json_lines("/dev/zero"))


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (PermissionError(13, "Permission denied"), "may not be read: change its permissions"),
        (OSError(5, "Input/output error"), r"cannot be read \(Input/output error\): check the path and the disk"),
    ],
)
def test_faults_of_the_disk(file: Path, monkeypatch: pytest.MonkeyPatch, fault: OSError, message: str) -> None:
    def broken(*_: object) -> None:
        raise fault

    monkeypatch.setattr(Path, "open", broken)
    with pytest.raises(InputError, match=message):
        list(read_json_lines(file))


@pytest.mark.timeout(120)
def test_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=lambda: (tmp_path / "pipe").write_bytes(b'{"a":1}\n{"b":2}'))
    writer.start()
    assert [row.value for row in read_json_lines(tmp_path / "pipe") if isinstance(row, JsonLine)] == [
        {"a": 1},
        {"b": 2},
    ]
    writer.join()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(), children, max_size=4),
    max_leaves=10,
)


@given(st.lists(st.dictionaries(st.text(), json_values, max_size=4), max_size=5), st.sampled_from(["\n", "\r\n"]))
def test_reads_back_what_json_writes(tmp_path_factory: pytest.TempPathFactory, rows: list[Any], end: str) -> None:
    file = tmp_path_factory.getbasetemp() / "written.jsonl"
    for ascii_only in (True, False):
        text = "".join(json.dumps(row, ensure_ascii=ascii_only) + end for row in rows)
        assert read(file, text.encode()) == rows
    for row in rows:
        check_json(row)


@given(st.lists(st.binary(max_size=60), max_size=6))
def test_random_lines_never_raise(tmp_path_factory: pytest.TempPathFactory, lines: list[bytes]) -> None:
    # The first line is fixed: the start of a file may say that it is another kind of file.
    rows = read(tmp_path_factory.getbasetemp() / "random.jsonl", b"{}\n" + b"\n".join(lines))
    assert rows[0] == {}


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ({"a": math.nan}, "holds a number that is not finite"),
        ([1, [math.inf]], "holds a number that is not finite"),
        ({"a": "\ud800"}, r"holds half of a surrogate pair \(\\ud800\)"),
        ({"\udfff": 1}, r"holds half of a surrogate pair \(\\udfff\)"),
        ({1: 2}, "has a key of type int, but JSON keys are strings"),
        ({"a": b"x"}, "holds a value of type bytes, which JSON has not"),
        ({"a": {1, 2}}, "holds a value of type set"),
    ],
)
def test_check_json(value: object, reason: str) -> None:
    with pytest.raises(ItemError, match=reason):
        check_json(value)


def test_check_json_depth() -> None:
    deep: Any = 0
    for _ in range(MAX_DEPTH):
        deep = [deep]
    check_json(deep)
    with pytest.raises(ItemError, match=f"nested more than {MAX_DEPTH} levels"):
        check_json({"a": deep})
    circle: list[Any] = []
    circle.append(circle)
    with pytest.raises(ItemError, match="nested more than"):
        check_json(circle)
