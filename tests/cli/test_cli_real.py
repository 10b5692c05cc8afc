"""The installed program with the default encoder: nothing is replaced."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmseek.embed.mini.weights import local_text_model

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(local_text_model() is None, reason="the text weights of mini are not on this machine"),
]


def test_from_a_file_to_hits(process: Callable[..., Any], lines: Callable[..., Path], tmp_path: Path) -> None:
    lines(
        tmp_path / "items.jsonl",
        {"id": "bike", "text": "repairing a bicycle tyre"},
        {"id": "bread", "text": "how to bake bread"},
        {"id": "boat", "text": "sailing on the sea", "metadata": {"title": "缺 \U0001f600"}},
    )
    indexed = process("index", "items.jsonl", "-c", "c", "--json")
    assert (indexed.returncode, indexed.stderr) == (0, "")
    assert json.loads(indexed.stdout)["documents"] == 3

    found = process("search", "my bike has a flat tire", "-c", "c", "-k", "2", "--json")
    assert (found.returncode, found.stderr) == (0, "")
    hits = json.loads(found.stdout)["hits"]
    assert hits[0]["id"] == "bike"
    assert len(hits) == 2

    embedded = process("embed", "items.jsonl", "-o", "out.npy", "--json")
    assert (embedded.returncode, embedded.stderr) == (0, "")
    rows = np.load(tmp_path / "out.npy", allow_pickle=False)
    assert rows.shape == (3, 384)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1.0, atol=1e-5)
