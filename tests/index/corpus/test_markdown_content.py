"""Markdown becomes text runs and pictures in their true order, and cannot lead out of its folder."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmseek import Content, Image, Text
from mmseek.errors import ItemError
from mmseek.index.corpus import Ended, Located, read_corpus
from mmseek.index.corpus.entries import ReadOptions
from mmseek.index.corpus.markdown import parse_markdown
from mmseek.index.corpus.pictures import FolderPictures

Tree = Callable[[dict[str, str | bytes]], Path]


def parse(text: str, options: ReadOptions = ReadOptions()) -> Content:  # noqa: B008  (immutable)
    return parse_markdown(text, FolderPictures(Path("/root/notes"), Path("/root"), options))[0]


def title(text: str) -> str | None:
    return parse_markdown(text, FolderPictures(Path("/root"), Path("/root"), ReadOptions()))[1]


def image(path: str) -> Image:
    return Image(path=Path("/root") / path)


def test_parts_stand_in_reading_order() -> None:
    content = parse("Before ![](a.png) between ![](../b%20c.jpg)\n\n![](d.gif)\n\nAfter")

    assert content.parts == (
        Text("Before"),
        image("notes/a.png"),
        Text("between"),
        image("b c.jpg"),
        image("notes/d.gif"),
        Text("After"),
    )


def test_alternative_text_follows_its_picture_unless_it_is_the_file_name() -> None:
    assert parse("![A red bike](bike.png)\n\nMore").parts == (image("notes/bike.png"), Text("A red bike\n\nMore"))
    assert parse("![bike.png](bike.png)").parts == (image("notes/bike.png"),)
    assert parse("![bike](bike.png)").parts == (image("notes/bike.png"),)


def test_markup_becomes_plain_text() -> None:
    text = """# A *title* here

