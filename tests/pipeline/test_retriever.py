"""Search and add through one object."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import PIL.Image
import pytest

from mmseek import Content, Document, Image, Query
from mmseek.errors import CollectionError, CollectionLocked, EncoderMismatch, InputError, MediaNotFound, NotACollection
from mmseek.index import open_collection
from mmseek.pipeline import Retriever
from mmseek.protocols import Collection
from mmseek.testing import FakeEncoder


@pytest.fixture
def retriever(collection: Collection, encoder: FakeEncoder, tmp_path: Path, png: Callable[[str], bytes]) -> Retriever:
    (tmp_path / "red.png").write_bytes(png("red"))
    opened = Retriever(encoder, collection)
    opened.add(
        [
            Document("text", Content.of("a red bike")),
            Document("picture", Content.of(tmp_path / "red.png")),
            Document("both", Content.of(tmp_path / "red.png", "a red bike")),
        ]
    )
    return opened


def test_search_with_text_picture_and_both(retriever: Retriever, tmp_path: Path, png: Callable[[str], bytes]) -> None:
    path = tmp_path / "red.png"
    picture = PIL.Image.open(io.BytesIO(png("red")))

    assert retriever.search("a red bike").hits[0].id == "text"
    assert retriever.search(image=path).hits[0].id == "picture"
    assert retriever.search(image=str(path)).hits[0].id == "picture"
    assert retriever.search(image=Image(data=png("red"))).hits[0].id == "picture"
    assert retriever.search(image=picture).took_ms > 0  # kept as another PNG, so other bytes
    for both in (retriever.search("a red bike", image=path), retriever.search(Content.of(path, "a red bike"))):
        assert both.hits[0].id == "both"
        assert both.hits[0].score == pytest.approx(1.0, abs=1e-6)  # the order of the parts is that of the document
    assert retriever.search(Query(Content.of("a red bike"), k=1)).hits[0].id == "text"


def test_result_says_scores_ranks_and_times(retriever: Retriever) -> None:
    result = retriever.search("a red bike", k=2)

    assert [hit.rank for hit in result] == [1, 2]
    assert len(result) == 2
    assert result.hits[0].score == pytest.approx(1.0, abs=1e-6)
    assert result.hits[0].document.content.text == "a red bike"
    assert set(result.timings) == {"encode", "search"}
    assert sum(result.timings.values()) == pytest.approx(result.took_ms)


def test_ids_are_left_out_or_singled_out(retriever: Retriever) -> None:
    assert "text" not in [hit.id for hit in retriever.search("a red bike", exclude=["text"])]
    assert [hit.id for hit in retriever.search("a red bike", candidates=["both"])] == ["both"]
    assert len(retriever.search("a red bike", candidates=[])) == 0
    assert [hit.id for hit in retriever.search(Query(Content.of("x"), candidates=frozenset({"both"})))] == ["both"]


def test_query_that_says_nothing_or_too_much_is_refused(retriever: Retriever) -> None:
    with pytest.raises(InputError, match="neither text nor image"):
        retriever.search()
    with pytest.raises(InputError, match="neither text nor image"):
        retriever.search("  ")
    with pytest.raises(InputError, match="at least 1, not 0"):
        retriever.search("x", k=0)
    with pytest.raises(InputError, match="a Query says everything itself"):
        retriever.search(Query(Content.of("x")), k=3)
    with pytest.raises(MediaNotFound):
        retriever.search(image="missing.png")


class Asked(FakeEncoder):
    instruction: str | None = None

    def encode_query(self, contents, instruction=None):  # type: ignore[no-untyped-def]
        self.instruction = instruction
        return super().encode_query(contents, instruction)


def test_instruction_reaches_the_encoder(collection: Collection) -> None:
    encoder = Asked()

    Retriever(encoder, collection).search("x", instruction="find photos")

    assert encoder.instruction == "find photos"


def test_delete_and_add(retriever: Retriever) -> None:
    assert retriever.delete(["text", "unknown"]) == 1
    assert "text" not in [hit.id for hit in retriever.search("a red bike")]
    assert retriever.add([Document("text", Content.of("a red bike"))]).indexed == 1
    assert retriever.search("a red bike").hits[0].id == "text"


def test_open_loads_the_encoder_that_the_collection_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[tuple[str, str | None]] = []

    def load(spec: str, *, device: str | None = None) -> FakeEncoder:
        loaded.append((spec, device))
        return FakeEncoder(spec=spec)

    monkeypatch.setattr("mmseek.pipeline.retriever.load_any", load)
    with Retriever.open(tmp_path / "c", "fake", mode="create") as made:
        made.add([Document("a", Content.of("words"))])

    with Retriever.open(tmp_path / "c", device="cpu") as opened:
        assert opened.search("words").hits[0].id == "a"
        with pytest.raises(CollectionError, match="open for reading only"):
            opened.add([Document("b", Content.of("words"))])

    assert loaded == [("fake", None), ("fake", "cpu")]


def test_open_refuses_another_encoder(tmp_path: Path, encoder: FakeEncoder) -> None:
    Retriever.open(tmp_path / "c", encoder, mode="create").close()

    with pytest.raises(EncoderMismatch, match=r"vectors of encoder fake .*, not of other"):
        Retriever.open(tmp_path / "c", FakeEncoder(spec="other"))


def test_weights_that_changed_under_their_name_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Retriever.open(tmp_path / "c", FakeEncoder(), mode="create").close()
    monkeypatch.setattr("mmseek.pipeline.retriever.load_any", lambda spec, device: FakeEncoder(dim=8))

    with pytest.raises(EncoderMismatch):
        Retriever.open(tmp_path / "c", mode="write")
    open_collection(tmp_path / "c", mode="write").close()  # no lock was left behind


def test_open_where_there_is_none(tmp_path: Path, encoder: FakeEncoder) -> None:
    with pytest.raises(NotACollection):
        Retriever.open(tmp_path / "c")
    with pytest.raises(InputError, match="needs an encoder"):
        Retriever.open(tmp_path / "c", mode="create")
    with Retriever.open(tmp_path / "c", encoder, mode="write"), pytest.raises(CollectionLocked):
        Retriever.open(tmp_path / "c", encoder, mode="write")
