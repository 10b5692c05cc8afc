"""The server as a process of its own, spoken to over a real socket."""

import json
import signal
import socket
from urllib.parse import quote

import pytest

from mmseek.errors import CollectionLocked, ConfigError
from mmseek.index import open_collection
from mmseek.testing import FakeEncoder


def test_serves_keeps_and_stops(start, tmp_path):
    server = start(max_body_bytes=100_000, drain_seconds=200)
    assert server.address.hostname == "127.0.0.1"
    name = "odd/100%2F?"
    status, outcome = server.request("POST", "/v1/documents", {"documents": [{"id": name, "text": "kept"}]})
    assert (status, outcome["indexed"]) == (200, 1)
    assert server.request("GET", f"/v1/documents/{quote(name, safe='')}") == (200, {"id": name, "text": "kept"})
    with pytest.raises(CollectionLocked):
        open_collection(tmp_path / "collection", mode="write")
    check_that_an_endless_body_is_cut_off(server)
    assert server.request("GET", "/v1/collection", host="evil.example")[0] == 421
    code, out, err = server.stop(signal.SIGINT)
    assert (code, out) == (0, "closed\n"), err
    assert all(json.loads(line)["event"] for line in err.splitlines())
    collection = open_collection(tmp_path / "collection", mode="write", encoder=FakeEncoder().identity)
    assert list(collection.get([name])) == [name]
    collection.close()


def test_stopping_waits_for_what_was_begun(start):
    server = start(delay=2.0, drain_seconds=200)
    with socket.create_connection((server.address.hostname, server.address.port), timeout=120) as stream:
        body = b'{"text": "slow"}'
        stream.sendall(
            b"POST /v1/search HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Connection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
        )
        # Answered after the request above was taken in.
        assert server.request("GET", "/health/ready")[0] == 200
        code, out, err = server.stop(signal.SIGTERM)
        received = b""
        while piece := stream.recv(65536):
            received += piece
    assert received.startswith(b"HTTP/1.1 200"), err
    assert (code, out) == (0, "closed\n"), err


HANGING = """
import sys, threading
from mmseek.api.server import ServerLimits, serve
from mmseek.index import open_collection
from mmseek.pipeline import Retriever
from mmseek.testing import FakeEncoder
from concurrent.futures import ThreadPoolExecutor

class Hanging(FakeEncoder):
    def stream(self, requests):
        requests = list(requests)
        if "hang" in requests[0].content.text:
            ThreadPoolExecutor(1).submit(threading.Event().wait).result()
        return super().stream(requests)

encoder = Hanging()
collection = open_collection(sys.argv[1], mode="write", encoder=encoder.identity)
serve(
    Retriever(encoder, collection),
    port=0,
    limits=ServerLimits(drain_seconds=1, stuck_seconds=2),
    on_ready=lambda url: print(url, flush=True),
)
"""


def test_stopping_ends_within_its_bound_though_the_model_hangs(start, tmp_path):
    """A model that never comes back: its request is told so, what was acknowledged is kept, and the process ends."""
    server = start(script=HANGING)
    assert server.request("POST", "/v1/documents", {"documents": [{"id": "a", "text": "kept"}]})[1]["indexed"] == 1
    status, answer = server.request("POST", "/v1/search", {"text": "hang"})
    assert (status, answer["error"]["code"]) == (503, "worker_lost")
    assert server.request("POST", "/v1/search", {"text": "fine"})[0] == 200
    code, _, err = server.stop(signal.SIGTERM)
    assert (code, "ended_with_a_hanging_model" in err) == (1, True)
    collection = open_collection(tmp_path / "collection", mode="write", encoder=FakeEncoder().identity)
    assert list(collection.get(["a"])) == ["a"]
    assert collection.verify().ok
    collection.close()


def check_that_an_endless_body_is_cut_off(server):
    piece = b"2710\r\n" + b"x" * 10_000 + b"\r\n"
    sent = 0
    with socket.create_connection((server.address.hostname, server.address.port), timeout=120) as stream:
        stream.sendall(
            b"POST /v1/search HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n"
        )
        try:
            while sent < 100_000_000:
                stream.sendall(piece)
                sent += len(piece)
        except OSError:
            pass  # the server has closed the connection
    assert sent < 100_000_000
    assert server.request("GET", "/health") == (200, {"status": "ok"})


def test_a_port_that_is_taken_is_said_so_and_the_collection_let_go(tmp_path):
    from mmseek.api.server import serve
    from mmseek.pipeline import Retriever

    encoder = FakeEncoder()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for where in (port, 99_999):
            collection = open_collection(tmp_path / "collection", mode="write", encoder=encoder.identity)
            with pytest.raises(ConfigError, match=f"cannot listen on 127.0.0.1:{where}"):
                serve(Retriever(encoder, collection), port=where)
    open_collection(tmp_path / "collection", mode="write", encoder=encoder.identity).close()
