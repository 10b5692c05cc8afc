"""Indexing runs that are killed. A script, not a test: imports once, then forks one process for each order it reads.

Order, one JSON object a line on stdin: `{"location": ..., "source": ..., "kill": [documents, seconds] or null}`; with
`kill` the run dies so many seconds after it has acknowledged so many documents. Answers on stdout: `stored N` each time
that N documents in all were acknowledged, `end STATUS` when the process of the run is gone.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any

from mmseek.index import open_collection
from mmseek.index.corpus import read_corpus
from mmseek.pipeline.indexing import index_corpus
from mmseek.testing import FakeEncoder


def say(words: str) -> None:
    """One write, so that lines of two processes never mix and none is lost in a buffer."""
    os.write(sys.stdout.fileno(), f"{words}\n".encode())


class Kill:
    """Sets the alarm that ends this process where it stands: without a handler it is as final as SIGKILL.

    The system rings, whatever this process does, and however slow it or whoever waits for it is.
    """

    def __init__(self, documents: int, seconds: float) -> None:
        self._documents, self._seconds = documents, seconds
        self.look(0)

    def look(self, stored: int) -> None:
        if stored == self._documents:
            signal.setitimer(signal.ITIMER_REAL, self._seconds)


class Acknowledging:
    """A collection that tells the outside what it has acknowledged."""

    def __init__(self, collection: Any, kill: Kill | None) -> None:
        self._collection = collection
        self._kill = kill
        self._stored = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._collection, name)

    def upsert(self, documents: Sequence[Any], *arguments: Any) -> None:
        self._collection.upsert(documents, *arguments)
        self._stored += len(documents)
        say(f"stored {self._stored}")
        if self._kill is not None:
            self._kill.look(self._stored)


def run(order: dict[str, Any]) -> None:
    kill = None if order["kill"] is None else Kill(*order["kill"])
    encoder = FakeEncoder()
    collection: Any = Acknowledging(open_collection(order["location"], mode="write", encoder=encoder.identity), kill)
    report = index_corpus(read_corpus(order["source"]), encoder, collection, batch_size=8)
    if report.failed:
        raise report.failed[0]
    collection.close()


def main() -> None:
    for line in sys.stdin:
        order = json.loads(line)
        pid = os.fork()
        if pid == 0:
            run(order)
            os._exit(0)
        say(f"end {os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])}")


if __name__ == "__main__":
    main()
