"""An adaptive threshold: where the scores of relevant and of irrelevant documents cross, kept in a file with its plot.

RagVL (arXiv 2407.21439) takes the crossing of the two distributions on a development split. The share of relevant
documents at or above a threshold minus that of irrelevant ones is largest where the two densities cross, so that is
where the threshold is put: half way between the two scores around it, with no bandwidth to choose.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mmseek._types import RerankerIdentity
from mmseek.errors import ConfigError, InputError, MissingExtra

if TYPE_CHECKING:
    from mmseek._types import FloatArray

__all__ = ["Calibration", "calibrate", "check_plot", "crossing", "plot", "read_threshold", "save"]

FORMAT: Final = "mmseek-threshold-1"


@dataclass(frozen=True, slots=True)
class Calibration:
    """A threshold and what it was found on.

    Args:
        threshold: scores from here on count as relevant.
        reranker, fingerprint: whose scores.
        relevant, irrelevant: how many pairs of each there were.
        precision, recall, f1: over all pairs at the threshold (micro-averaged).
        fixed: the same three at 0.5, to compare.
        about: what else is known: data set, split, encoder, depth.
    """

    threshold: float
    reranker: str
    fingerprint: str
    relevant: int
    irrelevant: int
    precision: float
    recall: float
    f1: float
    fixed: Mapping[str, float]
    about: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """As it is saved."""
        return {"format": FORMAT, **asdict(self)}


def crossing(relevant: FloatArray, irrelevant: FloatArray) -> float:
    """The score at which two distributions cross.

    Args:
        relevant, irrelevant: scores (n,) and (m,), at least one of each.

    Raises:
        InputError: a side is empty, a score is not finite, or relevant scores are not higher than irrelevant ones.
    """
    if not len(relevant) or not len(irrelevant):
        raise InputError("a threshold needs scores of relevant and of irrelevant documents: give a split that has both")
    both = np.unique(np.concatenate([relevant, irrelevant]).astype(np.float64))
    if not np.isfinite(both).all():
        raise InputError("a score is NaN or infinite: no threshold can be found")
    kept = [1 - np.searchsorted(np.sort(side), both, side="left") / len(side) for side in (relevant, irrelevant)]
    apart = kept[0] - kept[1]
    best = int(np.argmax(apart))
    if best == 0 or apart[best] <= 0:
        raise InputError("relevant documents score no higher than irrelevant ones: take another reranker")
    # As a float32, like the scores: between two neighbours there may be nothing, and then it is the upper one.
    middle = float(np.float32((both[best - 1] + both[best]) / 2))
    return middle if middle > both[best - 1] else float(both[best])


def calibrate(
    relevant: FloatArray, irrelevant: FloatArray, identity: RerankerIdentity, about: Mapping[str, Any] | None = None
) -> Calibration:
    """The threshold at the crossing, and what it does to these scores.

    Raises:
        InputError: as in `crossing`.
    """
    threshold = crossing(relevant, irrelevant)
    at = _measured(relevant, irrelevant, threshold)
    return Calibration(
        threshold=threshold,
        reranker=identity.spec,
        fingerprint=identity.fingerprint,
        relevant=len(relevant),
        irrelevant=len(irrelevant),
        precision=at["precision"],
        recall=at["recall"],
        f1=at["f1"],
        fixed=_measured(relevant, irrelevant, 0.5),
        about=dict(about or {}),
    )


def save(calibration: Calibration, path: Path) -> None:
    """Write it as JSON.

    Raises:
        ConfigError: the disk refuses it.
    """
    try:
        path.write_text(json.dumps(calibration.to_json(), ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path} cannot be written ({error.strerror}): choose another place") from error


def read_threshold(text: str, identity: RerankerIdentity | None = None) -> float:
    """A threshold from a number or from the file that calibration saved.

    Args:
        text: either.
        identity: of the reranker that it is used with; the file's must be the same.

    Raises:
        InputError: it is neither, or the file belongs to another reranker.
    """
    try:
        return float(text)
    except ValueError:
        pass
    try:
        found = json.loads(Path(text).read_text(encoding="utf-8"))
        threshold, fingerprint = float(found["threshold"]), str(found["fingerprint"])
    except OSError as error:
        raise InputError(f"the threshold {text!r} is neither a number nor a file that can be read") from error
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{text} holds no threshold: make one with mmseek calibrate") from error
    if identity is not None and fingerprint != identity.fingerprint:
        raise InputError(
            f"the threshold of {text} is for {found.get('reranker')} and not for {identity.spec}: calibrate again"
        )
    return threshold


def check_plot() -> None:
    """Before the work starts.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise MissingExtra("the plot of a calibration", "plots") from error


def plot(relevant: FloatArray, irrelevant: FloatArray, calibration: Calibration, path: Path) -> None:
    """Draw both distributions and the threshold into a picture file.

    Raises:
        MissingExtra: matplotlib is not installed.
        ConfigError: the file cannot be written.
    """
    check_plot()
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    bins = np.linspace(*_range(relevant, irrelevant), 41).tolist()
    for scores, name, colour in ((irrelevant, "irrelevant", "tab:orange"), (relevant, "relevant", "tab:blue")):
        shares = np.full(len(scores), 1 / len(scores))
        axes.hist(scores, bins=bins, weights=shares, alpha=0.55, color=colour, label=f"{name} ({len(scores):,})")
    axes.axvline(calibration.threshold, color="black", linestyle="--", label=f"threshold {calibration.threshold:.3f}")
    axes.set_xlabel("score")
    axes.set_ylabel("share of the pairs")
    axes.set_title(
        f"{calibration.reranker.partition(':')[0]}: precision {calibration.precision:.2f}, "
        f"recall {calibration.recall:.2f}"
    )
    axes.legend()
    try:
        figure.savefig(path)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be written ({error}): end its name in .png, .svg or .pdf") from error


def _range(*sides: FloatArray) -> tuple[float, float]:
    both = np.concatenate(sides)
    low, high = float(both.min()), float(both.max())
    # Scores that are probabilities are shown as such.
    return (0.0, 1.0) if low >= 0 and high <= 1 else (low, high)


def _measured(relevant: Sequence[float] | FloatArray, irrelevant: FloatArray, threshold: float) -> dict[str, float]:
    """Precision, recall and F1 over all pairs; 0 where nothing is kept."""
    right = int((np.asarray(relevant) >= threshold).sum())
    kept = right + int((irrelevant >= threshold).sum())
    precision, recall = right / kept if kept else 0.0, right / len(relevant)
    total = precision + recall
    return {"precision": precision, "recall": recall, "f1": 2 * precision * recall / total if total else 0.0}
