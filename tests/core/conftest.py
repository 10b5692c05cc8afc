from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import PIL.Image
import pytest

Encode = Callable[..., bytes]
Chunk = Callable[[bytes, bytes], bytes]


@pytest.fixture(scope="session")
def encode() -> Encode:
    """`encode(picture, "PNG", **options)` -> the bytes of a file."""

    def encoded(picture: PIL.Image.Image, kind: str, **options: Any) -> bytes:
        buffer = io.BytesIO()
        picture.save(buffer, format=kind, **options)
        return buffer.getvalue()

    return encoded


@pytest.fixture(scope="session")
def photo() -> PIL.Image.Image:
    """48 x 32, smooth, and different under every turn."""
    y, x = np.mgrid[0:32, 0:48]
    return PIL.Image.fromarray(np.stack([5 * x, 7 * y, 2 * x + 3 * y], axis=-1).astype(np.uint8))


@pytest.fixture(scope="session")
def png_chunk() -> Chunk:
    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    return chunk


@pytest.fixture(scope="session")
def png_header(png_chunk: Chunk) -> Callable[..., bytes]:
    """The start of a PNG that claims a size: signature and IHDR."""

    def header(width: int, height: int, depth: int = 8, colour: int = 2) -> bytes:
        return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))

    return header
