"""Builds the demo's corpus: about sixty items of text, pictures and both, in mmseek's item format."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from mmseek.demo import charts, diagrams, drawings, maps, sheets, signs
from mmseek.demo.canvas import Canvas
from mmseek.demo.photos import PHOTOS
from mmseek.demo.words import CAPTIONS, NOTES, TEXTS

_OURS: Final = "drawn by mmseek"

_DRAWN: Final[dict[str, tuple[Callable[[Canvas], None], ...]]] = {
    "drawing": (
        drawings.bicycle,
        drawings.sailing_boat,
        drawings.traffic_light,
        drawings.house,
        drawings.tree,
        drawings.mountains,
        drawings.umbrella,
        drawings.lighthouse,
        drawings.balloon,
        drawings.apple,
        drawings.fish,
        drawings.car,
        drawings.teapot,
        drawings.envelope,
    ),
    "sign": (signs.stop, signs.crossing, signs.emergency_exit, signs.no_smoking, signs.trail),
    "chart": (
        charts.rainfall,
        charts.temperature,
        charts.energy_mix,
        charts.study_hours,
        charts.budget,
        charts.schedule,
    ),
    "diagram": (
        diagrams.water_cycle,
        diagrams.making_tea,
        diagrams.web_service,
        diagrams.solar_system,
        diagrams.venn,
        diagrams.food_chain,
        diagrams.tree_of_names,
        diagrams.plant,
    ),
    "map": (maps.treasure, maps.metro, maps.trade_routes, maps.weather, maps.park),
}

_SHEETS: Final = {
    "pancakes": sheets.PANCAKES,
    "invoice": sheets.INVOICE,
    "timetable": sheets.TIMETABLE,
    "menu": sheets.MENU,
    "letter": sheets.LETTER,
    "library-rules": sheets.RULES,
}


def build_demo_corpus(folder: Path) -> Path:
    """Write `corpus.jsonl` and `images/` into the folder, which is made if it is not there.

    The same version of mmseek and Pillow always writes the same bytes.

    Returns:
        The path of `corpus.jsonl`.
    """
    images = folder / "images"
    images.mkdir(parents=True, exist_ok=True)
    for name, data in _pictures():
        (images / name).write_bytes(data)
    corpus = folder / "corpus.jsonl"
    lines = [json.dumps(item, ensure_ascii=False) + "\n" for item in _items()]
    corpus.write_text("".join(lines), encoding="utf-8")
    return corpus


def _pictures() -> Iterator[tuple[str, bytes]]:
    for photo in PHOTOS:
        yield f"{photo.name}.jpg", photo.read()
    for draws in _DRAWN.values():
        for draw in draws:
            canvas = Canvas()
            draw(canvas)
            yield f"{_name(draw)}.png", _png(canvas)
    for name, sheet in _SHEETS.items():
        canvas = Canvas(420, 560)
        sheet.draw(canvas)
        yield f"{name}.png", _png(canvas)


def _items() -> Iterator[dict[str, Any]]:
    for photo in PHOTOS:
        yield _item("photo", photo.name, image=f"images/{photo.name}.jpg", text=photo.caption, credit=photo.credit)
    for kind, draws in _DRAWN.items():
        for name in map(_name, draws):
            yield _item(kind, name, image=f"images/{name}.png", text=CAPTIONS.get(name), credit=_OURS)
    for name, sheet in _SHEETS.items():
        yield _item("page", name, image=f"images/{name}.png", text=sheet.words, credit=_OURS)
    for name, parts in NOTES.items():
        yield _item("note", name, content=[_part(part) for part in parts])
    for name, text in TEXTS.items():
        yield _item("text", name, text=text)


def _item(kind: str, name: str, *, credit: str | None = None, **content: Any) -> dict[str, Any]:
    metadata = {"kind": kind} if credit is None else {"kind": kind, "credit": credit}
    given = {key: value for key, value in content.items() if value is not None}
    return {"id": f"{kind}-{name}", **given, "metadata": metadata}


def _part(part: str) -> dict[str, str]:
    if not part.startswith("@"):
        return {"type": "text", "text": part}
    name = part[1:]
    ending = "jpg" if name in {photo.name for photo in PHOTOS} else "png"
    return {"type": "image", "image": f"images/{name}.{ending}"}


def _name(draw: Callable[[Canvas], None]) -> str:
    return draw.__name__.replace("_", "-")


def _png(canvas: Canvas) -> bytes:
    buffer = io.BytesIO()
    canvas.finish().save(buffer, format="PNG")
    return buffer.getvalue()
