"""PDF -> its pages, each a picture and its text layer, made only when they are needed (pypdfium2)."""

from __future__ import annotations

import hashlib
import io
import re
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from mmseek._types import Content, Document, Image, Text
from mmseek.errors import ItemError, MissingExtra
from mmseek.index.corpus.entries import Deferred, Ended, Entry, ReadOptions, SourceFile

if TYPE_CHECKING:
    import pypdfium2

__all__ = ["read_pdf"]

LONG_SIDE: Final = 1600  # pixels; an A4 page then has 137 dots an inch
_LARGEST_SCALE: Final = 2.0  # 144 dots an inch: more only enlarges
_RECIPE: Final = f"pdf 1 {LONG_SIDE}"  # of how a page is made; another one makes every page anew
_ENCRYPTED: Final = 4  # FPDF_ERR_PASSWORD
_HYPHENS: Final = re.compile("[\x02\ufffe]\n?")  # PDFium's mark for a word that goes on in the next line

# PDFium must not be called from two threads at once. One file is kept open, so that its pages do not parse it anew.
_lock = threading.Lock()
_kept: tuple[SourceFile, pypdfium2.PdfDocument] | None = None


def read_pdf(file: SourceFile, _options: ReadOptions) -> Iterator[Entry]:
    """The pages: `FILE#n`, a picture of page n and its text; the file is their parent.

    Whether a page has changed is seen from the file's bytes, so pages that are stored already are not drawn.
    """
    try:
        with _lock:
            pdf = _open(file)
            pages, title = len(pdf), _title(pdf) or file.path.stem
            _close()
        stamp = _stamp(file)
    except ItemError as error:
        yield error
        return
    if not pages:
        yield file.error("is a PDF without any page: leave it out")
        return
    for number in range(1, pages + 1):
        about = {"path": file.id, "title": title, "page": number, "pages": pages}
        yield Deferred(
            id=f"{file.id}#{number}",
            digest=hashlib.sha256(f"{_RECIPE} {stamp} {file.id!r} {title!r} {number}/{pages}".encode()).hexdigest(),
            source=file.shown,
            load=lambda number=number, about=about: _page(file, number, about),  # type: ignore[misc]
        )
    yield Ended(file.id, pages)


def _page(file: SourceFile, number: int, about: dict[str, Any]) -> Document:
    """One page, drawn and read."""
    with _lock:
        try:
            content = _drawn(_open(file)[number - 1])
        except ItemError:
            raise
        except Exception as error:  # hostile bytes make PDFium's wrapper raise anything; all of it means this
            raise ItemError(f"page {number} cannot be drawn: save the PDF anew or leave it out") from error
        finally:
            if number == about["pages"]:
                _close()
    return Document(f"{file.id}#{number}", content, about, file.id)


def _drawn(page: Any) -> Content:
    try:
        longest = max(page.get_size())
        scale = min(_LARGEST_SCALE, LONG_SIDE / max(longest, 1.0))
        buffer = io.BytesIO()
        bitmap = page.render(scale=scale)
        # A scan as PNG takes megabytes; at this quality letters keep their edges.
        bitmap.to_pil().convert("RGB").save(buffer, format="JPEG", quality=90, subsampling=0)
        bitmap.close()
        reader = page.get_textpage()
        text = _HYPHENS.sub("", reader.get_text_bounded().replace("\r\n", "\n").replace("\0", "")).strip()
        reader.close()
    finally:
        page.close()
    picture = Image(data=buffer.getvalue())
    return Content((picture, Text(text)) if text else (picture,))


def _open(file: SourceFile) -> Any:
    """The PDF, from the one that is kept open if it is this. Call it with the lock."""
    global _kept
    if _kept is not None and _kept[0] is file:
        return _kept[1]
    _close()
    try:
        import pypdfium2
    except ModuleNotFoundError as error:
        raise file.error(str(MissingExtra("reading PDF", "pdf"))) from error
    try:
        pdf = pypdfium2.PdfDocument(file.path if file.data is None else file.data)
    except pypdfium2.PdfiumError as error:
        if getattr(error, "err_code", None) == _ENCRYPTED:
            raise file.error("is a PDF with a password: save it without one") from error
        raise file.error("is a damaged PDF: save it anew or leave it out") from error
    except OSError as error:
        raise file.error(f"cannot be read: {error.strerror}") from error
    _kept = (file, pdf)
    return pdf


def _close() -> None:
    """Forget the PDF that is kept open. Call it with the lock."""
    global _kept
    if _kept is not None:
        _kept[1].close()
        _kept = None


def _title(pdf: Any) -> str:
    return " ".join(str(pdf.get_metadata_dict().get("Title") or "").replace("\0", "").split())


def _stamp(file: SourceFile) -> str:
    """A hash of the file's bytes."""
    if file.data is not None:
        return hashlib.sha256(file.data).hexdigest()
    try:
        with file.path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise file.error(f"cannot be read: {error.strerror}") from error
