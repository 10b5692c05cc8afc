"""`mmseek` with an encoder of a vector for each token."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mmseek.testing import FakeEncoder, FakeTokenEncoder

Cli = Callable[..., Any]


@pytest.fixture(autouse=True)
def tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stands in for `colqwen2:x`."""
    encoder = FakeTokenEncoder(spec="colqwen2:x")
    monkeypatch.setattr("mmseek.embed.load_multi_vector_encoder", lambda spec, *, device=None: encoder)


@pytest.mark.parametrize("form", ["{}", "qdrant-edge:{}"])
def test_index_search_and_info(cli: Cli, corpus: Path, tmp_path: Path, fake: FakeEncoder, form: str) -> None:
    place = form.format(tmp_path / "many")
    done = cli("index", corpus, "-c", place, "-e", "colqwen2:x", "--token-pooling", "2", "--json")
    assert (done.code, done.document["indexed"], done.document["encoder"]) == (0, 3, "colqwen2:x")
    (hit,) = cli("search", "a red bike", "-c", place, "-k", "1", "--json").document["hits"]
    assert hit["id"] == "t"
    assert cli("index", corpus, "-c", place, "--json").document["unchanged"] == 3
    info = cli("info", "-c", place, "--json").document
    assert (info["multi_vector"], info["token_pooling"], info["format_version"]) == (True, 2, 2)
    assert "one for each token, 2 pooled into one, float16" in cli("info", "-c", place).out
    assert cli("verify", "-c", place).code == 0
    refused = cli("index", corpus, "-c", place, "--token-pooling", "3")
    assert "was made with --token-pooling 2, not 3" in refused.error
    assert "holds one for each token" in cli("index", corpus, "-c", place, "-e", "mini").error


def test_tune_says_what_it_does(cli: Cli, corpus: Path, tmp_path: Path) -> None:
    place = tmp_path / "many"
    assert cli("index", corpus, "-c", place, "-e", "colqwen2:x").code == 0
    done = cli("tune", "-c", place)
    assert (done.code, "every token of every document is compared" in done.err) == (0, True)
    assert cli("tune", "-c", place, "--ann", "exact", "--json").document["index"]["settings"] == "MaxSim"


def test_the_kinds_are_not_mixed_up(cli: Cli, collection: Path, corpus: Path, tmp_path: Path) -> None:
    assert "holds one a document" in cli("index", corpus, "-c", collection, "-e", "colqwen2:x").error
    place = tmp_path / "new"
    assert "--token-pooling is for many vectors" in cli("index", corpus, "-c", place, "--token-pooling", "2").error
    ray = cli("index", corpus, "-c", place, "-e", "colqwen2:x", "--engine", "ray")
    assert ray.code != 0
