from __future__ import annotations

import base64
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmseek import Content, Document, Image, Text
from mmseek.errors import InputError, ItemError, StorageError
from mmseek.items import MAX_ID_LENGTH, Item, item_to_json, parse_item, read_items, write_items
from mmseek.media import MediaLimits

BASE = Path("/corpus")
PNG = b"\x89PNG\r\n\x1a\n rest"
KEYS = ("id", "text", "image", "content", "metadata", "parent_id", "role", "instruction")
URI = "data:image/png;base64," + base64.b64encode(PNG).decode()


def parse(obj: object, **options: Any) -> Item:
    return parse_item(obj, **{"base": BASE, **options})


def reason(obj: object, **options: Any) -> str:
    with pytest.raises(ItemError) as error:
        parse(obj, **options)
    assert "\n" not in str(error.value)
    return error.value.reason


# ---- what is accepted


def test_shorthand_puts_the_picture_first() -> None:
    item = parse({"id": "a1", "text": "a red bike", "image": "images/a1.jpg", "metadata": {"lang": "en"}})
    content = Content((Image(path=BASE / "images/a1.jpg"), Text("a red bike")))
    assert item == Item(content, id="a1", metadata={"lang": "en"})
    assert item.to_document() == Document("a1", content, {"lang": "en"})
    assert parse({"text": "x", "image": "a"}).content == parse({"image": "a", "text": "x"}).content


def test_content_keeps_its_order() -> None:
    parts = [
        {"type": "text", "text": "Step 1"},
        {"type": "image", "image": "images/1.png"},
        {"type": "text", "text": ""},
        {"image": URI, "type": "image"},
    ]
    item = parse({"id": "a2", "content": parts})
    assert item.content.parts == (Text("Step 1"), Image(path=BASE / "images/1.png"), Text(""), Image(data=PNG))


def test_all_keys() -> None:
    item = parse({"id": "p1", "text": "x", "parent_id": "p", "role": "query", "instruction": "Find it."})
    assert item == Item(Content((Text("x"),)), "p1", {}, "p", "query", "Find it.")


def test_defaults() -> None:
    assert parse({"text": "x"}) == Item(Content((Text("x"),)), id=None, metadata={}, parent_id=None, role="document")


def test_null_counts_as_absent() -> None:
    keys = ("id", "image", "content", "metadata", "parent_id", "role", "instruction")
    assert parse({"text": "x"} | dict.fromkeys(keys)) == parse({"text": "x"})


def test_blank_text_beside_a_picture_is_no_part() -> None:
    for text in ("", "  \n"):
        assert parse({"image": "a.png", "text": text}).content.parts == (Image(path=BASE / "a.png"),)


def test_document_needs_an_id() -> None:
    with pytest.raises(ItemError, match="has no id: a document needs one"):
        parse({"text": "x"}).to_document()


def test_longest_id_and_odd_but_fine_ids() -> None:
    for one in ("x" * MAX_ID_LENGTH, "a b/c#ü", "日本", "0"):
        assert parse({"id": one, "text": "x"}).id == one


# ---- what is refused


@pytest.mark.parametrize("given", [{}, {"id": "a"}, {"text": ""}, {"text": " \n\t"}, {"content": []}, {"text": None}])
def test_nothing_in_it(given: dict[str, object]) -> None:
    assert reason(given) == "has neither text nor image"


