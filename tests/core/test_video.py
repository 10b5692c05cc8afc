"""Frames of videos: which ones, within limits, and what a broken video says."""

import io
import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import av
import numpy as np
import PIL.Image
import pytest

from mmseek import Content, Image
from mmseek.digest import digest
from mmseek.errors import InputError, ItemError, MediaError, MediaNotFound, MediaTooLarge, MissingExtra
from mmseek.items import Item, item_to_json, parse_item
from mmseek.media import MediaLimits, open_image
from mmseek.video import VideoLimits, _places, frames_at, video_seconds

Make = Callable[..., Path]
CODECS = {".mp4": "mpeg4", ".webm": "libvpx", ".mov": "mpeg4", ".mkv": "mpeg4", ".avi": "mpeg4"}


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """A video whose frame n is grey of 8 * n, 25 frames a second, one in twelve standing alone."""

    def build(name: str, frames: int = 30, size: tuple[int, int] = (64, 48)) -> Path:
        path = tmp_path / name
        with av.open(str(path), "w") as output:
            stream = output.add_stream(CODECS[path.suffix], rate=25)
            stream.width, stream.height = size
            stream.pix_fmt = "yuv420p"
            stream.gop_size = 12
            stream.codec_context.thread_count = 1
            for number in range(frames):
                pixels = np.full((size[1], size[0], 3), 8 * number, np.uint8)
                output.mux(stream.encode(av.VideoFrame.from_ndarray(pixels)))
            output.mux(stream.encode())
        return path

    return build


def greys(content: Content) -> list[int]:
    return [round(float(np.asarray(open_image(image)).mean()) / 8) for image in content.images]


@pytest.mark.parametrize("suffix", sorted(CODECS))
@pytest.mark.parametrize("count", [1, 2, 8])
def test_frames_stand_at_equal_distances(make: Make, suffix: str, count: int) -> None:
    video = make(f"a{suffix}")
    expected = _places(30, count)
    assert greys(Content.frames(video, count)) == pytest.approx(expected, abs=0.6)
    assert greys(Content.frames(video.read_bytes(), count)) == pytest.approx(expected, abs=0.6)


def test_places() -> None:
    assert _places(30, 8) == [0, 4, 8, 12, 16, 20, 24, 29]
    assert _places(30, 1) == [0]
    assert _places(2, 4) == [0, 0, 0, 1]


def test_a_short_video_repeats_frames(make: Make) -> None:
    assert greys(Content.frames(make("a.mp4", frames=1), 3)) == [0, 0, 0]


def test_a_replaced_video_is_read_anew(make: Make) -> None:
    first = Content.frames(make("a.mp4", frames=30), 2)
    assert greys(first) == [0, 29]
    assert greys(Content.frames(make("a.mp4", frames=11), 2)) == [0, 10]


def test_limits(make: Make) -> None:
    image = Content.frames(make("a.mp4")).images[0]
    for limits, words in (
        (MediaLimits(max_video_bytes=100), "more than the limit of 100"),
        (MediaLimits(max_video_seconds=1), "longer than the limit of 1 seconds"),
        (MediaLimits(max_pixels=1000), "64 x 48 pixels, more than the limit of 1000"),
    ):
        with pytest.raises(MediaTooLarge, match=words):
            open_image(image, limits=limits)
    assert open_image(image, limits=MediaLimits(max_bytes=1)).size == (64, 48)  # the pictures' limit is not the videos'


