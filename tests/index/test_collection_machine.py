"""Any sequence of changes, reopenings and searches, against a dictionary."""

from __future__ import annotations

import itertools
import os
import tempfile
from pathlib import Path

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from mmseek import Content, Document, EncoderIdentity
from mmseek.index import open_collection

COUNTER = itertools.count()
DIM = 3
TAGS = ("evenly", "oddly")
IDENTITY = EncoderIdentity("mini", "f" * 64, DIM)
NAMES = st.sampled_from([f"d{n}" for n in range(12)] + ["ü", "a b", "%", "'", "7", "𝄞"])
# Small whole numbers give exact scores and many ties.
VECTORS = st.lists(st.integers(-3, 3), min_size=DIM, max_size=DIM).filter(any)


class CollectionMachine(RuleBasedStateMachine):
    """On a folder; the other kinds of collection say where they are."""

    disk = None

    def __init__(self):
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(dir=self.disk)
        self.location = self.place(Path(self.folder.name))
        self.writer = open_collection(self.location, mode="create", encoder=IDENTITY)
        self.many_segments()
        self.reader = open_collection(self.location)
        self.stored: dict[str, tuple[Document, np.ndarray, str | None]] = {}  # in the order of storing

    def place(self, folder):
        return folder / "collection"

    def many_segments(self):
        self.writer._segments.limit = 200  # rows of several segments

    @rule(items=st.dictionaries(NAMES, VECTORS, max_size=6), text=st.text(max_size=5), hashed=st.booleans())
    def upsert(self, items, text, hashed):
        documents = [Document(name, Content.of(text), {"n": n, "tag": TAGS[n % 2]}) for n, name in enumerate(items)]
        digests = [f"{text!r} {name}" for name in items] if hashed else None
        vectors = np.array(list(items.values()), dtype=np.float32).reshape(-1, DIM)
        self.writer.upsert(documents, vectors, digests)
        for n, document in enumerate(documents):
            self.stored.pop(document.id, None)
            self.stored[document.id] = (document, vectors[n], digests[n] if digests else None)

    @rule(names=st.lists(NAMES, max_size=5), query=VECTORS)
    def delete(self, names, query):
        for collection in (self.reader, self.writer):  # what they hold in memory has to follow
            assert len(collection.search(np.array(query, dtype=np.float32), 100)) == len(self.stored)
        assert self.writer.delete(names) == len(set(names) & set(self.stored))
        for name in names:
            self.stored.pop(name, None)

    @rule()
    def compact(self):
        self.writer.compact()

    @rule()
    def reopen(self):
        self.writer.close()
        self.writer = open_collection(self.location, mode="write", encoder=IDENTITY)
        self.many_segments()

    @rule()
    def reopen_reader(self):
        self.reader.close()
        self.reader = open_collection(self.location)

    @rule(
        query=VECTORS,
        k=st.integers(1, 25),
        exclude=st.sets(NAMES, max_size=4),
        candidates=st.none() | st.sets(NAMES, max_size=9),
        through_reader=st.booleans(),
    )
    def search(self, query, k, exclude, candidates, through_reader):
        query = np.array(query, dtype=np.float32)
        hits = (self.reader if through_reader else self.writer).search(query, k, exclude=exclude, candidates=candidates)
        eligible = [name for name in self.stored if name not in exclude and (candidates is None or name in candidates)]
        ranked = sorted(eligible, key=lambda name: -float(self.stored[name][1] @ query))[:k]  # stable: ties as stored
        assert [(hit.rank, hit.id) for hit in hits] == list(enumerate(ranked, start=1))
        for hit in hits:
            document, vector, _ = self.stored[hit.id]
            assert (hit.score, hit.document) == (float(vector @ query), document)

    @rule(tag=st.sampled_from(TAGS), least=st.integers(0, 4), through_reader=st.booleans())
    def search_text(self, tag, least, through_reader):
        found = (self.reader if through_reader else self.writer).search_text(tag, 100, filter=f"n >= {least}")
        documents = [document for document, _, _ in self.stored.values()]
        expected = {one.id for one in documents if one.metadata["tag"] == tag and one.metadata["n"] >= least}
        assert {hit.id for hit in found} == expected

    @precondition(lambda self: self.stored)
    @rule(names=st.lists(NAMES, max_size=4))
    def get(self, names):
        known = {name: self.stored[name] for name in names if name in self.stored}
        for collection in (self.reader, self.writer):
            assert collection.get(names) == {name: document for name, (document, _, _) in known.items()}
            assert collection.digests(names) == {name: hashed for name, (_, _, hashed) in known.items() if hashed}

    @invariant()
    def all_there(self):
        assert list(self.reader.documents()) == [document for document, _, _ in self.stored.values()]

    @rule()
    def verify(self):
        report = self.reader.verify()
        assert report.problems == ()
        assert report.documents == report.vectors == len(self.stored)

    @rule(batch=st.integers(1, 5))
    def export(self, batch):
        batches = list(self.reader.export(batch))
        assert all(1 <= len(one.documents) <= batch for one in batches)
        flat = [row for one in batches for row in zip(one.documents, one.vectors.tolist(), one.digests, strict=True)]
        assert flat == [(document, vector.tolist(), hashed) for document, vector, hashed in self.stored.values()]

    def teardown(self):
        self.writer.close()
        self.verify()
        self.reader.close()
        self.folder.cleanup()


class EdgeMachine(CollectionMachine):
    disk = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # the engine waits for a disk in every change

    def place(self, folder):
        return f"qdrant-edge:{folder / 'collection'}"

    def many_segments(self):
        pass


class MemoryMachine(EdgeMachine):
    def place(self, folder):
        return f"qdrant-local::memory:{folder}"


class ServerMachine(EdgeMachine):
    server = None  # a test fills it in

    def place(self, folder):
        return self.server.location(f"machine-{next(COUNTER)}")


CollectionMachine.TestCase.settings = settings(max_examples=25, stateful_step_count=25)
TestCollectionMachine = CollectionMachine.TestCase
EdgeMachine.TestCase.settings = settings(max_examples=15, stateful_step_count=25)
TestEdgeMachine = EdgeMachine.TestCase
MemoryMachine.TestCase.settings = settings(max_examples=10, stateful_step_count=20)
TestMemoryMachine = MemoryMachine.TestCase


def test_a_server(fake_qdrant):
    ServerMachine.server = fake_qdrant
    chosen = settings(max_examples=6, stateful_step_count=15)
    run_state_machine_as_test(ServerMachine, settings=chosen)
