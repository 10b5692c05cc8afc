"""Videos on their way through a collection: read from a folder, encoded as frames, stored, found, shown as pictures."""

from pathlib import Path

import av
import numpy as np
import pytest

from mmseek import Content, Document, Query, Retriever
from mmseek.errors import InputError
from mmseek.index.corpus import read_corpus
from mmseek.media import open_image
from mmseek.pipeline import IndexReport, index_corpus
from mmseek.testing import FakeEncoder


def make(path: Path, seed: int, frames: int = 12) -> None:
    with av.open(str(path), "w") as output:
        stream = output.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        for _ in range(frames):
            pixels = np.random.default_rng(seed).integers(0, 255, (32, 48, 3), dtype=np.uint8)
            output.mux(stream.encode(av.VideoFrame.from_ndarray(pixels)))
        output.mux(stream.encode())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "films"
    folder.mkdir()
    for seed, name in enumerate(("one.mp4", "two.mov")):
        make(folder / name, seed)
    (folder / "broken.mp4").write_bytes((folder / "one.mp4").read_bytes()[:300])
    return folder


def test_a_folder_of_videos(folder: Path, tmp_path: Path) -> None:
    encoder = FakeEncoder()
    with Retriever.open(tmp_path / "index", encoder, mode="create") as retriever:
        report = index_corpus(read_corpus(folder), encoder, retriever.collection)
        assert report.indexed == 2
        (failure,) = report.failed
        assert "broken.mp4 is a truncated or damaged video" in failure.reason
        assert index_corpus(read_corpus(folder), encoder, retriever.collection).unchanged == 2
        inline = Content.frames((folder / "two.mov").read_bytes())
        retriever.add([Document("inline", inline)])
        hits = retriever.search(Query(inline, k=2)).hits
        assert {hit.id for hit in hits} == {"two.mov", "inline"}
        for hit in hits:
            assert hit.score == pytest.approx(1, abs=1e-6)
            assert [image.frame for image in hit.document.content.images] == [(number, 8) for number in range(8)]
            assert {open_image(image).size for image in hit.document.content.images} == {(48, 32)}
        assert retriever.collection.verify().ok


def test_segments_of_videos(folder: Path, tmp_path: Path) -> None:
    encoder = FakeEncoder()
    make(folder / "long.mp4", 3, frames=25)  # 2.5 seconds
    with Retriever.open(tmp_path / "index", encoder, mode="create") as retriever:

        def index(seconds: float) -> IndexReport:
            return index_corpus(read_corpus(folder, video_segments=seconds), encoder, retriever.collection)

        assert index(0).indexed == 3
        report = index(1)
        assert (report.indexed, report.removed) == (7, 3), "the whole videos leave"
        (failure,) = report.failed
        assert (failure.item_id, failure.kind) == ("broken.mp4", "bad_media")
        held = {document.id: document for document in retriever.collection.documents()}
        assert sorted(held) == [
            "long.mp4#1",
            "long.mp4#2",
            "long.mp4#3",
            *(f"{n}#{i}" for n in ("one.mp4", "two.mov") for i in (1, 2)),
        ]
        last = held["long.mp4#3"]
        assert last.parent_id == "long.mp4"
        assert last.metadata == {
            "path": "long.mp4",
            "title": "long",
            "segment": 3,
            "segments": 3,
            "start": 2,
            "end": 2.5,
            "times": [2.062, 2.188, 2.312, 2.438],
        }
        assert [open_image(image).size for image in last.content.images] == [(48, 32)] * 4
        assert index(1).unchanged == 7
        report = index(2)
        assert (report.indexed, report.removed, retriever.collection.info().documents) == (4, 3, 4)
        report = index(0)
        assert (report.indexed, report.removed) == (3, 4)


def test_segments_have_a_length() -> None:
    with pytest.raises(InputError, match="at least 1 second"):
        read_corpus(".", video_segments=0.5)
