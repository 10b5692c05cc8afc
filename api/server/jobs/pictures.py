"""The pictures that lines of a job name: files that were sent along, or files below a folder of the server."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from mmseek.errors import InputError, MediaNotFound, MediaTooLarge
from mmseek.fetching import is_url
from mmseek.media import MediaLimits


class Pictures(Protocol):
    """Where a job finds pictures."""

    def find(self, address: str) -> Path | None:
        """The file of an address; None if it may not be one."""
        ...


class NoPictures:
    """Pictures come inside of the lines only."""

    def find(self, address: str) -> Path | None:
        """None."""
        del address
        return None


class SentPictures:
    """Files of a form, by the names that they were sent under."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._names: Mapping[str, str] = json.loads((folder / "names.json").read_text(encoding="utf-8"))

    def find(self, address: str) -> Path | None:
        """The file of this name."""
        name = self._names.get(address)
        return None if name is None else self._folder / name


class FolderPictures:
    """Files beside a JSONL file, none of them outside a folder, wherever links lead.

    Args:
        root: the folder.
        base: where relative paths start from.
    """

    def __init__(self, root: Path, base: Path) -> None:
        self._root = root.resolve()
        self._base = base

    def find(self, address: str) -> Path | None:
        """The file at this path."""
        try:
            found = (self._base / address).resolve()
            return found if found.is_relative_to(self._root) and found.is_file() else None
        except (OSError, ValueError):  # a name that no file may have
            return None


def with_pictures(item: Mapping[str, Any], pictures: Pictures, limits: MediaLimits) -> dict[str, Any]:
    """An item with its pictures inside, as `data:` URIs; URLs stay.

    Raises:
        MediaNotFound: a picture is none of the files.
        MediaTooLarge: a file has more bytes than a picture may have.
    """
    return replaced(item, lambda address: _inside(address, pictures, limits))


def replaced(item: Mapping[str, Any], inside: Callable[[str], str]) -> dict[str, Any]:
    """An item whose pictures' addresses are replaced by what a function makes of each."""
    changed = dict(item)
    if isinstance(item.get("image"), str):
        changed["image"] = inside(item["image"])
    if isinstance(item.get("content"), list):
        changed["content"] = [
            {**part, "image": inside(part["image"])}
            if isinstance(part, Mapping) and isinstance(part.get("image"), str)
            else part
            for part in item["content"]
        ]
    return changed


def _inside(address: str, pictures: Pictures, limits: MediaLimits) -> str:
    if address[:5].lower() == "data:" or is_url(address):
        return address
    shown = repr(address[:100])
    found = pictures.find(address)
    if found is None:
        raise MediaNotFound(f"its picture {shown} is none of the files here: send it along, or as a data: URI")
    try:
        size = found.stat().st_size
        if size > limits.max_bytes:
            raise MediaTooLarge(f"its picture {shown} has {size} bytes, more than the limit of {limits.max_bytes}")
        data = found.read_bytes()
    except OSError as error:
        raise MediaNotFound(f"its picture {shown} cannot be read: check the file") from error
    if not data:
        raise InputError(f"its picture {shown} is empty: send the file again")
    return f"data:image/x-unknown;base64,{base64.b64encode(data).decode('ascii')}"
