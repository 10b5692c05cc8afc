"""Bytes of a text file -> its text, whatever encoding it was saved in."""

from __future__ import annotations

import codecs
from typing import Final

__all__ = ["decode"]

# Longest first: the mark of UTF-32 begins with that of UTF-16.
_MARKS: Final = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_SAMPLE: Final = 64 * 1024
_MOST_CONTROLS: Final = 0.01


def decode(data: bytes, declared: str | None = None) -> tuple[str, str] | None:
    """Text and the name of its encoding, or None if the bytes are no text. Line ends become `\\n`.

    A byte order mark decides; then what the file says of itself; then UTF-8, which other encodings are hardly ever
    taken for; and then what the letters make likely (charset-normalizer), of the first 64 KiB.
    """
    marked = next((name for mark, name in _MARKS if data.startswith(mark)), None)
    if marked is None and b"\0" in data[:_SAMPLE]:
        return None
    for name in (marked,) if marked else (declared, "utf-8"):
        text = None if name is None else _try(data, name)
        if text is not None and name is not None:
            return _plain(text), name.removesuffix("-sig")
    if marked or _is_binary(data):
        return None
    from charset_normalizer import from_bytes

    likely = from_bytes(data[:_SAMPLE]).best()
    # A handful of letters says little: what most such files are is then a better guess than a statistic.
    for name in (likely.encoding if likely is not None and len(data) >= 64 else None, "cp1252", "latin-1"):
        text = None if name is None else _try(data, name)
        if text is not None and name is not None:
            return _plain(text), name.replace("_", "-")
    return None


def _try(data: bytes, name: str) -> str | None:
    try:
        return data.decode(name)
    except (LookupError, ValueError):  # an encoding that nobody knows, or bytes that are not of it
        return None


def _plain(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _is_binary(data: bytes) -> bool:
    """Whether there are more control characters than a text has."""
    sample = data[:_SAMPLE]
    controls = sum(sample.count(code) for code in range(32) if code not in b"\t\n\r\f\x1b")
    return controls > _MOST_CONTROLS * len(sample)
