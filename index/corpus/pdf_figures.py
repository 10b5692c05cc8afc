"""The figures of a PDF's page: where its pictures stand, and the caption beside each."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

__all__ = ["Figure", "Region", "find_figures"]

Region: TypeAlias = tuple[float, float, float, float]  # x0, y0, x1, y1 in points, from the upper left of the page shown

_CAPTION: Final = re.compile(
    r"(?:fig(?:ure|ura|\.)?|table|tab\.|tabelle|abb(?:ildung|\.)|tableau|scheme|chart|plate|photo)\s*[A-Z]?[\dIVX]",
    re.IGNORECASE,
)
_SMALLEST: Final = 36.0  # points, half an inch: what is smaller is an icon or a rule
_WHOLE_PAGE: Final = 0.8  # of the page's area: that is a scan, and the page itself shows it
_TOUCHING: Final = 3.0  # points between two pictures that are one figure in pieces
_FARTHEST: Final = 72.0  # points from a figure to its caption
_MOST_OBJECTS: Final = 500
_MOST_RUNS: Final = 2000
_MOST_FIGURES: Final = 16
_LONGEST_CAPTION: Final = 600
_FINE: Final = 100  # steps a point


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure: its box, and the words of its caption, empty where none is near."""

    region: Region
    caption: str = ""


def find_figures(page: Any) -> list[Figure]:
    """The figures of a page of pypdfium2, from top to bottom: pictures, those that touch as one.

    What is drawn with lines alone is no picture and is not found. Call it with PDFium's lock.
    """
    width, height = page.get_size()
    boxes = [box for box in _boxes(page, width, height) if _is_solid(box)]
    merged = [box for box in _merged(boxes) if _is_figure(box, width * height)]
    if not merged:
        return []
    merged.sort(key=lambda box: (box[1], box[0]))
    merged = merged[:_MOST_FIGURES]
    captions = _captions(page)
    near = sorted(
        (distance, number, place)
        for number, box in enumerate(merged)
        for place, (at, _) in enumerate(captions)
        if (distance := _distance(box, at)) is not None
    )
    chosen: dict[int, str] = {}
    used: set[int] = set()
    for _, number, place in near:
        if number not in chosen and place not in used:
            chosen[number] = captions[place][1]
            used.add(place)
    return [Figure(_rounded(box), chosen.get(number, "")) for number, box in enumerate(merged)]


def _boxes(page: Any, width: float, height: float) -> Iterator[Region]:
    """Where the pictures of a page are shown, cut at its edges."""
    import pypdfium2.raw as pdfium

    for count, found in enumerate(page.get_objects(filter=[pdfium.FPDF_PAGEOBJ_IMAGE], max_depth=4)):
        if count >= _MOST_OBJECTS:
            return
        box = found.get_bounds()
        container = found.container
        while container is not None:  # bounds of what is inside a form are the form's own
            box = container.get_matrix().on_rect(*box)
            container = container.container
        x0, y0, x1, y1 = _shown(page, box)
        yield max(x0, 0.0), max(y0, 0.0), min(x1, width), min(y1, height)


def _shown(page: Any, box: Any) -> Region:
    """A box (left, bottom, right, top) of the page's own space as it is shown: cropped, turned, from the upper left."""
    import pypdfium2.raw as pdfium

    width, height = (round(side * _FINE) for side in page.get_size())
    left, bottom, right, top = box
    corners = []
    for x, y in ((left, bottom), (right, top)):
        across, down = ctypes.c_int(), ctypes.c_int()
        pdfium.FPDF_PageToDevice(page, 0, 0, width, height, 0, x, y, across, down)
        corners.append((across.value / _FINE, down.value / _FINE))
    (x0, y0), (x1, y1) = corners
    return min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)


def _is_solid(box: Region) -> bool:
    return box[2] - box[0] > 1 and box[3] - box[1] > 1


def _is_figure(box: Region, page_area: float) -> bool:
    across, down = box[2] - box[0], box[3] - box[1]
    return min(across, down) >= _SMALLEST and across * down < _WHOLE_PAGE * page_area


def _merged(boxes: list[Region]) -> list[Region]:
    """Boxes that touch as one, until none do."""
    found: list[Region] = []
    for each in boxes:
        box = each
        while touching := [other for other in found if _touch(box, other)]:
            found = [other for other in found if other not in touching]
            for other in touching:
                box = (min(box[0], other[0]), min(box[1], other[1]), max(box[2], other[2]), max(box[3], other[3]))
        found.append(box)
    return found


def _touch(one: Region, other: Region) -> bool:
    return (
        one[0] - _TOUCHING <= other[2]
        and other[0] - _TOUCHING <= one[2]
        and one[1] - _TOUCHING <= other[3]
        and other[1] - _TOUCHING <= one[3]
    )


def _captions(page: Any) -> list[tuple[Region, str]]:
    """Blocks of text that begin as captions do, and where they stand."""
    found: list[tuple[Region, str]] = []
    growing = False
    for box, text in _lines(page):
        if _CAPTION.match(text):
            found.append((box, text))
            growing = True
        elif growing:
            above, words = found[-1]
            size = box[3] - box[1]
            growing = -size < box[1] - above[3] < 0.7 * size and _overlap(box, above) and len(words) < _LONGEST_CAPTION
            if growing:
                whole = (min(above[0], box[0]), above[1], max(above[2], box[2]), box[3])
                found[-1] = (whole, f"{words} {text}")
    return [(box, text[:_LONGEST_CAPTION]) for box, text in found]


def _lines(page: Any) -> Iterator[tuple[Region, str]]:
    """The lines of a page in the order of its text."""
    reader = page.get_textpage()
    try:
        line: tuple[Region, str] | None = None
        for number in range(min(reader.count_rects(), _MOST_RUNS)):
            raw = reader.get_rect(number)
            text = " ".join(reader.get_text_bounded(*raw).replace("\0", "").split())
            if not text:
                continue
            box = _shown(page, raw)
            if line is not None and min(box[3], line[0][3]) - max(box[1], line[0][1]) > (box[3] - box[1]) / 2:
                have = line[0]
                whole = (min(have[0], box[0]), min(have[1], box[1]), max(have[2], box[2]), max(have[3], box[3]))
                line = (whole, f"{line[1]} {text}")
                continue
            if line is not None:
                yield line
            line = (box, text)
        if line is not None:
            yield line
    finally:
        reader.close()


def _overlap(one: Region, other: Region) -> bool:
    return min(one[2], other[2]) > max(one[0], other[0])


def _distance(figure: Region, caption: Region) -> float | None:
    """Points between a figure and a text below or above it; None if that is too far or aside."""
    if not _overlap(figure, caption):
        return None
    middle = (caption[1] + caption[3]) / 2
    gap = middle - figure[3] if middle > (figure[1] + figure[3]) / 2 else figure[1] - middle
    return max(gap, 0.0) if gap < _FARTHEST else None


def _rounded(box: Region) -> Region:
    x0, y0, x1, y1 = (round(side, 1) for side in box)
    return x0, y0, x1, y1
