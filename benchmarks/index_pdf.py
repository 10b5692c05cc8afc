"""PDF pages a second, and how long an unchanged folder takes: `mmseek index` beside a plain loop.

    python benchmarks/index_pdf.py [--pages 200] [--rounds 3] [--files 10000] [--encoder mini]

The plain loop draws a page with pypdfium2 as large as we do, takes its text, and gives it to the same encoder; another
gives it 32 pages at a time, which it encodes together on all cores. Ours also hashes, and stores documents,
vectors and pictures durably. The second part writes `--files` short texts, indexes them with the fake encoder, and
times an unchanged run.
"""

from __future__ import annotations

import argparse
import io
import json
import tempfile
import time
from itertools import count
from pathlib import Path

from rich.console import Console
from side_by_side import SideBySide, chunks

_BATCH = 32


def write_pdf(path: Path, pages: int) -> None:
    """Pages of text in three columns, with a few filled shapes, so that drawing them is some work."""
    kids = " ".join(f"{number} 0 R" for number in range(4, 4 + 2 * pages, 2))
    objects = [
        "<</Type/Catalog/Pages 2 0 R>>",
        f"<</Type/Pages/Count {pages}/Kids[{kids}]>>",
        "<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
    ]
    page_of = "<</Type/Page/Parent 2 0 R/MediaBox[0 0 595 842]/Resources<</Font<</F1 3 0 R>>>>"
    for page in range(pages):
        lines = [f"{(page % 7) / 7} 0.5 0.8 rg 60 60 {60 + page % 300} 90 re f 0 g"]
        lines += [
            f"BT /F1 8 Tf {40 + 180 * column} {800 - 11 * line} Td (page {page} line {line} of the tides) Tj ET"
            for line in range(60)
            for column in range(3)
        ]
        stream = "\n".join(lines)
        objects += [
            f"{page_of}/Contents {len(objects) + 2} 0 R>>",
            f"<</Length {len(stream)}>>stream\n{stream}\nendstream",
        ]
    body = bytearray(b"%PDF-1.4\n")
    places = []
    for number, each in enumerate(objects, start=1):
        places.append(len(body))
        body += f"{number} 0 obj\n{each}\nendobj\n".encode()
    start = len(body)
    body += f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n".encode()
    body += "".join(f"{place:010} 00000 n \n" for place in places).encode()
    body += f"trailer<</Size {len(objects) + 1}/Root 1 0 R>>\nstartxref\n{start}\n%%EOF".encode()
    path.write_bytes(body)


def plain(path: Path, encoder: object, batch: int) -> None:
    """What one writes without us."""
    import pypdfium2

    from mmseek import Content, Image, Text
    from mmseek.index.corpus.pdf import LONG_SIDE

    pdf = pypdfium2.PdfDocument(path)
    for numbers in chunks(list(range(len(pdf))), batch):
        contents = []
        for number in numbers:
            page = pdf[number]
            buffer = io.BytesIO()
            scale = min(2.0, LONG_SIDE / max(page.get_size()))
            page.render(scale=scale).to_pil().convert("RGB").save(buffer, format="JPEG", quality=90, subsampling=0)
            text = page.get_textpage().get_text_bounded()
            contents.append(Content((Image(data=buffer.getvalue()), Text(text))))
        encoder.encode_document(contents)  # type: ignore[attr-defined]


def index(source: Path, place: Path, encoder: object) -> int:
    from mmseek.index import open_collection
    from mmseek.index.corpus import read_corpus
    from mmseek.pipeline import index_corpus

    collection = open_collection(place, mode="write", encoder=encoder.identity)  # type: ignore[attr-defined]
    try:
        return index_corpus(read_corpus(source), encoder, collection).indexed  # type: ignore[arg-type]
    finally:
        collection.close()


def pages_a_second(folder: Path, pages: int, rounds: int, spec: str) -> None:
    from mmseek import load_encoder

    encoder = load_encoder(spec)
    source = folder / "long.pdf"
    write_pdf(source, pages)
    places = count()
    beside = SideBySide("mmseek index")
    for _ in range(rounds + 1):  # the first warms up
        timed = beside if next(places) else SideBySide("mmseek index")
        timed.time("mmseek index", pages, lambda: index(source, folder / f"c{next(places)}", encoder))
        timed.time("plain loop", pages, lambda: plain(source, encoder, 1))
        timed.time("loop by 32", pages, lambda: plain(source, encoder, _BATCH))
    beside.report(Console(stderr=True), "pdf", encoder=spec)


def unchanged(folder: Path, files: int) -> None:
    from mmseek.testing import FakeEncoder

    texts = folder / "texts"
    for number in range(files):
        file = texts / f"{number // 500:03}" / f"{number:06}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{number} " + "some words of text " * 50)
    encoder = FakeEncoder(dim=384)
    seconds = []
    for _ in range(2):
        began = time.perf_counter()
        indexed = index(texts, folder / "unchanged", encoder)
        seconds.append(time.perf_counter() - began)
    print(
        json.dumps(
            {
                "benchmark": "unchanged",
                "files": files,
                "first_s": round(seconds[0], 2),
                "unchanged_s": round(seconds[1], 2),
                "indexed_again": indexed,
            }
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--pages", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--encoder", default="mini")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        if arguments.files:
            unchanged(Path(name), arguments.files)
        if arguments.pages:
            pages_a_second(Path(name), arguments.pages, arguments.rounds, arguments.encoder)


if __name__ == "__main__":
    main()
