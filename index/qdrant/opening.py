"""From a location of Qdrant to a collection: opened for reading or writing, or made."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from mmseek._network import is_loopback, key_in
from mmseek._types import EncoderIdentity
from mmseek.config import settings
from mmseek.errors import (
    CollectionExists,
    CollectionLocked,
    ConfigError,
    EncoderMismatch,
    InputError,
    MissingExtra,
    NotACollection,
)
from mmseek.index.durable import make_folder, storage_errors
from mmseek.index.ledger import now
from mmseek.index.lock import WriterLock
from mmseek.index.qdrant.location import Place, parse_location

if TYPE_CHECKING:
    from mmseek.index.qdrant.collection import QdrantCollection
    from mmseek.index.qdrant.meta import Meta
    from mmseek.index.qdrant.store import Store

Mode = Literal["read", "write", "create"]
_NEEDED = ("qdrant_client", "qdrant_edge", "tenacity")
_OWN = {"LOCK", "assets", "shard", "qdrant-edge.json.tmp"}


@dataclass(slots=True)
class _Shared:
    """A store of this process that several collections use: Qdrant's engine opens a folder once."""

    store: Store
    lock: WriterLock | None
    users: int = 0
    has_writer: bool = False


_guard = threading.RLock()
_shared: dict[tuple[str, str], _Shared] = {}


def open_qdrant(location: str, *, mode: Mode = "read", encoder: EncoderIdentity | None = None) -> QdrantCollection:
    """Open or make a collection in Qdrant; arguments and errors as in `open_collection`.

    Raises:
        MissingExtra: the packages of `mmseek[qdrant]` are not installed.
        CollectionLocked: another process has the folder open, or this one has it open for writing.
    """
    place = parse_location(location)
    if any(find_spec(name) is None for name in _NEEDED):
        raise MissingExtra("a collection in Qdrant", "qdrant")
    if mode != "read" and encoder is not None and encoder.dim < 1:
        raise InputError(f"an encoder's vectors have at least one dimension, not {encoder.dim}")
    with _guard:
        store, release = _take(place, mode, may_make=mode != "read" and encoder is not None)
        try:
            meta = _meta(store, place, mode, encoder)
            return _collection(store, meta, place, mode, release)
        except BaseException:
            release()
            raise


def _meta(store: Store, place: Place, mode: Mode, encoder: EncoderIdentity | None) -> Meta:
    """What the collection is, made if it has to be."""
    from mmseek.index.qdrant.meta import Meta

    found = Meta.of(store) if store.exists() else None
    if found is None:
        if mode == "read":
            raise NotACollection(f"{place} is no mmseek collection: make one with `mmseek index`")
        if encoder is None:
            raise NotACollection(
                f"{place} is no mmseek collection, and to make one its encoder must be given: `mmseek index` does both"
            )
        return _make(store, place, encoder)
    if mode == "create":
        raise CollectionExists(f"{place} is a collection already: choose another place, or index into it")
    wanted, stored = encoder or found.encoder, found.encoder
    if not wanted.same_vectors(stored):
        raise EncoderMismatch(wanted=str(wanted), stored=str(stored), place=str(place))
    return found


def _make(store: Store, place: Place, encoder: EncoderIdentity) -> Meta:
    """The description is written last: what has none holds nothing."""
    from mmseek.index.qdrant.meta import Meta
    from mmseek.index.qdrant.store import DOCUMENTS

    if store.exists() and place.kind == "server" and store.count({"must": []}):
        raise NotACollection(f"{place} holds points of something else and is left as it is: choose another name")
    store.create(encoder.dim, place.options, multi_vector=encoder.multi_vector)
    if store.count(DOCUMENTS):
        raise NotACollection(f"{place} holds points of something else and is left as it is: choose another name")
    made = Meta(encoder, now(), now())
    store.upsert([made.point()])
    store.finish()
    return made


def _collection(store: Store, meta: Meta, place: Place, mode: Mode, release: Callable[[], None]) -> QdrantCollection:
    from mmseek.index.qdrant.collection import QdrantCollection
    from mmseek.index.qdrant.pictures import FolderPictures, Pictures, PointPictures

    pictures: Pictures
    if place.kind == "edge":
        pictures = FolderPictures(Path(place.where))
    else:
        cache = settings().cache_dir / "qdrant" / hashlib.sha256(str(place).encode()).hexdigest()[:16]
        pictures = PointPictures(store, cache)
    return QdrantCollection(store, meta, pictures, writable=mode != "read", options=place.options, release=release)


def _take(place: Place, mode: Mode, *, may_make: bool) -> tuple[Store, Callable[[], None]]:
    """The store of a place, and what gives it back."""
    if place.kind == "server":
        store = _server(place)
        return store, store.close
    key = (place.kind, place.where)
    shared = _shared.get(key)
    if shared is None:
        shared = _shared[key] = _edge(place, may_make=may_make) if place.kind == "edge" else _memory(place)
    if mode != "read" and shared.has_writer:
        raise CollectionLocked(
            f"{place} is being written by this process already: close that collection first, or use another"
        )
    shared.users += 1
    shared.has_writer = shared.has_writer or mode != "read"
    return shared.store, _giving_back(key, shared, writer=mode != "read")


def _giving_back(key: tuple[str, str], shared: _Shared, *, writer: bool) -> Callable[[], None]:
    def release() -> None:
        with _guard:
            shared.users -= 1
            shared.has_writer = shared.has_writer and not writer
            if shared.users or shared.lock is None:
                return  # what is in memory is there until the process ends
            del _shared[key]
            try:
                shared.store.close()
            finally:
                shared.lock.release()

    return release


def _edge(place: Place, *, may_make: bool) -> _Shared:
    from mmseek.index.qdrant.edge import MARK, EdgeStore

    folder = Path(place.where)
    if not (folder / MARK).exists():
        if not may_make:
            state = "is no mmseek collection" if folder.exists() else "does not exist"
            raise NotACollection(
                f"{place} {state}, and to make one its encoder must be given: `mmseek index` does both"
            )
        _check_empty(folder, place)
    with storage_errors(folder):
        make_folder(folder)
        lock = WriterLock(folder)
    return _Shared(EdgeStore(folder, str(place)), lock)


def _check_empty(folder: Path, place: Place) -> None:
    if folder.exists() and not folder.is_dir():
        raise NotACollection(f"{folder} is a file, not a collection: give the folder of a collection")
    for path in folder.iterdir() if folder.exists() else ():
        if path.name not in _OWN and path.name != "lost+found":
            raise NotACollection(
                f"{place} holds other things ({path.name}) and is no such collection: choose an empty or a new folder"
            )


def _memory(place: Place) -> _Shared:
    from qdrant_client import QdrantClient

    from mmseek.index.qdrant.client import ClientStore

    return _Shared(ClientStore(QdrantClient(":memory:"), place), None)


def _server(place: Place) -> Store:
    from mmseek.index.qdrant.client import ClientStore, connect

    return ClientStore(connect(place, _api_key(place)), place)


def _api_key(place: Place) -> str | None:
    """The key that the settings name, never sent over a connection that others may read."""
    file = settings().qdrant_api_key_file
    if file is None:
        return None
    host = urlsplit(place.where).hostname or ""
    if place.where.startswith("http:") and not is_loopback(host):
        raise ConfigError(
            f"{place} is not encrypted, and the key would be sent for all to read: write qdrant+https://, "
            "or unset MMSEEK_QDRANT_API_KEY_FILE"
        )
    return key_in(file, "the file of MMSEEK_QDRANT_API_KEY_FILE,")
