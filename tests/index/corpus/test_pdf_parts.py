"""What a PDF's page has besides its text layer: words in scans, figures with captions, tables."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from pathlib import Path

import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont
import pytest

from mmseek import Content, Document, Text
from mmseek.errors import ItemError, MissingExtra
from mmseek.index.corpus import Deferred, Ended, Entry, read_corpus
from mmseek.index.corpus.ocr import new_lines
from mmseek.index.corpus.pdf_figures import find_figures
from mmseek.index.corpus.pdf_tables import markdown_rows
from mmseek.media import open_image

Tree = Callable[[dict[str, str | bytes]], Path]


def written(*lines: str, size: tuple[int, int] = (420, 150)) -> PIL.Image.Image:
    picture = PIL.Image.new("RGB", size, "white")
    font = PIL.ImageFont.load_default(26)
    for number, line in enumerate(lines):
        PIL.ImageDraw.Draw(picture).text((14, 14 + 44 * number), line, fill="black", font=font)
    return picture


def saved(picture: PIL.Image.Image, form: str) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, form)
    return buffer.getvalue()


def drawn_pdf(streams: list[str], *, page: str = "/MediaBox[0 0 300 400]") -> bytes:
    """Pages of these instructions; /F1 is a font, /Im1 a red square and /Fm1 a form with that square in its corner."""
    square = saved(PIL.Image.new("RGB", (8, 8), "red"), "JPEG")
    inside = b"q 100 0 0 50 0 0 cm /Im1 Do Q"
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Count %d/Kids[%s]>>"
        % (len(streams), " ".join(f"{6 + 2 * n} 0 R" for n in range(len(streams))).encode()),
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
        b"<</Type/XObject/Subtype/Image/Width 8/Height 8/ColorSpace/DeviceRGB/BitsPerComponent 8/Filter/DCTDecode"
        b"/Length %d>>stream\n%s\nendstream" % (len(square), square),
        b"<</Type/XObject/Subtype/Form/BBox[0 0 100 50]/Matrix[1 0 0 1 30 0]/Resources<</XObject<</Im1 4 0 R>>>>"
        b"/Length %d>>stream\n%s\nendstream" % (len(inside), inside),
    ]
    for stream in streams:
        objects += [
            f"<</Type/Page/Parent 2 0 R{page}/Resources<</Font<</F1 3 0 R>>/XObject<</Im1 4 0 R/Fm1 5 0 R>>>>"
            f"/Contents {len(objects) + 2} 0 R>>".encode(),
            f"<</Length {len(stream)}>>stream\n{stream}\nendstream".encode(),
        ]
    body, places = b"%PDF-1.4\n", []
    for number, each in enumerate(objects, start=1):
        places.append(len(body))
        body += b"%d 0 obj\n%s\nendobj\n" % (number, each)
    table = "".join(f"{place:010} 00000 n \n" for place in places)
    end = f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{table}"
    return body + f"{end}trailer<</Size {len(objects) + 1}/Root 1 0 R>>\nstartxref\n{len(body)}\n%%EOF".encode()


def say(x: int, y: int, words: str) -> str:
    return f"BT /F1 10 Tf {x} {y} Td ({words}) Tj ET"


def documents(entries: Iterable[Entry]) -> dict[str, Document]:
    loaded = (entry.load() if isinstance(entry, Deferred) else entry for entry in entries)
    return {entry.id: entry for entry in loaded if isinstance(entry, Document)}


def digests(entries: Iterable[Entry]) -> dict[str, str]:
    return {entry.id: entry.digest for entry in entries if isinstance(entry, Deferred)}


@pytest.fixture
def scans(tree: Tree, make_pdf: Callable[..., bytes]) -> Path:
    page = written("harbour tides", "low water 0612")
    return tree({"scan.pdf": saved(page, "PDF"), "text.pdf": make_pdf(["a text layer"]), "p.png": saved(page, "PNG")})


def test_the_words_of_scanned_pages_alone(scans: Path) -> None:
    plain, read = list(read_corpus(scans)), list(read_corpus(scans, ocr="auto"))
    found = documents(read)

    assert found["scan.pdf#1"].content.text == "harbour tides\nlow water 0612"
    assert found["scan.pdf#1"].metadata["ocr"] is True
    assert found["text.pdf#1"].content.text == "a text layer"
    assert found["p.png"].content.text == ""
    assert not {"ocr"} & found["text.pdf#1"].metadata.keys()
    before, after = digests(plain), digests(read)
    assert before["scan.pdf#1"] != after["scan.pdf#1"], "it is read anew"
    assert before["text.pdf#1"] == after["text.pdf#1"], "nothing changes for it"


def test_the_words_of_everything(scans: Path, capfd: pytest.CaptureFixture[str]) -> None:
    first = list(read_corpus(scans, ocr="always"))
    found = documents(first)

    assert found["p.png"].content.text == "harbour tides\nlow water 0612"
    assert found["p.png"].content.images[0].path == Path.cwd() / "docs/p.png"
    assert found["p.png"].metadata == {"path": "p.png", "title": "p", "ocr": True}
    assert found["text.pdf#1"].content.text == "a text layer", "what the layer has is not said again"
    assert digests(read_corpus(scans, ocr="auto"))["scan.pdf#1"] == digests(first)["scan.pdf#1"]
    (scans / "p.png").write_bytes(saved(written("other"), "PNG"))
    assert digests(read_corpus(scans, ocr="always"))["p.png"] != digests(first)["p.png"]
    assert capfd.readouterr() == ("", "")


def test_a_picture_without_words_and_one_that_is_none(tree: Tree, picture: bytes) -> None:
    folder = tree({"a.png": picture, "b.png": b"\x89PNG\r\n\x1a\n and no more"})

    good, bad = (entry for entry in read_corpus(folder, ocr="always") if isinstance(entry, Deferred))

    assert good.load() == Document("a.png", Content(good.load().content.images), {"path": "a.png", "title": "a"})
    assert bad.load().content.images[0].path == Path.cwd() / "docs/b.png", "encoding it will tell what is wrong"


def test_reading_words_needs_its_extra(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tree({"a.txt": "words"})
    monkeypatch.setattr("mmseek.index.corpus.ocr.importlib.util.find_spec", lambda name: None)

    with pytest.raises(MissingExtra, match=r"mmseek\[ocr\]"):
        read_corpus(folder, ocr="auto")
    assert len(documents(read_corpus(folder))) == 1


def test_lines_that_are_known() -> None:
    assert new_lines("The  Tides of\nMay", "the tides\nof may\nand June") == "and June"


FIGURES = "\n".join(
    [
        "q 100 0 0 80 50 260 cm /Im1 Do Q",
        say(50, 245, "Figure 1: the pond"),
        say(50, 233, "in winter"),
        say(50, 200, "Other words."),
        say(160, 120, "Table 2. Ducks"),
        "q 100 0 0 40 160 70 cm /Im1 Do Q q 100 0 0 30 160 40 cm /Im1 Do Q",
        "q 10 0 0 10 280 390 cm /Im1 Do Q",
    ]
)


def test_figures_with_their_captions(tree: Tree) -> None:
    folder = tree({"r.pdf": drawn_pdf([FIGURES, say(20, 20, "no figure")])})

    entries = list(read_corpus(folder, pdf_figures=True))
    found = documents(entries)

    assert list(found) == ["r.pdf#1", "r.pdf#1#1", "r.pdf#1#2", "r.pdf#2"]
    pond, ducks = found["r.pdf#1#1"], found["r.pdf#1#2"]
    assert (pond.content.text, ducks.content.text) == ("Figure 1: the pond in winter", "Table 2. Ducks")
    assert pond.parent_id == "r.pdf#1"
    assert pond.metadata == {
        "path": "r.pdf",
        "title": "r",
        "page": 1,
        "pages": 2,
        "figure": 1,
        "region": [50, 60, 150, 140],
    }
    assert ducks.metadata["region"] == [160, 290, 260, 360], "two pictures that touch are one figure"
    cut = open_image(pond.content.images[0])
    assert cut.size == (200, 160)
    assert {cut.getpixel(place)[0] > 200 > cut.getpixel(place)[1] for place in ((4, 4), (100, 80), (195, 155))} == {
        True
    }  # type: ignore[index]
    assert entries[-1] == Ended("r.pdf", 2, parts=((1, 2),))
    assert digests(read_corpus(folder))["r.pdf#1"] == digests(entries)["r.pdf#1"], "the page stays as it was"


@pytest.mark.parametrize(
    ("page", "region"),
    [
        ("/MediaBox[0 0 300 400]/Rotate 90", [260, 50, 340, 150]),
        ("/MediaBox[0 0 300 400]/CropBox[20 30 300 380]", [30, 40, 130, 120]),
    ],
)
def test_the_region_is_that_of_the_page_as_it_is_shown(tree: Tree, page: str, region: list[float]) -> None:
    folder = tree({"r.pdf": drawn_pdf(["q 100 0 0 80 50 260 cm /Im1 Do Q"], page=page)})

    figure = documents(read_corpus(folder, pdf_figures=True))["r.pdf#1#1"]

    assert figure.metadata["region"] == region
    cut = open_image(figure.content.images[0])
    middle = cut.getpixel((cut.width // 2, cut.height // 2))
    assert isinstance(middle, tuple)
    assert middle[0] > 200 > middle[1]


def test_a_picture_inside_a_form(tree: Tree) -> None:
    folder = tree({"r.pdf": drawn_pdf(["q 2 0 0 2 10 100 cm /Fm1 Do Q"])})

    figure = documents(read_corpus(folder, pdf_figures=True))["r.pdf#1#1"]

    assert figure.metadata["region"] == [70, 200, 270, 300]


def test_a_scan_is_no_figure(tree: Tree) -> None:
    folder = tree({"r.pdf": drawn_pdf(["q 300 0 0 400 0 0 cm /Im1 Do Q"])})

    assert list(documents(read_corpus(folder, pdf_figures=True))) == ["r.pdf#1"]


TABLE = "\n".join(
    [
        *(f"{30 + 80 * column} 300 m {30 + 80 * column} 240 l S" for column in range(4)),
        *(f"30 {300 - 20 * row} m 270 {300 - 20 * row} l S" for row in range(4)),
        *(
            say(35 + 80 * column, 286 - 20 * row, word)
            for row, words in enumerate((("day", "low", "high"), ("Mon", "06:12", "12:20"), ("Tue", "07:01", "13:2")))
            for column, word in enumerate(words)
        ),
    ]
)


def test_tables_are_rows(tree: Tree) -> None:
    folder = tree({"t.pdf": drawn_pdf([TABLE, say(20, 20, "no table")])})

    plain, entries = list(read_corpus(folder)), list(read_corpus(folder, pdf_tables=True))
    found = documents(entries)

    text = found["t.pdf#1"].content.text
    assert text.endswith(
        "\n\n| day | low | high |\n| --- | --- | --- |\n| Mon | 06:12 | 12:20 |\n| Tue | 07:01 | 13:2 |"
    )
    assert found["t.pdf#2"].content.parts[1] == Text("no table")
    assert not set(digests(plain).values()) & set(digests(entries).values())


def test_rows_of_markdown() -> None:
    assert markdown_rows([["a", "b"], [None, None], ["x|y", "two\nlines", "3"]]) == (
        "| a | b |  |\n| --- | --- | --- |\n| x\\|y | two lines | 3 |"
    )
    assert markdown_rows([["a", "b"]]) == ""
    assert markdown_rows([["a"], ["b"]]) == ""


def test_a_damaged_page_is_only_looked_at(
    tree: Tree, make_pdf: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(page: object) -> None:
        raise ValueError

    monkeypatch.setattr("mmseek.index.corpus.pdf.find_figures", fail)
    assert callable(find_figures)
    whole = make_pdf(["one", "two"])
    assert len(documents(read_corpus(tree({"a.pdf": whole}), pdf_figures=True))) == 2
    for cut in range(0, len(whole), 97):
        for entry in read_corpus(tree({"a.pdf": whole[:cut]}), pdf_figures=True, pdf_tables=True, ocr="auto"):
            if isinstance(entry, Deferred):
                try:
                    entry.load()
                except ItemError as error:
                    assert "cannot be drawn" in str(error)  # noqa: PT017
