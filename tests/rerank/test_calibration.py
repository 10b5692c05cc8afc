"""The adaptive threshold: where two distributions cross, its file, its plot."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmseek._types import RerankerIdentity
from mmseek.errors import ConfigError, InputError, MissingExtra
from mmseek.rerank.calibration import calibrate, crossing, plot, read_threshold, save

IDENTITY = RerankerIdentity("fake:x", "a" * 64)


def drawn(mean: float, count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(mean, 0.1, count).astype(np.float32)


def test_equal_bells_cross_half_way() -> None:
    assert crossing(drawn(0.7, 40_000, 1), drawn(0.3, 40_000, 2)) == pytest.approx(0.5, abs=0.03)
    assert crossing(np.float32([0.8, 0.9]), np.float32([0.1, 0.2])) == pytest.approx(0.5, abs=1e-6)
    # More irrelevant pairs are no reason for another crossing: shares are compared, not numbers.
    assert crossing(drawn(0.7, 2_000, 1), drawn(0.3, 80_000, 2)) == pytest.approx(0.5, abs=0.04)


@pytest.mark.parametrize(
    ("relevant", "irrelevant", "sentence"),
    [
        ([], [0.1], "give a split that has both"),
        ([0.1], [], "give a split that has both"),
        ([0.5], [0.5], "no higher than irrelevant ones"),
        ([0.1], [0.9], "no higher than irrelevant ones"),
        ([float("nan")], [0.5], "NaN or infinite"),
    ],
)
def test_what_has_no_crossing(relevant: list[float], irrelevant: list[float], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        crossing(np.float32(relevant), np.float32(irrelevant))


@given(
    st.lists(st.floats(0, 1, width=32), min_size=1, max_size=30),
    st.lists(st.floats(0, 1, width=32), min_size=1, max_size=30),
)
def test_no_other_threshold_tells_them_further_apart(relevant: list[float], irrelevant: list[float]) -> None:
    good, bad = np.float32(relevant), np.float32(irrelevant)

    def apart(at: float) -> float:
        return float((good >= at).mean() - (bad >= at).mean())

    best = max(map(apart, [*relevant, *irrelevant]))
    try:
        found = crossing(good, bad)
    except InputError:
        assert best <= 1e-9
        return
    assert apart(found) == pytest.approx(best)


def test_a_calibration_and_its_file(tmp_path: Path) -> None:
    found = calibrate(np.float32([0.9, 0.8, 0.3]), np.float32([0.1, 0.2, 0.6, 0.25]), IDENTITY, {"split": "dev"})
    assert (found.relevant, found.irrelevant) == (3, 4)
    kept = (found.precision, found.recall)
    assert kept == (pytest.approx(1.0), pytest.approx(2 / 3)) or kept == (pytest.approx(3 / 4), pytest.approx(1.0))
    assert found.fixed["recall"] == pytest.approx(2 / 3)
    file = tmp_path / "threshold.json"
    save(found, file)
    assert read_threshold(str(file), IDENTITY) == found.threshold
    assert json.loads(file.read_text())["about"] == {"split": "dev"}
    with pytest.raises(InputError, match="calibrate again"):
        read_threshold(str(file), RerankerIdentity("other:y", "b" * 64))
    with pytest.raises(ConfigError, match="cannot be written"):
        save(found, tmp_path / "no" / "where.json")


def test_a_threshold_is_a_number_or_a_file(tmp_path: Path) -> None:
    assert read_threshold("0.25") == 0.25
    with pytest.raises(InputError, match="neither a number nor a file"):
        read_threshold(str(tmp_path / "gone.json"))
    (tmp_path / "other.json").write_text("[]")
    with pytest.raises(InputError, match="holds no threshold"):
        read_threshold(str(tmp_path / "other.json"))


def test_a_plot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib", reason="the extra plots is not installed")
    good, bad = drawn(0.7, 500, 1), drawn(0.3, 500, 2)
    found = calibrate(good, bad, IDENTITY)
    plot(good, bad, found, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ConfigError, match=r"end its name in \.png"):
        plot(good, bad, found, tmp_path / "plot.nothing")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtra, match=r"mmseek\[plots\]"):
        plot(good, bad, found, tmp_path / "again.png")
