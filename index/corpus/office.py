"""DOCX and PPTX -> text and pictures in their order (python-docx, python-pptx)."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final

from mmseek._types import Image
from mmseek.errors import ItemError, MissingExtra
from mmseek.index.corpus.entries import Ended, Located
from mmseek.index.corpus.interleave import Interleaved
from mmseek.index.corpus.passages import documents_of
from mmseek.index.corpus.zips import open_zip
from mmseek.media import recognise

if TYPE_CHECKING:
    from mmseek.index.corpus.entries import Entry, ReadOptions, SourceFile

__all__ = ["read_docx", "read_pptx"]

_MAX_BYTES: Final = 512 * 2**20
_EMBED: Final = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}embed"
_SAID: Final = {"tab": "\t", "br": "\n", "cr": "\n", "noBreakHyphen": "-"}


def read_docx(file: SourceFile, options: ReadOptions) -> Iterator[Entry]:
    """Paragraphs, tables and pictures in their order; passages if it is long. Headers and comments are left out."""
    try:
        import docx
        from lxml import etree
    except ModuleNotFoundError:
        yield file.error(str(MissingExtra("reading DOCX", "documents")))
        return
    try:
        document = _open(file, "DOCX", docx.Document)
        parts = Interleaved()
        _walk(etree.iterwalk(document.element.body, events=("start", "end")), document.part.related_parts, parts)
        title = str(document.core_properties.title or "")
    except ItemError as error:
        yield error
        return
    except Exception:  # noqa: BLE001  # hostile bytes make the library raise anything; all of it means this
        yield file.error("is a damaged DOCX: save it anew or leave it out")
        return
    yield from documents_of(file, parts.content(), options, title=title.strip() or file.path.stem)


def read_pptx(file: SourceFile, _options: ReadOptions) -> Iterator[Entry]:
    """The slides: `FILE#n`, the texts, tables and pictures of slide n, its notes last; the file is their parent."""
    try:
        import pptx
    except ModuleNotFoundError:
        yield file.error(str(MissingExtra("reading PPTX", "documents")))
        return
    try:
        deck = _open(file, "PPTX", pptx.Presentation)
        contents = [_slide(slide) for slide in deck.slides]
        title = str(deck.core_properties.title or "").strip()
    except ItemError as error:
        yield error
        return
    except Exception:  # noqa: BLE001  # as above
        yield file.error("is a damaged PPTX: save it anew or leave it out")
        return
    about = {"path": file.id, "title": title or file.path.stem}
    empty = tuple(number for number, content in enumerate(contents, start=1) if content.is_empty)
    if len(empty) == len(contents):
        yield file.error("has neither text nor picture: fill it or take it out")
        return
    for number, content in enumerate(contents, start=1):
        if not content.is_empty:
            told = {**about, "page": number, "pages": len(contents)}
            yield Located(f"{file.id}#{number}", content, told, file.id, source=file.shown, paged=True)
    yield Ended(file.id, len(contents), empty)


def _open(file: SourceFile, what: str, opener: Any) -> Any:
    """What the library makes of the file, after its size unfolded has been looked at."""
    with open_zip(file, what) as archive:
        if sum(member.file_size for member in archive.infolist()) > _MAX_BYTES:
            raise file.error(f"unfolds to more than {_MAX_BYTES // 2**20} MiB: split it")
    return opener(str(file.path) if file.data is None else io.BytesIO(file.data))


def _walk(events: Any, related: Any, parts: Interleaved) -> None:
    """Text runs, breaks, cells and pictures of a DOCX's body, in the order of its tags."""
    cells = 0
    for event, element in events:
        tag = str(element.tag).rpartition("}")[2]
        if event == "start":
            if tag == "Fallback":  # the same again, for older programs
                events.skip_subtree()
            elif tag == "blip":
                _show(related.get(element.get(_EMBED)), parts)
            elif tag == "t":
                parts.say(element.text or "")
            elif tag in _SAID:
                parts.say(_SAID[tag])
            cells += tag == "tc"
        elif tag == "tc":
            cells -= 1
            parts.say("\t")
        elif tag == "p":
            parts.say(" " if cells else "\n\n")
        elif tag in ("tr", "tbl"):
            parts.say("\n")


def _show(part: Any, parts: Interleaved) -> None:
    """A picture in a format that is known; others (EMF, WMF) cannot be shown."""
    data = bytes(getattr(part, "blob", b"") or b"")
    if recognise(data) is not None:
        parts.show(Image(data=data))


def _slide(slide: Any) -> Any:
    parts = Interleaved()
    for shape in _shapes(slide.shapes):
        if getattr(shape, "has_table", False):
            for row in shape.table.rows:
                parts.say("\t".join(cell.text for cell in row.cells) + "\n")
        elif getattr(shape, "has_text_frame", False):
            parts.say(shape.text_frame.text.replace("\v", "\n"))
        elif shape.shape_type == 13:  # MSO_SHAPE_TYPE.PICTURE
            _show(getattr(shape, "image", None), parts)
        parts.say("\n\n")
    if slide.has_notes_slide and slide.notes_slide.notes_text_frame is not None:
        parts.say(slide.notes_slide.notes_text_frame.text)
    return parts.content()


def _shapes(shapes: Iterable[Any]) -> Iterator[Any]:
    """All shapes, those of groups in the group's place."""
    waiting = list(shapes)[::-1]
    while waiting:
        shape = waiting.pop()
        if shape.shape_type == 6:  # MSO_SHAPE_TYPE.GROUP
            waiting.extend(list(shape.shapes)[::-1])
        else:
            yield shape
