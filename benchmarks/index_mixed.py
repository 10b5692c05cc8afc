"""A thousand mixed files through `mmseek index`: peak memory above the models, and files and pages a second.

    python benchmarks/index_mixed.py [--files 1000] [--encoder mini] [--plain]

Text, Markdown with pictures, HTML, DOCX, PPTX, EPUB, CSV, JSONL, ZIP, pictures up to 12 megapixels, PDF of 3 and of 40
pages, and one file in fifty is damaged. A process of its own loads the encoder, encodes a text and a picture, notes its
memory, and indexes; the peak is of that process from then on, so that what the models take is not counted. Prints JSON.
`--plain` uses the fake encoder instead, so that only reading, drawing and storing are seen.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from index_pdf import write_pdf

GOAL_BYTES = 1.5 * 1024**3
WORDS = ["harbour", "tide", "pond", "duck", "bridge", "windmill", "river", "boat", "lamp", "street", "market"]


def words(random_: random.Random, count: int) -> str:
    return " ".join(random_.choice(WORDS) for _ in range(count))


def picture(random_: random.Random, width: int, height: int) -> bytes:
    import numpy as np
    import PIL.Image

    small = np.random.default_rng(random_.randrange(2**32)).integers(0, 255, (24, 32, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    PIL.Image.fromarray(small).resize((width, height)).save(buffer, "JPEG", quality=88)
    return buffer.getvalue()


def _text(random_: random.Random, path: Path) -> None:
    path.with_suffix(".txt").write_text(words(random_, 400))


def _long_text(random_: random.Random, path: Path) -> None:
    path.with_suffix(".txt").write_text("\n\n".join(words(random_, 80) for _ in range(60)))


def _markdown(random_: random.Random, path: Path) -> None:
    path.with_suffix(".part.jpg").write_bytes(picture(random_, 800, 600))
    path.with_suffix(".md").write_text(f"# {words(random_, 3)}\n\n{words(random_, 60)}\n\n![x]({path.stem}.part.jpg)\n")


def _html(random_: random.Random, path: Path) -> None:
    path.with_suffix(".html").write_text(
        f"<html><title>t</title><p>{words(random_, 300)}<p>{words(random_, 100)}</html>"
    )


def _picture(random_: random.Random, path: Path) -> None:
    path.with_suffix(".jpg").write_bytes(picture(random_, *random_.choice([(640, 480), (1600, 1200), (4000, 3000)])))


def _docx(random_: random.Random, path: Path) -> None:
    import docx

    document = docx.Document()
    for _ in range(8):
        document.add_paragraph(words(random_, 60))
    document.add_picture(io.BytesIO(picture(random_, 800, 600)))
    document.save(str(path.with_suffix(".docx")))


def _pptx(random_: random.Random, path: Path) -> None:
    import pptx

    deck = pptx.Presentation()
    for _ in range(4):
        slide = deck.slides.add_slide(deck.slide_layouts[5])
        slide.shapes.title.text = words(random_, 6)
        slide.shapes.add_picture(io.BytesIO(picture(random_, 640, 480)), 0, 0)
    deck.save(str(path.with_suffix(".pptx")))


def _epub(random_: random.Random, path: Path) -> None:
    chapters = [f"<html><body><h1>{n}</h1><p>{words(random_, 500)}</p></body></html>" for n in range(5)]
    items = "".join(f'<item id="c{n}" href="c{n}.xhtml" media-type="application/xhtml+xml"/>' for n in range(5))
    spine = "".join(f'<itemref idref="c{n}"/>' for n in range(5))
    with zipfile.ZipFile(path.with_suffix(".epub"), "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(
            "META-INF/container.xml",
            '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>'
            '<rootfile full-path="p.opf"/></rootfiles></container>',
        )
        archive.writestr(
            "p.opf",
            f'<package xmlns="http://www.idpf.org/2007/opf"><manifest>{items}</manifest><spine>{spine}</spine></package>',
        )
        for number, chapter in enumerate(chapters):
            archive.writestr(f"c{number}.xhtml", chapter)


def _csv(random_: random.Random, path: Path) -> None:
    rows = "".join(f"{path.stem}-{n},{words(random_, 12)}\n" for n in range(20))
    path.with_suffix(".csv").write_text(f"id,text\n{rows}")


def _jsonl(random_: random.Random, path: Path) -> None:
    rows = [json.dumps({"id": f"{path.stem}:{n}", "text": words(random_, 30)}) for n in range(20)]
    path.with_suffix(".jsonl").write_text("\n".join(rows))


def _zip(random_: random.Random, path: Path) -> None:
    with zipfile.ZipFile(path.with_suffix(".zip"), "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(6):
            archive.writestr(f"{number}.jpg", picture(random_, 800, 600))
            archive.writestr(f"{number}.txt", words(random_, 20))


def _short_pdf(_: random.Random, path: Path) -> None:
    write_pdf(path.with_suffix(".pdf"), 3)


def _long_pdf(_: random.Random, path: Path) -> None:
    write_pdf(path.with_suffix(".pdf"), 40)


def _broken(random_: random.Random, path: Path) -> None:
    suffix = random_.choice([".pdf", ".docx", ".zip", ".jpg", ".epub"])
    path.with_suffix(suffix).write_bytes(b"%PDF-1.4 and no more" if suffix == ".pdf" else random_.randbytes(500))


# How many of a hundred files.
MIX: dict[Callable[[random.Random, Path], None], int] = {
    _text: 20,
    _long_text: 6,
    _markdown: 10,
    _html: 12,
    _picture: 26,
    _docx: 4,
    _pptx: 4,
    _epub: 2,
    _csv: 3,
    _jsonl: 2,
    _zip: 2,
    _short_pdf: 6,
    _long_pdf: 1,
    _broken: 2,
}


def write_corpus(folder: Path, files: int) -> None:
    random_ = random.Random(7)
    kinds = [kind for kind, count in MIX.items() for _ in range(count)]
    for number in range(files):
        place = folder / f"{number // 100:03}"
        place.mkdir(parents=True, exist_ok=True)
        kinds[number % 100](random_, place / f"{number:05}")


def facts() -> tuple[int, int]:
    """Memory of this process now and at its peak, in bytes."""
    rows = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(rows["VmRSS"].split()[0]) * 1024, int(rows["VmHWM"].split()[0]) * 1024


def index(folder: Path, location: Path, spec: str) -> dict[str, Any]:
    from mmseek import Content, Image, load_encoder
    from mmseek.index import open_collection
    from mmseek.index.corpus import Deferred, read_corpus
    from mmseek.pipeline import index_corpus
    from mmseek.testing import FakeEncoder

    encoder: Any = FakeEncoder(dim=384) if spec == "plain" else load_encoder(spec)
    encoder.encode_document([Content.of("a text"), Content((Image(data=picture(random.Random(1), 640, 480)),))] * 8)
    pages = sum(isinstance(entry, Deferred) for entry in read_corpus(folder))
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew, from what is there now
    before, _ = facts()
    collection = open_collection(location, mode="create", encoder=encoder.identity)
    began = time.perf_counter()
    report = index_corpus(read_corpus(folder), encoder, collection)
    seconds = time.perf_counter() - began
    again = time.perf_counter()
    unchanged = index_corpus(read_corpus(folder), encoder, collection).unchanged
    again = time.perf_counter() - again
    collection.close()
    _, peak = facts()
    return {
        "documents": report.indexed,
        "pdf_pages": pages,
        "failed": len(report.failed),
        "seconds": round(seconds, 2),
        "documents_per_second": round(report.indexed / seconds, 2),
        "unchanged": unchanged,
        "unchanged_seconds": round(again, 2),
        "models_mib": round(before / 2**20),
        "above_models_mib": round((peak - before) / 2**20),
        "within_goal": peak - before < GOAL_BYTES,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--encoder", default="mini")
    parser.add_argument("--plain", action="store_true")
    parser.add_argument("--index", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--location", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    spec = "plain" if arguments.plain else arguments.encoder
    if arguments.index is not None:
        print(json.dumps(index(arguments.index, arguments.location, spec)))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name, "corpus")
        write_corpus(folder, arguments.files)
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        command = [sys.executable, __file__, "--index", str(folder), "--location", str(Path(name, "c"))]
        command += ["--encoder", spec] if spec != "plain" else ["--plain"]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        about = {
            "benchmark": "index_mixed",
            "encoder": spec,
            "files": arguments.files,
            "corpus_mib": round(size / 2**20),
        }
        print(json.dumps(about | json.loads(done.stdout), indent=2))


if __name__ == "__main__":
    main()
