import json
from collections import Counter
from importlib.resources import files

import pytest
from PIL import Image as Pil

from mmseek.demo import build_demo_corpus, demo_queries
from mmseek.demo.photos import PHOTOS


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return build_demo_corpus(tmp_path_factory.mktemp("demo") / "new" / "folder")


@pytest.fixture(scope="module")
def items(corpus):
    return [json.loads(line) for line in corpus.read_text(encoding="utf-8").splitlines()]


def parts_of(item):
    if "content" in item:
        return item["content"]
    return [{"type": kind, kind: item[kind]} for kind in ("image", "text") if kind in item]


def test_has_about_sixty_items_with_ids_of_their_own(items):
    assert 55 <= len(items) <= 75
    assert len({item["id"] for item in items}) == len(items)


def test_mixes_modalities(items):
    kinds = Counter(tuple(sorted({part["type"] for part in parts_of(item)})) for item in items)
    assert kinds["image",] >= 15
    assert kinds["text",] >= 5
    assert kinds["image", "text"] >= 20
    assert sum("content" in item for item in items) >= 5


def test_every_item_is_read_without_an_error(corpus, items):
    from mmseek.items import Item, read_items

    read = list(read_items(corpus))
    assert [type(item) for item in read] == [Item] * len(items)


def test_every_picture_opens_and_is_used(corpus, items):
    used = {part["image"] for item in items for part in parts_of(item) if part["type"] == "image"}
    assert used == {f"images/{path.name}" for path in (corpus.parent / "images").iterdir()}
    for name in used:
        with Pil.open(corpus.parent / name) as picture:
            picture.load()
            assert min(picture.size) >= 170


def test_no_two_pictures_are_the_same(corpus):
    seen = [path.read_bytes() for path in (corpus.parent / "images").iterdir()]
    assert len(set(seen)) == len(seen)


def test_building_again_writes_the_same_bytes(corpus, tmp_path):
    again = build_demo_corpus(tmp_path)
    for folder in (corpus.parent, corpus.parent / "images"):
        for path in folder.glob("*.*"):
            assert (again.parent / path.relative_to(corpus.parent)).read_bytes() == path.read_bytes()


def test_credits_name_every_shipped_photo_and_no_other():
    room = files("mmseek.demo")
    shipped = {entry.name for entry in (room / "photos").iterdir()}
    listed = {line.split("`")[1] for line in (room / "CREDITS.md").read_text("utf-8").splitlines() if line[:3] == "| `"}
    assert shipped == listed == {f"{photo.name}.jpg" for photo in PHOTOS}


def test_shipped_photos_are_small():
    sizes = [len(photo.read()) for photo in PHOTOS]
    assert sum(sizes) < 1_000_000
    assert max(sizes) < 100_000


def test_queries_ask_in_words_in_pictures_and_in_both():
    queries = demo_queries(k=4)
    assert {query.query.content.modality for query in queries} == {"text", "image", "image,text"}
    assert all(query.query.k == 4 and query.title and query.explanation for query in queries)


def test_query_pictures_are_not_in_the_corpus(corpus):
    stored = {path.read_bytes() for path in (corpus.parent / "images").iterdir()}
    asked = [image.data for query in demo_queries() for image in query.query.content.images]
    assert asked
    assert not stored.intersection(asked)
