"""Charts of invented figures, each with a title and axes as a report would have them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from mmseek.demo.canvas import BLUE, GREY, INK, LIGHT, ORANGE, RED, SERIES, TEAL, WHITE, Canvas, Point, around

_MONTHS: Final = ("J", "F", "M", "A", "M", "J", "J", "A", "S", "O", "N", "D")
_PLOT: Final = (64, 62, 452, 300)


def rainfall(canvas: Canvas) -> None:
    """Bars: millimetres of rain in each month."""
    _frame(canvas, "Rainfall by month (mm)", (0, 40, 80, 120))
    _bars(canvas, (98, 84, 71, 52, 44, 31, 22, 28, 55, 88, 110, 104), _MONTHS, 120, BLUE)


def temperature(canvas: Canvas) -> None:
    """Two lines: warmest and coldest hour of the day over a year."""
    _frame(canvas, "Temperature over the year (°C)", (-10, 0, 10, 20, 30))
    high = (3, 5, 10, 15, 20, 24, 27, 26, 21, 14, 8, 4)
    low = (-5, -4, 0, 4, 8, 12, 15, 14, 10, 5, 1, -3)
    for values, colour in ((high, RED), (low, TEAL)):
        points = [_at(month / 11 * 0.92 + 0.04, (value + 10) / 40) for month, value in enumerate(values)]
        canvas.line(points, colour, 4)
        for point in points:
            canvas.ellipse(point, 5, colour)
    for month, name in enumerate(_MONTHS):
        canvas.text((_at(month / 11 * 0.92 + 0.04, 0)[0], 310), name, 13, GREY, anchor="ma")
    canvas.text((396, 92), "day", 15, RED, anchor="la")
    canvas.text((150, 252), "night", 15, TEAL, anchor="la")


def energy_mix(canvas: Canvas) -> None:
    """A pie: where a town's electricity comes from."""
    canvas.text((24, 20), "Where the electricity comes from", 20, bold=True)
    shares = (("Wind", 34), ("Water", 26), ("Sun", 18), ("Gas", 14), ("Biomass", 8))
    start = -90.0
    for (_, share), colour in zip(shares, SERIES, strict=False):
        end = start + share * 3.6
        canvas.sector((164, 202), 122, start, end, colour)
        canvas.text(around((164, 202), 84, (start + end) / 2), f"{share} %", 15, WHITE, anchor="mm")
        start = end
    for row, ((name, _), colour) in enumerate(zip(shares, SERIES, strict=False)):
        top = 112 + row * 36
        canvas.rect((326, top, 346, top + 20), colour, radius=4)
        canvas.text((358, top + 10), name, 17, anchor="lm")


def study_hours(canvas: Canvas) -> None:
    """Scattered points: hours of practice against marks."""
    _frame(canvas, "Hours of practice and test marks", (0, 25, 50, 75, 100))
    for step in range(36):
        hours = (step * 37 % 100) / 100
        marks = 0.18 + 0.66 * hours + ((step * 53 % 29) - 14) / 100
        canvas.ellipse(_at(0.04 + 0.92 * hours, marks), 6, TEAL)
    canvas.dashes([_at(0.04, 0.2), _at(0.96, 0.86)], RED, 3)
    canvas.text((258, 330), "hours a month", 14, GREY, anchor="mm")


def budget(canvas: Canvas) -> None:
    """Stacked bars: what a club spends, year by year."""
    _frame(canvas, "Club spending by year (thousand)", (0, 10, 20, 30, 40))
    years = (("2021", (9, 5, 4)), ("2022", (10, 7, 5)), ("2023", (11, 8, 8)), ("2024", (12, 11, 10)))
    for column, (year, parts) in enumerate(years):
        left, bottom = 96 + column * 92, 300.0
        for part, colour in zip(parts, (TEAL, ORANGE, RED), strict=True):
            top = bottom - part / 40 * 238
            canvas.rect((left, top, left + 56, bottom), colour)
            bottom = top
        canvas.text((left + 28, 310), year, 14, GREY, anchor="ma")
    for column, (name, colour) in enumerate((("Rent", TEAL), ("Travel", ORANGE), ("Equipment", RED))):
        canvas.ellipse((96 + column * 92, 344), 7, colour)
        canvas.text((110 + column * 92, 344), name, 14, anchor="lm")


def schedule(canvas: Canvas) -> None:
    """A Gantt chart: who builds what in which week."""
    canvas.text((24, 20), "Garden shed: plan of work", 20, bold=True)
    for week in range(9):
        x = 140 + week * 39
        canvas.line([(x, 70), (x, 330)], LIGHT, 2)
        if week < 8:
            canvas.text((x + 20, 56), f"W{week + 1}", 13, GREY, anchor="mm")
    tasks = (
        ("Permit", 0, 2),
        ("Foundation", 1, 3),
        ("Frame", 3, 5),
        ("Roof", 4, 6),
        ("Windows", 5, 7),
        ("Paint", 6, 8),
    )
    for row, (name, start, end) in enumerate(tasks):
        top = 80 + row * 42
        canvas.text((24, top + 13), name, 16, anchor="lm")
        canvas.rect((140 + start * 39, top, 140 + end * 39, top + 26), SERIES[row], radius=8)


def _frame(canvas: Canvas, title: str, marks: Sequence[int]) -> None:
    left, top, right, bottom = _PLOT
    canvas.text((24, 20), title, 20, INK, bold=True)
    for step, mark in enumerate(marks):
        y = bottom - step / (len(marks) - 1) * (bottom - top)
        canvas.line([(left, y), (right, y)], LIGHT, 2)
        canvas.text((left - 8, y), str(mark), 13, GREY, anchor="rm")
    canvas.line([(left, bottom), (right, bottom)], INK, 2)


def _bars(canvas: Canvas, values: Sequence[int], names: Sequence[str], most: int, colour: str) -> None:
    left, top, right, bottom = _PLOT
    step = (right - left) / len(values)
    for column, (value, name) in enumerate(zip(values, names, strict=True)):
        x = left + column * step
        canvas.rect((x + 4, bottom - value / most * (bottom - top), x + step - 4, bottom), colour)
        canvas.text((x + step / 2, bottom + 10), name, 13, GREY, anchor="ma")


def _at(across: float, up: float) -> Point:
    left, top, right, bottom = _PLOT
    return (left + across * (right - left), bottom - up * (bottom - top))
