"""Pages with printed words: what a scanner would give. Their words stand beside the picture in the corpus."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from mmseek.demo.canvas import GREY, INK, LIGHT, RED, TEAL, WHITE, Canvas


@dataclass(frozen=True, slots=True)
class Sheet:
    """A page: a heading, paragraphs, and lines of a table, each cell a column."""

    heading: str
    paragraphs: tuple[str, ...] = ()
    table: tuple[tuple[str, ...], ...] = ()
    footer: str = ""
    colour: str = TEAL

    @property
    def words(self) -> str:
        """All that is printed on the page, in reading order."""
        rows = ["  ".join(row) for row in self.table]
        return "\n".join(part for part in (self.heading, *self.paragraphs, *rows, self.footer) if part)

    def draw(self, canvas: Canvas) -> None:
        """Print the page on a canvas of 420 x 560."""
        canvas.rect((0, 0, canvas.width, canvas.height), "#d9dee3")
        canvas.rect((14, 14, canvas.width - 14, canvas.height - 14), WHITE)
        canvas.rect((14, 14, canvas.width - 14, 24), self.colour)
        canvas.text((40, 44), self.heading, 23, INK, bold=True)
        top = 92.0
        for paragraph in self.paragraphs:
            top = canvas.paragraph((40, top), paragraph, canvas.width - 80, 15.5) + 10
        for row in self.table:
            canvas.line([(40, top - 3), (canvas.width - 40, top - 3)], LIGHT, 1.5)
            for column, cell in enumerate(row):
                last = column == len(row) - 1 and column > 0
                left = canvas.width - 40 if last else 40 + column * (canvas.width - 80) / len(row)
                canvas.text((left, top + 4), cell, 15, INK, anchor="ra" if last else "la")
            top += 30
        canvas.text((40, canvas.height - 46), self.footer, 13, GREY)


PANCAKES: Final = Sheet(
    "Pancakes for four",
    (
        "250 g flour, 3 eggs, half a litre of milk, a pinch of salt, butter for the pan.",
        "1. Whisk the eggs with the milk.",
        "2. Stir in flour and salt until no lumps are left. Let the batter rest for 20 minutes.",
        "3. Melt a little butter in a hot pan, pour in a thin layer, turn it once it is golden.",
        "4. Serve with lemon and sugar, or with apple sauce.",
    ),
    footer="recipe card 12",
    colour=RED,
)
INVOICE: Final = Sheet(
    "Invoice 2024-118",
    ("Bicycle workshop Wheel & Chain\nfor: M. Sample, 14 Mill Lane",),
    (
        ("Item", "Price"),
        ("Two new tyres", "58.00"),
        ("Brake cable", "9.50"),
        ("Chain cleaned", "15.00"),
        ("Labour, 1.5 h", "67.50"),
        ("Total", "150.00"),
    ),
    footer="payable within 14 days",
)
TIMETABLE: Final = Sheet(
    "Ferry timetable",
    ("Harbour to Salt Isle, every day from April to October. Bicycles travel free.",),
    (
        ("leaves", "arrives"),
        ("07:30", "08:15"),
        ("10:00", "10:45"),
        ("13:15", "14:00"),
        ("16:40", "17:25"),
        ("19:05", "19:50"),
    ),
    footer="no ferry in a storm: ask at the pier",
)
MENU: Final = Sheet(
    "Lunch menu",
    ("served from 12 to 3",),
    (
        ("Tomato soup with basil", "5.20"),
        ("Mushroom risotto", "11.80"),
        ("Grilled trout, potatoes", "15.40"),
        ("Cheese plate", "8.90"),
        ("Apple pie with cream", "4.70"),
        ("Espresso", "2.40"),
    ),
    footer="please tell us about allergies",
    colour=RED,
)
LETTER: Final = Sheet(
    "Dear Grandmother,",
    (
        "thank you for the parcel. The woollen socks fit, and the plum jam did not last until Sunday.",
        "School is fine. In physics we built a telescope from two lenses and looked at the craters of the moon.",
        "In the summer holidays I would love to visit you again and help in the garden.",
        "With love from all of us,\nGreta",
    ),
    footer="12 March",
)
RULES: Final = Sheet(
    "Reading room rules",
    (
        "Books may be borrowed for four weeks and renewed twice.",
        "Please speak softly. Phones are switched to silent.",
        "Food stays outside; water in closed bottles is welcome.",
        "Maps and old prints are shown only at the desk.",
        "Open Monday to Friday 9-18, Saturday 10-14.",
    ),
    footer="town library",
)
