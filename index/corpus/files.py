"""One file -> its documents: pictures, texts, Markdown, item lines."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mmseek._types import Content, Image, Text
from mmseek.errors import InputError, ItemError
from mmseek.index.corpus.entries import Entry, Located, ReadOptions, Skipped, SourceFile
from mmseek.index.corpus.markdown import parse_markdown
from mmseek.items import parse_item
from mmseek.jsonl import JsonLine, read_json_lines

MAX_TEXT_BYTES = 64 * 2**20  # a text file is read whole; one above this is a log or a dump, not a document


def read_picture(file: SourceFile, _options: ReadOptions) -> Iterator[Entry]:
    """One document: the picture. It is not opened here; a broken one fails when it is encoded."""
    yield _document(file, Content((Image(path=file.path),)), title=file.path.stem)


def read_video(file: SourceFile, _options: ReadOptions) -> Iterator[Entry]:
    """One document: frames of the video. It is not opened here; a broken one fails when it is encoded."""
    yield _document(file, Content.frames(file.path), title=file.path.stem)


def read_text(file: SourceFile, _options: ReadOptions) -> Iterator[Entry]:
    """One document: the whole text."""
    try:
        content = Content((Text(_decode(file)),))
    except ItemError as error:
        yield error
        return
    yield _full(_document(file, content, title=file.path.stem))


def read_markdown(file: SourceFile, options: ReadOptions) -> Iterator[Entry]:
    """One document: text runs and pictures, interleaved."""
    try:
        content, title = parse_markdown(_decode(file), folder=file.path.parent, root=file.root, options=options)
    except ItemError as error:
        yield ItemError(error.reason, source=file.shown, item_id=file.id)
        return
    yield _full(_document(file, content, title=title or file.path.stem))


def read_items_file(file: SourceFile, options: ReadOptions) -> Iterator[Entry]:
    """One document a line. A line without an id gets the file's id and its number: `notes.jsonl:7`."""
    shown = Path(file.shown)
    try:
        for row in read_json_lines(shown):
            yield row if isinstance(row, ItemError) else _item(file, row, options)
    except InputError as error:
        yield ItemError(str(error).removeprefix(f"{shown} "), source=file.shown)


def _item(file: SourceFile, row: JsonLine, options: ReadOptions) -> Entry:
    try:
        item = parse_item(
            row.value,
            base=file.path.parent,
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


def _document(file: SourceFile, content: Content, *, title: str) -> Located:
    return Located(id=file.id, content=content, metadata={"path": file.id, "title": title}, source=file.shown)


def _full(document: Located) -> Located | ItemError:
    """The document, or an error if there is nothing in it to encode."""
    if document.content.is_empty:
        return ItemError(
            "has neither text nor picture: fill it or take it out",
            source=document.source,
            line=document.line,
            item_id=document.id,
        )
    return document


def _decode(file: SourceFile) -> str:
    """The text of a UTF-8 file, with or without byte order mark; line ends become `\\n`.

    Raises:
        ItemError: it cannot be read, is too large, or is of another encoding.
    """
    try:
        with file.path.open("rb") as stream:
            data = stream.read(MAX_TEXT_BYTES + 1)
    except OSError as error:
        raise ItemError(f"cannot be read: {error.strerror}", source=file.shown, item_id=file.id) from error
    if len(data) > MAX_TEXT_BYTES:
        limit = f"{MAX_TEXT_BYTES // 2**20} MiB"
        raise ItemError(f"is a text of more than {limit}: split it", source=file.shown, item_id=file.id)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        reason = f"is not UTF-8 text (byte {error.start + 1}): save it as UTF-8"
        raise ItemError(reason, source=file.shown, item_id=file.id) from error
    return text.replace("\r\n", "\n").replace("\r", "\n")
