"""Simple drawings of things: most stand in the corpus without any words, for the image tower alone to find."""

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
    around,
)


def bicycle(canvas: Canvas, colour: str = RED) -> None:
    """A bicycle from the side."""
    canvas.rect((0, 290, 480, 360), LIGHT)
    back, front, pedals, saddle, head = (140, 232), (342, 232), (222, 236), (196, 140), (312, 140)
    for hub in (back, front):
        canvas.ellipse(hub, 68, outline=INK, width=7)
        for spoke in range(0, 360, 30):
            canvas.line([hub, around(hub, 63, spoke)], GREY, 1.2)
        canvas.ellipse(hub, 7, INK)
    canvas.line([back, saddle, head, pedals, back], colour, 8)
    canvas.line([pedals, saddle], colour, 8)
    canvas.line([(304, 112), head, front], colour, 8)
    canvas.line([saddle, (188, 118)], INK, 6)
    canvas.line([(164, 116), (214, 114)], INK, 12)
    canvas.line([(304, 112), (322, 100), (340, 108)], INK, 7)
    canvas.ellipse(pedals, 16, outline=INK, width=5)
    canvas.line([(206, 258), (238, 214)], INK, 5)
    canvas.line([(196, 258), (216, 258)], INK, 6)
    canvas.line([(228, 214), (248, 214)], INK, 6)


def sailing_boat(canvas: Canvas, sail: str = WHITE) -> None:
    """A boat under two sails at sea."""
    canvas.rect((0, 0, 480, 250), SKY)
    canvas.ellipse((396, 66), 34, ORANGE)
    canvas.rect((0, 246, 480, 360), TEAL)
    canvas.line([(240, 40), (240, 244)], BROWN, 7)
    canvas.polygon([(232, 52), (232, 222), (122, 222)], sail)
    canvas.polygon([(250, 70), (250, 222), (338, 222)], RED)
    canvas.polygon([(112, 240), (372, 240), (332, 292), (152, 292)], BROWN)
    canvas.rect((128, 240, 356, 250), ORANGE)
    for row, left in enumerate((20, 60, 10)):
        for step in range(6):
            x, y = left + step * 84, 302 + row * 20
            canvas.arc((x, y), (20, 8), 20, 160, SKY, 3)


def traffic_light(canvas: Canvas) -> None:
    """A traffic light that shows red."""
    canvas.rect((0, 0, 480, 360), SKY)
    canvas.rect((0, 306, 480, 360), GREY)
    canvas.rect((229, 250, 251, 330), INK)
    canvas.rect((174, 24, 306, 262), INK, radius=24)
    canvas.ellipse((240, 68), 32, "#ff3b3b")
    canvas.ellipse((240, 143), 32, "#5b4a22")
    canvas.ellipse((240, 218), 32, "#1f4a2e")
    canvas.arc((240, 68), 24, 190, 260, WHITE, 4)


def house(canvas: Canvas) -> None:
    """A house with a garden path."""
    canvas.rect((0, 0, 480, 260), SKY)
    canvas.rect((0, 258, 480, 360), GREEN)
    canvas.rect((304, 66, 336, 140), BROWN)
    canvas.rect((132, 150, 348, 292), SAND)
    canvas.polygon([(104, 156), (240, 56), (376, 156)], RED)
    canvas.polygon([(218, 292), (262, 292), (296, 360), (184, 360)], LIGHT)
    canvas.rect((218, 214, 262, 292), BROWN, radius=4)
    canvas.ellipse((254, 256), 4, ORANGE)
    for left in (154, 282):
        canvas.rect((left, 184, left + 44, 226), WHITE, outline=INK, width=4)
        canvas.line([(left + 22, 184), (left + 22, 226)], INK, 3)
        canvas.line([(left, 205), (left + 44, 205)], INK, 3)


