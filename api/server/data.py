"""The folder that is one server's alone: jobs and their inputs, and the answers of idempotent requests."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from mmseek.errors import CollectionLocked, ConfigError
from mmseek.index.durable import make_folder, storage_errors
from mmseek.index.lock import WriterLock

# In a folder of collections; no collection can have this name.
OWN_FOLDER: Final = ".mmseek-server"


class ServerData:
    """A folder that no other server uses meanwhile.

    Raises:
        ConfigError: another one does.
        StorageError: it cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.expanduser().absolute()
        with storage_errors(self.folder):
            make_folder(self.folder)
            try:
                self._lock = WriterLock(self.folder)
            except CollectionLocked as error:
                raise ConfigError(f"another server uses {self.folder}: give this one its own --data-dir") from error
        self._closed = False

    def close(self) -> None:
        """Let another server have it; a second call does nothing."""
        if not self._closed:
            self._closed = True
            self._lock.release()
