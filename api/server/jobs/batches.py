"""The input of a job, a batch at a time from where it stands: memory is bounded whatever the file holds."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from mmseek.api.server.jobs.pictures import Pictures, with_pictures
from mmseek.api.server.jobs.store import JobFailure
from mmseek.api.server.limits import ServerLimits
from mmseek.api.server.reading import own_code, read_item
from mmseek.errors import ItemError, MmseekError
from mmseek.index.corpus import Located
from mmseek.jsonl import MAX_LINE_BYTES, parse_json_line

DOCUMENTS: Final = 64
BYTES: Final = 8 * 1024**2
_BOM: Final = b"\xef\xbb\xbf"


@dataclass(slots=True)
class Batch:
    """Some lines.

    Args:
        place: bytes of the input up to the end of the batch.
        lines: its lines up to there.
        documents: to be stored, each id once; their pictures may be URLs still.
        ends: of each document, `place` and `lines` behind it.
        failures: lines that are none.
        ended: whether the input ends here.
    """

    place: int
    lines: int
    documents: list[Located] = field(default_factory=list)
    ends: list[tuple[int, int]] = field(default_factory=list)
    failures: list[JobFailure] = field(default_factory=list)
    ended: bool = False


def read_batch(path: Path, place: int, lines: int, pictures: Pictures, limits: ServerLimits) -> Batch:
    """The lines that follow a place: so many documents or bytes, or up to an id that came already.

    An id that comes again is left for the next batch, where it replaces the first: the last line of an id counts,
    wherever batches are cut.

    Raises:
        OSError: the file cannot be read.
    """
    batch = Batch(place, lines)
    seen: set[str] = set()
    with path.open("rb") as file:
        file.seek(place)
        while len(batch.documents) + len(batch.failures) < DOCUMENTS and batch.place - place < BYTES:
            raw = file.readline(MAX_LINE_BYTES + 1)
            if not raw:
                batch.ended = True
                break
            whole = raw.endswith(b"\n") or len(raw) <= MAX_LINE_BYTES
            if not whole:
                while (rest := file.readline(1 << 20)) and not rest.endswith(b"\n"):
                    pass
            read = _read(batch.lines + 1, raw if batch.place else raw.removeprefix(_BOM), whole, pictures, limits)
            if isinstance(read, Located) and read.id in seen:
                break
            batch.place = file.tell()
            batch.lines += 1
            if isinstance(read, Located):
                seen.add(read.id)
                batch.documents.append(read)
                batch.ends.append((batch.place, batch.lines))
            elif read is not None:
                batch.failures.append(read)
    return batch


def _read(
    number: int, raw: bytes, whole: bool, pictures: Pictures, limits: ServerLimits
) -> Located | JobFailure | None:
    """A document, what is wrong with a line, or nothing where it is blank."""
    if not whole:
        reason = f"is longer than {MAX_LINE_BYTES} bytes: split it, or send its pictures as files"
        return JobFailure(number, None, ItemError.code, reason)
    if not raw.strip():
        return None
    name: str | None = None
    try:
        row = parse_json_line("input", number, raw)
        if isinstance(row, ItemError):
            raise row
        given = row.value.get("id")
        name = given if isinstance(given, str) and given.isprintable() and len(given) <= 512 else None
        document = read_item(with_pictures(row.value, pictures, limits.media), limits).to_document()
    except MmseekError as error:
        return failure(number, name, error)
    return Located(document.id, document.content, document.metadata, document.parent_id, "input", line=number)


def failure(number: int, name: str | None, error: MmseekError) -> JobFailure:
    """A line that was not stored, as clients read it."""
    message = error.reason if isinstance(error, ItemError) else str(error)
    return JobFailure(number, name, own_code(error), message.encode("utf-8", "backslashreplace").decode())