def tree(canvas: Canvas) -> None:
    """A broad tree on a meadow."""
    canvas.rect((0, 0, 480, 280), SKY)
    canvas.rect((0, 276, 480, 360), "#7fb77e")
    canvas.polygon([(218, 310), (228, 190), (252, 190), (262, 310)], BROWN)
    for x, y, radius in ((176, 150, 58), (304, 150, 58), (240, 108, 68), (214, 182, 52), (272, 182, 52)):
        canvas.ellipse((x, y), radius, GREEN)
    for x, y in ((180, 140), (240, 90), (296, 150), (226, 176), (270, 118)):
        canvas.ellipse((x, y), 9, RED)


def mountains(canvas: Canvas) -> None:
    """Snowy mountains behind a lake."""
    canvas.rect((0, 0, 480, 360), "#f7dcc4")
    canvas.ellipse((356, 92), 40, ORANGE)
    canvas.polygon([(-40, 270), (110, 92), (270, 270)], "#6f8296")
    canvas.polygon([(150, 270), (300, 60), (470, 270)], BLUE)
    canvas.polygon([(300, 60), (262, 113), (286, 106), (304, 124), (322, 104), (340, 110)], WHITE)
    canvas.polygon([(110, 92), (76, 132), (98, 128), (114, 142), (128, 126), (142, 128)], WHITE)
    canvas.rect((0, 268, 480, 360), TEAL)
    for y, left, right in ((292, 60, 190), (312, 240, 420), (334, 120, 280)):
        canvas.line([(left, y), (right, y)], SKY, 3)


def umbrella(canvas: Canvas) -> None:
    """An open umbrella in the rain."""
    canvas.rect((0, 0, 480, 360), "#dbe4ec")
    for column in range(12):
        for row in range(5):
            x, y = 18 + column * 42 + (row % 2) * 18, 12 + row * 76
            canvas.line([(x, y), (x - 7, y + 22)], "#9db4c8", 3)
    canvas.line([(240, 60), (240, 292)], BROWN, 8)
    canvas.arc((220, 292), 20, 0, 180, BROWN, 8)
    canvas.sector((240, 190), 138, 180, 360, BLUE)
    canvas.sector((240, 190), (78, 138), 180, 360, ORANGE)
    canvas.sector((240, 190), (26, 138), 180, 360, BLUE)


def lighthouse(canvas: Canvas) -> None:
    """A lighthouse at night."""
    canvas.rect((0, 0, 480, 360), "#1d2b45")
    for x, y in ((60, 60), (110, 130), (380, 160), (430, 60), (330, 40), (40, 190), (150, 40)):
        canvas.ellipse((x, y), 2.5, WHITE)
    canvas.polygon([(240, 84), (0, 20), (0, 130)], "#f3dc9a")
    canvas.polygon([(240, 84), (480, 30), (480, 140)], "#f3dc9a")
    canvas.polygon([(212, 110), (268, 110), (288, 306), (192, 306)], WHITE)
    for top in (128, 184, 240):
        slant = (top - 110) * 0.102
        canvas.polygon(
            [(212 - slant, top), (268 + slant, top), (271 + slant, top + 28), (209 - slant, top + 28)],
            RED,
        )
    canvas.rect((206, 62, 274, 108), ORANGE)
    canvas.polygon([(200, 62), (280, 62), (240, 32)], RED)
    canvas.rect((200, 104, 280, 112), INK)
    canvas.polygon([(110, 306), (370, 306), (430, 360), (50, 360)], "#4a4f57")
    canvas.rect((0, 338, 480, 360), "#274a6b")


def balloon(canvas: Canvas) -> None:
    """A hot-air balloon over hills."""
    canvas.rect((0, 0, 480, 360), SKY)
    canvas.ellipse((90, 84), (46, 16), WHITE)
    canvas.ellipse((394, 130), (54, 18), WHITE)
    canvas.ellipse((100, 380), (210, 90), GREEN)
    canvas.ellipse((370, 390), (240, 100), "#7fb77e")
    canvas.line([(190, 190), (222, 250)], BROWN, 3)
    canvas.line([(290, 190), (258, 250)], BROWN, 3)
    canvas.ellipse((240, 122), (92, 100), RED)
    canvas.ellipse((240, 122), (58, 100), ORANGE)
    canvas.ellipse((240, 122), (22, 100), RED)
    canvas.rect((218, 248, 262, 282), BROWN, radius=5)


