"""PDF -> its pages, each a picture and its text layer, made only when they are needed (pypdfium2)."""

from __future__ import annotations

import hashlib
import io
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from mmseek._types import Content, Document, Image, Text
from mmseek.errors import ItemError, MissingExtra
from mmseek.index.corpus.entries import Deferred, Ended, Entry, ReadOptions, SourceFile
from mmseek.index.corpus.ocr import OCR_RECIPE, new_lines, recognised
from mmseek.index.corpus.pdf_figures import Figure, Region, find_figures
from mmseek.index.corpus.pdf_tables import TABLES_RECIPE, tables_of

if TYPE_CHECKING:
    import PIL.Image
    import pypdfium2

__all__ = ["read_pdf"]

LONG_SIDE: Final = 1600  # pixels; an A4 page then has 137 dots an inch
_LARGEST_SCALE: Final = 2.0  # 144 dots an inch: more only enlarges
_RECIPE: Final = f"pdf 1 {LONG_SIDE}"  # of how a page is made; another one makes every page anew
_FIGURE_RECIPE: Final = f"figure 1 {LONG_SIDE}"
_ENCRYPTED: Final = 4  # FPDF_ERR_PASSWORD
_HYPHENS: Final = re.compile("[\x02\ufffe]\n?")  # PDFium's mark for a word that goes on in the next line

_T = TypeVar("_T")

# PDFium must not be called from two threads at once. One file is kept open, so that its pages do not parse it anew.
_lock = threading.Lock()
_kept: tuple[SourceFile, pypdfium2.PdfDocument] | None = None


def read_pdf(file: SourceFile, options: ReadOptions) -> Iterator[Entry]:
    """The pages: `FILE#n`, a picture of page n and its text; the file is their parent.

    Whether a page has changed is seen from the file's bytes, so pages that are stored already are not drawn. With
    `pdf_figures` each figure is a document too, `FILE#n#k`, whose parent is its page.
    """
    try:
        with _lock:
            pdf = _open(file)
            pages, title = len(pdf), _title(pdf) or file.path.stem
            _close()
        stamp = file.stamp()
    except ItemError as error:
        yield error
        return
    if not pages:
        yield file.error("is a PDF without any page: leave it out")
        return
    parts: list[tuple[int, int]] = []
    held = len(file.data or b"") // pages
    for number in range(1, pages + 1):
        look = _look(file, number, options)
        page = _Page(file, number, {"path": file.id, "title": title, "page": number, "pages": pages}, look, options)
        recipe = f"{_RECIPE} {stamp} {file.id!r} {title!r} {number}/{pages}{page.extras}"
        yield Deferred(page.id, hashlib.sha256(recipe.encode()).hexdigest(), file.shown, page.load, held=held)
        for count, figure in enumerate(look.figures, start=1):
            name = f"{page.id}#{count}"
            own = f"{_FIGURE_RECIPE} {stamp} {name!r} {title!r} {number}/{pages} {figure}"
            load = partial(page.load_figure, name, count, figure)
            yield Deferred(name, hashlib.sha256(own.encode()).hexdigest(), file.shown, load)
        if look.figures:
            parts.append((number, len(look.figures)))
    if options.pdf_figures or options.ocr == "auto":
        with _lock:
            _close()
    yield Ended(file.id, pages, parts=tuple(parts))


@dataclass(frozen=True, slots=True)
class _Look:
    """What was seen of a page without drawing it: whether its words have to be read, and its figures."""

    ocr: bool = False
    figures: tuple[Figure, ...] = ()


def _look(file: SourceFile, number: int, options: ReadOptions) -> _Look:
    """Look at a page as far as the options ask for it. A page that cannot be opened fails when it is drawn."""
    if options.ocr != "auto" and not options.pdf_figures:
        return _Look(ocr=options.ocr == "always")
    with _lock:
        try:
            page = _open(file)[number - 1]
            try:
                scanned = options.ocr == "auto" and not _text(page)
                figures = find_figures(page) if options.pdf_figures else []
            finally:
                page.close()
        except Exception:  # noqa: BLE001  # as in _Page.load
            return _Look()
    return _Look(options.ocr == "always" or scanned, tuple(figures))


