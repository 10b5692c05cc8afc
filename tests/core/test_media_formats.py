"""Every format and colour mode comes out as the RGB that it shows."""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest

from mmseek import Image
from mmseek.errors import MediaError
from mmseek.media import MIME_TYPES, MediaInfo, open_image, probe, recognise

Encode = Callable[..., bytes]
LOSSLESS = {"PNG": {}, "WEBP": {"lossless": True}, "BMP": {}, "TIFF": {}, "GIF": {}}


def rgb(data: bytes) -> np.ndarray:
    picture = open_image(Image(data=data))
    assert picture.mode == "RGB"
    return np.asarray(picture).astype(int)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "BMP", "TIFF"])
def test_lossless_formats_keep_every_pixel(photo: PIL.Image.Image, encode: Encode, kind: str) -> None:
    data = encode(photo, kind, **LOSSLESS[kind])
    np.testing.assert_array_equal(rgb(data), np.asarray(photo))
    assert probe(data) == MediaInfo(kind, 48, 32)
    assert recognise(data) == kind


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "GIF"])
def test_lossy_formats_stay_close(photo: PIL.Image.Image, encode: Encode, kind: str) -> None:
    data = encode(photo, kind)
    assert probe(data) == MediaInfo(kind, 48, 32)
    assert np.abs(rgb(data) - np.asarray(photo).astype(int)).mean() < 12


def test_every_known_format_has_a_test() -> None:
    assert set(MIME_TYPES) == {"JPEG", *LOSSLESS}


