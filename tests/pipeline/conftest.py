from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path

import PIL.Image
import pytest

from mmseek.index import open_collection
from mmseek.protocols import Collection
from mmseek.testing import FakeEncoder


@pytest.fixture
def png() -> Callable[[str], bytes]:
    """Encoded bytes of a small picture of one colour."""

    def encode(colour: str) -> bytes:
        buffer = io.BytesIO()
        PIL.Image.new("RGB", (4, 4), colour).save(buffer, format="PNG")
        return buffer.getvalue()

    return encode


@pytest.fixture
def encoder() -> FakeEncoder:
    return FakeEncoder()


@pytest.fixture
def collection(tmp_path: Path, encoder: FakeEncoder) -> Iterator[Collection]:
    opened = open_collection(tmp_path / "collection", mode="create", encoder=encoder.identity)
    yield opened
    opened.close()
