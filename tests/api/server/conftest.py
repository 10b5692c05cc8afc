import http.client
import json
import signal
import subprocess
import sys
from urllib.parse import urlsplit

import pytest

SCRIPT = """
import json, sys
from mmseek.api.server import ServerLimits, serve
from mmseek.index import open_collection
from mmseek.pipeline import Retriever
from mmseek.testing import FakeEncoder

encoder = FakeEncoder(delay=float(sys.argv[2]))
collection = open_collection(sys.argv[1], mode="write", encoder=encoder.identity)
serve(
    Retriever(encoder, collection),
    port=0,
    limits=ServerLimits(**json.loads(sys.argv[3])),
    on_ready=lambda url: print(url, flush=True),
)
print("closed", flush=True)
"""


class Server:
    """The service as a process of its own."""

    def __init__(self, folder, delay=0.0, script=SCRIPT, **limits):
        self.process = subprocess.Popen(
            [sys.executable, "-c", script, str(folder), str(delay), json.dumps(limits)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.address = urlsplit(self.process.stdout.readline().strip())

    def request(self, method, path, body=None, host="localhost"):
        connection = http.client.HTTPConnection(self.address.hostname, self.address.port, timeout=120)
        try:
            headers = {"host": host} | ({} if body is None else {"content-type": "application/json"})
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()

    def stop(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=240)
        return self.process.returncode, out, err

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate()


@pytest.fixture
def start(tmp_path):
    """Starts servers of the test's collection; they are ended after it."""
    servers = []

    def start(**options):
        servers.append(Server(tmp_path / "collection", **options))
        return servers[-1]

    yield start
    for server in servers:
        server.kill()


@pytest.fixture(scope="module")
def impatient(tmp_path_factory):
    """A server that waits a little for headers and bodies."""
    server = Server(tmp_path_factory.mktemp("impatient"), header_seconds=4, body_seconds=2, drain_seconds=2)
    yield server
    server.kill()
