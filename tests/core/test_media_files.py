"""What is not a usable picture is refused with one sentence, wherever it comes from."""

from __future__ import annotations

import os
import struct
import threading
from collections.abc import Callable
from pathlib import Path

import PIL.Image
import pytest
from PIL.JpegImagePlugin import JpegImageFile

from mmseek import Image
from mmseek.errors import InputError, MediaError, MediaNotFound, MediaTooLarge, UrlRefused
from mmseek.media import MediaInfo, MediaLimits, open_image, probe, read_bytes

Encode = Callable[..., bytes]


def sentence(error: pytest.ExceptionInfo[InputError]) -> str:
    """The message, having checked that it is one sentence with nothing of a library's inside."""
    text = str(error.value)
    assert "\n" not in text
    assert not any(word in text for word in ("0x", "BytesIO", "cannot identify", "object at", "Traceback"))
    assert len(text) < 450
    return text


def test_missing_file(tmp_path: Path) -> None:
    for path in (tmp_path / "none.png", tmp_path / "file" / "none.png"):
        (tmp_path / "file").write_bytes(b"x")
        with pytest.raises(MediaNotFound) as error:
            open_image(Image(path=path))
        assert sentence(error) == f"{path} does not exist: check the path"


@pytest.mark.parametrize("name", ["a" * 5000, "zero\0byte.png"])
def test_impossible_path(tmp_path: Path, name: str) -> None:
    with pytest.raises(MediaNotFound, match="check the path") as error:
        read_bytes(Image(path=tmp_path / name))
    assert "\0" not in sentence(error)


def test_loop_of_links(tmp_path: Path) -> None:
    loop = tmp_path / "loop.png"
    loop.symlink_to(loop)
    with pytest.raises(MediaNotFound):
        read_bytes(Image(path=loop))


def test_link_to_a_picture_is_followed(tmp_path: Path, photo: PIL.Image.Image, encode: Encode) -> None:
    (tmp_path / "real").write_bytes(encode(photo, "PNG"))
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert open_image(Image(path=tmp_path / "link")).size == (48, 32)


def test_folder(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="is a folder, not a picture") as error:
        open_image(Image(path=tmp_path))
    assert sentence(error).startswith(str(tmp_path))


@pytest.mark.timeout(120)
def test_pipe_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(MediaError, match="device or pipe"):
        open_image(Image(path=tmp_path / "pipe.png"))


@pytest.mark.timeout(120)
@pytest.mark.parametrize("device", ["/dev/zero", "/dev/null", "/dev/urandom"])
def test_device_is_not_read(device: str) -> None:
    with pytest.raises(MediaError, match="device or pipe"):
        open_image(Image(path=Path(device)))


@pytest.mark.timeout(120)
def test_file_that_becomes_a_pipe_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"x")
    real = os.open

    def swapped(name: Path, flags: int, *rest: int) -> int:
        path.unlink()
        os.mkfifo(path)
        return real(name, flags, *rest)

    monkeypatch.setattr("mmseek.media.os.open", swapped)
    with pytest.raises(MediaError, match="device or pipe"):
        read_bytes(Image(path=path))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable_file(tmp_path: Path) -> None:
    path = tmp_path / "secret.png"
    path.write_bytes(b"x")
    path.chmod(0)
    with pytest.raises(MediaNotFound, match="may not be read: change its permissions"):
        read_bytes(Image(path=path))


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (PermissionError(13, "Permission denied"), "may not be read: change its permissions"),
        (OSError(5, "Input/output error"), r"cannot be read \(Input/output error\): check the path and the disk"),
    ],
)
def test_faults_of_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: OSError, message: str) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"x")

    def broken(*_: object) -> int:
        raise fault

    monkeypatch.setattr("mmseek.media.os.open", broken)
    with pytest.raises(MediaNotFound, match=message) as error:
        read_bytes(Image(path=path))
    sentence(error)


def test_url_is_not_fetched() -> None:
    with pytest.raises(UrlRefused, match="is not fetched: save the picture") as error:
        open_image(Image(url="https://example.org/" + "a" * 9000))
    sentence(error)


@pytest.mark.parametrize("source", ["data", "path"])
def test_empty(tmp_path: Path, source: str) -> None:
    (tmp_path / "empty.png").write_bytes(b"")
    image = Image(data=b"") if source == "data" else Image(path=tmp_path / "empty.png")
    for use in (open_image, read_bytes):
        with pytest.raises(MediaError, match="is empty: give a whole picture file"):
            use(image)


def test_probe_of_nothing() -> None:
    with pytest.raises(MediaError, match="is empty"):
        probe(b"")
    with pytest.raises(MediaError, match="not a picture of a known format"):
        probe(b"hello")