def test_blank_content_is_nothing_either() -> None:
    assert reason({"content": [{"type": "text", "text": " "}]}) == "has neither text nor image"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"text": 5}, "text must be a string, not a number"),
        ({"text": ["a"]}, "text must be a string, not a list"),
        ({"text": True}, "text must be a string, not a truth value"),
        ({"text": {"a": 1}}, "text must be a string, not an object"),
        ({"image": 5}, "image must be a string, not a number"),
        ({"image": ""}, "image must not be empty"),
        ({"image": "a\0b"}, "image is no path: it holds a zero byte"),
        ({"id": 7, "text": "x"}, "id must be a string, not a number"),
        ({"id": "", "text": "x"}, "id must not be empty"),
        ({"id": "  ", "text": "x"}, "id must not be empty"),
        ({"id": "a\tb", "text": "x"}, "id must not hold control characters such as tab or newline"),
        ({"id": "a\u2028", "text": "x"}, "id must not hold control characters such as tab or newline"),
        ({"id": "x" * 513, "text": "x"}, "id has 513 characters, more than the 512 allowed"),
        ({"parent_id": 7, "text": "x"}, "parent_id must be a string, not a number"),
        ({"parent_id": "a\n", "text": "x"}, "parent_id must not hold control characters such as tab or newline"),
        ({"metadata": [], "text": "x"}, "metadata must be a JSON object, not a list"),
        (
            {"metadata": {"a": float("nan")}, "text": "x"},
            "metadata holds a number that is not finite, which JSON cannot say",
        ),
        ({"metadata": {"a": "\ud800"}, "text": "x"}, "metadata holds half of a surrogate pair (\\ud800)"),
        ({"text": "a \udc00"}, "text holds half of a surrogate pair (\\udc00)"),
        ({"role": "doc", "text": "x"}, 'role must be "query" or "document", not \'doc\''),
        ({"role": ["query"], "text": "x"}, 'role must be "query" or "document", not [\'query\']'),
        ({"instruction": 1, "text": "x"}, "instruction must be a string, not a number"),
        ({"content": {}, "text": None}, "content must be a list of parts, not an object"),
        ({"content": [], "text": "x"}, "has both content and text: give the one or the other"),
        ({"content": [], "image": "x"}, "has both content and image: give the one or the other"),
        ({"content": ["a"]}, "part 1 of content must be a JSON object, not a string"),
        (
            {"content": [{"text": "a"}]},
            'the type of part 1 of content must be "text", "image" or "video", but is missing',
        ),
        (
            {"content": [{"type": "text", "text": "a"}, {"type": "sound", "sound": "a"}]},
            'the type of part 2 of content must be "text", "image" or "video", but is \'sound\'',
        ),
        ({"content": [{"type": "text"}]}, "part 1 of content is of type text but has no text"),
        ({"content": [{"type": "image", "image": 3}]}, "the image of part 1 of content must be a string, not a number"),
        ({"content": [{"type": "image", "image": ""}]}, "the image of part 1 of content must not be empty"),
        (
            {"content": [{"type": "text", "text": "a", "image": "b"}]},
            "part 1 of content has the unknown key 'image': the keys are type, text",
        ),
        (
            {"txet": "a"},
            "the item has the unknown key 'txet': the keys are " + ", ".join(KEYS),
        ),
        ([], "the item must be a JSON object, not a list"),
        ("text", "the item must be a JSON object, not a string"),
        (None, "the item must be a JSON object, not null"),
    ],
)
def test_refused(given: object, expected: str) -> None:
    assert reason(given) == expected


def test_the_place_and_the_id_are_named() -> None:
    with pytest.raises(ItemError) as error:
        parse({"id": "a1", "text": 5}, source="corpus.jsonl", line=7)
    assert (error.value.source, error.value.line, error.value.item_id) == ("corpus.jsonl", 7, "a1")
    assert str(error.value) == "corpus.jsonl:7: text must be a string, not a number"
    for bad in ({"id": 5}, {"id": "a1", "x": 1}, []):
        with pytest.raises(ItemError) as error:
            parse(bad)
        assert error.value.item_id == ("a1" if "x" in bad else None)


# ---- addresses of pictures


@pytest.mark.parametrize("name", ["a.png", "./a.png", "../up/a.png", "fig: 1.png", "http.png", "c:d.png", "ü/日.png"])
def test_paths_start_at_the_base(name: str) -> None:
    assert parse({"image": name}).content.images == (Image(path=BASE / name),)


def test_absolute_path() -> None:
    assert parse({"image": "/pictures/a.png"}).content.images == (Image(path=Path("/pictures/a.png")),)


def test_no_base_means_no_paths() -> None:
    for name in ("a.png", "/etc/passwd", "../a.png"):
        assert reason({"image": name}, base=None) == (
            "image is a path, which is not accepted here: send the picture as a data: URI"
        )
    assert parse({"image": URI}, base=None).content.images == (Image(data=PNG),)


