"""What a collection has more than once."""

from __future__ import annotations

import io

import numpy as np
import PIL.Image
import PIL.ImageDraw
import pytest

from mmseek import Content, Document, Image
from mmseek.errors import InputError
from mmseek.index.duplicates import difference_hash, find_duplicates


def drawn(seed, size=(96, 72), form="PNG", **options):
    """Some rectangles; equal seeds give the same picture at any size."""
    chance = np.random.default_rng(seed)
    picture = PIL.Image.new("RGB", (192, 144), tuple(chance.integers(0, 255, 3).tolist()))
    pen = PIL.ImageDraw.Draw(picture)
    for _ in range(12):
        x, y = int(chance.integers(0, 150)), int(chance.integers(0, 110))
        pen.rectangle((x, y, x + 40, y + 30), fill=tuple(chance.integers(0, 255, 3).tolist()))
    buffer = io.BytesIO()
    picture.resize(size, PIL.Image.Resampling.BOX).save(buffer, form, **options)
    return Image(data=buffer.getvalue())


def groups(report):
    return {(group.kind, group.ids) for group in report.groups}


def test_exact_near_and_alike(collection, vectors):
    texts = ["same", "same", "same", "other", "near", "far"]
    batch = [Document(f"t{n}", Content.of(text), {"n": n}) for n, text in enumerate(texts)]
    values = vectors(8)
    values[1] = values[2] = values[0]
    values[4] = values[3] + 0.01 * values[5]
    images = [drawn(1), drawn(1, (48, 36), "JPEG", quality=80)]
    batch += [Document(f"i{n}", Content((image,))) for n, image in enumerate(images)]
    collection.upsert(batch, values)
    report = find_duplicates(collection, threshold=0.99)
    assert report.documents == 8
    assert groups(report) == {("exact", ("t0", "t1", "t2")), ("near", ("t3", "t4")), ("picture", ("i0", "i1"))}
    assert report.groups[0].ids == ("t0", "t1", "t2")
    assert ("picture", ("i0", "i1")) not in groups(find_duplicates(collection, threshold=0.99, pictures=False))


def test_near_ones_are_all_that_numpy_finds(collection, documents, vectors, monkeypatch):
    monkeypatch.setattr("mmseek.index.duplicates._ROWS", 7)  # several blocks
    chance = np.random.default_rng(3)
    values = np.repeat(vectors(12), 4, axis=0)
    values = (values + 0.08 * chance.standard_normal(values.shape)).astype(np.float32)
    collection.upsert(documents(range(48)), values)
    unit = values / np.linalg.norm(values, axis=1, keepdims=True)
    close = unit @ unit.T >= 0.97
    reached = np.linalg.matrix_power(close.astype(np.int64), 6) > 0  # joined over at most 6 steps
    expected = {tuple(f"d{n}" for n in np.flatnonzero(row)) for row in reached if row.sum() > 1}
    assert {group.ids for group in find_duplicates(collection, threshold=0.97).groups} == expected
    assert len(expected) > 3


def test_different_pictures_are_told_apart():
    bits = [difference_hash(drawn(seed)) for seed in range(12)]
    apart = [(a ^ b).bit_count() for n, a in enumerate(bits) for b in bits[:n]]
    assert min(apart) > 4
    again = [difference_hash(drawn(seed, (80, 60), "JPEG", quality=70)) for seed in range(12)]
    assert max((a ^ b).bit_count() for a, b in zip(bits, again, strict=True)) <= 4


def test_flat_pictures_are_not_alike(collection, vectors):
    flat = []
    for colour in ("red", "blue"):
        buffer = io.BytesIO()
        PIL.Image.new("RGB", (20, 20), colour).save(buffer, "PNG")
        flat.append(Document(colour, Content((Image(data=buffer.getvalue()),))))
    collection.upsert(flat, vectors(2))
    assert find_duplicates(collection).groups == ()


def test_a_picture_that_cannot_be_read_is_named(collection, vectors, tmp_path):
    gone = Document("gone", Content((Image(path=tmp_path / "gone.png"),)))
    collection.upsert([gone, Document("t", Content.of("text"))], np.repeat(vectors(1), 2, axis=0))
    report = find_duplicates(collection)
    assert list(report.unreadable) == ["gone"]
    assert groups(report) == {("near", ("gone", "t"))}


def test_nothing_and_nonsense(collection):
    assert find_duplicates(collection).groups == ()
    for threshold in (0, -1, 1.1):
        with pytest.raises(InputError, match="threshold"):
            find_duplicates(collection, threshold=threshold)
