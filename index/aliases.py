"""A name that stands for a collection and can be turned to another one at an instant.

An alias is a small JSON file where the folder of a collection could stand: `{"format": "mmseek-alias", "target": ...}`,
the target relative to the alias's own folder. It is replaced by a rename, so whoever opens it gets the one or the other
collection whole, with the encoder that belongs to it, and never a mix.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from mmseek.errors import CorruptCollection, InputError, NotACollection
from mmseek.index.durable import replace_file, storage_errors
from mmseek.index.manifest import read_manifest

FORMAT = "mmseek-alias"
_MOST_BYTES = 64 * 1024


def resolve_alias(path: Path) -> Path:
    """The collection that an alias stands for; any other path is given back as it is.

    Raises:
        CorruptCollection: the alias is damaged.
    """
    if not path.is_file():
        return path
    with path.open("rb") as file:
        raw = file.read(_MOST_BYTES)
    if FORMAT.encode() not in raw:
        return path  # some other file: opening it says what it is not
    try:
        body = json.loads(raw)
        target = body["target"] if body["format"] == FORMAT else None
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptCollection(f"the alias {path} is damaged: set it again with `mmseek alias`") from error
    if not isinstance(target, str) or not target:
        raise CorruptCollection(f"the alias {path} names no collection: set it again with `mmseek alias`")
    return Path(os.path.normpath(path.parent / target))


def is_alias(path: Path) -> bool:
    """Whether there is an alias at this path."""
    return path.is_file() and resolve_alias(path) != path


def set_alias(alias: Path, target: Path) -> Path | None:
    """Let an alias stand for a collection from now on; returns the one that it stood for before, if any.

    Raises:
        NotACollection: the target is none.
        InputError: something that is no alias stands at its place, or the target is an alias itself.
        StorageError: the disk is full, read-only or failing.
    """
    alias, target = alias.absolute(), target.absolute()
    if is_alias(target):
        raise InputError(f"{target} is an alias itself: name the collection that it stands for")
    read_manifest(target)
    before = resolve_alias(alias) if is_alias(alias) else None
    if before is None and (alias.exists() or alias.is_symlink()):
        raise InputError(f"{alias} is there and no alias: give the alias another name")
    if not alias.parent.is_dir():
        raise NotACollection(f"{alias} cannot be written: there is no folder {alias.parent}; make it first")
    body = {"format": FORMAT, "target": Path(os.path.relpath(target, alias.parent)).as_posix()}
    with storage_errors(alias):
        replace_file(alias, (json.dumps(body) + "\n").encode())
    return before
