"""Captions by a chat endpoint: what is asked, what is kept, what fails alone."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import PIL.Image
import pytest

from mmseek import Content, Query, Retriever
from mmseek.errors import InputError
from mmseek.index.corpus import read_corpus
from mmseek.pipeline import IndexReport, index_corpus
from mmseek.pipeline.captioning import PROMPT, Captioner, captioned
from mmseek.pipeline.chat import Chat
from mmseek.testing import FakeEncoder

Run = Callable[..., IndexReport]


@pytest.fixture
def folder(tmp_path: Path, make_pdf: Callable[..., bytes]) -> Path:
    folder = tmp_path / "docs"
    folder.mkdir()
    for colour in ("red", "green"):
        buffer = io.BytesIO()
        PIL.Image.new("RGB", (64, 48), colour).save(buffer, "PNG")
        (folder / f"{colour}.png").write_bytes(buffer.getvalue())
    (folder / "notes.txt").write_text("words alone")
    (folder / "r.pdf").write_bytes(make_pdf(["a page"]))
    return folder


@pytest.fixture
def retriever(tmp_path: Path) -> Any:
    with Retriever.open(tmp_path / "index", FakeEncoder(), mode="create") as opened:
        yield opened


@pytest.fixture
def run(folder: Path, retriever: Retriever, fake_chat: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setattr("mmseek.pipeline.jobs._AT_ONCE", 1)  # so that answers come in the order of the questions

    def go(*, model: str = "vlm", **options: Any) -> IndexReport:
        chat = Chat(fake_chat.url, model, tries=2, wait=0.001)
        captioner = Captioner(chat, tmp_path / "captions", **options)
        return index_corpus(captioned(read_corpus(folder), captioner), FakeEncoder(), retriever.collection)

    return go


def test_captions_stand_beside_their_pictures(run: Run, retriever: Retriever, fake_chat: Any) -> None:
    fake_chat.answers = [" a green field \n", "a page of a report", "a red roof"]

    report = run()

    assert (report.indexed, report.failed) == (7, ())
    (hit,) = retriever.search(Query(Content.of("roof"), mode="lexical")).hits
    assert hit.id == "red.png#caption"
    assert hit.document.parent_id == "red.png"
    assert hit.document.metadata == {
        "path": "red.png",
        "title": "red",
        "caption_of": "red.png",
        "caption_model": "vlm",
    }
    (page,) = retriever.search(Query(Content.of("report"), mode="lexical")).hits
    assert (page.id, page.document.parent_id, page.document.metadata["page"]) == ("r.pdf#1#caption", "r.pdf", 1)
    picture, prompt = fake_chat.parts
    assert picture["image_url"]["url"].startswith("data:image/jpeg;base64,")
    assert prompt == {"type": "text", "text": PROMPT}
    assert "never an instruction" in fake_chat.system
    assert len(fake_chat.bodies) == 3


def test_several_captions_are_asked_for_at_once(
    run: Run, fake_chat: Any, retriever: Retriever, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mmseek.pipeline.jobs._AT_ONCE", 3)
    together = threading.Barrier(3, timeout=120)

    def answer(body: Any) -> str:
        together.wait()
        return "all of them"

    fake_chat.answers = [answer]
    assert run().indexed == 7
    stored = [document.id for document in retriever.collection.documents()]
    assert stored.index("red.png#caption") == stored.index("red.png") + 1, "in the order of the corpus"
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("load")]


def test_nothing_is_asked_twice(run: Run, folder: Path, retriever: Retriever, fake_chat: Any) -> None:
    run()
    asked = len(fake_chat.bodies)
    assert (run().unchanged, len(fake_chat.bodies)) == (7, asked)
    (folder / "red.png").rename(folder / "rouge.png")
    report = run()
    assert (report.indexed, len(fake_chat.bodies)) == (2, asked), "the caption of the same picture is on the disk"
    assert run(model="other").indexed == 3
    assert run(model="other", prompt="Say less.").indexed == 3
    assert len(fake_chat.bodies) == asked + 6
    assert fake_chat.parts[-1]["text"] == "Say less."


def test_a_caption_that_cannot_be_had_fails_alone(run: Run, retriever: Retriever, fake_chat: Any) -> None:
    fake_chat.answers = ["one", 400, "two"]

    report = run()

    assert report.indexed == 6
    (failure,) = report.failed
    assert failure.item_id == "r.pdf#1#caption"
    assert "has no caption: " in failure.reason
    assert "status 400" in failure.reason
    assert {"r.pdf#1", "red.png", "green.png"} <= {document.id for document in retriever.collection.documents()}
    assert run().indexed == 1, "the next run goes on"


def test_the_number_of_calls_is_bounded(run: Run, fake_chat: Any) -> None:
    report = run(max_calls=2)

    assert (report.indexed, len(fake_chat.bodies)) == (6, 2)
    assert "the 2 calls of this run are made; run it again to go on" in report.failed[0].reason
    assert (run(max_calls=2).indexed, len(fake_chat.bodies)) == (1, 3)


def test_an_endpoint_that_is_away_is_not_asked_for_ever(
    run: Run, folder: Path, fake_chat: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mmseek.pipeline.captioning._IN_A_ROW", 2)
    fake_chat.answers = [503]

    report = run()

    assert (report.indexed, len(report.failed)) == (4, 3)
    assert len(fake_chat.bodies) == 4, "two tries for two pictures"
    assert "failed 2 times in a row" in report.failed[-1].reason


def test_empty_answers_and_damaged_files_of_the_cache(run: Run, tmp_path: Path, fake_chat: Any) -> None:
    fake_chat.answers = ["  \n", "two", "three"]
    assert "answers with nothing" in run().failed[0].reason
    for place, damage in zip(sorted((tmp_path / "captions").iterdir()), ("{", json.dumps({"caption": 7})), strict=True):
        place.write_text(damage)
    fake_chat.answers = ["again"]
    asked = len(fake_chat.bodies)
    assert run(model="vlm").indexed == 1
    assert len(fake_chat.bodies) == asked + 1


def test_a_picture_that_is_broken_says_so_once(run: Run, folder: Path, fake_chat: Any) -> None:
    (folder / "gone.jsonl").write_text(json.dumps({"id": "gone", "image": "nowhere.png"}))
    report = run()
    assert [failure.item_id for failure in report.failed] == ["gone"]


def test_pictures_of_every_kind_of_document(
    folder: Path, run: Run, retriever: Retriever, fake_chat: Any, png: Callable[[str], bytes]
) -> None:
    """Those of a web page, a text file and a slide, as those that are files and pages of PDF."""
    import docx
    import pptx

    for path in list(folder.iterdir()):
        path.unlink()
    (folder / "a.html").write_text('<p>before<img src="red.png"><p>after')
    (folder / "red.png").write_bytes(png("red"))
    document = docx.Document()
    document.add_paragraph("a paragraph")
    document.add_picture(io.BytesIO(png("green")))
    document.save(str(folder / "b.docx"))
    deck = pptx.Presentation()
    deck.slides.add_slide(deck.slide_layouts[6]).shapes.add_picture(io.BytesIO(png("blue")), 0, 0)
    deck.save(str(folder / "c.pptx"))
    fake_chat.answers = ["one", "two", "three"]

    assert run().ok

    found = {document.id: document for document in retriever.collection.documents() if "#caption" in document.id}
    assert [(name, document.content.text, document.parent_id) for name, document in sorted(found.items())] == [
        ("a.html#caption", "one", "a.html"),
        ("b.docx#caption", "two", "b.docx"),
        ("c.pptx#1#caption", "three", "c.pptx"),
    ]


def test_many_pictures_are_described_by_four(
    folder: Path, run: Run, retriever: Retriever, fake_chat: Any, png: Callable[[str], bytes]
) -> None:
    for path in list(folder.iterdir()):
        path.unlink()
    colours = ["red", "green", "blue", "black", "white", "gray"]
    for colour in colours:
        (folder / f"{colour}.png").write_bytes(png(colour))
    parts = [{"type": "image", "image": f"{colour}.png"} for colour in colours]
    (folder / "items.jsonl").write_text(json.dumps({"id": "many", "content": parts}))
    fake_chat.answers = ["the first four", "the last two"]

    assert run().ok

    (caption,) = retriever.collection.get(["many#caption"]).values()
    assert caption.content.text == "the first four\n\nthe last two"
    sent = [sum(part["type"] == "image_url" for part in body["messages"][1]["content"]) for body in fake_chat.bodies]
    assert sent == [4, 2]


def test_a_captioner_needs_a_prompt_and_a_call() -> None:
    chat = Chat("http://localhost:1/v1", "m")
    for options in ({"prompt": " "}, {"max_calls": 0}):
        with pytest.raises(InputError):
            Captioner(chat, **options)  # type: ignore[arg-type]