def test_the_extension_is_not_believed(photo: PIL.Image.Image, encode: Encode, tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(encode(photo, "PNG"))
    np.testing.assert_array_equal(np.asarray(open_image(Image(path=path))), np.asarray(photo))


@pytest.mark.parametrize("kind", ["PPM", "ICO", "TGA", "PCX", "EPS", "PDF"])
def test_other_formats_of_the_library_are_not_opened(photo: PIL.Image.Image, encode: Encode, kind: str) -> None:
    with pytest.raises(MediaError, match="not a picture of a known format: convert it to JPEG"):
        open_image(Image(data=encode(photo, kind)))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_exif_orientation(photo: PIL.Image.Image, encode: Encode, kind: str, orientation: int) -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    data = encode(photo, kind, exif=exif, **LOSSLESS.get(kind, {"quality": 95}))
    expected = PIL.ImageOps.exif_transpose(PIL.Image.open(io.BytesIO(data))).convert("RGB")
    turned = open_image(Image(data=data))
    assert turned.size == ((48, 32) if orientation <= 4 else (32, 48))
    np.testing.assert_array_equal(np.asarray(turned), np.asarray(expected))


@pytest.mark.parametrize("broken", [b"Exif\0\0nonsense", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0"])
def test_broken_exif_is_no_reason_to_refuse(photo: PIL.Image.Image, encode: Encode, broken: bytes) -> None:
    assert rgb(encode(photo, "JPEG", exif=broken)).shape == (32, 48, 3)


def test_orientation_out_of_range_is_ignored(photo: PIL.Image.Image, encode: Encode) -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = 99
    np.testing.assert_array_equal(rgb(encode(photo, "PNG", exif=exif)), np.asarray(photo))


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_transparency_is_white(encode: Encode, mode: str, kind: str) -> None:
    picture = PIL.Image.new("RGBA", (3, 1))
    picture.putdata([(0, 0, 0, 0), (0, 0, 0, 128), (0, 0, 0, 255)])
    values = rgb(encode(picture.convert(mode), kind, **LOSSLESS[kind]))[0]
    assert values.tolist() == [[255] * 3, [127] * 3, [0] * 3]


def test_transparent_pixels_hide_their_colour(encode: Encode) -> None:
    picture = PIL.Image.new("RGBA", (2, 2), (200, 10, 30, 0))
    assert (rgb(encode(picture, "PNG")) == 255).all()


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_transparent_palette_entry(encode: Encode, kind: str) -> None:
    picture = PIL.Image.new("P", (2, 1))
    picture.putpalette([10, 20, 30, 200, 100, 50])
    picture.putdata([0, 1])
    assert rgb(encode(picture, kind, transparency=0))[0].tolist() == [[255, 255, 255], [200, 100, 50]]


def test_palette_with_graded_transparency(encode: Encode) -> None:
    picture = PIL.Image.new("P", (2, 1))
    picture.putpalette([0, 0, 0, 0, 0, 0])
    picture.putdata([0, 1])
    assert rgb(encode(picture, "PNG", transparency=bytes([0, 128])))[0, :, 0].tolist() == [255, 127]


@pytest.mark.parametrize(("mode", "colour", "key"), [("RGB", (9, 8, 7), (9, 8, 7)), ("L", 9, 9), ("1", 0, 0)])
def test_transparent_colour_key(encode: Encode, mode: str, colour: object, key: object) -> None:
    picture = PIL.Image.new(mode, (2, 2), colour)  # type: ignore[arg-type]
    assert (rgb(encode(picture, "PNG", transparency=key)) == 255).all()


def test_opaque_palette_grey_and_one_bit(encode: Encode) -> None:
    palette = PIL.Image.new("P", (1, 1))
    palette.putpalette([10, 20, 30])
    assert rgb(encode(palette, "PNG"))[0, 0].tolist() == [10, 20, 30]
    assert rgb(encode(PIL.Image.new("L", (1, 1), 77), "PNG"))[0, 0].tolist() == [77] * 3
    for kind in ("PNG", "TIFF", "BMP"):
        assert rgb(encode(PIL.Image.new("1", (1, 1), 1), kind))[0, 0].tolist() == [255] * 3


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk(encode: Encode, kind: str) -> None:
    values = rgb(encode(PIL.Image.new("CMYK", (16, 16), (0, 255, 255, 0)), kind))
    assert np.abs(values - [255, 0, 0]).max() <= 6


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_grey_uses_the_full_range(encode: Encode, kind: str) -> None:
    deep = np.array([[0, 128, 129, 257 * 100, 65535 - 257, 65535]], dtype=np.uint16)
    values = rgb(encode(PIL.Image.fromarray(deep), kind))
    assert values[0, :, 0].tolist() == [0, 0, 1, 100, 254, 255]
    assert (values == values[..., :1]).all()


def test_16_bit_big_endian(encode: Encode) -> None:
    picture = PIL.Image.frombytes("I;16B", (2, 1), b"\xff\xff\x64\x64")
    assert rgb(encode(picture, "TIFF"))[0, :, 0].tolist() == [255, 100]


def test_16_bit_transparent_grey(png_header: Callable[..., bytes], png_chunk: Callable[..., bytes]) -> None:
    pixels = zlib.compress(b"\0" + b"\x12\x34" + b"\x00\x00")
    parts = [(b"tRNS", b"\x12\x34"), (b"IDAT", pixels), (b"IEND", b"")]
    data = png_header(2, 1, 16, 0) + b"".join(png_chunk(*part) for part in parts)
    assert rgb(data)[0, :, 0].tolist() == [255, 0]


@pytest.mark.parametrize("alpha", [False, True])
def test_16_bit_colour(alpha: bool, png_header: Callable[..., bytes], png_chunk: Callable[..., bytes]) -> None:
    row = b"\0" + b"\xff\xff\x80\x80\x00\x00" + (b"\xff\xff" if alpha else b"")
    data = png_header(1, 1, 16, 6 if alpha else 2)
    data += png_chunk(b"IDAT", zlib.compress(row)) + png_chunk(b"IEND", b"")
    assert rgb(data)[0, 0].tolist() == [255, 128, 0]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0, 7, 255], [0, 7, 255]),
        ([0, 257 * 9, 65535], [0, 9, 255]),
        ([-10, 0, 10], [0, 128, 255]),
        ([0, 1 << 20, 1 << 21], [0, 128, 255]),
        ([3, 3, 3], [3, 3, 3]),
        ([-3, -3, -3], [0, 0, 0]),
    ],
)
def test_32_bit_integers(encode: Encode, values: list[int], expected: list[int]) -> None:
    picture = PIL.Image.fromarray(np.array([values], dtype=np.int32))
    assert rgb(encode(picture, "TIFF"))[0, :, 0].tolist() == expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0, 0.5, 1.0], [0, 128, 255]),
        ([0.0, 7.4, 255.0], [0, 7, 255]),
        ([-1.0, 0.0, 1.0], [0, 128, 255]),
        ([float("nan"), 0.0, 1.0], [0, 0, 255]),
        ([float("-inf"), float("inf"), 1.0], [0, 255, 255]),
        ([float("nan")] * 3, [0, 0, 0]),
        ([-1e38, 0.0, 1e38], [0, 128, 255]),
    ],
)
def test_floats(encode: Encode, values: list[float], expected: list[int]) -> None:
    picture = PIL.Image.fromarray(np.array([values], dtype=np.float32))
    assert rgb(encode(picture, "TIFF"))[0, :, 0].tolist() == expected


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_of_several_frames_the_first(encode: Encode, kind: str) -> None:
    first, second = PIL.Image.new("RGB", (4, 4), "red"), PIL.Image.new("RGB", (4, 4), "blue")
    data = encode(first, kind, save_all=True, append_images=[second], **LOSSLESS[kind])
    assert getattr(PIL.Image.open(io.BytesIO(data)), "n_frames", 1) == 2
    assert (rgb(data) == [255, 0, 0]).all()


