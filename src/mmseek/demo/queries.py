"""What the demo asks: in words, with a picture, and with both."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mmseek._types import Content, Image, Query
from mmseek.demo import drawings
from mmseek.demo.canvas import BLUE, BROWN, GREEN, ORANGE, SKY, TEAL, Canvas, around


@dataclass(frozen=True, slots=True)
class DemoQuery:
    """A query with the sentence that the demo prints above its hits."""

    title: str
    explanation: str
    query: Query


def demo_queries(k: int = 5) -> tuple[DemoQuery, ...]:
    """The queries in the order in which the demo shows them; their pictures are not in the corpus."""
    asked = (
        (
            "a photo of a cat",
            "The corpus has a cat without any words: only the picture itself can match.",
            Content.of("a photo of a cat"),
        ),
        (
            "a cup of coffee",
            "There is a photo without words, and a note with the same photo between its words.",
            Content.of("a cup of coffee"),
        ),
        (
            "how much rain falls in each month",
            "A chart's caption says it in other words.",
            Content.of("how much rain falls in each month"),
        ),
        (
            "what time is the last boat to the island?",
            "The answer is printed on a page.",
            Content.of("what time is the last boat to the island?"),
        ),
        (
            "repairing a bicycle",
            "A note with a picture, an invoice and a drawing without words have to do with it.",
            Content.of("repairing a bicycle"),
        ),
        ("picture: a blue bicycle", "No words at all: what looks alike?", Content.of(_drawn(_blue_bicycle))),
        (
            "picture: a sunflower",
            "No words either; the corpus shows a sunflower inside a diagram.",
            Content.of(_drawn(_sunflower)),
        ),
        (
            "picture: a boat, with the words “a map”",
            "Picture and words together ask for something of both.",
            Content.of(_drawn(_orange_sail), "a map"),
        ),
    )
    return tuple(DemoQuery(title, explanation, Query(content, k=k)) for title, explanation, content in asked)


def _drawn(draw: Callable[[Canvas], None]) -> Image:
    canvas = Canvas()
    draw(canvas)
    return Image.from_pil(canvas.finish())


def _blue_bicycle(canvas: Canvas) -> None:
    drawings.bicycle(canvas, BLUE)


def _orange_sail(canvas: Canvas) -> None:
    drawings.sailing_boat(canvas, ORANGE)


def _sunflower(canvas: Canvas) -> None:
    canvas.rect((0, 0, canvas.width, canvas.height), SKY)
    canvas.rect((0, 300, canvas.width, canvas.height), GREEN)
    canvas.line([(240, 330), (240, 150)], TEAL, 10)
    for petal in range(12):
        canvas.ellipse(around((240, 130), 62, petal * 30), 26, ORANGE)
    canvas.ellipse((240, 130), 46, BROWN)
