from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mmseek.index import open_collection
from mmseek.protocols import Collection
from mmseek.testing import FakeEncoder


@pytest.fixture
def encoder() -> FakeEncoder:
    return FakeEncoder()


@pytest.fixture
def collection(tmp_path: Path, encoder: FakeEncoder) -> Iterator[Collection]:
    opened = open_collection(tmp_path / "collection", mode="create", encoder=encoder.identity)
    yield opened
    opened.close()
