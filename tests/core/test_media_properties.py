"""Whatever the bytes are: a picture in RGB or a MediaError, and nothing else - no other exception, no warning."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmseek import Image
from mmseek.errors import MediaError
from mmseek.media import MIME_TYPES, MediaLimits, open_image, probe

LIMITS = MediaLimits(max_bytes=1 << 20, max_pixels=1 << 16)
STARTS = [b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"BM", b"II*\0", b"MM\0*", b"II+\0", b"RIFF\xff\0\0\0WEBP"]


def _samples() -> list[bytes]:
    grid = np.arange(24 * 16 * 3, dtype=np.uint8).reshape(16, 24, 3)
    picture = PIL.Image.fromarray(grid)
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    exif[0x010E] = "words"
    frames: dict[str, Any] = {"save_all": True}
    wanted: list[tuple[PIL.Image.Image, str, dict[str, Any]]] = [
        (picture, "JPEG", {"exif": exif}),
        (picture, "JPEG", {"progressive": True}),
        (picture.convert("CMYK"), "JPEG", {}),
        (picture, "MPO", frames),
        (picture, "PNG", {"exif": exif, "icc_profile": b"profile"}),
        (picture.convert("RGBA"), "PNG", {}),
        (picture.convert("P"), "PNG", {"transparency": b"\0\1\2"}),
        (PIL.Image.fromarray(grid[..., 0].astype(np.uint16) * 200), "PNG", {}),
        (picture, "PNG", frames),
        (picture, "GIF", frames),
        (picture.convert("P"), "GIF", {"transparency": 3}),
        (picture.convert("RGBA"), "WEBP", {"lossless": True, "exif": exif}),
        (picture, "WEBP", frames),
        (picture, "WEBP", {}),
        (picture, "BMP", {}),
        (picture.convert("P"), "BMP", {}),
        (picture, "TIFF", {"exif": exif}),
        (picture, "TIFF", {"compression": "tiff_lzw", **frames}),
        (picture, "TIFF", {"compression": "jpeg"}),
        (picture.convert("1"), "TIFF", {"compression": "group4"}),
        (picture.convert("F"), "TIFF", {}),
        (picture.convert("L"), "TIFF", {"compression": "tiff_adobe_deflate"}),
    ]
    encoded = []
    for one, kind, options in wanted:
        buffer = io.BytesIO()
        if "save_all" in options:  # a fresh picture: saving one leaves its format's options behind
            options = options | {"append_images": [picture.rotate(180)]}
        one.copy().save(buffer, format=kind, **options)
        encoded.append(buffer.getvalue())
    return encoded


SAMPLES = _samples()


def check(data: bytes) -> None:
    for target in (None, 4):
        try:
            picture = open_image(Image(data=data), limits=LIMITS, target=target)
        except MediaError as error:
            assert "\n" not in str(error)  # noqa: PT017 - either outcome is right
            assert "0x" not in str(error)  # noqa: PT017
        else:
            assert picture.mode == "RGB"
            assert picture.width * picture.height <= LIMITS.max_pixels
            assert np.asarray(picture).shape == (picture.height, picture.width, 3)
    try:
        info = probe(data)
    except MediaError:
        pass
    else:
        assert info.format in MIME_TYPES
        assert info.width > 0
        assert info.height > 0


@pytest.mark.parametrize("data", SAMPLES)
def test_samples_decode(data: bytes) -> None:
    assert open_image(Image(data=data), limits=LIMITS).width in (16, 24)
    check(data)


@given(st.binary(max_size=400))
def test_random_bytes(data: bytes) -> None:
    check(data)


@given(st.sampled_from(STARTS), st.binary(max_size=400))
def test_random_bytes_behind_a_known_start(start: bytes, rest: bytes) -> None:
    check(start + rest)


@settings(max_examples=600)
@given(
    st.sampled_from(SAMPLES),
    st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(0, 255)), min_size=1, max_size=12),
    st.booleans(),
)
def test_changed_bytes(sample: bytes, changes: list[tuple[int, int]], head: bool) -> None:
    data = bytearray(sample)
    for place, value in changes:  # headers are where it hurts: half of the time only the first bytes change
        data[place % (min(len(data), 120) if head else len(data))] = value
    check(bytes(data))


@settings(max_examples=300)
@given(st.sampled_from(SAMPLES), st.integers(0, 1 << 16), st.integers(0, 1 << 16), st.binary(max_size=30))
def test_cut_and_spliced(sample: bytes, start: int, length: int, middle: bytes) -> None:
    start %= len(sample)
    check(sample[:start] + middle + sample[start + length % 64 :])
    check(sample[:start] + middle)


@settings(max_examples=300)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([254, 256, 257, 258, 259, 262, 266, 273, 274, 277, 278, 279, 284, 317, 320, 322, 323, 324]),
            st.integers(0, 13),
            st.integers(0, 70000) | st.just(1),
            st.integers(0, 2**32 - 1) | st.integers(0, 40),
        ),
        max_size=16,
    )
)
def test_tiff_of_random_tags(tags: list[tuple[int, int, int, int]]) -> None:
    given_tags = {256: (3, 1, 20), 257: (3, 1, 10), 273: (4, 1, 8)} | {tag: rest for tag, *rest in tags}
    entries = b"".join(struct.pack("<HHII", tag, *rest) for tag, rest in sorted(given_tags.items()))
    check(b"II*\0" + struct.pack("<IH", 8, len(given_tags)) + entries + bytes(600))
