"""Where the pictures that a document names are: in its folder, or in the archive that it is in. Never outside."""

from __future__ import annotations

import os
import posixpath
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from urllib.parse import unquote, urljoin, urlsplit

from mmseek._types import Content, Image, Part, Text
from mmseek.errors import ItemError
from mmseek.items import parse_item
from mmseek.media import recognise

if TYPE_CHECKING:
    from collections.abc import Callable

    from mmseek.index.corpus.entries import ReadOptions, SourceFile

__all__ = [
    "PICTURE_SUFFIXES",
    "FolderPictures",
    "MemberPictures",
    "Pictures",
    "WebPictures",
    "pictures_of",
    "without_unusable",
]

PICTURE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"})


class Pictures(Protocol):
    """Turns what a document writes as a picture's address into the picture."""

    def picture(self, target: str) -> Image | None:
        """The picture that a link leads to; None where the alternative text has to stand for it.

        Raises:
            ItemError: it leads outside of what the document may refer to. Without source: the caller knows it.
        """
        ...


class _Linked:
    """What folders and archives have in common: addresses that are no paths."""

    def __init__(self, options: ReadOptions) -> None:
        self._options = options

    def picture(self, target: str) -> Image | None:
        """See `Pictures.picture`."""
        try:
            link = urlsplit(target)
        except ValueError:
            return None
        if link.scheme in ("http", "https"):
            return Image(url=target) if self._options.allow_urls else None
        if link.scheme == "data":
            return self._inline(target)
        if link.scheme or link.netloc or Path(link.path).suffix.lower() not in PICTURE_SUFFIXES:
            return None
        return self._at(unquote(link.path))

    def _inline(self, target: str) -> Image | None:
        try:
            (part,) = parse_item({"image": target}, base=None, limits=self._options.limits).content.parts
        except ItemError:
            return None
        return part if isinstance(part, Image) else None

    def _at(self, path: str) -> Image | None:
        raise NotImplementedError


class FolderPictures(_Linked):
    """Pictures beside a file.

    Args:
        folder: the folder of the file, which links start from.
        root: the folder that pictures must lie in; unless symbolic links are followed, their targets too.
        options: whether pictures of the web are taken and symbolic links followed.
    """

    def __init__(self, folder: Path, root: Path, options: ReadOptions) -> None:
        super().__init__(options)
        self._folder = folder
        self._root = root

    def _at(self, path: str) -> Image:
        resolve = os.path.normpath if self._options.follow_symlinks else os.path.realpath
        root = resolve(self._root)
        try:
            found = Path(resolve(self._folder / path))
        except (OSError, ValueError) as error:
            raise ItemError(f"its picture {path!r} has an unusable path: name a file beside it") from error
        if "\0" in path:
            raise ItemError(f"its picture {path!r} has an unusable path: name a file beside it")
        if not found.is_relative_to(root):
            raise ItemError(f"its picture {path} lies outside of {root}: move it inside, or index a folder above")
        return Image(path=found)


class MemberPictures(_Linked):
    """Pictures in the archive that a document is in.

    Args:
        folder: POSIX path, inside the archive, of the folder that links start from.
        find: gives the picture of a path inside the archive, or None.
        options: whether pictures of the web are taken.
    """

    def __init__(self, folder: str, find: Callable[[str], Image | None], options: ReadOptions) -> None:
        super().__init__(options)
        self._folder = folder
        self._find = find

    def _at(self, path: str) -> Image | None:
        inside = posixpath.normpath(posixpath.join(self._folder, path))
        if inside.startswith(("../", "/")) or inside == "..":
            raise ItemError(f"its picture {path} lies outside of the archive: put it inside")
        return self._find(inside)


class WebPictures(_Linked):
    """Pictures that a page of the web names.

    Args:
        base: the URL that links start from.
        options: whether pictures of the web are taken.
    """

    def __init__(self, base: str, options: ReadOptions) -> None:
        super().__init__(options)
        self._base = base

    def picture(self, target: str) -> Image | None:
        """See `Pictures.picture`. Its format is seen when it is fetched, so addresses need no suffix."""
        try:
            return super().picture(urljoin(self._base, target)) if target.strip() else None
        except ValueError:
            return None


def without_unusable(content: Content) -> tuple[Content, list[str]]:
    """A page without the picture files that are none, by their first bytes; and what to tell of these."""
    parts: list[Part] = []
    told: list[str] = []
    for part in content.parts:
        before = parts[-1] if parts else None
        problem = _problem(part.path) if isinstance(part, Image) and part.path is not None else None
        if problem is not None:
            told.append(problem)
        elif isinstance(part, Text) and isinstance(before, Text):  # what was between them is left out
            parts[-1] = Text(f"{before.text}\n\n{part.text}")
        else:
            parts.append(part)
    return Content(tuple(parts)), told


def _problem(path: Path) -> str | None:
    try:
        with path.open("rb") as stream:
            head = stream.read(32)
    except FileNotFoundError:
        return f"its picture {path.name} does not exist"
    except (OSError, ValueError) as error:
        return f"its picture {path.name} cannot be read: {getattr(error, 'strerror', None) or 'unusable path'}"
    return None if recognise(head) else f"its picture {path.name} is not a picture of a known format"


def pictures_of(file: SourceFile, options: ReadOptions) -> Pictures:
    """The pictures that a file may name."""
    if file.base is not None:
        return WebPictures(file.base, options)
    if file.beside is None:
        return FolderPictures(file.path.parent, file.root, options)
    inside = file.path.relative_to(file.root).as_posix()
    return MemberPictures(posixpath.dirname(inside), file.beside, options)
