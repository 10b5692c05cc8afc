"""ZIP files from outside, and the formats that are ZIP files: opened within bounds, before anything unfolds."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from mmseek.errors import ItemError

if TYPE_CHECKING:
    from mmseek.index.corpus.entries import SourceFile

__all__ = ["DAMAGE", "MAX_MEMBERS", "MAX_MEMBER_BYTES", "check_unfolded", "open_zip", "read_member"]

MAX_MEMBER_BYTES: Final = 64 * 2**20
MAX_MEMBERS: Final = 200_000
_FREE_BYTES: Final = 64 * 2**20  # so much may unfold from anything
_MOST_TIMES: Final = 200  # deflate reaches about 1,000; documents and pictures stay below 100

# What damaged or hostile bytes make the libraries raise.
DAMAGE: Final = (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, NotImplementedError, RuntimeError)


@contextmanager
def open_zip(file: SourceFile, what: str) -> Iterator[zipfile.ZipFile]:
    """A ZIP file whose members, by what it says of them, do not unfold to more than is sound.

    Raises:
        ItemError: it is damaged, has too many members, or unfolds to a multiple that only a bomb has.
    """
    try:
        archive = zipfile.ZipFile(file.path if file.data is None else io.BytesIO(file.data))
    except DAMAGE as error:
        raise file.error(f"is a damaged {what}: save it anew or leave it out") from error
    with archive:
        members = archive.infolist()
        if len(members) > MAX_MEMBERS:
            raise file.error(f"has {len(members)} members, more than {MAX_MEMBERS}: split it")
        packed = len(file.data) if file.data is not None else file.path.stat().st_size
        check_unfolded(file, sum(member.file_size for member in members), packed)
        yield archive


def check_unfolded(file: SourceFile, unfolded: int, packed: int) -> None:
    """Raise ItemError if an archive of `packed` bytes unfolds to more than any sound one does."""
    if unfolded > _FREE_BYTES and unfolded > _MOST_TIMES * packed:
        raise file.error(
            f"unfolds to more than {_MOST_TIMES} times its size ({unfolded} bytes), as only a bomb does: leave it out"
        )


def read_member(archive: zipfile.ZipFile, name: str) -> bytes:
    """The bytes of one member.

    Raises:
        ItemError: there is none, or it is encrypted, too large or damaged. Without place.
    """
    try:
        member = archive.getinfo(name)
    except KeyError as error:
        raise ItemError(f"has no member {name!r}") from error
    if member.flag_bits & 1:
        raise ItemError("is encrypted: pack it without a password")
    if member.file_size > MAX_MEMBER_BYTES:
        raise ItemError(f"has more than {MAX_MEMBER_BYTES // 2**20} MiB, too much inside an archive: unpack it")
    try:
        with archive.open(member) as stream:
            return stream.read(MAX_MEMBER_BYTES)  # never more than it says of itself, or its checksum fails
    except DAMAGE as error:
        raise ItemError("is damaged: pack it anew") from error
