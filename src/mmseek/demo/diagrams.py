"""Diagrams as a textbook or a manual would have them."""

from __future__ import annotations

from mmseek.demo.canvas import (
    BLUE,
    BROWN,
    GREEN,
    GREY,
    INK,
    LIGHT,
    ORANGE,
    RED,
    SAND,
    SKY,
    TEAL,
    WHITE,
    Canvas,
    Point,
    around,
)


def water_cycle(canvas: Canvas) -> None:
    """Evaporation, condensation, rain, run-off."""
    canvas.rect((0, 0, 480, 360), SKY)
    canvas.polygon([(230, 290), (380, 110), (480, 220), (480, 360), (230, 360)], GREEN)
    canvas.rect((0, 272, 260, 360), TEAL)
    canvas.ellipse((60, 56), 32, ORANGE)
    for x, y, radius in ((300, 66, 26), (336, 54, 32), (372, 68, 26)):
        canvas.ellipse((x, y), radius, WHITE)
    for x in (110, 150, 190):
        canvas.arrow((x, 262), (x + 30, 130), WHITE, 5, 14)
    for x in (318, 342, 366):
        canvas.arrow((x, 98), (x - 8, 146), BLUE, 3, 9)
    canvas.arrow((362, 190), (256, 296), WHITE, 5, 14)
    canvas.text((46, 206), "evaporation", 16)
    canvas.text((204, 24), "condensation", 16)
    canvas.text((276, 112), "rain", 16)
    canvas.text((350, 260), "run-off", 16, WHITE)
    canvas.text((36, 318), "sea", 16, WHITE)


def making_tea(canvas: Canvas) -> None:
    """A flow chart with one decision."""
    for x, words, colour in ((74, "Boil water", TEAL), (234, "Add the tea", TEAL), (394, "Wait 3 minutes", TEAL)):
        _box(canvas, (x, 90), words, colour, 130)
    canvas.text((24, 18), "Making tea", 20, bold=True)
    canvas.arrow((139, 90), (167, 90))
    canvas.arrow((299, 90), (327, 90))
    canvas.arrow((394, 112), (394, 166))
    canvas.polygon([(394, 168), (468, 218), (394, 268), (320, 218)], RED)
    canvas.text((394, 218), "strong\nenough?", 14, WHITE, anchor="mm")
    canvas.arrow((320, 218), (282, 218))
    canvas.text((300, 194), "no", 15, anchor="mm")
    _box(canvas, (206, 218), "Wait 1 minute more", ORANGE, 150)
    canvas.line([(206, 196), (206, 150), (380, 150)])
    canvas.arrow((370, 150), (390, 150))
    canvas.line([(394, 268), (394, 310), (300, 310)])
    canvas.arrow((300, 310), (284, 310))
    canvas.text((414, 286), "yes", 15, anchor="mm")
    _box(canvas, (206, 310), "Pour and drink", GREEN)


def web_service(canvas: Canvas) -> None:
    """A browser, a load balancer, two servers, a database."""
    canvas.text((24, 18), "How a request travels", 20, bold=True)
    _box(canvas, (80, 190), "Browser", BLUE, 112)
    _box(canvas, (228, 190), "Balancer", GREY, 112)
    _box(canvas, (360, 112), "Server A", TEAL, 112)
    _box(canvas, (360, 268), "Server B", TEAL, 112)
    canvas.arrow((136, 190), (170, 190))
    canvas.arrow((262, 168), (302, 126))
    canvas.arrow((262, 212), (302, 254))
    canvas.arrow((360, 134), (360, 158))
    canvas.arrow((360, 246), (360, 222))
    canvas.rect((316, 172, 404, 208), ORANGE)
    canvas.ellipse((360, 172), (44, 11), "#f6c56f")
    canvas.ellipse((360, 208), (44, 11), ORANGE)
    canvas.text((360, 194), "Database", 15, INK, anchor="mm")


def solar_system(canvas: Canvas) -> None:
    """The sun and eight planets on their orbits, not to scale."""
    canvas.rect((0, 0, 480, 360), "#141c2f")
    sun: Point = (40, 180)
    canvas.ellipse(sun, 44, ORANGE)
    planets = (
        (84, 5, "#b5a894", -20),
        (116, 9, "#e3c27a", 14),
        (150, 9, "#4f8fd0", -12),
        (184, 7, "#c8553d", 20),
        (242, 22, "#d8a777", -4),
        (312, 18, "#e6cf9a", 13),
        (368, 13, "#9fd8dc", -10),
        (414, 13, "#4a6fd1", 8),
    )
    for orbit, radius, colour, angle in planets:
        canvas.ellipse(sun, orbit, outline="#3a4763", width=1.5)
        place = around(sun, orbit, angle)
        canvas.ellipse(place, radius, colour)
        if orbit == 312:
            canvas.ellipse(place, (32, 8), outline="#cbb78a", width=3)
    canvas.text((464, 336), "The solar system", 18, LIGHT, anchor="ra")


