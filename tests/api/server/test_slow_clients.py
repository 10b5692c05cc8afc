"""Clients that take their time, on purpose or not: each costs a connection and nothing else."""

import json
import resource
import socket
import threading
import time

from mmseek.index import open_collection
from mmseek.testing import FakeEncoder

HEAD = b"POST /v1/search HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


def connect(server):
    return socket.create_connection((server.address.hostname, server.address.port), timeout=120)


def test_half_a_header_is_waited_for_only_so_long(impatient):
    with connect(impatient) as again, connect(impatient) as nothing, connect(impatient) as half:
        again.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        half.sendall(HEAD)
        answer = b""
        while not answer.endswith(b"}"):
            answer += again.recv(65536)
        assert answer.startswith(b"HTTP/1.1 200")
        again.sendall(HEAD)
        for connection in (nothing, half, again):
            assert connection.recv(65536) == b""


def test_a_request_that_takes_longer_than_that_is_answered(start):
    server = start(delay=2.5, header_seconds=1)
    assert server.request("POST", "/v1/search", {"text": "slow"})[0] == 200


def test_a_body_that_stands_still_is_refused(impatient):
    with connect(impatient) as connection:
        connection.sendall(HEAD + b"Content-Length: 100\r\n\r\n{")
        time.sleep(0.3)
        progress = time.monotonic()
        connection.sendall(b'"text"')  # the two seconds begin anew
        received = b""
        while piece := connection.recv(65536):
            received += piece
    assert time.monotonic() - progress > 1.9
    assert received.startswith(b"HTTP/1.1 408")
    assert json.loads(received.partition(b"\r\n\r\n")[2])["error"]["code"] == "body_too_slow"


def test_thousands_of_idle_connections_do_no_harm(start):
    count = min(3000, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 500)
    server = start(drain_seconds=2)
    idle = [connect(server) for _ in range(count)]
    try:
        for half in idle[: count // 3]:
            half.sendall(HEAD)
        for stalled in idle[count // 3 : count // 2]:
            stalled.sendall(HEAD + b"Content-Length: 100\r\n\r\n{")
        assert server.request("POST", "/v1/search", {"text": "fine"})[0] == 200
        assert server.request("GET", "/health/ready")[0] == 200
        code, out, _ = server.stop()  # what is half sent has its two seconds; all else ends at once
        assert (code, out) == (0, "closed\n")
    finally:
        for connection in idle:
            connection.close()


def test_what_is_being_indexed_at_the_end_is_answered_and_kept(start, tmp_path):
    server = start(delay=0.02, drain_seconds=200)
    answers = []
    documents = [{"id": str(number), "text": f"text {number}"} for number in range(100)]
    client = threading.Thread(
        target=lambda: answers.append(server.request("POST", "/v1/documents", {"documents": documents}))
    )
    client.start()
    while not (server.request("GET", "/v1/collection")[1]["documents"] or answers):
        time.sleep(0.05)
    code, out, err = server.stop()
    client.join(120)
    assert (code, out) == (0, "closed\n"), err
    ((status, answer),) = answers
    assert (status, answer["indexed"]) == (200, 100)
    with open_collection(tmp_path / "collection", mode="write", encoder=FakeEncoder().identity) as collection:
        assert len(collection.get([str(number) for number in range(100)])) == 100
        assert collection.verify().ok
