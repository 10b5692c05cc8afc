"""A browser without a screen, steered over the DevTools protocol, and a server for it to look at."""

import base64
import itertools
import json
import shutil
import subprocess
import threading
import time
import urllib.request
from contextlib import ExitStack, contextmanager
from socket import create_server

import pytest
from starlette.responses import JSONResponse

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PATIENCE = 120  # seconds


class Page:
    """One tab. `problems` has what its console complained of: exceptions, refused scripts, failed requests."""

    def __init__(self, socket):
        self._socket = socket
        self._numbers = itertools.count(1)
        self.problems = []
        for domain in ("Page", "Runtime", "Log", "DOM"):
            self.tell(f"{domain}.enable")

    def tell(self, method, **parameters):
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv(timeout=PATIENCE))
            if message.get("id") == number:
                assert "error" not in message, message
                return message["result"]
            self._note(message)

    def _note(self, message):
        parameters = message.get("params", {})
        if message.get("method") == "Runtime.exceptionThrown":
            self.problems.append(parameters["exceptionDetails"].get("exception", {}).get("description", "exception"))
        if message.get("method") == "Log.entryAdded" and parameters["entry"]["level"] == "error":
            self.problems.append(parameters["entry"]["text"])

    def run(self, script):
        """The value of an expression in the page; promises are waited for."""
        answer = self.tell("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait(self, condition):
        """Wait until an expression is true, and return its value."""
        until = time.monotonic() + PATIENCE
        while not (value := self.run(condition)):
            assert time.monotonic() < until, f"never: {condition}; problems: {self.problems}"
            time.sleep(0.02)
        return value

    def wait_for_problem(self, words):
        """Wait until the console has complained of this: it does so a moment after the page has shown it."""
        until = time.monotonic() + PATIENCE
        while not any(words in problem for problem in self.problems):
            assert time.monotonic() < until, f"never: {words}; problems: {self.problems}"
            self.run("1")

    def open(self, url):
        self.tell("Page.navigate", url=url)
        self.wait(f"location.href === {json.dumps(url)} && document.readyState === 'complete'")

    def press(self, key, **more):
        self.tell("Input.dispatchKeyEvent", type="keyDown", key=key, **more)
        self.tell("Input.dispatchKeyEvent", type="keyUp", key=key)

    def write(self, text):
        self.tell("Input.insertText", text=text)

    def give_files(self, selector, *paths):
        root = self.tell("DOM.getDocument")["root"]["nodeId"]
        node = self.tell("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.tell("DOM.setFileInputFiles", nodeId=node, files=[str(path) for path in paths])

    def screenshot(self, path):
        path.write_bytes(base64.b64decode(self.tell("Page.captureScreenshot", format="png")["data"]))


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    if CHROMIUM is None:
        pytest.skip("there is no Chromium here to open the page with")
    profile = tmp_path_factory.mktemp("chromium")
    flags = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run")
    quiet = ("--disable-background-networking", "--disable-component-update", "--disable-extensions", "--mute-audio")
    process = subprocess.Popen(
        [CHROMIUM, *flags, *quiet, "--remote-debugging-port=0", f"--user-data-dir={profile}", "about:blank"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        told = profile / "DevToolsActivePort"
        until = time.monotonic() + PATIENCE
        while not (told.exists() and told.read_text().count("\n")):
            assert process.poll() is None, "Chromium ended at once"
            assert time.monotonic() < until, "Chromium never listened"
            time.sleep(0.05)
        yield f"http://127.0.0.1:{told.read_text().splitlines()[0]}"
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def page(browser):
    from websockets.sync.client import connect

    made = urllib.request.urlopen(
        urllib.request.Request(f"{browser}/json/new?about:blank", method="PUT"), timeout=PATIENCE
    )
    with made:
        target = json.load(made)
    with connect(target["webSocketDebuggerUrl"], max_size=64 * 1024**2, open_timeout=PATIENCE) as socket:
        yield Page(socket)
    urllib.request.urlopen(f"{browser}/json/close/{target['id']}", timeout=PATIENCE).close()


class KeyWanted:
    """Asks for a key on all routes below /v1."""

    def __init__(self, app, key):
        self.app = app
        self._wanted = f"Bearer {key}".encode()

    async def __call__(self, scope, receive, send):
        asked = scope["type"] == "http" and scope["path"].startswith("/v1")
        if asked and dict(scope["headers"]).get(b"authorization") != self._wanted:
            await JSONResponse({"error": {"code": "unauthorized", "message": "no"}}, 401)(scope, receive, send)
            return
        await self.app(scope, receive, send)


@pytest.fixture
def serve(retriever):
    """Starts a real server, of the test's collection unless `own` is false, and gives its address."""
    with ExitStack() as running:

        def start(key=None, *, own=True, **options):
            return running.enter_context(_serving(retriever if own else None, key, **options))

        yield start


@pytest.fixture
def site(serve):
    """The address of a server that lets everybody in."""
    return serve()


@contextmanager
def _serving(retriever, key, **options):
    import uvicorn

    from mmseek.api.server import create_app

    app = create_app(retriever, **options)
    if key is not None:
        app.add_middleware(KeyWanted, key=key)
    listener = create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, access_log=False, log_config=None, timeout_graceful_shutdown=5))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    until = time.monotonic() + PATIENCE
    while not server.started and time.monotonic() < until:
        time.sleep(0.01)
    assert server.started
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        listener.close()
