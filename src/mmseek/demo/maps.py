"""Maps of places that do not exist."""

from __future__ import annotations

from mmseek.demo.canvas import (
    BLUE,
    BROWN,
    GREEN,
    GREY,
    INK,
    LIGHT,
    ORANGE,
    PAPER,
    RED,
    SAND,
    SKY,
    TEAL,
    WHITE,
    Canvas,
    Point,
    around,
)


def treasure(canvas: Canvas) -> None:
    """An island with a dotted path to a cross."""
    canvas.rect((0, 0, 480, 360), "#a9cdd6")
    shore = [(70, 190), (110, 96), (210, 60), (330, 84), (414, 150), (404, 248), (310, 308), (180, 296), (96, 258)]
    canvas.polygon(shore, SAND)
    canvas.line([*shore, shore[0]], BROWN, 4)
    for x, y in ((190, 120), (222, 108), (254, 124)):
        canvas.polygon([(x - 24, y + 30), (x, y - 16), (x + 24, y + 30)], GREY)
    for x, y in ((300, 150), (330, 168), (346, 140), (292, 188)):
        canvas.rect((x - 3, y + 10, x + 3, y + 24), BROWN)
        canvas.ellipse((x, y), 14, GREEN)
    canvas.dashes([(110, 230), (170, 214), (226, 244), (300, 240), (344, 224)], RED, 5, 9)
    for end in ((332, 212), (356, 212)):
        canvas.line([end, (688 - end[0], 236)], RED, 7)
    _compass(canvas, (424, 56))
    canvas.text((24, 322), "Parrot Island", 22, BROWN)


def metro(canvas: Canvas) -> None:
    """A metro plan with three lines."""
    canvas.text((24, 18), "Metro", 24, bold=True)
    lines: tuple[tuple[str, list[Point]], ...] = (
        (RED, [(50, 100), (160, 100), (240, 180), (340, 180), (430, 270)]),
        (BLUE, [(50, 290), (140, 290), (240, 180), (300, 110), (430, 110)]),
        (GREEN, [(90, 190), (240, 180), (240, 250), (300, 316), (430, 316)]),
    )
    for colour, stops in lines:
        canvas.line(stops, colour, 9)
    for colour, stops in lines:
        for stop in stops:
            canvas.ellipse(stop, 9, WHITE, outline=colour, width=4)
    canvas.ellipse((240, 180), 15, WHITE, outline=INK, width=5)
    for place, name in (
        ((262, 192), "Central"),
        ((36, 70), "Harbour"),
        ((38, 310), "Airport"),
        ((380, 80), "University"),
        ((354, 280), "Stadium"),
        ((412, 330), "Zoo"),
    ):
        canvas.text(place, name, 15)


def trade_routes(canvas: Canvas) -> None:
    """Two coasts and the routes of ships between their towns."""
    canvas.rect((0, 0, 480, 360), "#b7d7e2")
    canvas.polygon([(0, 0), (150, 0), (176, 70), (130, 140), (156, 220), (110, 290), (120, 360), (0, 360)], SAND)
    canvas.polygon([(480, 0), (360, 0), (330, 90), (378, 170), (340, 250), (372, 360), (480, 360)], "#d9c79a")
    canvas.ellipse((246, 318), (34, 18), SAND)
    towns = {
        "Aldport": (150, 66),
        "Brine": (136, 226),
        "Salt Isle": (246, 312),
        "Corvan": (336, 92),
        "Dunmar": (344, 250),
    }
    for start, end, colour in (
        ("Aldport", "Corvan", RED),
        ("Brine", "Salt Isle", TEAL),
        ("Salt Isle", "Dunmar", TEAL),
        ("Brine", "Corvan", RED),
        ("Aldport", "Dunmar", BLUE),
    ):
        canvas.dashes([towns[start], towns[end]], colour, 4, 8)
    for name, (x, y) in towns.items():
        canvas.ellipse((x, y), 7, INK)
        on_the_left = x < 240
        canvas.text((x - 12 if on_the_left else x + 12, y), name, 15, anchor="rm" if on_the_left else "lm")
    canvas.text((240, 26), "Trade routes: salt, wool, tin", 18, anchor="mm")


def weather(canvas: Canvas) -> None:
    """A weather map with sun, clouds and temperatures."""
    canvas.rect((0, 0, 480, 360), SKY)
    canvas.polygon(
        [(110, 40), (280, 24), (396, 90), (420, 200), (340, 330), (190, 336), (80, 250), (62, 130)], "#bcd7a5"
    )
    canvas.text((22, 18), "Tomorrow", 22, bold=True)
    for x, y, degrees in ((160, 110, 24), (330, 240, 27)):
        for ray in range(0, 360, 45):
            canvas.line([around((x, y), 24, ray), around((x, y), 34, ray)], ORANGE, 4)
        canvas.ellipse((x, y), 20, ORANGE)
        canvas.text((x, y + 46), f"{degrees}°", 20, anchor="mm")
    for x, y, degrees in ((310, 110, 19), (180, 230, 16)):
        for dx, radius in ((-20, 16), (0, 22), (20, 16)):
            canvas.ellipse((x + dx, y), radius, WHITE)
        for dx in (-16, 0, 16):
            canvas.line([(x + dx, y + 26), (x + dx - 5, y + 38)], BLUE, 3)
        canvas.text((x, y + 58), f"{degrees}°", 20, anchor="mm")


def park(canvas: Canvas) -> None:
    """A city park: paths, pond, playground."""
    canvas.rect((0, 0, 480, 360), LIGHT)
    canvas.rect((40, 50, 440, 320), "#a8cf9a", radius=26)
    canvas.line([(40, 180), (180, 200), (300, 150), (440, 200)], PAPER, 14)
    canvas.line([(220, 50), (230, 178), (200, 320)], PAPER, 14)
    canvas.ellipse((342, 254), (64, 40), TEAL)
    canvas.text((342, 254), "Pond", 17, WHITE, anchor="mm")
    canvas.rect((76, 84, 164, 142), ORANGE, radius=8)
    canvas.text((120, 113), "Playground", 14, anchor="mm")
    canvas.rect((300, 78, 380, 118), RED, radius=8)
    canvas.text((340, 98), "Café", 16, WHITE, anchor="mm")
    for x, y in ((80, 240), (112, 268), (84, 288), (140, 240), (410, 100), (410, 150), (270, 84)):
        canvas.ellipse((x, y), 13, GREEN)
    canvas.text((40, 20), "Plan of the city park", 18, bold=True)


def _compass(canvas: Canvas, centre: Point) -> None:
    for angle in (-90, 0, 90, 180):
        points = [around(centre, 30, angle), around(centre, 9, angle + 90), around(centre, 9, angle - 90)]
        canvas.polygon(points, RED if angle == -90 else BROWN)
    canvas.text((centre[0], centre[1] - 40), "N", 17, BROWN, anchor="mm")