@dataclass(frozen=True, slots=True)
class _Page:
    """A page that can be made: its picture, its words, and its figures."""

    file: SourceFile
    number: int
    about: dict[str, Any]
    look: _Look
    options: ReadOptions

    @property
    def id(self) -> str:
        return f"{self.file.id}#{self.number}"

    @property
    def extras(self) -> str:
        """What of the options makes this page another one."""
        tables = f" {TABLES_RECIPE}" if self.options.pdf_tables else ""
        return tables + (f" {OCR_RECIPE}" if self.look.ocr else "")

    def load(self) -> Document:
        """Draw and read the page."""
        drawn, text = self._with_page(_drawn)
        picture = _jpeg(drawn)
        if self.options.pdf_tables and text:
            last = self.number == self.about["pages"]
            text = "\n\n".join(filter(None, (text, tables_of(self.file, self.number, last=last))))
        about = self.about
        if self.look.ocr and (read := new_lines(text, recognised(picture, self.options.limits))):
            text = f"{text}\n\n{read}" if text else read
            about = {**about, "ocr": True}
        return Document(self.id, Content((picture, Text(text)) if text else (picture,)), about, self.file.id)

    def load_figure(self, name: str, count: int, figure: Figure) -> Document:
        """Draw a figure by itself, with its caption."""
        picture = _jpeg(self._with_page(lambda page: _cut(page, figure.region)))
        words = (Text(figure.caption),) if figure.caption else ()
        about = {**self.about, "figure": count, "region": list(figure.region)}
        return Document(name, Content((picture, *words)), about, self.id)

    def _with_page(self, use: Callable[[Any], _T]) -> _T:
        with _lock:
            try:
                page = _open(self.file)[self.number - 1]
                try:
                    return use(page)
                finally:
                    page.close()
            except ItemError:
                raise
            except Exception as error:  # hostile bytes make PDFium's wrapper raise anything; all of it means this
                raise ItemError(f"page {self.number} cannot be drawn: save the PDF anew or leave it out") from error
            finally:
                if self.number == self.about["pages"]:
                    _close()


def _drawn(page: Any) -> tuple[PIL.Image.Image, str]:
    longest = max(page.get_size())
    picture = _picture(page.render(scale=min(_LARGEST_SCALE, LONG_SIDE / max(longest, 1.0)), rev_byteorder=True))
    return picture, _text(page)


def _cut(page: Any, region: Region) -> PIL.Image.Image:
    width, height = page.get_size()
    x0, y0, x1, y1 = region
    scale = min(_LARGEST_SCALE, LONG_SIDE / max(x1 - x0, y1 - y0, 1.0))
    return _picture(page.render(scale=scale, crop=(x0, height - y1, width - x1, y0), rev_byteorder=True))


def _picture(bitmap: Any) -> PIL.Image.Image:
    """The pixels by themselves, so that they are compressed while PDFium draws another page."""
    picture: PIL.Image.Image = bitmap.to_pil()
    if picture.mode != "RGB":  # then it may still be the bitmap's own memory
        picture = picture.convert("RGB")
    bitmap.close()
    return picture


def _jpeg(picture: PIL.Image.Image) -> Image:
    buffer = io.BytesIO()
    # A scan as PNG takes megabytes; at this quality letters keep their edges.
    picture.save(buffer, format="JPEG", quality=90, subsampling=0)
    return Image(data=buffer.getvalue())


def _text(page: Any) -> str:
    """The text layer."""
    reader = page.get_textpage()
    try:
        return _HYPHENS.sub("", reader.get_text_bounded().replace("\r\n", "\n").replace("\0", "")).strip()
    finally:
        reader.close()


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
