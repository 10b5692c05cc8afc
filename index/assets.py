"""Pictures that came as bytes, kept once each under the hash of their content: `assets/ab/<sha256>.<ext>`."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from mmseek.index.durable import make_folder, sync_folder, write_file

FOLDER = "assets"
_SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"\xff\xd8\xff", "jpg"),
    (b"GIF8", "gif"),
    (b"BM", "bmp"),
    (b"II*\x00", "tif"),
    (b"MM\x00*", "tif"),
)


_NAME = re.compile(rf"{FOLDER}/([0-9a-f]{{2}})/\1[0-9a-f]{{62}}\.[a-z]{{3,4}}")


def is_asset_name(name: object) -> bool:
    """Whether a path inside a collection, with forward slashes, is that of a kept picture."""
    return isinstance(name, str) and _NAME.fullmatch(name) is not None


def asset_name(data: bytes) -> str:
    """Where these bytes are kept, relative to the collection, with forward slashes."""
    digest = hashlib.sha256(data).hexdigest()
    return f"{FOLDER}/{digest[:2]}/{digest}.{_extension(data)}"


def _extension(data: bytes) -> str:
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    return next((ext for signature, ext in _SIGNATURES if data.startswith(signature)), "bin")


class AssetStore:
    """The pictures of one collection."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def path(self, name: str) -> Path:
        return self._root / PurePosixPath(name)

    def keeps(self, path: Path) -> bool:
        """Whether a picture's path is one of this store."""
        return path.is_relative_to(self._root / FOLDER)

    def put(self, pictures: Iterable[bytes]) -> None:
        """Keep pictures; durable on return. A file that is there and whole is left alone.

        Raises:
            OSError: the disk is full or failing.
        """
        folders: set[Path] = set()
        for data in pictures:
            path = self.path(asset_name(data))
            if self.problem(path) is None:
                continue
            make_folder(path.parent)
            draft = path.with_name(path.name + ".tmp")
            try:
                write_file(draft, data)
                draft.replace(path)
            except OSError:
                draft.unlink(missing_ok=True)
                raise
            folders.add(path.parent)
        for folder in sorted(folders):
            sync_folder(folder)

    def names(self) -> Iterator[str]:
        """All files there are, leftovers included."""
        folder = self._root / FOLDER
        for path in sorted(folder.glob("*/*")) if folder.is_dir() else ():
            yield path.relative_to(self._root).as_posix()

    def remove(self, name: str) -> None:
        self.path(name).unlink(missing_ok=True)

    @staticmethod
    def problem(path: Path) -> str | None:
        """What is wrong with a kept picture, or None."""
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return "is missing"
        except OSError as error:
            return f"cannot be read ({error.strerror})"
        return None if hashlib.sha256(data).hexdigest() == path.stem else "does not have the content it was stored with"
