import base64
import io
import struct
import time
import zlib

import pytest
import structlog
from fastapi.testclient import TestClient
from PIL import Image as Pil

from mmseek.testing import FakeEncoder


def picture(colour="red", size=(40, 30), kind="PNG"):
    """A small picture file."""
    buffer = io.BytesIO()
    Pil.new("RGB", size, colour).save(buffer, kind)
    return buffer.getvalue()


def data_uri(data, mime="image/png"):
    return f"data:{mime};base64,{base64.b64encode(data).decode()}"


def header_bomb(side=13_000):
    """A PNG of one bit a pixel that is small as a file and huge once decoded."""

    def chunk(name, body):
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    rows = zlib.compress(b"\0" * ((side // 8 + 2) * side), 9)
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


PATIENCE = 120  # seconds; for what takes a moment, on a machine that may be busy with much else


def wait_until(condition):
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


@pytest.fixture(scope="session", autouse=True)
def plain_logs():
    """Log lines as a server's: the usual ones draw the variables of every traceback, which takes seconds for each."""
    rendering = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    structlog.configure(processors=[structlog.processors.add_log_level, *rendering])


@pytest.fixture
def encoder():
    return FakeEncoder()


@pytest.fixture
def retriever(tmp_path, encoder):
    from mmseek.index import open_collection
    from mmseek.pipeline import Retriever

    collection = open_collection(tmp_path / "collection", mode="write", encoder=encoder.identity)
    with Retriever(encoder, collection) as opened:
        yield opened


@pytest.fixture
def make_client(retriever):
    """Builds clients of the service; what a test opened is closed after it."""
    from mmseek.api.server import ServerLimits, create_app

    opened = []

    def make(**limits):
        client = TestClient(create_app(retriever, limits=ServerLimits(**limits)))
        client.__enter__()
        opened.append(client)
        return client

    yield make
    for client in opened:
        client.__exit__(None, None, None)


@pytest.fixture
def client(make_client):
    return make_client()


@pytest.fixture
def helpers():
    """The functions of this file, for tests that cannot import it."""

    class Helpers:
        pass

    for function in (picture, data_uri, header_bomb, wait_until):
        setattr(Helpers, function.__name__, staticmethod(function))
    return Helpers


@pytest.fixture
def serve_models():
    """Runs an app on a free port of this machine, in a thread, and gives its address; ended after the test."""
    import threading

    import uvicorn

    from mmseek.api.server import create_app

    running = []

    def start(*arguments, **options):
        app = create_app(*arguments, **options)
        config = uvicorn.Config(app, port=0, log_config=None, access_log=False, timeout_graceful_shutdown=5)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        running.append((server, thread))
        wait_until(lambda: server.started)
        port = server.servers[0].sockets[0].getsockname()[1]
        start.app = app
        return f"http://127.0.0.1:{port}"

    yield start
    for server, thread in running:
        server.should_exit = True
        thread.join(PATIENCE)
        assert not thread.is_alive()
