"""Road and building signs."""

from __future__ import annotations

import math

from mmseek.demo.canvas import GREEN, GREY, INK, ORANGE, SKY, WHITE, Canvas, around


def stop(canvas: Canvas) -> None:
    """A stop sign on its pole."""
    _street(canvas)
    centre = (240, 140)
    for radius, colour in ((118, WHITE), (110, "#c8102e")):
        canvas.polygon([around(centre, radius, 22.5 + 45 * corner) for corner in range(8)], colour)
    canvas.text(centre, "STOP", 60, WHITE, anchor="mm", bold=True)


def crossing(canvas: Canvas) -> None:
    """A warning triangle: people cross here."""
    _street(canvas)
    for radius, colour in ((136, "#c8102e"), (102, WHITE)):
        canvas.polygon([around((240, 166), radius, -90 + 120 * corner) for corner in range(3)], colour)
    canvas.ellipse((242, 114), 11, INK)
    canvas.line([(240, 130), (238, 168)], INK, 13)
    canvas.line([(238, 168), (222, 206)], INK, 9)
    canvas.line([(238, 168), (262, 204)], INK, 9)
    canvas.line([(240, 136), (220, 160)], INK, 7)
    canvas.line([(240, 136), (264, 156)], INK, 7)


def emergency_exit(canvas: Canvas) -> None:
    """The green sign of an emergency exit."""
    canvas.rect((40, 80, 440, 280), "#00843d", radius=14)
    canvas.rect((58, 98, 200, 262), WHITE)
    canvas.rect((122, 112, 196, 262), "#00843d")
    canvas.ellipse((112, 130), 13, "#00843d")
    canvas.line([(108, 152), (98, 196), (122, 218), (112, 250)], "#00843d", 12)
    canvas.line([(98, 196), (80, 224), (62, 226)], "#00843d", 12)
    canvas.line([(108, 154), (130, 176), (146, 170)], "#00843d", 9)
    canvas.text((316, 156), "EXIT", 54, WHITE, anchor="mm", bold=True)
    canvas.arrow((378, 226), (252, 226), WHITE, 14, 38)


def no_smoking(canvas: Canvas) -> None:
    """A no-smoking sign."""
    canvas.rect((120, 186, 300, 212), WHITE, outline=INK, width=3)
    canvas.rect((300, 186, 340, 212), ORANGE, outline=INK, width=3)
    for x in (322, 340):
        canvas.arc((x, 156), (10, 16), 90, 270, GREY, 5)
        canvas.arc((x, 124), (10, 16), 270, 90, GREY, 5)
    centre, radius = (230, 180), 136
    canvas.ellipse(centre, radius, outline="#c8102e", width=24)
    offset = (radius - 12) * math.sqrt(0.5)
    canvas.line([(230 - offset, 180 - offset), (230 + offset, 180 + offset)], "#c8102e", 24)


def trail(canvas: Canvas) -> None:
    """A wooden signpost on a hiking trail."""
    canvas.rect((0, 0, 480, 290), SKY)
    canvas.rect((0, 286, 480, 360), GREEN)
    canvas.rect((228, 40, 252, 320), "#6b4a33")
    for top, flip, words in ((60, False, "Summit  2 h"), (128, True, "Lake  25 min"), (196, False, "Hut  40 min")):
        points = [(150, top), (350, top), (384, top + 24), (350, top + 48), (150, top + 48)]
        canvas.polygon([(480 - x, y) if flip else (x, y) for x, y in points], "#b98a5e")
        canvas.text((236, top + 24), words, 24, INK, anchor="mm")


def _street(canvas: Canvas) -> None:
    canvas.rect((0, 0, 480, 310), SKY)
    canvas.rect((0, 308, 480, 360), GREY)
    canvas.rect((231, 200, 249, 336), "#6c757d")