@pytest.mark.parametrize("url", ["http://example.org/a.png", "https://example.org/a.png?x=1", "HTTPS://example.org/a"])
def test_urls_only_where_allowed(url: str) -> None:
    assert reason({"image": url}) == (
        "image is a URL, and URLs are not allowed here: save the picture or pass --allow-urls"
    )
    assert parse({"image": url}, allow_urls=True).content.images == (Image(url=url),)


@pytest.mark.parametrize("url", ["http://", "https:///a.png", "http://[::1", "http://a b/c", "http://exa\nmple.org/"])
def test_unusable_urls(url: str) -> None:
    assert reason({"image": url}, allow_urls=True).startswith("image is not a usable URL: 'http")


@pytest.mark.parametrize("scheme", ["file", "ftp", "s3", "FILE", "gopher"])
def test_other_schemes(scheme: str) -> None:
    expected = f"image is a {scheme.lower()}:// address: give a path, a data: URI or an http(s) URL"
    assert reason({"image": f"{scheme}:///etc/passwd"}, allow_urls=True) == expected


@pytest.mark.parametrize("head", ["data:image/png;base64,", "DATA:IMAGE/PNG;BASE64,", "data:image/svg+xml;base64,"])
def test_data_uri(head: str) -> None:
    assert parse({"image": head + "QUJD"}).content.images == (Image(data=b"ABC"),)


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("data:text/html;base64,QUJD", "image must be a data: URI like data:image/png;base64,..."),
        ("data:image/png,QUJD", "image must be a data: URI like data:image/png;base64,..."),
        ("data:;base64,QUJD", "image must be a data: URI like data:image/png;base64,..."),
        ("data:", "image must be a data: URI like data:image/png;base64,..."),
        ("data:image/png;base64,", "image is a data: URI without any byte"),
        ("data:image/png;base64,QUJ", "image is a data: URI whose base64 is broken"),
        ("data:image/png;base64,QUJD QUJD", "image is a data: URI whose base64 is broken"),
        ("data:image/png;base64,QUI=QUI=", "image is a data: URI whose base64 is broken"),
        ("data:image/png;base64,QU-_", "image is a data: URI whose base64 is broken"),
        ("data:image/png;base64,QUé=", "image is a data: URI whose base64 is broken"),
        ("data:image/png;base64,====", "image is a data: URI whose base64 is broken"),
    ],
)
def test_bad_data_uri(uri: str, expected: str) -> None:
    assert reason({"image": uri}) == expected


@given(st.binary(min_size=1, max_size=40))
def test_size_of_a_data_uri_is_exact(data: bytes) -> None:
    given_item = {"image": "data:image/png;base64," + base64.b64encode(data).decode()}
    assert parse(given_item, limits=MediaLimits(max_bytes=len(data))).content.images == (Image(data=data),)
    assert reason(given_item, limits=MediaLimits(max_bytes=len(data) - 1)) == (
        f"image holds {len(data)} bytes, more than the limit of {len(data) - 1}: make the picture smaller"
    )


# ---- files


def test_read_items(tmp_path: Path) -> None:
    path = tmp_path / "corpus.jsonl"
    path.write_text(
        '{"id":"a","image":"images/a.png"}\n\nnot json\n{"id":"b"}\n{"id":"c","text":"x"}\n'
        '{"id":"d","image":"https://example.org/a.png"}\n',
        encoding="utf-8",
    )
    rows = list(read_items(path))
    assert rows[0] == Item(Content((Image(path=tmp_path / "images/a.png"),)), id="a")
    assert [str(row) for row in rows if isinstance(row, ItemError)] == [
        f"{path}:3: is not JSON: Expecting value at column 1",
        f"{path}:4: has neither text nor image",
        f"{path}:6: image is a URL, and URLs are not allowed here: save the picture or pass --allow-urls",
    ]
    assert [row.id for row in rows if isinstance(row, Item)] == ["a", "c"]
    assert [row.item_id for row in rows if isinstance(row, ItemError)] == [None, "b", "d"]
    assert isinstance(list(read_items(path, allow_urls=True))[-1], Item)
    assert isinstance(next(iter(read_items(str(path), max_line_bytes=10))), ItemError)


def test_read_items_without_a_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        list(read_items(tmp_path / "none.jsonl"))


