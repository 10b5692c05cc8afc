"""Sources asked by many at once, and the door of the room."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from mmseek.api.rag import open_source
from mmseek.api.rag.sources import make_query
from mmseek.errors import MmseekError


async def test_many_searches_at_once(source):
    queries = [make_query(text, k=1) for text in ("a red bicycle", "tide tables") * 8]
    found = await asyncio.gather(*(source.asearch(query) for query in queries))
    assert [hits[0].id for hits in found] == ["text", "note"] * 8


def test_threads_take_turns_at_the_encoder(filled):
    source = open_source(filled)
    busy = threading.Lock()
    encode = filled.encoder.encode_query

    def alone(*given):
        assert busy.acquire(blocking=False), "two threads encode at once"
        try:
            time.sleep(0.005)  # long enough for another thread to come in
            return encode(*given)
        finally:
            busy.release()

    filled.encoder.encode_query = alone
    failed = []

    def ask():
        try:
            source.search(make_query("tide tables", k=1))
        except (AssertionError, MmseekError) as error:
            failed.append(error)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed


def test_the_door_loads_no_framework():
    script = (
        "import sys, mmseek.api.rag\n"
        "heavy = {'langchain_core', 'llama_index', 'haystack', 'torch', 'transformers'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=Path.cwd())
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("module", "library", "extra"),
    [
        ("langchain", "langchain_core", "langchain"),
        ("llama_index", "llama_index.core", "llama-index"),
        ("haystack", "haystack", "haystack"),
    ],
)
def test_a_missing_extra_names_the_command(module, library, extra):
    script = (
        f"import sys; sys.modules[{library!r}] = None\n"
        "from mmseek.errors import MissingExtra\n"
        f"try:\n    import mmseek.api.rag.{module}\n"
        f"except MissingExtra as error:\n    assert \"pip install 'mmseek[{extra}]'\" in str(error), error\n"
        "else:\n    raise SystemExit('imported')"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=Path.cwd())
    assert done.returncode == 0, done.stderr