@pytest.mark.parametrize(
    "data", [b"hello", b"\0" * 100, b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"%PDF-1.7", b"RIFF\0\0\0\0WAVE"]
)
def test_unknown_format(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(data)
    with pytest.raises(MediaError) as error:
        open_image(Image(path=path))
    assert sentence(error) == (
        f"{path} is not a picture of a known format: convert it to JPEG, PNG, WEBP, GIF, BMP or TIFF"
    )


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.7])
def test_truncated(photo: PIL.Image.Image, encode: Encode, kind: str, share: float) -> None:
    data = encode(photo.resize((480, 320)), kind)
    with pytest.raises(MediaError) as error:
        open_image(Image(data=data[: max(12, int(share * len(data)))]))
    assert f"is a truncated or damaged {kind}: save it anew or leave it out" in sentence(error)


def test_damaged_pixels(photo: PIL.Image.Image, encode: Encode) -> None:
    data = bytearray(encode(photo, "PNG"))
    middle = data.index(b"IDAT") + 20
    data[middle : middle + 30] = bytes(30)
    with pytest.raises(MediaError, match="truncated or damaged PNG"):
        open_image(Image(data=bytes(data)))


@pytest.mark.parametrize(
    "fault", [KeyError, ZeroDivisionError, SyntaxError, AttributeError, struct.error, RuntimeError]
)
@pytest.mark.parametrize("step", ["_open", "load"])
def test_whatever_a_decoder_raises(
    photo: PIL.Image.Image, encode: Encode, monkeypatch: pytest.MonkeyPatch, step: str, fault: type[Exception]
) -> None:
    data = encode(photo, "JPEG")

    def broken(*_: object) -> None:
        raise fault("internals 0x7f")

    monkeypatch.setattr(JpegImageFile, step, broken)
    with pytest.raises(MediaError, match="truncated or damaged JPEG") as error:
        open_image(Image(data=data))
    sentence(error)


def test_no_memory(photo: PIL.Image.Image, encode: Encode, monkeypatch: pytest.MonkeyPatch) -> None:
    data = encode(photo, "JPEG")

    def broken(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(JpegImageFile, "load", broken)
    with pytest.raises(MediaTooLarge, match="does not fit into memory: make it smaller"):
        open_image(Image(data=data))


def test_gif_without_frames(photo: PIL.Image.Image, encode: Encode) -> None:
    with pytest.raises(MediaError, match="truncated or damaged GIF"):
        open_image(Image(data=encode(photo, "GIF")[:13] + b"\x3b"))


def test_names_are_printable_and_short(tmp_path: Path) -> None:
    for name in ("line\nbreak\x1b[31m.png", "\udcff.png", "x" * 250 + ".png"):
        path = tmp_path / name
        with pytest.raises(MediaNotFound) as error:
            open_image(Image(path=path))
        assert sentence(error).isprintable()
        sentence(error).encode("utf-8")


def test_byte_limit_counts_before_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "huge.png"
    with path.open("wb") as file:
        file.truncate(1 << 40)  # a hole: takes no disk
    monkeypatch.setattr("mmseek.media.os.open", lambda *_: pytest.fail("opened although its size is over the limit"))
    with pytest.raises(
        MediaTooLarge, match=r"has 1099511627776 bytes, more than the limit of 67108864: make it smaller"
    ):
        open_image(Image(path=path))


def test_byte_limit_is_exact(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"12345678")
    for image in (Image(path=path), Image(data=b"12345678")):
        assert read_bytes(image, MediaLimits(max_bytes=8)) == b"12345678"
        with pytest.raises(MediaTooLarge, match="has 8 bytes, more than the limit of 7"):
            read_bytes(image, MediaLimits(max_bytes=7))


@pytest.mark.parametrize("grown", [5, 100])
def test_file_that_grows_is_read_whole_but_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, grown: int) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"123")
    real = os.fstat

    def grow(descriptor: int) -> os.stat_result:
        status = real(descriptor)
        path.write_bytes(b"1" * grown)
        return status

    monkeypatch.setattr("mmseek.media.os.fstat", grow)
    if grown <= 50:
        assert read_bytes(Image(path=path), MediaLimits(max_bytes=50)) == b"1" * grown
    else:
        with pytest.raises(MediaTooLarge, match="has 51 bytes"):
            read_bytes(Image(path=path), MediaLimits(max_bytes=50))


def test_the_cause_is_kept_for_debugging(photo: PIL.Image.Image, encode: Encode) -> None:
    with pytest.raises(MediaError) as error:
        open_image(Image(data=encode(photo, "PNG")[:-40]))
    assert error.value.__cause__ is not None


def test_many_threads_at_once(photo: PIL.Image.Image, encode: Encode) -> None:
    data = [encode(photo, "PNG"), encode(photo, "JPEG"), b"\x89PNG\r\n\x1a\nbroken"]
    outcomes: list[object] = []

    def work(number: int) -> None:
        for turn in range(20):
            try:
                outcomes.append(open_image(Image(data=data[(number + turn) % 3])).size)
            except MediaError:
                outcomes.append(None)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(outcomes) == 120
    assert outcomes.count(None) == 40
    assert outcomes.count((48, 32)) == 80


def test_probe_does_not_decode(photo: PIL.Image.Image, encode: Encode) -> None:
    assert probe(encode(photo, "PNG")[:60]) == MediaInfo("PNG", 48, 32)