def test_example_of_the_format(tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    path.write_text(
        '{"id": "a1", "text": "a red bike", "image": "images/a1.jpg", "metadata": {"lang": "en"}}\n'
        '{"id": "a2", "content": [{"type": "text", "text": "Step 1"}, {"type": "image", "image": "images/1.png"}, '
        '{"type": "text", "text": "Step 2"}]}\n'
    )
    items = [item for item in read_items(path) if isinstance(item, Item)]
    assert [item.content.modality for item in items] == ["image,text", "image,text"]
    assert [len(item.content.parts) for item in items] == [2, 3]


def test_paths_are_written_relative_to_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    inside = Content((Image(path=tmp_path / "images/a.png"),))
    from_here = Content((Image(path=Path("images/a.png")),))
    outside = Content((Image(path=Path("/elsewhere/a.png")),))
    assert item_to_json(Item(inside), relative_to=tmp_path) == {"image": "images/a.png"}
    assert item_to_json(Item(from_here), relative_to=tmp_path) == {"image": "images/a.png"}
    assert item_to_json(Item(from_here), relative_to=Path("images")) == {"image": "a.png"}
    assert item_to_json(Item(outside), relative_to=tmp_path) == {"image": "/elsewhere/a.png"}
    assert item_to_json(Item(from_here)) == {"image": "images/a.png"}


def test_bytes_are_written_with_their_type() -> None:
    assert item_to_json(Item(Content((Image(data=PNG),)))) == {"image": URI}
    unknown = item_to_json(Item(Content((Image(data=b"??"),))))["image"]
    assert unknown.startswith("data:image/x-unknown;base64,")


def test_a_document_is_written_as_an_item() -> None:
    document = Document("d", Content((Text("x"),)), {"a": [1]}, "p")
    assert item_to_json(document) == {"id": "d", "text": "x", "metadata": {"a": [1]}, "parent_id": "p"}


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        (Item(Content((Text("\ud800"),)), id="a"), r"item 'a': holds half of a surrogate pair"),
        (Item(Content((Text("x"),)), instruction="\ud800"), "holds half of a surrogate pair"),
        (Item(Content((Text("x"),)), metadata={"a": {1}}), "metadata holds a value of type set"),
        (Item(Content((Image(path=Path("\udcff.png")),))), "the path of its picture is not Unicode text"),
    ],
)
def test_what_cannot_be_written(item: Item, expected: str, tmp_path: Path) -> None:
    with pytest.raises(ItemError, match=expected):
        item_to_json(item)
    path = tmp_path / "kept.jsonl"
    path.write_text("before")
    with pytest.raises(ItemError):
        write_items(path, [Item(Content((Text("fine"),))), item])
    assert path.read_text() == "before"
    assert [one.name for one in tmp_path.iterdir()] == ["kept.jsonl"]


def test_write_and_read(tmp_path: Path) -> None:
    items = [
        Item(Content((Image(path=tmp_path / "a.png"), Text("é\n\u2028"))), id="a", metadata={"n": 1.5}),
        Item(Content((Image(data=PNG), Text("b"), Image(path=Path("/x/y.png")))), role="query", instruction=""),
    ]
    path = tmp_path / "out.jsonl"
    assert write_items(path, iter(items)) == 2
    assert list(read_items(path)) == items
    assert path.read_bytes().count(b"\n") == 2
    assert path.stat().st_mode & 0o777 == 0o666 & ~_umask()
    assert write_items(path, []) == 0
    assert path.read_bytes() == b""


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_failed_write_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "out.jsonl"
    path.write_text("before")

    def stops() -> Iterator[Item]:
        yield Item(Content((Text("x"),)))
        raise InputError("the source broke")

    with pytest.raises(InputError, match="the source broke"):
        write_items(path, stops())

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mmseek.items.os.fsync", full)
    with pytest.raises(StorageError, match=r"cannot be written \(No space left on device\): check the disk"):
        write_items(path, [Item(Content((Text("x"),)))])
    assert path.read_text() == "before"
    assert [one.name for one in tmp_path.iterdir()] == ["out.jsonl"]


def test_write_to_no_place(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"the folder .* does not exist"):
        write_items(tmp_path / "none" / "out.jsonl", [])
    for path in (tmp_path, Path("/dev/null")):
        with pytest.raises(InputError, match="is not a file that can be replaced"):
            write_items(path, [])
    assert Path("/dev/null").is_char_device()