def venn(canvas: Canvas) -> None:
    """Three overlapping circles."""
    canvas.text((24, 18), "What makes a good map?", 20, bold=True)
    for centre, name, spot in (
        ((196, 150), "Exact", (150, 118)),
        ((284, 150), "Readable", (330, 118)),
        ((240, 226), "Up to date", (240, 286)),
    ):
        canvas.ellipse(centre, 100, outline=TEAL, width=5)
        canvas.text(spot, name, 17, anchor="mm")
    canvas.ellipse((240, 178), 24, ORANGE)
    canvas.text((240, 178), "map", 16, anchor="mm")


def food_chain(canvas: Canvas) -> None:
    """Who eats whom in a pond."""
    canvas.text((24, 18), "A food chain in a pond", 20, bold=True)
    stages = (("Sun", ORANGE), ("Algae", GREEN), ("Water flea", SAND), ("Perch", BLUE), ("Heron", GREY))
    for step, (name, colour) in enumerate(stages):
        x, y = 60 + step * 90, 250 - step * 38
        canvas.ellipse((x, y), 36, colour)
        canvas.text((x, y), name.replace(" ", "\n"), 14, WHITE if colour in (BLUE, GREY) else INK, anchor="mm")
        if step:
            canvas.arrow((x - 60, y + 24), (x - 34, y + 13), INK)
    canvas.text((60, 322), "energy passes from left to right", 15, GREY)


def tree_of_names(canvas: Canvas) -> None:
    """A family tree of three generations."""
    canvas.text((24, 18), "Three generations", 20, bold=True)
    canvas.line([(140, 96), (340, 96)], INK, 3)
    canvas.line([(240, 96), (240, 150)], INK, 3)
    canvas.line([(110, 150), (370, 150)], INK, 3)
    for x in (110, 240, 370):
        canvas.line([(x, 150), (x, 190)], INK, 3)
    canvas.line([(110, 206), (110, 276)], INK, 3)
    canvas.line([(60, 262), (160, 262)], INK, 3)
    for place, name, colour in (
        ((140, 96), "Ada", RED),
        ((340, 96), "Bruno", BLUE),
        ((110, 204), "Clara", RED),
        ((240, 204), "David", BLUE),
        ((370, 204), "Emma", RED),
        ((60, 300), "Finn", BLUE),
        ((160, 300), "Greta", RED),
    ):
        _box(canvas, place, name, colour, 84)


def plant(canvas: Canvas) -> None:
    """The parts of a plant, labelled."""
    canvas.rect((0, 0, 480, 360), "#eef6ea")
    canvas.rect((0, 266, 480, 360), BROWN)
    canvas.line([(200, 280), (200, 112)], GREEN, 9)
    canvas.polygon([(200, 210), (130, 176), (104, 190), (140, 222)], GREEN)
    canvas.polygon([(200, 182), (268, 146), (296, 158), (258, 194)], GREEN)
    for petal in range(8):
        canvas.ellipse(around((200, 88), 32, petal * 45), 18, ORANGE)
    canvas.ellipse((200, 88), 22, BROWN)
    for end in ((150, 334), (200, 346), (252, 330)):
        canvas.line([(200, 276), end], SAND, 5)
    for spot, words, target in (
        ((352, 76), "flower", (250, 86)),
        ((352, 148), "leaf", (296, 156)),
        ((352, 226), "stem", (206, 236)),
        ((352, 312), "root", (250, 322)),
    ):
        canvas.line([(spot[0] - 8, spot[1] + 10), target], GREY, 2)
        canvas.text(spot, words, 18, WHITE if words == "root" else INK)


def _box(canvas: Canvas, centre: Point, words: str, colour: str, width: float = 152) -> None:
    x, y = centre
    canvas.rect((x - width / 2, y - 22, x + width / 2, y + 22), colour, radius=9)
    canvas.text(centre, words, 16, WHITE, anchor="mm")
