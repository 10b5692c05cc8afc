"""Small files that unfold: refused by their header, in little memory and without a warning."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import tracemalloc
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path

import PIL.Image
import pytest
from PIL.ImageFile import ImageFile

from mmseek import Image, media
from mmseek._quiet import quiet_pillow
from mmseek.config import settings
from mmseek.errors import MediaError, MediaTooLarge
from mmseek.media import MediaInfo, MediaLimits, open_image, probe

Encode = Callable[..., bytes]
Chunk = Callable[[bytes, bytes], bytes]
LITTLE = 8 * 1024**2


def refused(data: bytes) -> str:
    """The message of the refusal, having checked that no decoder was asked for a pixel and that memory stayed small."""
    tracemalloc.start()
    try:
        with pytest.MonkeyPatch.context() as patch:
            for opener in (*media._OPENERS.values(), ImageFile):
                patch.setattr(opener, "load", lambda *_: pytest.fail("pixels were decoded"))
            with pytest.raises(MediaTooLarge) as error:
                open_image(Image(data=data))
        assert tracemalloc.get_traced_memory()[1] < LITTLE + len(data)
    finally:
        tracemalloc.stop()
    return str(error.value)


def test_the_check_on_decoding_can_fail(photo: PIL.Image.Image, encode: Encode) -> None:
    for kind in media.MIME_TYPES:
        with pytest.raises(pytest.fail.Exception, match="pixels were decoded"):
            refused(encode(photo, kind))


def test_png_header_bomb(png_header: Callable[..., bytes], png_chunk: Chunk) -> None:
    data = png_header(30000, 30000) + png_chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + png_chunk(b"IEND", b"")
    assert "has 30000 x 30000 pixels, more than the limit of 64000000: make it smaller or raise" in refused(data)
    assert probe(data) == MediaInfo("PNG", 30000, 30000)


def test_real_one_bit_png_over_the_limit(encode: Encode) -> None:
    data = encode(PIL.Image.new("1", (13000, 13000)), "PNG")
    assert len(data) < 100_000
    assert "13000 x 13000" in refused(data)


def test_jpeg_header_bomb(photo: PIL.Image.Image, encode: Encode) -> None:
    data = bytearray(encode(photo, "JPEG"))
    frame = data.index(b"\xff\xc0") + 5
    data[frame : frame + 4] = struct.pack(">HH", 65535, 65535)
    assert "65535 x 65535" in refused(bytes(data))


def test_gif_header_bomb(photo: PIL.Image.Image, encode: Encode) -> None:
    data = bytearray(encode(photo, "GIF"))
    data[6:10] = struct.pack("<HH", 20000, 20000)
    assert "20000 x 20000" in refused(bytes(data))


def test_gif_frame_larger_than_its_screen(photo: PIL.Image.Image, encode: Encode) -> None:
    data = bytearray(encode(photo, "GIF"))
    frame = data.index(b"\x2c", 13 + 3 * 2 ** ((data[10] & 7) + 1))
    data[frame + 5 : frame + 9] = struct.pack("<HH", 60000, 60000)
    refused(bytes(data))


def test_bmp_header_bomb(photo: PIL.Image.Image, encode: Encode) -> None:
    data = bytearray(encode(photo, "BMP"))
    data[18:26] = struct.pack("<ii", 40000, -40000)
    assert "40000 x 40000" in refused(bytes(data))


def test_tiff_header_bomb() -> None:
    assert "100000 x 90000" in refused(tiff({256: 100000, 257: 90000}))


def test_tiff_tile_bomb() -> None:
    assert "50000 x 40000" in refused(tiff({256: 16, 257: 16, 322: 50000, 323: 40000, 324: 8, 325: 1}))


def tiff(tags: dict[int, int]) -> bytes:
    """A one-bit TIFF, deflated, of the given tags (type LONG)."""
    tags = {258: 1, 259: 8, 262: 1, **tags}
    if 322 not in tags:
        tags |= {273: 8, 278: tags[257], 279: 1}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(tags.items()))
    return b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(tags)) + entries + b"\0\0\0\0"


@pytest.mark.parametrize("kind", ["VP8X", "VP8L", "VP8 "])
def test_webp_bomb_is_seen_before_the_decoder_is_made(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(media._OPENERS["WEBP"], "_open", lambda _: pytest.fail("decoder was made"))
    body = {
        "VP8X": b"\0\0\0\0" + (9999).to_bytes(3, "little") * 2,
        "VP8L": b"\x2f" + (9999 | 9999 << 14).to_bytes(4, "little") + bytes(5),
        "VP8 ": b"\0\0\0\x9d\x01\x2a" + struct.pack("<HH", 10000, 10000),
    }[kind]
    data = b"RIFF" + struct.pack("<I", 22) + b"WEBP" + kind.encode() + struct.pack("<I", 10) + body
    assert "10000 x 10000" in refused(data)
    assert probe(data) == MediaInfo("WEBP", 10000, 10000)


@pytest.mark.parametrize("options", [{}, {"lossless": True}, {"exif": b"Exif\0\0"}, {"save_all": True}])
@pytest.mark.parametrize("size", [(1, 1), (3, 500), (16383, 2)])
def test_webp_size_is_what_the_decoder_says(encode: Encode, options: dict[str, object], size: tuple[int, int]) -> None:
    extra = {"append_images": [PIL.Image.new("RGB", size, "red")]} if "save_all" in options else {}
    data = encode(PIL.Image.new("RGB", size), "WEBP", **options, **extra)
    assert (probe(data).width, probe(data).height) == PIL.Image.open(io.BytesIO(data)).size == size


def test_pixel_limit_is_exact(encode: Encode) -> None:
    for kind in ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"):
        image = Image(data=encode(PIL.Image.new("RGB", (20, 10)), kind))
        assert open_image(image, limits=MediaLimits(max_pixels=200)).size == (20, 10)
        with pytest.raises(MediaTooLarge, match="has 20 x 10 pixels, more than the limit of 199"):
            open_image(image, limits=MediaLimits(max_pixels=199))


def test_a_higher_limit_is_honoured_beyond_the_library_s_own(encode: Encode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("PIL.Image.MAX_IMAGE_PIXELS", 50)
    for kind in ("PNG", "JPEG", "BMP", "GIF"):
        image = Image(data=encode(PIL.Image.new("RGB", (20, 10)), kind))
        assert open_image(image, limits=MediaLimits(max_pixels=200)).size == (20, 10)


def test_the_library_s_own_limit_speaks_our_words(encode: Encode, monkeypatch: pytest.MonkeyPatch) -> None:
    data = [encode(PIL.Image.new("RGB", (20, 10)), kind) for kind in ("WEBP", "TIFF")]
    monkeypatch.setattr("PIL.Image.MAX_IMAGE_PIXELS", 50)
    for one in data:
        with pytest.raises(MediaTooLarge, match="unfolds to too many pixels: make it smaller"):
            open_image(Image(data=one))


def test_png_text_bombs(png_header: Callable[..., bytes], png_chunk: Chunk) -> None:
    bomb = zlib.compress(bytes(200 * 1024**2), 9)
    text = png_chunk(b"zTXt", b"Comment\0\0" + bomb)
    profile = png_chunk(b"iCCP", b"icc\0\0" + bomb)
    pixels = png_chunk(b"IDAT", zlib.compress(b"\0" + bytes(3)))
    for middle in (text + pixels, pixels + text, profile + pixels, text * 80 + pixels):
        tracemalloc.start()
        try:
            open_image(Image(data=png_header(1, 1) + middle + png_chunk(b"IEND", b"")))
        except MediaError as error:
            assert "truncated or damaged PNG" in str(error)  # noqa: PT017 - either outcome is right; memory is the point
        finally:
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        assert peak < 4 * LITTLE


def test_no_pixels(png_header: Callable[..., bytes], png_chunk: Chunk, photo: PIL.Image.Image, encode: Encode) -> None:
    jpeg = bytearray(encode(photo, "JPEG"))
    frame = jpeg.index(b"\xff\xc0") + 5
    jpeg[frame : frame + 4] = struct.pack(">HH", 0, 0)
    gif = bytearray(encode(photo, "GIF"))
    screen = gif.index(b"\x2c", 13)
    gif[6:10] = gif[screen + 5 : screen + 9] = bytes(4)
    bmp = bytearray(encode(photo, "BMP"))
    bmp[18:26] = bytes(8)
    png = png_header(0, 5) + png_chunk(b"IDAT", zlib.compress(b"\0" * 5)) + png_chunk(b"IEND", b"")
    for data in (bytes(jpeg), bytes(gif), bytes(bmp), png, tiff({256: 0, 257: 5})):
        with pytest.raises(MediaError):
            open_image(Image(data=data))


def test_probe_of_a_webp_without_pixels() -> None:
    body = b"\0\0\0\x9d\x01\x2a" + struct.pack("<HH", 5, 0)
    with pytest.raises(MediaError, match="is a WEBP without any pixel"):
        probe(b"RIFF" + struct.pack("<I", 22) + b"WEBPVP8 " + struct.pack("<I", 10) + body)


def test_limits_from_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    assert MediaLimits.from_settings(settings()) == MediaLimits() == MediaLimits(64 * 1024**2, 64_000_000)
    monkeypatch.setenv("MMSEEK_MAX_IMAGE_BYTES", "1MiB")
    monkeypatch.setenv("MMSEEK_MAX_IMAGE_PIXELS", "99")
    assert MediaLimits.from_settings(settings()) == MediaLimits(1024**2, 99)


def test_odd_file_that_the_library_warns_of_still_opens() -> None:
    odd = bytearray(tiff({256: 4, 257: 1, 259: 1, 273: 9, 700: 1}))
    entry = odd.index(struct.pack("<H", 700))
    odd[entry + 4 : entry + 12] = struct.pack("<II", 9999, 99999)  # a tag whose data lie outside of the file
    with pytest.warns(UserWarning, match="Tag data larger"):
        PIL.Image.open(io.BytesIO(odd)).tag_v2  # noqa: B018  # type: ignore[attr-defined]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert open_image(Image(data=bytes(odd))).size == (4, 1)


def test_filters_are_put_back() -> None:
    before = list(warnings.filters)
    with quiet_pillow():
        during = list(warnings.filters)
        assert during != before
        with quiet_pillow():
            assert list(warnings.filters) == during
        assert list(warnings.filters) == during
    assert list(warnings.filters) == before


def test_filters_survive_somebody_else_s_swap() -> None:
    quiet, other = quiet_pillow(), warnings.catch_warnings()
    before = list(warnings.filters)
    other.__enter__()
    quiet.__enter__()
    other.__exit__(None, None, None)
    quiet.__exit__(None, None, None)
    assert list(warnings.filters) == before


def test_only_the_library_s_own_warnings_are_hidden() -> None:
    with pytest.warns(UserWarning, match="mine"), quiet_pillow():
        warnings.warn("mine", stacklevel=1)


def test_a_file_s_bomb_by_path(tmp_path: Path, png_header: Callable[..., bytes]) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(png_header(30000, 30000) + b"\0\0\0\0IDAT")
    with pytest.raises(MediaTooLarge) as error:
        open_image(Image(path=path))
    assert str(error.value).startswith(str(path))


def test_memory_of_the_whole_process_stays_small(tmp_path: Path, encode: Encode) -> None:
    path = tmp_path / "wide.png"
    path.write_bytes(encode(PIL.Image.new("1", (13000, 13000)), "PNG"))
    script = f"""
import resource, pathlib
from mmseek import Image, errors, media
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    media.open_image(Image(path=pathlib.Path({str(path)!r})))
except errors.MediaTooLarge:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 8 * 1024  # KiB on Linux; one byte a pixel would be 165 MiB
