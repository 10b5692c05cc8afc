"""Where a document's pictures are, said in metadata, and read back from it."""

from __future__ import annotations

import pytest

from mmseek import Content, Document
from mmseek.api.rag.facts import content_of, own_metadata, picture_metadata


def as_content(*parts):
    return Document("a", Content.of(*parts), {"year": 2020})


def test_a_text_says_nothing(pictures):
    assert picture_metadata(as_content("words")) == {}
    assert own_metadata({"year": 2020, "modality": "text"}) == {"year": 2020, "modality": "text"}


@pytest.mark.parametrize("colours", [["red"], ["red", "blue"]])
@pytest.mark.parametrize("words", [[], ["words"]])
def test_pictures_are_read_back(pictures, colours, words):
    document = as_content(*(pictures[colour] for colour in colours), *words)
    said = picture_metadata(document)
    assert said["image_path"] == str(pictures["red"])
    assert said["mime_type"] == "image/png"
    assert ("image_paths" in said) == (len(colours) > 1)
    whole = {**document.metadata, **said}
    assert content_of(document.content.text, whole) == document.content
    assert own_metadata(whole) == document.metadata


def test_a_video_is_read_back(tmp_path):
    clip = tmp_path / "clip.mp4"
    document = Document("v", Content((*Content.frames(clip, 3).parts, *Content.of("words").parts)))
    said = picture_metadata(document)
    assert said == {"modality": "image,text", "video_path": str(clip), "video_frames": 3}
    assert content_of("words", said) == document.content
    assert own_metadata({**said, "n": 1}) == {"n": 1}


def test_a_picture_that_is_gone_has_no_type(tmp_path):
    assert "mime_type" not in picture_metadata(as_content(tmp_path / "gone.png"))


@pytest.mark.parametrize("value", [None, 5, "", ["a"], {}])
def test_other_things_under_the_name_are_no_picture(value):
    assert content_of("words", {"image_path": value}) == Content.of("words")
    assert own_metadata({"image_path": value, "modality": "x"}) == {"image_path": value, "modality": "x"}
