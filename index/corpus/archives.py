"""ZIP and tar -> their members, one at a time, nothing of them ever written to disk; samples of webdataset shards."""

from __future__ import annotations

import io
import json
import lzma
import posixpath
import re
import tarfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Final

from mmseek._types import Content, Image, Part, Text
from mmseek.errors import ItemError
from mmseek.index.corpus.decoding import decode
from mmseek.index.corpus.entries import Entry, Located, SourceFile
from mmseek.index.corpus.folder import name_problem, printable
from mmseek.index.corpus.pictures import PICTURE_SUFFIXES
from mmseek.index.corpus.zips import DAMAGE, MAX_MEMBER_BYTES, check_unfolded, open_zip, read_member
from mmseek.media import recognise

if TYPE_CHECKING:
    import zipfile

__all__ = ["read_tar", "read_zip"]

Dispatch = Callable[[SourceFile], Iterator[Entry]]
Find = Callable[[str], Image | None]

_TEXTS: Final = (".txt", ".caption", ".text")
_CLASSES: Final = (".cls", ".id", ".label")
_REFERRING: Final = (".md", ".markdown", ".html", ".htm", ".xhtml")  # their pictures are parts of them
_LARGEST_SAMPLE: Final = 8  # members of one name that are held at once


@dataclass(frozen=True, slots=True)
class _Member:
    """A file in an archive: its bytes, or the reason why it is left out."""

    name: str
    data: bytes = b""
    problem: str | None = None

    @property
    def key(self) -> tuple[str, str]:
        """Folder and name up to the first dot: what the members of a webdataset sample have in common."""
        folder, name = posixpath.split(self.name)
        return folder, name.partition(".")[0]

    @property
    def suffix(self) -> str:
        return PurePosixPath(self.name).suffix.lower()


def read_zip(file: SourceFile, dispatch: Dispatch) -> Iterator[Entry]:
    """The members of a ZIP file, each as the file that it is; documents may refer to pictures beside them in it."""
    try:
        with open_zip(file, "ZIP archive") as archive:
            used: set[str] = set()
            names = [info.filename for info in archive.infolist() if not info.is_dir()]
            names = [name for name in names if not _is_hidden(name)]
            find = _finder(archive, used)
            referring_names = {name for name in names if PurePosixPath(name).suffix.lower() in _REFERRING}
            yield from _entries((_unzipped(archive, name) for name in sorted(referring_names)), file, dispatch, find)
            rest = (name for name in names if name not in referring_names and name not in used)
            yield from _entries((_unzipped(archive, name) for name in rest), file, dispatch, find)
    except ItemError as error:
        # Without an id: what is not read of it may have ids of its own.
        yield ItemError(error.reason, source=file.shown)


def read_tar(file: SourceFile, dispatch: Dispatch) -> Iterator[Entry]:
    """The members of a tar file, packed or not, read as a stream. Links and devices in it are passed over."""
    try:
        yield from _entries(_untarred(file), file, dispatch, lambda _name: None)
    except ItemError as error:
        # Without an id: what is not read of it may have ids of its own.
        yield ItemError(error.reason, source=file.shown)


def _unzipped(archive: zipfile.ZipFile, name: str) -> _Member:
    if problem := _problem(name):
        return _Member(name, problem=problem)
    try:
        return _Member(name, read_member(archive, name))
    except ItemError as error:
        return _Member(name, problem=error.reason)


def _untarred(file: SourceFile) -> Iterator[_Member]:
    """The members of a tar file.

    Raises:
        ItemError: it is damaged, or unfolds to a multiple that only a bomb has; what came before stays.
    """
    packed = len(file.data) if file.data is not None else file.path.stat().st_size
    unfolded = 0
    data = None if file.data is None else io.BytesIO(file.data)
    try:
        with tarfile.open(name=None if data else file.path, mode="r|*", fileobj=data) as archive:
            for member in archive:
                unfolded += member.size
                check_unfolded(file, unfolded, packed)
                if not member.isdir() and not _is_hidden(member.name):
                    yield _rolled(archive, member)
    except (tarfile.TarError, lzma.LZMAError, TypeError, *DAMAGE) as error:
        raise file.error("is a damaged tar archive, read as far as it goes: save it anew or leave it out") from error


