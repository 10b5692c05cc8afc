"""One file -> its documents: pictures, texts, Markdown, item lines."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mmseek._types import Content, Image, Text
from mmseek.errors import InputError, ItemError
from mmseek.index.corpus.decoding import decode
from mmseek.index.corpus.entries import Entry, Located, ReadOptions, Skipped, SourceFile
from mmseek.index.corpus.markdown import parse_markdown
from mmseek.index.corpus.passages import documents_of
from mmseek.index.corpus.pictures import pictures_of, without_unusable
from mmseek.items import parse_item
from mmseek.jsonl import JsonLine, read_json_lines

MAX_TEXT_BYTES = 64 * 2**20  # a text file is read whole; one above this is a log or a dump, not a document


def read_picture(file: SourceFile, _options: ReadOptions) -> Iterator[Entry]:
    """One document: the picture. It is not decoded here; a broken one fails when it is encoded."""
    image = Image(path=file.path) if file.data is None else Image(data=file.data)
    about = {"path": file.id, "title": file.path.stem}
    yield Located(file.id, Content((image,)), about, source=file.shown)


def read_text(file: SourceFile, options: ReadOptions) -> Iterator[Entry]:
    """The text: one document, or passages if it is long."""
    try:
        text, told = text_of(file)
    except ItemError as error:
        yield error
        return
    yield from documents_of(file, Content((Text(text),)), options, title=file.path.stem, metadata=told)


def read_markdown(file: SourceFile, options: ReadOptions) -> Iterator[Entry]:
    """Text runs and pictures, interleaved."""
    try:
        text, told = text_of(file)
        content, title = parse_markdown(text, pictures_of(file, options))
    except ItemError as error:
        yield file.error(error.reason)
        return
    content, left_out = without_unusable(content)
    yield from (Skipped(file.shown, f"{reason}; the page is indexed without it") for reason in left_out)
    yield from documents_of(file, content, options, title=title or file.path.stem, metadata=told)


def read_items_file(file: SourceFile, options: ReadOptions) -> Iterator[Entry]:
    """One document a line. A line without an id gets the file's id and its number: `notes.jsonl:7`."""
    if file.data is not None:
        where = "inside an archive: unpack the archive" if file.base is None else "at a URL: save it as a file"
        yield file.error(f"is a JSONL file {where}")
        return
    shown = Path(file.shown)
    try:
        for row in read_json_lines(shown):
            yield row if isinstance(row, ItemError) else item_entry(file, row, options)
    except InputError as error:
        yield ItemError(str(error).removeprefix(f"{shown} "), source=file.shown)


def item_entry(file: SourceFile, row: JsonLine, options: ReadOptions) -> Entry:
    """One object of a file of items, as the document that it is."""
    try:
        item = parse_item(
            row.value,
            base=file.path.parent if file.data is None else None,
            allow_urls=options.allow_urls,
            source=file.shown,
            line=row.line,
            limits=options.limits,
        )
    except ItemError as error:
        return error
    if item.role == "query":
        return Skipped(f"{file.shown}:{row.line}", "is a query, not a document")
    return Located(
        id=f"{file.id}:{row.line}" if item.id is None else item.id,
        content=item.content,
        metadata=item.metadata,
        parent_id=item.parent_id,
        source=file.shown,
        line=row.line,
    )


def text_of(file: SourceFile, declared: str | None = None) -> tuple[str, dict[str, str]]:
    """The text of a file, and what to note of its encoding, which is nothing where it is UTF-8.

    Raises:
        ItemError: it cannot be read, is too large, or is no text.
    """
    found = decode(file.read(MAX_TEXT_BYTES, "text"), declared)
    if found is None:
        raise file.error("is no text in any known encoding: save it as UTF-8")
    text, encoding = found
    return text, {} if encoding in ("utf-8", "ascii") else {"encoding": encoding}