def apple(canvas: Canvas) -> None:
    """A red apple with a leaf."""
    canvas.rect((0, 268, 480, 360), SAND)
    canvas.ellipse((240, 304), (112, 16), "#cdbb86")
    canvas.ellipse((200, 198), (82, 100), RED)
    canvas.ellipse((280, 198), (82, 100), RED)
    canvas.ellipse((178, 160), (20, 32), "#e4808d")
    canvas.line([(240, 126), (246, 76), (258, 60)], BROWN, 8)
    canvas.polygon([(252, 92), (282, 60), (330, 58), (302, 90)], GREEN)


def fish(canvas: Canvas) -> None:
    """An orange fish under water."""
    canvas.rect((0, 0, 480, 360), "#9fd3e0")
    canvas.rect((0, 320, 480, 360), SAND)
    for x in (50, 420):
        canvas.line([(x, 322), (x - 12, 270), (x + 10, 226), (x - 6, 180)], GREEN, 8)
    canvas.polygon([(330, 180), (416, 116), (404, 180), (416, 244)], ORANGE)
    canvas.polygon([(200, 116), (262, 70), (288, 126)], "#d98b2b")
    canvas.ellipse((226, 180), (126, 78), ORANGE)
    for x in (212, 268):
        canvas.arc((x - 40, 180), (50, 76), 300, 60, WHITE, 12)
    canvas.ellipse((148, 160), 15, WHITE)
    canvas.ellipse((145, 160), 7, INK)
    for x, y, radius in ((84, 120, 9), (64, 86, 6), (92, 56, 11)):
        canvas.ellipse((x, y), radius, outline=WHITE, width=3)


def car(canvas: Canvas) -> None:
    """A small blue car on a road."""
    canvas.rect((0, 0, 480, 250), SKY)
    canvas.rect((0, 248, 480, 360), "#5d656e")
    canvas.dashes([(0, 326), (480, 326)], WHITE, 6, 30)
    canvas.polygon([(140, 190), (186, 116), (314, 116), (364, 190)], BLUE)
    canvas.polygon([(168, 186), (198, 132), (244, 132), (244, 186)], SKY)
    canvas.polygon([(256, 186), (256, 132), (304, 132), (336, 186)], SKY)
    canvas.rect((82, 182, 410, 250), BLUE, radius=22)
    canvas.rect((388, 200, 410, 218), ORANGE, radius=5)
    for x in (150, 334):
        canvas.ellipse((x, 250), 37, INK)
        canvas.ellipse((x, 250), 16, LIGHT)


def teapot(canvas: Canvas) -> None:
    """A teapot with steam."""
    canvas.rect((0, 286, 480, 360), BROWN)
    canvas.polygon([(306, 226), (398, 132), (420, 146), (334, 270)], TEAL)
    canvas.arc((142, 202), (56, 58), 90, 270, TEAL, 18)
    canvas.ellipse((234, 208), (104, 86), TEAL)
    canvas.rect((170, 118, 298, 136), BLUE, radius=8)
    canvas.ellipse((234, 108), 14, BLUE)
    canvas.rect((176, 282, 292, 294), BLUE, radius=6)
    for x in (410, 436):
        canvas.arc((x, 96), (10, 16), 90, 270, GREY, 4)
        canvas.arc((x, 64), (10, 16), 270, 90, GREY, 4)


def envelope(canvas: Canvas) -> None:
    """A closed envelope with a stamp."""
    canvas.rect((70, 84, 410, 288), WHITE, outline=INK, width=5, radius=8)
    canvas.line([(76, 92), (240, 206), (404, 92)], INK, 5)
    canvas.line([(78, 280), (190, 172)], GREY, 3)
    canvas.line([(402, 280), (290, 172)], GREY, 3)
    canvas.ellipse((240, 200), 22, RED)
    canvas.text((240, 200), "m", 22, PAPER, anchor="mm")
