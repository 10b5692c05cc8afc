"""Pictures and their captions side by side in one index: a search finds either, and shows the picture once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mmseek import Content, Document, Query, Retriever
from mmseek.errors import InputError
from mmseek.pipeline.asking import Asking, answer
from mmseek.pipeline.chat import Chat
from mmseek.pipeline.context import Budget
from mmseek.protocols import Collection
from mmseek.testing import FakeEncoder, FakeReranker


@pytest.fixture
def pictures(tmp_path: Path, png: Callable[[str], bytes]) -> dict[str, Path]:
    for colour in ("red", "green"):
        (tmp_path / f"{colour}.png").write_bytes(png(colour))
    return {colour: tmp_path / f"{colour}.png" for colour in ("red", "green")}


@pytest.fixture
def retriever(collection: Collection, encoder: FakeEncoder, pictures: dict[str, Path]) -> Retriever:
    """A picture and a page, each with its caption, a caption whose picture is gone, and a text."""
    opened = Retriever(encoder, collection)
    about = {"page": 3}
    documents = [
        Document("red.png", Content.of(pictures["red"])),
        Document("red.png#caption", Content.of("a red roof"), {"caption_of": "red.png"}, "red.png"),
        Document("r.pdf#3", Content.of(pictures["green"], "layer"), about, "r.pdf"),
        Document("r.pdf#3#caption", Content.of("a green field"), {**about, "caption_of": "r.pdf#3"}, "r.pdf"),
        Document("gone#caption", Content.of("a blue pond"), {"caption_of": "gone"}, "gone"),
        Document("text", Content.of("words alone")),
        Document("r.pdf#4", Content.of("another page"), {"page": 4}, "r.pdf"),
    ]
    assert opened.add(documents).ok
    return opened


def shown(result: Any) -> list[str]:
    return [hit.id for hit in result]


def test_either_way_leads_to_the_picture(retriever: Retriever, pictures: dict[str, Path]) -> None:
    by_words = retriever.search("a red roof", group_by="caption", k=1).hits[0]
    by_picture = retriever.search(image=pictures["red"], group_by="caption", k=1).hits[0]

    assert by_words.id == by_picture.id == "red.png"
    assert by_words.score == pytest.approx(1.0, abs=1e-5)
    assert by_words.document == by_picture.document, "whichever of the two was found"
    assert by_words.document.content.images[0].path == pictures["red"]
    assert by_words.document.content.text == "a red roof"
    assert by_words.document.metadata == {}


def test_each_thing_is_shown_once(retriever: Retriever) -> None:
    everything = retriever.search("a green field", k=10, group_by="caption")

    assert sorted(shown(everything)) == ["gone#caption", "r.pdf#3", "r.pdf#4", "red.png", "text"]
    assert shown(everything)[0] == "r.pdf#3"
    assert [hit.rank for hit in everything] == [1, 2, 3, 4, 5]
    assert everything.hits[0].document.content.text == "layer\na green field"
    assert len(shown(retriever.search("a green field", k=3, group_by="caption"))) == 3, "k things, not k documents"


def test_by_parent_a_picture_is_in_one_group_with_its_caption(retriever: Retriever) -> None:
    found = shown(retriever.search("a red roof", k=10, group_by="parent"))
    assert found[0] == "red.png#caption"
    assert "red.png" not in found
    assert len(found) == 4, "red.png, r.pdf, gone and text"


def test_what_is_never_ranked_does_not_come_back_by_its_caption(retriever: Retriever) -> None:
    found = retriever.search("a red roof", k=10, group_by="caption", exclude=["red.png"])
    assert "red.png" not in shown(found)
    assert len(found) == 4
    assert "red.png" not in shown(retriever.search("a red roof", k=10, group_by="caption", unlike=["red.png"]))


@pytest.mark.parametrize("mode", ["dense", "lexical", "hybrid"])
def test_in_every_mode(retriever: Retriever, mode: Any) -> None:
    assert shown(retriever.search("a red roof", k=1, group_by="caption", mode=mode)) == ["red.png"]


def test_a_reranker_is_given_both(encoder: FakeEncoder, retriever: Retriever) -> None:
    judge = FakeReranker(lambda pair: float(len(pair.document.images)))
    reranked = Retriever(encoder, retriever.collection, judge)
    reranked.search("a red roof", k=2, group_by="caption")
    assert ("a red roof", 1) in [(pair.document.text, len(pair.document.images)) for pair in judge.pairs]


def test_other_groups_are_refused(retriever: Retriever) -> None:
    with pytest.raises(InputError, match="by parent, by caption or not at all"):
        retriever.search("x", group_by="colour")  # type: ignore[arg-type]


def test_an_answer_is_given_the_picture_that_a_caption_found(retriever: Retriever, fake_chat: Any) -> None:
    fake_chat.answers = ["It is red [1]."]

    said = answer(retriever, Query(Content.of("a red roof"), k=1), Chat(fake_chat.url, "m"))

    assert [(source.document, len(source.pictures)) for source in said.cited] == [("red.png", 1)]
    assert [part["type"] for part in fake_chat.parts] == ["text", "image_url", "text", "text"]
    assert "a red roof" in fake_chat.parts[0]["text"]


def test_a_caption_stands_for_a_picture_that_has_no_room(retriever: Retriever, fake_chat: Any) -> None:
    how = Asking(budget=Budget(pictures=0))
    said = answer(retriever, Query(Content.of("a green field"), k=1), Chat(fake_chat.url, "m"), how)
    assert (said.sources[0].text, said.sources[0].page) == ("layer\na green field", 3)