def _rolled(archive: tarfile.TarFile, member: tarfile.TarInfo) -> _Member:
    if problem := _problem(member.name):
        return _Member(member.name, problem=problem)
    if not member.isfile():
        return _Member(member.name, problem="is a link or a device, and these are not followed")
    if member.size > MAX_MEMBER_BYTES:
        limit = f"{MAX_MEMBER_BYTES // 2**20} MiB"
        return _Member(member.name, problem=f"has more than {limit}, too much inside an archive: unpack it")
    stream = archive.extractfile(member)
    return _Member(member.name, b"" if stream is None else stream.read())


def _entries(members: Iterable[_Member], file: SourceFile, dispatch: Dispatch, find: Find) -> Iterator[Entry]:
    for _, same in groupby(members, key=lambda member: member.key):
        while group := list(islice(same, _LARGEST_SAMPLE)):
            yield from _group(group, file, dispatch, find)


def _group(group: Sequence[_Member], file: SourceFile, dispatch: Dispatch, find: Find) -> Iterator[Entry]:
    """The members of one name: a sample if a picture has texts or metadata beside it, else a document each."""
    for member in group:
        if member.problem is not None:
            yield ItemError(
                member.problem, source=f"{file.shown}/{printable(member.name)}", item_id=_id(file, member.name)
            )
    sound = [member for member in group if member.problem is None]
    if _is_sample(sound):
        yield from _sample(sound, file)
        return
    for member in sound:
        if problem := name_problem(f"{file.id}/{member.name}"):
            yield ItemError(problem, source=f"{file.shown}/{printable(member.name)}")
            continue
        yield from dispatch(
            SourceFile(
                path=file.path / member.name,
                shown=f"{file.shown}/{member.name}",
                id=f"{file.id}/{member.name}",
                root=file.path,
                data=member.data,
                beside=find,
            )
        )


def _is_sample(group: Sequence[_Member]) -> bool:
    pictures = sum(member.suffix in PICTURE_SUFFIXES for member in group)
    known = {*PICTURE_SUFFIXES, *_TEXTS, *_CLASSES, ".json"}
    return pictures >= 1 and len(group) > pictures and all(member.suffix in known for member in group)


def _sample(group: Sequence[_Member], file: SourceFile) -> Iterator[Entry]:
    """A sample of a webdataset shard as one document: pictures, then texts; its JSON object is metadata."""
    name = posixpath.join(*group[0].key)
    shown, own = f"{file.shown}/{name}", f"{file.id}/{name}"
    pictures: list[Part] = [Image(data=member.data) for member in group if member.suffix in PICTURE_SUFFIXES]
    texts: list[Part] = []
    metadata: dict[str, Any] = {}
    try:
        for member in group:
            if member.suffix == ".json":
                metadata |= _json(member)
            elif member.suffix in (*_TEXTS, *_CLASSES):
                words = _words(member)
                if member.suffix in _TEXTS:
                    texts.append(Text(words))
                else:
                    metadata[member.suffix[1:]] = words
    except ItemError as error:
        yield ItemError(error.reason, source=shown, item_id=own)
        return
    yield Located(own, Content((*pictures, *texts)), {"path": own, **metadata}, file.id, source=shown)


def _words(member: _Member) -> str:
    found = decode(member.data)
    if found is None:
        raise ItemError(f"its {member.suffix} is no text: save it as UTF-8")
    return found[0].strip()


def _json(member: _Member) -> dict[str, Any]:
    try:
        found = json.loads(_words(member))
    except (ValueError, RecursionError) as error:
        raise ItemError("its .json is no JSON") from error
    return found if isinstance(found, dict) else {"json": found}


def _finder(archive: zipfile.ZipFile, used: set[str]) -> Find:
    def find(name: str) -> Image | None:
        try:
            data = read_member(archive, name)
        except ItemError:
            return None
        used.add(name)
        return Image(data=data) if recognise(data) else None

    return find


def _problem(name: str) -> str | None:
    """Why a member's name is not taken, or None."""
    if name.startswith(("/", "\\")) or re.match(r"[A-Za-z]:", name):
        return "has an absolute path, which no member of an archive should: pack it anew"
    if ".." in re.split(r"[/\\]", name):
        return "has a path that leads outside of the archive: pack it anew"
    return None


def _is_hidden(name: str) -> bool:
    """Whether a name is passed over in silence, as in folders; one with a problem never is."""
    if _problem(name):
        return False
    parts = [part for part in name.split("/") if part not in ("", ".", "..")]
    return any(part.startswith(".") for part in parts) or "__MACOSX" in parts


def _id(file: SourceFile, name: str) -> str:
    return f"{file.id}/{printable(name)}"
