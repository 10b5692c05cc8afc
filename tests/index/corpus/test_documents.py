"""Every format becomes documents that keep their order, their pictures and their place in the whole."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmseek import Content, Document, Image, Text
from mmseek.index.corpus import Deferred, Ended, Entry, Skipped, read_corpus
from mmseek.index.corpus.decoding import decode
from mmseek.index.corpus.passages import split
from mmseek.media import open_image

Tree = Callable[[dict[str, str | bytes]], Path]


def documents(entries: Iterable[Entry]) -> dict[str, Document]:
    loaded = (entry.load() if isinstance(entry, Deferred) else entry for entry in entries)
    return {entry.id: entry for entry in loaded if isinstance(entry, Document)}


def told(entries: Iterable[Entry]) -> list[str]:
    return [str(entry) for entry in entries if not isinstance(entry, Document | Deferred | Ended)]


def shape(document: Document) -> list[str]:
    return [part.text if isinstance(part, Text) else "<picture>" for part in document.content.parts]


def zipped(members: dict[str, str | bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, body in members.items():
            archive.writestr(name, body)
    return buffer.getvalue()


def tarred(members: dict[str, bytes], mode: str = "w") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:  # type: ignore[call-overload]
        for name, body in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(body)
            archive.addfile(info, io.BytesIO(body))
    return buffer.getvalue()


def test_the_pages_of_a_pdf(tree: Tree, make_pdf: Callable[..., bytes]) -> None:
    folder = tree({"a/report.pdf": make_pdf(["tide tables", "the harbour", ""])})

    entries = list(read_corpus(folder))
    found = documents(entries)

    assert list(found) == ["a/report.pdf#1", "a/report.pdf#2", "a/report.pdf#3"]
    assert [shape(page) for page in found.values()] == [
        ["<picture>", "tide tables"],
        ["<picture>", "the harbour"],
        ["<picture>"],
    ]
    second = found["a/report.pdf#2"]
    assert second.parent_id == "a/report.pdf"
    assert second.metadata == {"path": "a/report.pdf", "title": "report", "page": 2, "pages": 3}
    assert open_image(second.content.images[0]).size == (400, 400)
    assert entries[-1] == Ended("a/report.pdf", 3, parts=())


def test_the_digest_of_a_page_changes_with_the_file(tree: Tree, make_pdf: Callable[..., bytes]) -> None:
    def digests() -> list[str]:
        return [entry.digest for entry in read_corpus("docs") if isinstance(entry, Deferred)]

    tree({"r.pdf": make_pdf(["one", "two"])})
    first = digests()
    assert first == digests()
    assert len(set(first)) == 2
    tree({"r.pdf": make_pdf(["one", "too"])})
    assert not set(first) & set(digests())


def test_a_pdf_of_a_thousand_pages_is_not_drawn_to_be_counted(tree: Tree, make_pdf: Callable[..., bytes]) -> None:
    folder = tree({"long.pdf": make_pdf([f"page {number}" for number in range(1000)])})

    pages = [entry for entry in read_corpus(folder) if isinstance(entry, Deferred)]

    assert len(pages) == 1000
    assert pages[776].load().content.text == "page 776"


HTML = """<!doctype html><html><head><title>The  pond</title><style>p {}</style></head><body>
<h1>Ducks</h1><p>Before <img src="a.png" alt="a duck"> after.</p><script>var x = "<p>no</p>";</script>
<ul><li>one<li>two</ul><table><tr><td>1</td><td>2</td></tr></table>
<img src="https://example.org/x.png" alt="far"><img src="missing.png" alt="gone"><img src="../../out.png" alt="out">
</body></html>"""


def test_html_keeps_text_and_pictures_in_their_order(tree: Tree, picture: bytes) -> None:
    folder = tree({"w/page.html": HTML, "w/a.png": picture})

    entries = list(read_corpus(folder))
    (page,) = documents(entries).values()

    before, image, after = page.content.parts
    assert before == Text("Ducks\n\nBefore")
    assert image == Image(path=Path.cwd() / "docs/w/a.png")
    assert isinstance(after, Text)
    assert after.text.split() == ["a", "duck", "after.", "one", "two", "1", "2", "fargoneout"]
    assert page.metadata["title"] == "The pond"
    (notice,) = told(entries)
    assert "lies outside" in notice
    assert notice.endswith("the page is indexed without it")


def test_pages_are_read_without_what_is_no_picture(tree: Tree, picture: bytes) -> None:
    folder = tree(
        {
            "a.md": "one\n\n![the mill](text.png)\n\ntwo\n\n![the pond](gone.png)\n\n![x](x.png)",
            "b.html": '<p>one<img src="text.png" alt="the mill"><p>two<img src="x.png">',
            "text.png": "no picture",
            "x.png": picture,
        }
    )

    entries = list(read_corpus(folder))

    found = documents(entries)
    assert shape(found["a.md"]) == ["one\n\nthe mill\n\ntwo\n\nthe pond", "<picture>"]
    assert shape(found["b.html"]) == ["one\n\nthe mill\n\ntwo", "<picture>"]
    without = "the page is indexed without it"
    assert told(entries) == [
        f"docs/a.md: its picture text.png is not a picture of a known format; {without}",
        f"docs/a.md: its picture gone.png does not exist; {without}",
        f"docs/b.html: its picture text.png is not a picture of a known format; {without}",
    ]


@pytest.mark.parametrize("suffix", ["htm", "xhtml"])
def test_html_says_its_encoding(tree: Tree, suffix: str) -> None:
    body = '<meta charset="windows-1251"><p>Привет, мир</p>'.encode("cp1251")

    (page,) = documents(read_corpus(tree({f"p.{suffix}": body}))).values()

    assert page.content.text == "Привет, мир"
    assert page.metadata["encoding"] == "windows-1251"


def test_docx_in_its_order(tree: Tree, picture: bytes) -> None:
    import docx

    document = docx.Document()
    document.core_properties.title = "Tides"
    document.add_heading("Low water", 1)
    document.add_picture(io.BytesIO(picture))
    table = document.add_table(rows=1, cols=2)
    table.cell(0, 0).text, table.cell(0, 1).text = "06:12", "0.4 m"
    document.add_paragraph("The end")
    buffer = io.BytesIO()
    document.save(buffer)

    (found,) = documents(read_corpus(tree({"t.docx": buffer.getvalue()}))).values()

    head, image, rest = found.content.parts
    assert head == Text("Low water")
    assert image == Image(data=picture)
    assert isinstance(rest, Text)
    assert rest.text.split() == ["06:12", "0.4", "m", "The", "end"]
    assert found.metadata == {"path": "t.docx", "title": "Tides"}


def test_the_slides_of_a_pptx(tree: Tree, picture: bytes) -> None:
    import pptx

    deck = pptx.Presentation()
    slide = deck.slides.add_slide(deck.slide_layouts[5])
    slide.shapes.title.text = "Harbour"
    slide.shapes.add_picture(io.BytesIO(picture), 0, 0)
    slide.notes_slide.notes_text_frame.text = "say it slowly"
    deck.slides.add_slide(deck.slide_layouts[6])
    deck.slides.add_slide(deck.slide_layouts[5]).shapes.title.text = "End"
    buffer = io.BytesIO()
    deck.save(buffer)

    entries = list(read_corpus(tree({"d.pptx": buffer.getvalue()})))
    found = documents(entries)

    assert {name: shape(slide) for name, slide in found.items()} == {
        "d.pptx#1": ["Harbour", "<picture>", "say it slowly"],
        "d.pptx#3": ["End"],
    }
    assert found["d.pptx#3"].parent_id == "d.pptx"
    assert found["d.pptx#3"].metadata["page"] == 3
    assert entries[-1] == Ended("d.pptx", 3, (2,))


def test_the_chapters_of_an_epub_in_reading_order(tree: Tree, picture: bytes) -> None:
    package = """<package xmlns:dc="x"><metadata><dc:title>Ponds</dc:title></metadata><manifest>
    <item id="b" href="text/two.xhtml"/><item id="a" href="text/one.xhtml"/><item id="c" href="gone.xhtml"/>
    </manifest><spine><itemref idref="a"/><itemref idref="b"/><itemref idref="c"/></spine></package>"""
    book = {
        "mimetype": "application/epub+zip",
        "META-INF/container.xml": '<container><rootfiles><rootfile full-path="OPS/p.opf"/></rootfiles></container>',
        "OPS/p.opf": package,
        "OPS/text/two.xhtml": "<html><body><p>Second</p></body></html>",
        "OPS/text/one.xhtml": '<html><body><p>First</p><img src="../i/d.png" alt="duck"/></body></html>',
        "OPS/i/d.png": picture,
    }

    entries = list(read_corpus(tree({"ponds.epub": zipped(book)})))
    (found,) = documents(entries).values()

    assert found.content.parts == (Text("First"), Image(data=picture), Text("duck\n\nSecond"))
    assert found.metadata["title"] == "Ponds"
    assert told(entries) == [
        "docs/ponds.epub: its chapter 'OPS/gone.xhtml' has no member 'OPS/gone.xhtml'; the book is indexed without it"
    ]


def test_the_rows_of_tables(tree: Tree, picture: bytes) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    rows = 'ID;text;image;metadata;year\na;"two\nlines";p.png;"{""lang"": ""en""}";2020\n;more;;;\n;;;;\nb;;;;1\n'
    table = pa.table({"id": [1, 2], "image": [{"bytes": picture, "path": None}, None], "text": [None, "words"]})
    buffer = io.BytesIO()
    parquet.write_table(table, buffer)
    folder = tree({"t.csv": rows, "p.png": picture, "t.parquet": buffer.getvalue(), "other.tsv": "a\tb\n1\t2\n"})

    entries = list(read_corpus(folder))
    found = documents(entries)

    assert list(found) == ["a", "t.csv:4", "1", "2"]  # the picture belongs to its row
    assert shape(found["a"]) == ["<picture>", "two\nlines"]
    assert found["a"].metadata == {"year": "2020", "lang": "en"}
    assert found["1"].content.images == (Image(data=picture),)
    assert found["2"].content.text == "words"
    assert told(entries) == [
        "docs/other.tsv: is a table without a column named text or image: name one so, and it is read",
        "docs/t.csv:6: has neither text nor image",
    ]


def test_the_members_of_archives(tree: Tree, picture: bytes, make_pdf: Callable[..., bytes]) -> None:
    members: dict[str, str | bytes] = {
        "n/note.md": "See ![](p.png) here",
        "n/p.png": picture,
        "q.png": picture,
        "r.pdf": make_pdf(["inside"]),
        "more.zip": zipped({"a.txt": "deep"}),
    }

    entries = list(read_corpus(tree({"a.zip": zipped(members)})))
    found = documents(entries)

    assert list(found) == ["a.zip/n/note.md", "a.zip/q.png", "a.zip/r.pdf#1"]
    assert found["a.zip/n/note.md"].content.parts == (Text("See"), Image(data=picture), Text("here"))
    assert found["a.zip/r.pdf#1"].content.text == "inside"
    assert told(entries) == ["docs/a.zip/more.zip: is an archive inside an archive: unpack it"]


@pytest.mark.parametrize(("name", "mode"), [("shard.tar", "w"), ("shard.tar.gz", "w:gz")])
def test_a_webdataset_shard(tree: Tree, picture: bytes, name: str, mode: str) -> None:
    samples = {
        "000.png": picture,
        "000.txt": b"a red bike",
        "000.json": json.dumps({"year": 2020}).encode(),
        "001.png": picture,
        "001.cls": b"7",
        "002.png": picture,
    }

    found = documents(read_corpus(tree({name: tarred(samples, mode)})))

    assert list(found) == [f"{name}/000", f"{name}/001", f"{name}/002.png"]
    assert found[f"{name}/000"].content.parts == (Image(data=picture), Text("a red bike"))
    assert found[f"{name}/000"].metadata["year"] == 2020
    assert found[f"{name}/000"].parent_id == name
    assert found[f"{name}/001"].metadata["cls"] == "7"


def test_a_long_text_becomes_passages(tree: Tree) -> None:
    text = "\n\n".join(f"Paragraph {number}. " + "word " * 60 for number in range(20))

    entries = list(read_corpus(tree({"long.txt": text})))
    found = list(documents(entries).values())

    assert [passage.id for passage in found] == [f"long.txt#{number}" for number in range(1, len(found) + 1)]
    assert all(len(passage.content.text) <= 2000 and passage.parent_id == "long.txt" for passage in found)
    assert all(text[passage.metadata["start"] :].startswith(passage.content.text) for passage in found)
    assert all(passage.content.text.startswith("Paragraph") for passage in found)
    assert entries[-1] == Ended("long.txt", len(found))


PARTS = st.lists(
    st.one_of(st.text(alphabet="ab .\n", min_size=1, max_size=60).map(Text), st.just(Image(data=b"x"))), max_size=8
)


@settings(max_examples=200)
@given(PARTS, st.integers(1, 40))
def test_passages_are_the_whole_in_its_order(parts: list[Text | Image], limit: int) -> None:
    pieces = split(Content(tuple(parts)), limit)

    together = [part for piece, _ in pieces for part in piece.parts]

    def bare(parts: Iterable[object]) -> str:
        return "".join("".join(part.text.split()) if isinstance(part, Text) else "|" for part in parts)

    assert bare(together) == bare(parts)
    assert all(len(piece.text) <= limit + piece.text.count("\n") for piece, _ in pieces)
    assert all(len(piece.images) <= 4 for piece, _ in pieces)


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("utf-8", "grün"),
        ("utf-8-sig", "grün"),
        ("utf-16", "grün"),
        ("utf-32", "grün"),
        ("latin-1", "grün"),
        ("cp1251", "В начале было слово, и слово было у моря. Чайки кричали над гаванью весь день." * 3),
        ("shift_jis", "これは日本語の文章です。港の写真と潮の満ち引きの表を探しています。" * 3),
    ],
)
def test_text_in_any_encoding(encoding: str, text: str) -> None:
    found = decode(text.encode(encoding))

    assert found is not None
    assert found[0] == text


@given(st.text())
def test_utf_8_is_read_as_it_is(text: str) -> None:
    found = decode(text.encode())

    assert "\0" in text or found == (text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n"), "utf-8")


def test_a_notice_is_told_of_what_is_no_document(tree: Tree) -> None:
    (entry,) = read_corpus(tree({"a.exe": b"MZ\0\0"}))

    assert entry == Skipped("docs/a.exe", "is a file of a format that is not read (.exe)")
