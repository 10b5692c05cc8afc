"""A small drawing board: everything is drawn three times too large and scaled down, so that edges are smooth."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Final, TypeAlias

from PIL import Image as Pil
from PIL import ImageDraw, ImageFont

Point: TypeAlias = tuple[float, float]

INK: Final = "#22303c"
PAPER: Final = "#fbf8f1"
WHITE: Final = "#ffffff"
RED: Final = "#d1495b"
ORANGE: Final = "#edae49"
GREEN: Final = "#4f9d69"
TEAL: Final = "#00798c"
BLUE: Final = "#30638e"
SKY: Final = "#cfe8f3"
SAND: Final = "#e9d8a6"
BROWN: Final = "#8d6346"
GREY: Final = "#8a97a3"
LIGHT: Final = "#e6eaee"
SERIES: Final = (TEAL, ORANGE, RED, BLUE, GREEN, BROWN)

_SCALE: Final = 3


class Canvas:
    """A picture in the making. All coordinates and widths are in pixels of the finished picture.

    Args:
        width: of the finished picture.
        height: of the finished picture.
        background: any colour that Pillow understands.
    """

    def __init__(self, width: int = 480, height: int = 360, background: str = PAPER) -> None:
        self.width = width
        self.height = height
        self._picture = Pil.new("RGB", (width * _SCALE, height * _SCALE), background)
        self._draw = ImageDraw.Draw(self._picture)

    def finish(self) -> Pil.Image:
        """The picture in its final size."""
        return self._picture.resize((self.width, self.height), Pil.Resampling.LANCZOS)

    def rect(
        self,
        box: tuple[float, float, float, float],
        fill: str | None = None,
        *,
        outline: str | None = None,
        width: float = 2,
        radius: float = 0,
    ) -> None:
        """A rectangle from (left, top) to (right, bottom), with round corners if asked for."""
        corners = tuple(value * _SCALE for value in box)
        self._draw.rounded_rectangle(corners, radius * _SCALE, fill, outline, self._pen(width))

    def ellipse(
        self,
        centre: Point,
        radius: float | Point,
        fill: str | None = None,
        *,
        outline: str | None = None,
        width: float = 2,
    ) -> None:
        """A circle, or an ellipse if there are two radii."""
        self._draw.ellipse(self._around(centre, radius), fill, outline, self._pen(width))

    def sector(self, centre: Point, radius: float | Point, start: float, end: float, fill: str) -> None:
        """A piece of a pie; angles in degrees, clockwise from three o'clock."""
        self._draw.pieslice(self._around(centre, radius), start, end, fill)

    def arc(self, centre: Point, radius: float | Point, start: float, end: float, fill: str, width: float = 3) -> None:
        """A piece of a circle's edge; angles as in `sector`."""
        self._draw.arc(self._around(centre, radius), start, end, fill, self._pen(width))

    def polygon(self, points: Sequence[Point], fill: str) -> None:
        """A filled shape."""
        self._draw.polygon(_enlarged(points), fill)

    def line(self, points: Sequence[Point], fill: str = INK, width: float = 3) -> None:
        """Joined lines with round ends and corners."""
        self._draw.line(_enlarged(points), fill, self._pen(width), joint="curve")
        if width >= 3:
            for point in (points[0], points[-1]):
                self.ellipse(point, width / 2, fill)

    def dashes(self, points: Sequence[Point], fill: str = INK, width: float = 3, dash: float = 10) -> None:
        """Joined lines, drawn in dashes of about the given length."""
        for start, end in itertools.pairwise(points):
            steps = max(1, round(math.dist(start, end) / (2 * dash)))
            for step in range(steps):
                self.line([_between(start, end, step / steps), _between(start, end, (step + 0.5) / steps)], fill, width)

    def arrow(self, start: Point, end: Point, fill: str = INK, width: float = 3, head: float = 11) -> None:
        """A straight arrow."""
        angle = math.atan2(end[1] - start[1], end[0] - start[0])
        back = _moved(end, angle, -head)
        self.line([start, back], fill, width)
        self.polygon(
            [end, _moved(back, angle + math.pi / 2, head / 2), _moved(back, angle - math.pi / 2, head / 2)], fill
        )

    def text(
        self, at: Point, words: str, size: float = 16, fill: str = INK, *, anchor: str = "la", bold: bool = False
    ) -> None:
        """One or more lines of text; `anchor` as Pillow names it (`la` left and top, `mm` middle)."""
        stroke = max(1, round(size * _SCALE * 0.03)) if bold else 0
        place = (at[0] * _SCALE, at[1] * _SCALE)
        if "\n" in words:
            self._draw.multiline_text(place, words, fill, _font(size), anchor, 6 * _SCALE, stroke_width=stroke)
        else:
            self._draw.text(place, words, fill, _font(size), anchor, stroke_width=stroke)

    def paragraph(self, at: Point, words: str, measure: float, size: float = 14, fill: str = INK) -> float:
        """Text broken into lines of at most `measure` pixels; returns the y below the last one."""
        left, top = at
        for block in words.split("\n"):
            for words_of_line in self._lines(block, measure, size):
                self.text((left, top), words_of_line, size, fill)
                top += size * 1.45
        return top

    def width_of(self, words: str, size: float) -> float:
        """How wide a line of text will be."""
        return _font(size).getlength(words) / _SCALE

    def paste(self, picture: Pil.Image, box: tuple[int, int, int, int]) -> None:
        """Put another picture into the box, stretched to its size."""
        left, top, right, bottom = (value * _SCALE for value in box)
        self._picture.paste(
            picture.convert("RGB").resize((right - left, bottom - top), Pil.Resampling.LANCZOS), (left, top)
        )

    def _lines(self, block: str, measure: float, size: float) -> list[str]:
        lines = [""]
        for word in block.split():
            longer = f"{lines[-1]} {word}".strip()
            if self.width_of(longer, size) <= measure or not lines[-1]:
                lines[-1] = longer
            else:
                lines.append(word)
        return lines

    @staticmethod
    def _pen(width: float) -> int:
        return max(1, round(width * _SCALE))

    @staticmethod
    def _around(centre: Point, radius: float | Point) -> tuple[float, float, float, float]:
        across, down = radius if isinstance(radius, tuple) else (radius, radius)
        x, y = centre
        return ((x - across) * _SCALE, (y - down) * _SCALE, (x + across) * _SCALE, (y + down) * _SCALE)


def around(centre: Point, radius: float, degrees: float) -> Point:
    """The point at this distance and angle (clockwise from three o'clock)."""
    return _moved(centre, math.radians(degrees), radius)


def _enlarged(points: Sequence[Point]) -> list[Point]:
    return [(x * _SCALE, y * _SCALE) for x, y in points]


def _between(start: Point, end: Point, share: float) -> Point:
    return (start[0] + (end[0] - start[0]) * share, start[1] + (end[1] - start[1]) * share)


def _moved(point: Point, angle: float, distance: float) -> Point:
    return (point[0] + math.cos(angle) * distance, point[1] + math.sin(angle) * distance)


def _font(size: float) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size * _SCALE)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise TypeError("this Pillow was built without FreeType, which the demo's pictures need")
    return font
