"""A small collection of a fake encoder, opened here and served over real HTTP."""

from __future__ import annotations

import os
import socket
import threading

import pytest
import uvicorn
from PIL import Image as Pil

from mmseek import Content, Document
from mmseek.testing import FakeEncoder

os.environ.setdefault("HAYSTACK_TELEMETRY_ENABLED", "False")  # read when Haystack is loaded


@pytest.fixture
def pictures(tmp_path):
    """Three picture files by colour."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for colour in ("red", "green", "blue"):
        Pil.new("RGB", (24, 16), colour).save(folder / f"{colour}.png")
    return {colour: folder / f"{colour}.png" for colour in ("red", "green", "blue")}


@pytest.fixture
def documents(pictures):
    return [
        Document("text", Content.of("a red bicycle"), {"year": 2020, "lang": "en"}),
        Document("note", Content.of("tide tables"), {"year": 2024, "lang": "de"}, parent_id="book"),
        Document("picture", Content.of(pictures["red"]), {"year": 2021}),
        Document("both", Content.of(pictures["blue"], "blue"), {"year": 2024}),
        Document("two", Content.of(pictures["red"], "then", pictures["green"])),
    ]


def empty_retriever(place, dim=16):
    from mmseek.index import open_collection
    from mmseek.pipeline import Retriever

    encoder = FakeEncoder(dim=dim)
    return Retriever(encoder, open_collection(place, mode="write", encoder=encoder.identity))


@pytest.fixture
def filled(tmp_path, documents):
    with empty_retriever(tmp_path / "filled") as opened:
        assert opened.add(documents).ok
        yield opened


@pytest.fixture
def empty(tmp_path):
    with empty_retriever(tmp_path / "empty") as opened:
        yield opened


@pytest.fixture(scope="session")
def listening():
    """One HTTP server on a free port of this machine; it answers with the application that stands in the list."""
    apps = []

    async def current(scope, receive, send):
        await apps[-1](scope, receive, send)

    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(current, log_config=None, access_log=False, lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    yield apps, f"http://127.0.0.1:{listener.getsockname()[1]}"
    server.should_exit = True
    thread.join(timeout=120)
    listener.close()
    assert not thread.is_alive()


@pytest.fixture
def serving(listening):
    """Serves a retriever; gives the URL."""
    from mmseek.api.server import create_app

    apps, url = listening
    started = []

    def serve(retriever=None, **options):
        app = create_app(retriever, **options)
        apps.append(app)
        started.append(app.state.service)
        return url

    yield serve
    apps.clear()
    for service in started:
        service.encoding.close()
        service.reading.close()


@pytest.fixture(params=["local", "remote"])
def source(request, filled):
    """The filled collection as a source, of either kind."""
    yield from _source(request, filled)


@pytest.fixture(params=["local", "remote"])
def empty_source(request, empty):
    yield from _source(request, empty)


def _source(request, retriever):
    from mmseek.api.rag import open_source

    if request.param == "local":
        yield open_source(retriever)
        return
    opened = open_source(request.getfixturevalue("serving")(retriever), timeout=120)
    yield opened
    opened.close()
