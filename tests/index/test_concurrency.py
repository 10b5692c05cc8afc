"""Readers beside the writer, in threads and other processes: each search sees one state, whole."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from mmseek import Content, Document
from mmseek.index import open_collection
from mmseek.index.rwlock import ReadWriteLock

GROUP = 20


def version_of(n: int, dim: int) -> tuple[list[Document], np.ndarray]:
    """All documents of a group, of one version; each carries its vector, to be compared with its score."""
    values = np.random.default_rng(n).standard_normal((GROUP, dim)).astype(np.float32)
    documents = [
        Document(f"g{i}", Content.of(f"version {n}"), {"version": n, "vector": values[i].tolist()})
        for i in range(GROUP)
    ]
    return documents, values


def check(hits, query):
    assert len(hits) == GROUP
    assert len({hit.document.metadata["version"] for hit in hits}) == 1
    for hit in hits:
        stored = np.array(hit.document.metadata["vector"], dtype=np.float64)
        assert hit.score == pytest.approx(float(stored @ query), abs=1e-5)
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    return hits[0].document.metadata["version"]


def wait_for(version, seen, enough, problems):
    """Until enough of the readers have seen it."""
    end = time.monotonic() + 120
    while not problems and time.monotonic() < end and not enough(each and each[-1] == version for each in seen):
        time.sleep(0.001)


def test_eight_threads_search_while_one_writes(collection, location, identity):
    collection.upsert(*version_of(0, identity.dim))
    other = open_collection(location)  # half of the threads read through the writer's own object
    stop, problems, seen = threading.Event(), [], [[] for _ in range(8)]

    def read(number):
        query = np.random.default_rng(number).standard_normal(identity.dim).astype(np.float32)
        try:
            while not stop.is_set():
                found = (collection if number % 2 else other).search(query, 1000)
                seen[number].append(check(found, query.astype(np.float64)))
        except BaseException as error:  # noqa: BLE001  # told to the test
            problems.append(error)

    threads = [threading.Thread(target=read, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    versions = 40 if isinstance(location, Path) else 12
    for n in range(1, versions + 1):
        collection.upsert(*version_of(n, identity.dim))
        if n % 6 == 0:
            collection.compact()
        if n % 3 == 0:  # or a fast writer would be through before anybody has looked
            wait_for(n, seen, any, problems)
    wait_for(versions, seen, all, problems)
    stop.set()
    for thread in threads:
        thread.join()
    assert not problems
    for versions_seen in seen:
        assert versions_seen == sorted(versions_seen)
        assert versions_seen[-1] == versions
    assert len({version for versions_seen in seen for version in versions_seen}) > 3
    assert other.verify().ok
    other.close()


READER = """
    import sys
    import numpy as np
    from mmseek.index import open_collection
    reader = open_collection(sys.argv[1])
    for line in sys.stdin:
        query = np.array(eval(line), dtype=np.float32)
        hits = reader.search(query, 3)
        print(*(hit.id for hit in hits), flush=True)
    print(reader.verify().problems, flush=True)
"""


@pytest.mark.parametrize("location", ["folder", "qdrant-server"], indirect=True)  # the others have one process
def test_a_reader_in_another_process_sees_each_commit(collection, location, identity, documents, vectors):
    values = vectors(30)
    collection.upsert(documents(range(10)), values[:10])
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(READER), str(location)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as reader:

        def ask(query):
            reader.stdin.write(f"{query.tolist()}\n")
            reader.stdin.flush()
            return reader.stdout.readline().split()

        def expected(query):
            return [hit.id for hit in collection.search(query, 3)]

        assert ask(values[3]) == expected(values[3])
        for n in range(10, 30, 5):
            collection.upsert(documents(range(n, n + 5)), values[n : n + 5])
            assert ask(values[n]) == expected(values[n])
        collection.delete(["d3"])
        assert ask(values[3]) == expected(values[3])
        collection.compact()
        assert ask(values[4]) == expected(values[4])
        collection.close()  # the reader goes on alone
        assert ask(values[4])[0] == "d4"
        reader.stdin.close()
        assert reader.stdout.read() == "()\n"
    assert open_collection(location).verify().ok


def test_an_iteration_is_of_one_state(collection, documents, vectors):
    collection.upsert(documents(range(30)), vectors(30))
    iteration = collection.documents()
    first = next(iteration)
    collection.delete([f"d{n}" for n in range(20)])
    collection.upsert(documents(range(40, 50)), vectors(10))
    collection.compact()
    assert [first, *iteration] == documents(range(30))
    assert collection.verify().ok


def test_a_change_waits_for_readers_and_goes_before_new_ones():
    lock, order = ReadWriteLock(), []
    reading, go_on = threading.Event(), threading.Event()

    def reader(name):
        lock.acquire_shared()
        order.append(name)
        reading.set()
        assert go_on.wait(120)
        lock.release()

    def writer():
        lock.acquire_exclusive()
        order.append("change")
        lock.downgrade()
        order.append("goes on reading")
        lock.release()

    threads = [threading.Thread(target=reader, args=("early",)), threading.Thread(target=writer)]
    threads[0].start()
    assert reading.wait(120)
    threads[1].start()
    while not lock._waiting:
        time.sleep(0.001)
    threads.append(threading.Thread(target=reader, args=("late",)))
    threads[-1].start()
    time.sleep(0.05)  # long enough for it to come in, if it may
    assert order == ["early"]
    go_on.set()
    for thread in threads:
        thread.join()
    assert order[:2] == ["early", "change"]
    assert set(order[2:]) == {"goes on reading", "late"}
