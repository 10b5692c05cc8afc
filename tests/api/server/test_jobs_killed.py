"""A server of many collections as a process, killed in the middle of a job."""

import json
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from mmseek.index import open_collection, verify_collection

SCRIPT = """
import sys
from pathlib import Path
from mmseek.api.server import serve
from mmseek.api.server.hosting import CollectionRoot
from mmseek.testing import FakeEncoder

root = CollectionRoot(Path(sys.argv[1]), [FakeEncoder(delay=0.002)])
serve(root=root, port=0, on_ready=lambda url: print(url, flush=True))
"""
DOCUMENTS = 600


class Server:
    def __init__(self, folder):
        self.process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(folder)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self.url = self.process.stdout.readline().strip()

    def ask(self, method, path, body=None, kind="application/json", key=None):
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"content-type": kind} | ({} if key is None else {"idempotency-key": key})
        request = urllib.request.Request(self.url + path, data, headers, method=method)  # our own address
        with urllib.request.urlopen(request, timeout=120) as answer:
            return json.loads(answer.read())

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


@pytest.fixture
def start(tmp_path):
    servers = []

    def start():
        servers.append(Server(tmp_path / "root"))
        return servers[-1]

    yield start
    for server in servers:
        server.kill()


def test_a_job_survives_a_kill_and_stores_everything_once(start, tmp_path):
    server = start()
    server.ask("POST", "/v1/collections", {"name": "docs"})
    lines = b"".join(b'{"id": "d%d", "text": "text %d"}\n' % (n, n) for n in range(DOCUMENTS))
    sent = ("POST", "/v1/collections/docs/jobs", lines, "application/x-ndjson", "one")
    job = server.ask(*sent)["id"]
    while not server.ask("GET", f"/v1/collections/docs/jobs/{job}")["lines"]:
        time.sleep(0.01)
    server.kill()
    server = start()
    assert server.ask(*sent)["id"] == job  # sent again, as a client would
    while (told := server.ask("GET", f"/v1/collections/docs/jobs/{job}"))["state"] != "done":
        time.sleep(0.02)
    assert told["failed"] == 0
    assert told["indexed"] + told["unchanged"] == DOCUMENTS
    assert len(server.ask("GET", "/v1/collections/docs/jobs")["jobs"]) == 1
    server.process.terminate()
    assert server.process.wait(240) == 0
    place = tmp_path / "root" / "docs"
    assert verify_collection(place).ok
    with open_collection(place) as collection:
        assert [document.id for document in collection.documents()] == [f"d{n}" for n in range(DOCUMENTS)]
    assert not list((Path(place.parent) / ".mmseek-server" / "jobs").iterdir())
