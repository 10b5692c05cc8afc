"""Plots as SVG, by matplotlib (extra `[plots]`). Nothing is shown and no state of matplotlib's is left behind."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from mmseek.errors import MissingExtra

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["bars", "curves", "plane"]

# Value, interval, and what chance scores.
Bar: TypeAlias = tuple[float, tuple[float, float], float]
_MANY: Final = 8


def bars(labels: Sequence[str], series: Mapping[str, Sequence[Bar]]) -> str:
    """Groups of bars with intervals and marks of chance.

    Args:
        labels: of the groups.
        series: one bar a group for each name.
    """
    figure, axes = _figure(max(7.0, 1.1 * len(labels) * max(1, len(series))))
    width = 0.8 / max(1, len(series))
    for number, (name, values) in enumerate(series.items()):
        places = [place + (number - (len(series) - 1) / 2) * width for place in range(len(values))]
        means = [value for value, _, _ in values]
        errors = [
            [max(0.0, value - low) for value, (low, _), _ in values],
            [max(0.0, high - value) for value, (_, high), _ in values],
        ]
        axes.bar(places, means, width * 0.9, yerr=errors, capsize=3, label=_plain(name))
        for place, (_, _, chance) in zip(places, values, strict=True):
            axes.hlines(chance, place - width / 2, place + width / 2, colors="black", linestyles="dotted")
    axes.set_xticks(range(len(labels)), [_plain(label) for label in labels], rotation=30 if len(labels) > _MANY else 0)
    axes.set_ylim(bottom=0)
    axes.legend()
    return _svg(figure)


def curves(lines: Mapping[str, Mapping[int, float]]) -> str:
    """Recall by depth, one line a name; the depths are on a logarithmic axis."""
    figure, axes = _figure(7.0)
    for name, points in lines.items():
        axes.plot(list(points), list(points.values()), marker="o", markersize=3, label=_plain(name))
    axes.set(xscale="log", xlabel="k", ylabel="recall@k", ylim=(0, 1.02))
    axes.legend()
    return _svg(figure)


def plane(points: NDArray[np.float64], labels: Sequence[str]) -> str:
    """Points (n, 2), coloured by their labels."""
    figure, axes = _figure(7.0)
    for name in sorted(set(labels)):
        rows = [row for row, label in enumerate(labels) if label == name]
        axes.scatter(points[rows, 0], points[rows, 1], s=10, alpha=0.6, label=name)
    axes.set(xlabel="first component", ylabel="second component")
    axes.legend()
    return _svg(figure)


def _figure(width: float) -> tuple[Any, Any]:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtra("drawing plots", "plots") from error
    figure = Figure(figsize=(min(width, 24.0), 4.2), layout="constrained")
    return figure, figure.subplots()


def _plain(text: str) -> str:
    """Dollar signs would begin a formula."""
    return text.replace("$", r"\$")


def _svg(figure: Any) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()
