"""A collection with another encoder: beside the old one, resumed, and switched to only when it is whole."""

from __future__ import annotations

import pytest

from mmseek import Content, Document, Image, Retriever
from mmseek.errors import CollectionLocked, EncoderMismatch, InputError
from mmseek.index import folder_of, open_collection, set_alias, verify_collection
from mmseek.pipeline.reembedding import reembed_collection
from mmseek.testing import FakeEncoder


@pytest.fixture
def new():
    return FakeEncoder(dim=24, spec="new")


@pytest.fixture
def alias(tmp_path, encoder, png):
    """An alias of a collection of 20 texts and a picture that it keeps."""
    with Retriever.open(tmp_path / "old", encoder, mode="create") as retriever:
        retriever.add(Document(f"d{n}", Content.of(f"text {n}"), {"n": n}, "p") for n in range(20))
        retriever.add([Document("i", Content((Image(data=png("red")),)))])
    set_alias(tmp_path / "photos", tmp_path / "old")
    return tmp_path / "photos"


def test_the_alias_stands_for_the_new_collection_and_the_old_is_kept(alias, tmp_path, encoder, new, png):
    done = reembed_collection(alias, new)
    assert done.switched
    assert (done.report.indexed, done.report.unchanged, done.removed) == (21, 0, 0)
    assert folder_of(alias) == done.target != done.source
    with open_collection(tmp_path / "old") as old, open_collection(alias) as opened:
        assert opened.info().encoder == new.identity
        assert old.info().encoder == encoder.identity
        assert [document.id for document in opened.documents()] == [document.id for document in old.documents()]
        assert opened.get(["d3"]) == old.get(["d3"])
        (picture,) = opened.get(["i"])["i"].content.images
        assert picture.path.is_relative_to(done.target)  # its own copy: the old one may be removed
        assert picture.path.read_bytes() == png("red")
    assert verify_collection(alias).ok
    with Retriever.open(alias, new) as retriever:
        assert retriever.search("text 7", k=1).hits[0].id == "d7"


def test_it_is_resumed(alias, tmp_path, new):
    stopping = FakeEncoder(dim=24, spec="new", window=4)
    real, left = stopping._outcome, [9]

    def outcome(request):
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt
        return real(request)

    stopping._outcome = outcome
    with pytest.raises(KeyboardInterrupt):
        reembed_collection(alias, stopping, tmp_path / "next")
    assert folder_of(alias) == tmp_path / "old"
    stored = open_collection(tmp_path / "next").info().documents
    done = reembed_collection(alias, new, tmp_path / "next")
    assert done.switched
    assert done.report.unchanged == stored
    assert done.report.indexed == 21 - stored


def test_what_is_written_meanwhile_is_there_too(alias, tmp_path, new):
    def write(_):
        if written:
            return
        written.append(True)
        with Retriever.open(tmp_path / "old", FakeEncoder(), mode="write") as retriever:
            retriever.add([Document("late", Content.of("late"))])
            retriever.delete(["d4"])

    written: list[bool] = []
    done = reembed_collection(alias, new, on_progress=write)
    assert written
    with open_collection(alias) as opened:
        held = {document.id for document in opened.documents()}
    assert "late" in held
    assert "d4" not in held
    assert done.removed == 1


def test_with_failures_it_is_not_switched(alias, tmp_path, png):
    failing = FakeEncoder(dim=24, spec="new", fail_on="text 7")
    done = reembed_collection(alias, failing)
    assert not done.switched
    assert [failure.item_id for failure in done.report.failed] == ["d7"]
    assert folder_of(alias) == tmp_path / "old"
    assert reembed_collection(alias, failing, force=True).switched


def test_without_an_alias_nothing_is_switched(alias, tmp_path, new):
    done = reembed_collection(tmp_path / "old", new)
    assert not done.switched
    assert folder_of(alias) == tmp_path / "old"
    assert open_collection(done.target).info().documents == 21
    assert not reembed_collection(alias, new, switch=False).switched


def test_what_is_refused(alias, tmp_path, encoder, new):
    with pytest.raises(InputError, match="already"):
        reembed_collection(alias, encoder)
    open_collection(tmp_path / "third", mode="create", encoder=FakeEncoder(dim=5, spec="third").identity).close()
    with pytest.raises(EncoderMismatch):
        reembed_collection(alias, new, tmp_path / "third")
    with open_collection(tmp_path / "old", mode="write"), pytest.raises(CollectionLocked):
        reembed_collection(alias, new)
    assert folder_of(alias) == tmp_path / "old"