Words with `code`, **bold**,
[a link](http://example.org) &amp; more.

- one
- two

| a | b |
|---|---|
| 1 | 2 |

```python
if x:
    y()
```

> quoted"""

    assert parse(text).text == (
        "A title here\n\nWords with code, bold,\na link & more.\n\none\n\ntwo\n\na\tb\n1\t2\n\nif x:\n    y()\n\nquoted"
    )


def test_html_gives_its_text_and_pictures() -> None:
    content = parse('<p><img src="a.png" alt="Logo"><script>evil()</script> Hello &amp; bye</p>\n\nin <b>line</b><br>x')

    assert content.parts == (image("notes/a.png"), Text("Logo\n\n Hello & bye\n\nin line\nx"))


def test_picture_inside_a_link_or_list_counts() -> None:
    assert parse("- [![](a.png)](http://example.org)\n- x").parts == (image("notes/a.png"), Text("x"))


@pytest.mark.parametrize(
    "target", ["https://example.org/a.png", "//example.org/a.png", "badge.svg", "a.pdf", "ftp://example.org/a.png", ""]
)
def test_alternative_text_stands_for_what_cannot_be_a_picture(target: str) -> None:
    assert parse(f"see ![the alternative](<{target}>)").parts == (Text("see the alternative"),)


def test_remote_picture_is_a_part_when_urls_are_allowed() -> None:
    content = parse("![far](https://example.org/a)", ReadOptions(allow_urls=True))

    assert content.parts == (Image(url="https://example.org/a"), Text("far"))


def test_inline_picture_is_decoded() -> None:
    data = base64.b64encode(b"bytes").decode()

    assert parse(f"![](data:image/png;base64,{data})").parts == (Image(data=b"bytes"),)
    assert parse("![alt](data:image/png;base64,@@)").parts == (Text("alt"),)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("---\ntitle: Mine\ntags: [a]\n---\n# Other\n", "Mine"),
        ('---\r\ntitle: "Quoted: yes"\r\n---\r\nx', "Quoted: yes"),
        ("---\ntags: a\n...\n# From `heading`\n", "From heading"),
        ("words\n\n## Second level\n", None),
        ("---\nno end\n\n# Heading", "Heading"),
    ],
)
def test_title(text: str, found: str | None) -> None:
    assert title(text) == found


def test_front_matter_is_no_text() -> None:
    assert parse("---\ntitle: Mine\n---\nwords").text == "words"


@pytest.mark.parametrize("target", ["../../etc/p.png", "/etc/p.png", "a/../../../p.png", "%2e%2e/%2e%2e/p.png"])
@pytest.mark.parametrize("follow", [False, True])
def test_picture_outside_is_refused(target: str, follow: bool) -> None:
    with pytest.raises(ItemError, match=r"lies outside of /root: move it inside, or index a folder above"):
        parse(f"![]({target})", ReadOptions(follow_symlinks=follow))


def test_unusable_path_is_refused() -> None:
    with pytest.raises(ItemError, match="unusable path"):
        parse("![](a%00.png)")


def test_escape_by_a_link_is_refused(tree: Tree, picture: bytes) -> None:
    folder = tree({"n.md": "![](link.png)", "m.md": "words ![](../secret.png)", "good.md": "words"})
    Path("secret.png").write_bytes(picture)
    (folder / "link.png").symlink_to(Path("secret.png").absolute())

    found = list(read_corpus(folder))

    assert [entry.id for entry in found if isinstance(entry, Located)] == ["good.md"]
    root = Path("docs").absolute()
    assert [str(entry) for entry in found if isinstance(entry, ItemError)] == [
        f"docs/m.md: its picture ../secret.png lies outside of {root}: move it inside, or index a folder above",
        f"docs/n.md: its picture link.png lies outside of {root}: move it inside, or index a folder above",
    ]
    followed = [entry.id for entry in read_corpus(folder, follow_symlinks=True) if isinstance(entry, Located)]
    assert followed == ["good.md", "n.md"]


def test_file_given_itself_may_not_leave_its_own_folder(tree: Tree, picture: bytes) -> None:
    folder = tree({"sub/n.md": "![](../p.png)", "p.png": picture})

    assert [type(entry) for entry in read_corpus(folder)] == [Located, Ended]
    assert [type(entry) for entry in read_corpus(folder / "sub/n.md")] == [ItemError]


@settings(max_examples=200)
@given(st.lists(st.one_of(st.sampled_from(["p.png", "q.jpg"]), st.text(alphabet="abc", min_size=1)), max_size=8))
def test_pictures_and_texts_keep_their_order(pieces: list[str]) -> None:
    blocks = [f"![]({piece})" if "." in piece else piece for piece in pieces]
    expected: list[str] = []
    for piece in pieces:
        if expected and "." not in piece and "." not in expected[-1]:
            expected[-1] += f"\n\n{piece}"
        else:
            expected.append(piece)

    parts = parse("\n\n".join(blocks)).parts

    assert [part.text if isinstance(part, Text) else Path(str(part)).name for part in parts] == expected


@settings(max_examples=200)
@given(st.text(max_size=200))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    try:
        content = parse(text)
    except ItemError:
        return
    assert all(isinstance(part, Text | Image) for part in content.parts)


@pytest.mark.parametrize("piece", ["[", "![", "> ", "*a ", "<b>", "`", "- ", "&", "(", "|"])
def test_hostile_repetition_ends(piece: str) -> None:
    parse(piece * 5000)


def test_what_is_nested_too_deeply_is_not_lost(tree: Callable[..., Path]) -> None:
    lists = "\n".join("  " * depth + f"- level {depth}" for depth in range(30))
    folder = tree(
        {"a.md": "> " * 40 + "quoted", "b.md": lists, "c.md": "> " * 5000 + "deep", "d.md": "- " * 5000 + "deep"}
    )

    found = {entry.id: entry.content.text for entry in read_corpus(folder) if isinstance(entry, Located)}

    assert found["a.md"] == "quoted"
    assert [f"level {depth}" in found["b.md"].split("\n") for depth in range(30)] == [True] * 30
    assert found["c.md"] == found["d.md"] == "deep"