def test_what_is_no_video_is_one_sentence(make: Make, tmp_path: Path) -> None:
    whole = make("a.mp4").read_bytes()

    def frame(data: bytes) -> Image:
        return Content.frames(data).images[0]

    picture = io.BytesIO()
    PIL.Image.new("RGB", (8, 8)).save(picture, "PNG")
    for data in (whole[:-400], whole[: len(whole) // 3], whole[:20], b"\x1aE\xdf\xa3" + bytes(400)):
        with pytest.raises(MediaError, match=r"video of .* truncated or damaged"):
            open_image(frame(data))
    for data in (picture.getvalue(), b"#EXTM3U\nfile:///etc/passwd", b"ffconcat version 1.0\nfile '/etc/passwd'"):
        with pytest.raises(MediaError, match="not a video of a known format"):
            open_image(frame(data))
    with pytest.raises(MediaError, match="is empty"):
        open_image(frame(b""))
    with pytest.raises(MediaNotFound, match="does not exist"):
        open_image(Content.frames(tmp_path / "nowhere.mp4").images[0])
    with pytest.raises(MediaError, match="no regular file"):
        open_image(Content.frames(tmp_path).images[0])


def test_sound_alone_is_no_video(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("aac", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 8000
        output.mux(stream.encode(frame))
        output.mux(stream.encode())
    with pytest.raises(MediaError, match="no pictures"):
        open_image(Content.frames(path).images[0])


def test_hostile_bytes_end_in_a_media_error(make: Make) -> None:
    whole = make("a.mp4", frames=5).read_bytes()
    random = np.random.default_rng(0)
    for _ in range(60):
        data = bytearray(whole)
        for place in random.integers(8, len(data), 20):
            data[place] = random.integers(256)
        with suppress(MediaError):  # anything else is a failure
            open_image(Content.frames(bytes(data), 2).images[1])


def test_without_pyav_the_command_is_named(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    image = Content.frames(make("a.mp4")).images[0]
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"mmseek\[video\]"):
        open_image(image)


def test_items_hold_videos(make: Make) -> None:
    video = make("a.mp4")
    given = {
        "content": [
            {"type": "text", "text": "before"},
            {"type": "video", "video": "a.mp4"},
            {"type": "video", "video": "a.mp4", "frames": 3},
            {"type": "text", "text": "after"},
        ]
    }
    item = parse_item(given, base=video.parent)
    assert len(item.content.images) == 11
    assert item.content.modality == "image,text"
    assert item_to_json(item, relative_to=video.parent) == given
    inline = Item(Content.frames(video.read_bytes(), 2))
    written = item_to_json(inline)
    assert written["content"][0]["video"].startswith("data:video/mp4;base64,")
    assert parse_item(json.loads(json.dumps(written)), base=None) == inline
    with pytest.raises(ItemError, match="not all in order"):
        item_to_json(Item(Content(item.content.images[1:3])))


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ({"video": "https://example.org/a.mp4"}, "videos are not fetched"),
        ({"video": "data:image/png;base64,AAAA"}, "data:video/mp4"),
        ({"video": ""}, "must not be empty"),
        ({}, "has no video"),
        ({"video": "a.mp4", "frames": 0}, "from 1 to 64"),
        ({"video": "a.mp4", "frames": 2.5}, "from 1 to 64"),
        ({"video": "a.mp4", "image": "a.png"}, "unknown key"),
    ],
)
def test_bad_parts_are_refused(part: dict[str, object], words: str) -> None:
    with pytest.raises(ItemError, match=words):
        parse_item({"content": [{"type": "video", **part}]}, base=Path())


def test_the_digest_is_of_the_videos_bytes(make: Make, tmp_path: Path) -> None:
    video = make("a.mp4")
    moved = tmp_path / "b.mp4"
    moved.write_bytes(video.read_bytes())
    assert digest(Content.frames(video)) == digest(Content.frames(moved)) == digest(Content.frames(moved.read_bytes()))
    others = {digest(Content.frames(video, count)) for count in (1, 2, 8)}
    others |= {digest(Content.of(video)), digest(Content.frames(make("c.mp4", frames=9)))}
    assert len(others) == 5
    assert digest(Content.frames(video), limits=MediaLimits(max_bytes=1)) == digest(Content.frames(video))
    with pytest.raises(MediaTooLarge):
        digest(Content.frames(video), limits=MediaLimits(max_video_bytes=9))


def test_a_frame_is_one_of_its_number() -> None:
    for frame in ((2, 2), (-1, 2), (0, 0)):
        with pytest.raises(InputError, match="frames from 0"):
            Image(path=Path("a.mp4"), frame=frame)
    with pytest.raises(InputError, match="frames from 0"):
        Image(url="https://example.org/a.mp4", frame=(0, 1))
    with pytest.raises(InputError, match="at least 1 frame"):
        Content.frames(Path("a.mp4"), 0)


@pytest.mark.parametrize("suffix", sorted(CODECS))
def test_frames_at_seconds(make: Make, suffix: str) -> None:
    video = make(f"a{suffix}")
    assert video_seconds(video, "a", VideoLimits()) == pytest.approx(30 / 25, abs=0.05)
    for source in (video, video.read_bytes()):
        frames = frames_at(source, [0, 0.01, 0.5, 1.1, 9], "a", VideoLimits())
        assert [round(float(np.asarray(frame.convert("L")).mean()) / 8) for frame in frames] == pytest.approx(
            [0, 0, 12, 27, 29], abs=1
        )
    with pytest.raises(MediaTooLarge, match="longer than the limit of 1 seconds"):
        video_seconds(video, "a", VideoLimits(max_seconds=1))
