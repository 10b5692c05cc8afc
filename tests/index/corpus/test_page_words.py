"""The words of pictures inside documents: which are read, where they stand, and what makes them read anew."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path

import docx
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont
import pptx
import pytest

from mmseek import Document, Text
from mmseek.errors import ItemError
from mmseek.index.corpus import Deferred, Entry, Located, ocr, read_corpus
from mmseek.media import open_image

Tree = Callable[[dict[str, str | bytes]], Path]
SIZES = {"red": (40, 30), "green": (50, 30), "blue": (60, 30), "mute": (70, 30)}


def coloured(name: str) -> bytes:
    """A picture that the reader of these tests takes for its colour's name, if that is not `mute`."""
    return saved(PIL.Image.new("RGB", SIZES[name], "red"))


def saved(picture: PIL.Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def readings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A reader that knows pictures by their size; gives what it was asked, in order."""
    asked: list[str] = []

    def read(picture: PIL.Image.Image) -> str:
        (name,) = (name for name, size in SIZES.items() if size == picture.size)
        asked.append(name)
        return "" if name == "mute" else name

    monkeypatch.setattr(ocr, "_read", read)
    monkeypatch.setattr(ocr, "_known", type(ocr._known)())
    return asked


def word_file(*parts: str) -> bytes:
    """A DOCX of paragraphs and, by the names of their colours, pictures."""
    document = docx.Document()
    for part in parts:
        if part in SIZES:
            document.add_picture(io.BytesIO(coloured(part)))
        else:
            document.add_paragraph(part)
    buffer = io.BytesIO()
    document.save(buffer)
    return buffer.getvalue()


def slides(*pages: tuple[str, ...]) -> bytes:
    deck = pptx.Presentation()
    for page in pages:
        slide = deck.slides.add_slide(deck.slide_layouts[6])
        for part in page:
            if part in SIZES:
                slide.shapes.add_picture(io.BytesIO(coloured(part)), 0, 0)
            else:
                slide.shapes.add_textbox(0, 0, 9, 9).text_frame.text = part
    buffer = io.BytesIO()
    deck.save(buffer)
    return buffer.getvalue()


def book(body: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("META-INF/container.xml", '<container><rootfile full-path="p.opf"/></container>')
        archive.writestr("p.opf", '<package><item id="c" href="c.xhtml"/><spine><itemref idref="c"/></spine></package>')
        archive.writestr("c.xhtml", f"<html><body>{body}</body></html>")
        archive.writestr("green.png", coloured("green"))
    return buffer.getvalue()


def made(entries: Iterable[Entry]) -> dict[str, Document]:
    loaded = (entry.load() if isinstance(entry, Deferred) else entry for entry in entries)
    return {entry.id: entry for entry in loaded if isinstance(entry, Document)}


def shape(document: Document) -> list[str]:
    return [part.text if isinstance(part, Text) else "<picture>" for part in document.content.parts]


GONE = json.dumps({"image": "gone.png"})
EVERY_KIND: dict[str, str | bytes] = {
    "a.docx": word_file("before", "red", "after", "mute", "end"),
    "b.pptx": slides(("title", "green"), ("words",), ("blue",)),
    "c.html": '<p>before<img src="red.png"><p>after<img src="gone.png" alt="gone">',
    "d.md": "before\n\n![red](red.png)\n\nafter",
    "e.epub": book('<p>before<img src="green.png"/><p>after'),
    "f.jsonl": json.dumps({"id": "f", "content": [{"type": "image", "image": "red.png"}]}),
    "red.png": coloured("red"),
    "w/1.png": coloured("blue"),
}


def test_words_stand_behind_their_pictures(tree: Tree, readings: list[str]) -> None:
    shard = io.BytesIO()
    with zipfile.ZipFile(shard, "w") as archive:
        archive.writestr("1.png", coloured("blue"))
        archive.writestr("1.txt", "a sample")
    found = made(read_corpus(tree({**EVERY_KIND, "s.zip": shard.getvalue()}), ocr="always"))

    assert {name: shape(document) for name, document in found.items()} == {
        "a.docx": ["before", "<picture>", "red", "after", "<picture>", "end"],
        "b.pptx#1": ["title", "<picture>", "green"],
        "b.pptx#2": ["words"],
        "b.pptx#3": ["<picture>", "blue"],
        "c.html": ["before", "<picture>", "red", "aftergone"],
        "d.md": ["before", "<picture>", "red", "after"],
        "e.epub": ["before", "<picture>", "green", "after"],
        "f": ["<picture>", "red"],
        "s.zip/1": ["<picture>", "blue", "a sample"],
        "w/1.png": ["<picture>", "blue"],
    }
    assert {name for name, document in found.items() if "ocr" in document.metadata} == found.keys() - {"b.pptx#2"}
    assert found["b.pptx#3"].metadata["page"] == 3
    assert found["b.pptx#3"].parent_id == "b.pptx"
    assert sorted(readings) == ["blue", "green", "mute", "red"], "equal pictures are read once"


def test_pages_without_any_text_alone(tree: Tree, readings: list[str]) -> None:
    folder = tree({**EVERY_KIND, "scan.docx": word_file("red", "green"), "scan.html": '<img src="red.png">'})

    found = made(read_corpus(folder, ocr="auto"))

    assert {name for name, document in found.items() if "ocr" in document.metadata} == {
        "b.pptx#3",
        "scan.docx",
        "scan.html",
    }
    assert shape(found["scan.docx"]) == ["<picture>", "red", "<picture>", "green"]


def test_what_is_read_anew(tree: Tree, readings: list[str]) -> None:
    def digests() -> dict[str, str]:
        return {entry.id: entry.digest for entry in read_corpus("docs", ocr="always") if isinstance(entry, Deferred)}

    tree({"a.docx": word_file("x", "red"), "b.html": '<img src="p/1.png">', "c.html": '<img src="p/2.png">'})
    tree({"p/1.png": coloured("red"), "p/2.png": coloured("green")})
    first = digests()
    assert first == digests()
    assert not readings, "nothing is read to see whether it changed"
    tree({"p/1.png": coloured("blue")})
    assert {name for name, digest in digests().items() if first[name] != digest} == {"b.html"}
    (plain,) = (entry for entry in read_corpus("docs/c.html") if isinstance(entry, Located))
    assert isinstance(plain, Document), "without --ocr all is as it was"


def test_a_line_that_is_there_is_not_said_again(tree: Tree, readings: list[str]) -> None:
    found = made(read_corpus(tree({"a.docx": word_file("a RED roof", "red")}), ocr="always"))
    assert shape(found["a.docx"]) == ["a RED roof", "<picture>"]
    assert "ocr" not in found["a.docx"].metadata


def test_pictures_that_cannot_be_read(tree: Tree, readings: list[str]) -> None:
    page = '<p>text<img src="cut.png"><img src="red.png">'
    folder = tree({"cut.png": coloured("red")[:60], "red.png": coloured("red"), "a.html": page, "gone.jsonl": GONE})

    entries = {entry.id: entry for entry in read_corpus(folder, ocr="always") if isinstance(entry, Deferred | Located)}

    gone, broken = entries["gone.jsonl:1"], entries["a.html"]
    assert isinstance(gone, Located), "it fails where it is hashed"
    assert gone.line == 1
    assert isinstance(broken, Deferred)
    assert shape(broken.load()) == ["text", "<picture>", "<picture>", "red"], "encoding it will tell"


def test_videos_and_addresses_are_left_alone(tree: Tree, readings: list[str]) -> None:
    folder = tree({"v.mp4": b"\0\0\0\x18ftypmp42", "a.jsonl": json.dumps({"image": "http://example.org/a.png"})})
    entries = [entry for entry in read_corpus(folder, ocr="always", allow_urls=True) if isinstance(entry, Document)]
    assert [type(entry) for entry in entries] == [Located, Located]


def test_many_pictures_are_held_as_long_as_they_are_needed(tree: Tree, readings: list[str]) -> None:
    entries = read_corpus(tree({"a.docx": word_file("x", "red"), "b.png": coloured("red")}), ocr="always")
    held = {entry.id: entry.held for entry in entries if isinstance(entry, Deferred)}
    assert held == {"a.docx": len(coloured("red")) + 1, "b.png": 0}, "a file's bytes are not in memory"


def test_what_is_remembered_is_bounded(tree: Tree, readings: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ocr, "_MOST_KNOWN", 2)
    names = ["red", "green", "red", "blue", "red", "green"]
    folder = tree({f"{number}.png": coloured(name) for number, name in enumerate(names)})
    made(read_corpus(folder, ocr="always"))
    assert readings == ["red", "green", "blue", "green"]


def test_real_words(tree: Tree) -> None:
    picture = PIL.Image.new("RGB", (420, 120), "white")
    PIL.ImageDraw.Draw(picture).text((14, 40), "windmill sails", fill="black", font=PIL.ImageFont.load_default(26))
    document = docx.Document()
    document.add_picture(io.BytesIO(saved(picture)))
    buffer = io.BytesIO()
    document.save(buffer)

    (found,) = made(read_corpus(tree({"a.docx": buffer.getvalue()}), ocr="auto")).values()

    assert shape(found) == ["<picture>", "windmill sails"]
    assert open_image(found.content.images[0]).size == (420, 120)


def test_an_engine_that_fails_names_the_way_out(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError

    monkeypatch.setattr(ocr, "_engine", lambda: fail)
    entries = read_corpus(tree({"a.docx": word_file("red")}), ocr="auto")
    with pytest.raises(ItemError, match="--ocr never"):
        made(entries)