def test_multi_picture_jpeg_of_a_phone_is_a_jpeg(encode: Encode) -> None:
    first, second = PIL.Image.new("RGB", (16, 16), "white"), PIL.Image.new("RGB", (16, 16), "black")
    data = encode(first, "MPO", save_all=True, append_images=[second])
    assert PIL.Image.open(io.BytesIO(data)).format == "MPO"
    assert probe(data).format == "JPEG"
    assert (rgb(data) > 250).all()


def test_colour_profiles_are_ignored(photo: PIL.Image.Image, encode: Encode) -> None:
    np.testing.assert_array_equal(rgb(encode(photo, "PNG", icc_profile=b"no profile at all")), np.asarray(photo))


@pytest.mark.parametrize("target", [1, 8, 15, 16, 17, 60, 63, 64, 65, 100, 127, 128, 129, 500])
@pytest.mark.parametrize("size", [(512, 384), (384, 512), (513, 129), (64, 64)])
def test_target_is_never_undershot(encode: Encode, size: tuple[int, int], target: int) -> None:
    data = encode(PIL.Image.new("RGB", size, "red"), "JPEG")
    picture = open_image(Image(data=data), target=target)
    assert min(picture.size) >= min(target, *size)
    assert picture.size in [(-(-size[0] // s), -(-size[1] // s)) for s in (1, 2, 4, 8)]
    # Never larger than needed either: half of it would be too small, or it is the smallest the format gives.
    assert min(picture.size) // 2 < target or picture.size == (-(-size[0] // 8), -(-size[1] // 8))


def test_target_shrinks_a_large_jpeg_and_nothing_else(photo: PIL.Image.Image, encode: Encode) -> None:
    large = photo.resize((960, 640))
    assert open_image(Image(data=encode(large, "JPEG")), target=80).size == (120, 80)
    assert open_image(Image(data=encode(large, "JPEG"))).size == (960, 640)
    assert open_image(Image(data=encode(large, "PNG")), target=80).size == (960, 640)


def test_target_is_deterministic_and_shows_the_same(photo: PIL.Image.Image, encode: Encode) -> None:
    data = encode(photo.resize((960, 640)), "JPEG", quality=95)
    small = np.asarray(open_image(Image(data=data), target=80)).astype(int)
    np.testing.assert_array_equal(small, np.asarray(open_image(Image(data=data), target=80)))
    whole = open_image(Image(data=data)).reduce(8)
    assert np.abs(small - np.asarray(whole)).mean() < 3


def test_target_with_exif_turn(photo: PIL.Image.Image, encode: Encode) -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    data = encode(photo.resize((960, 640)), "JPEG", exif=exif)
    assert open_image(Image(data=data), target=80).size == (80, 120)
