"""The collections of one folder: made, listed, opened, renamed by aliases, deleted. No path ever leaves the folder."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import structlog

from mmseek.api.server.errors import CollectionInUse, CollectionTaken, EncoderNotServed, UnknownCollection
from mmseek.api.server.hosting.handles import Handles
from mmseek.api.server.hosting.names import check_name, is_name
from mmseek.errors import CollectionExists, CorruptCollection, EncoderMismatch, InputError, NotACollection
from mmseek.index import is_alias, open_collection, set_alias
from mmseek.index.aliases import resolve_alias
from mmseek.index.durable import make_folder, storage_errors, sync_folder
from mmseek.index.manifest import NAME as MANIFEST
from mmseek.pipeline import Retriever
from mmseek.pipeline.encoders import stored_identity

if TYPE_CHECKING:
    from mmseek.pipeline.encoders import AnyEncoder
    from mmseek.protocols import Collection

_DELETED: Final = ".deleted-"
_log = structlog.get_logger("mmseek.api")


class Hosted:
    """The collections below a folder.

    Args:
        folder: of the collections; made if it is not there.
        encoders: those that work here by the fingerprint of their vectors; the first is that of new collections.
        retriever_of: a retriever around an encoder and a collection that is open for writing.
        max_open: handles that are open at a time.

    Raises:
        StorageError: the folder cannot be made.
    """

    def __init__(
        self,
        folder: Path,
        encoders: Sequence[AnyEncoder],
        retriever_of: Callable[[AnyEncoder, Collection], Retriever],
        max_open: int,
    ) -> None:
        self.folder = folder.expanduser().absolute()
        self._encoders: Mapping[str, AnyEncoder] = {each.identity.fingerprint: each for each in encoders}
        self._retriever_of = retriever_of
        self._handles: Handles[Retriever] = Handles(max_open)
        with storage_errors(self.folder):
            make_folder(self.folder)
        self._sweep()

    @property
    def encoders(self) -> Sequence[AnyEncoder]:
        """Those that a collection here may be of, the usual one first."""
        return list(self._encoders.values())

    @property
    def open_now(self) -> int:
        """How many handles are open."""
        return len(self._handles)

    def names(self) -> list[str]:
        """The collections, sorted."""
        return sorted(entry.name for entry in self._entries() if self._is_collection(entry.name))

    def aliases(self) -> dict[str, str]:
        """Each alias and the collection that it stands for; one whose collection is gone is left out."""
        found = {}
        for entry in self._entries():
            target = self._target(entry.name) if entry.is_file() else None
            if target is not None:
                found[entry.name] = target
        return dict(sorted(found.items()))

    def real_name(self, name: str) -> str:
        """The collection that a name stands for, be it its own or an alias.

        Raises:
            UnknownCollection: there is none.
        """
        if is_name(name):
            if self._is_collection(name):
                return name
            target = self._target(name)
            if target is not None:
                return target
        raise UnknownCollection(f"there is no collection {name[:80]!r}: GET /v1/collections lists what there is")

    @contextmanager
    def use(self, name: str) -> Iterator[Retriever]:
        """A collection, open until the block ends. Never use another one inside it.

        Raises:
            UnknownCollection: there is none of this name.
            EncoderNotServed: it is of an encoder that this server does not run.
            ServerBusy: too many are in use.
        """
        real = self.real_name(name)
        with self._handles.lend(real, lambda: self._opened(real)) as retriever:
            yield retriever

    def create(self, name: str, spec: str | None = None) -> None:
        """Make an empty collection.

        Args:
            name: see `check_name`.
            spec: of one of the encoders; without it, the usual one.

        Raises:
            InputError: it is no name.
            CollectionTaken: the name is taken.
            EncoderNotServed: no encoder here has this spec.
        """
        encoder = self._encoder_of(spec)
        with self._handles.alone(check_name(name)):
            folder = self.folder / name
            if folder.is_file() or folder.is_symlink():
                raise CollectionTaken(f"the name {name!r} is taken: choose another one")
            try:
                open_collection(folder, mode="create", encoder=stored_identity(encoder)).close()
            except (CollectionExists, NotACollection) as error:
                raise CollectionTaken(f"the name {name!r} is taken: choose another one") from error

    def delete(self, name: str) -> None:
        """Remove a collection and all that it holds.

        Raises:
            UnknownCollection: there is none of this name; an alias is none.
            CollectionInUse: an alias stands for it, or its requests do not end.
        """
        if not (is_name(name) and self._is_collection(name)):
            raise UnknownCollection(f"there is no collection {name[:80]!r} to delete; an alias is removed as an alias")
        naming = [alias for alias, target in self.aliases().items() if target == name]
        if naming:
            raise CollectionInUse(f"the alias {naming[0]!r} stands for {name!r}: turn or remove the alias first")
        with self._handles.alone(name):
            # Gone at an instant, whatever happens while its files are removed.
            gone = self.folder / f"{_DELETED}{secrets.token_hex(8)}"
            with storage_errors(self.folder):
                try:
                    (self.folder / name).rename(gone)
                except FileNotFoundError:
                    raise UnknownCollection(f"there is no collection {name!r} to delete") from None
                sync_folder(self.folder)
        shutil.rmtree(gone, ignore_errors=True)

    def set_alias(self, alias: str, name: str) -> str | None:
        """Let an alias stand for a collection from now on; returns the name of the one before.

        Raises:
            InputError: it is no name, or the name of a collection.
            UnknownCollection: there is no such collection.
        """
        place = self.folder / check_name(alias)
        target = self.real_name(name)
        if place.is_dir() or place.is_symlink() or (place.is_file() and not _is_alias(place)):
            raise CollectionTaken(f"{alias!r} is the name of something else: give the alias another name")
        try:
            before = set_alias(place, self.folder / target)
        except NotACollection as error:
            raise UnknownCollection(f"there is no collection {name[:80]!r}") from error
        except InputError as error:
            raise CollectionTaken(f"{alias!r} cannot be an alias now: give it another name") from error
        return None if before is None else before.name

    def remove_alias(self, alias: str) -> None:
        """Take an alias away; the collection stays.

        Raises:
            UnknownCollection: there is no such alias.
        """
        place = self.folder / alias
        if not is_name(alias) or place.is_symlink() or not place.is_file() or not _is_alias(place):
            raise UnknownCollection(f"there is no alias {alias[:80]!r}: GET /v1/aliases lists what there is")
        with storage_errors(self.folder):
            place.unlink(missing_ok=True)
            sync_folder(self.folder)

    def close(self) -> None:
        """Close what is open; only when no request is left."""
        self._handles.close()

    def _opened(self, name: str) -> Retriever:
        try:
            collection = open_collection(self.folder / name, mode="write")
        except NotACollection as error:
            raise UnknownCollection(f"there is no collection {name!r} any more") from error
        try:
            stored = collection.info().encoder
            encoder = self._encoders.get(stored.fingerprint)
            if encoder is None:
                raise EncoderNotServed(
                    f"the collection {name!r} is of the encoder {stored.spec}, which this server does not run: "
                    "its operator allows it with --allow-encoder"
                )
            return self._retriever_of(encoder, collection)
        except EncoderMismatch as error:
            collection.close()
            raise EncoderNotServed(f"the collection {name!r} is of another encoder") from error
        except BaseException:
            collection.close()
            raise

    def _encoder_of(self, spec: str | None) -> AnyEncoder:
        every = self.encoders
        if spec is None:
            return every[0]
        for encoder in every:
            if encoder.identity.spec == spec:
                return encoder
        allowed = ", ".join(each.identity.spec for each in every)
        raise EncoderNotServed(f"this server does not run the encoder {spec[:200]!r}: it runs {allowed}")

    def _entries(self) -> list[os.DirEntry[str]]:
        with storage_errors(self.folder), os.scandir(self.folder) as found:
            return [entry for entry in found if is_name(entry.name) and not entry.is_symlink()]

    def _is_collection(self, name: str) -> bool:
        """Whether this is a folder of its own with a collection in it: a link could lead anywhere."""
        folder = self.folder / name
        return not folder.is_symlink() and (folder / MANIFEST).is_file()

    def _target(self, alias: str) -> str | None:
        """The collection here that an alias stands for. One that leads out of the folder stands for nothing."""
        place = self.folder / alias
        if place.is_symlink() or not place.is_file():
            return None
        try:
            target = resolve_alias(place)
        except CorruptCollection:
            return None
        inside = target.parent == self.folder and target != place
        return target.name if inside and is_name(target.name) and self._is_collection(target.name) else None

    def _sweep(self) -> None:
        """Remove what a deletion left that was cut off."""
        for left in self.folder.glob(f"{_DELETED}*"):
            _log.info("removing_deleted_collection", folder=left.name)
            shutil.rmtree(left, ignore_errors=True)


def _is_alias(place: Path) -> bool:
    try:
        return is_alias(place)
    except CorruptCollection:
        return True  # a damaged one may be set again, or removed
