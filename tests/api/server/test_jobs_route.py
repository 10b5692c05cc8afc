"""Bulk jobs: what is taken in, how far it is, what failed, cancelling, going on, and what must not happen."""

import json
import threading
import time
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from hypothesis import given, settings
from hypothesis import strategies as st

from mmseek.api.server import ServerLimits, create_app
from mmseek.api.server.hosting import CollectionRoot
from mmseek.api.server.jobs import batches
from mmseek.api.server.jobs.batches import read_batch
from mmseek.api.server.jobs.pictures import FolderPictures, NoPictures
from mmseek.errors import ConfigError, ItemError
from mmseek.items import read_items

LINES = {"content-type": "application/x-ndjson"}


class Gate:
    """Lets an encoder's texts through one after the other, or all."""

    def __init__(self, encoder):
        self.permits = threading.Semaphore(0)
        self.open = False
        self.reached = 0
        plain = encoder._vector

        def vector(content):
            if content.text.startswith("gated") and not self.open:
                self.reached += 1
                self.permits.acquire()
            return plain(content)

        encoder._vector = vector

    def open_up(self):
        self.open = True
        for _ in range(10_000):
            self.permits.release()


@pytest.fixture
def gate(encoder):
    made = Gate(encoder)
    yield made
    made.open_up()


@pytest.fixture
def start(tmp_path, retriever):
    opened = []

    def start(**options):
        limits = ServerLimits(**options.pop("limits", {}))
        client = TestClient(create_app(retriever, data=tmp_path / "data", limits=limits, **options))
        client.__enter__()
        opened.append(client)
        return client

    yield start
    for client in opened:
        client.__exit__(None, None, None)


@pytest.fixture
def client(start):
    return start()


def code(answer):
    return answer.status_code, answer.json()["error"]["code"]


def lines(items):
    return "".join((item if isinstance(item, str) else json.dumps(item)) + "\n" for item in items).encode()


def begin(client, items, base="/v1"):
    answer = client.post(f"{base}/jobs", content=lines(items), headers=LINES)
    assert answer.status_code == 202, answer.text
    return answer.json()["id"]


def ended(client, job, base="/v1"):
    end = time.monotonic() + 120
    while (found := client.get(f"{base}/jobs/{job}").json())["state"] in ("waiting", "running"):
        assert time.monotonic() < end, found
        time.sleep(0.03)  # the job needs the processor more
    return found


def counts(job):
    return job["indexed"], job["unchanged"], job["failed"]


def test_lines_are_stored_and_bad_ones_are_told(client, helpers):
    items = [
        {"id": "a", "text": "one"},
        "not json",
        "",
        {"id": "b"},
        {"id": "c", "image": "/etc/hostname"},
        {"id": "d", "image": "https://x.example/a.png"},
        {"id": "e", "image": helpers.data_uri(helpers.picture())},
        {"text": "no id"},
        {"id": "a", "text": "the last line of an id counts"},
    ]
    job = begin(client, items)
    told = ended(client, job)
    assert told["state"] == "done"
    assert told["progress"] == 1.0
    assert told["lines"] == 9
    assert counts(told) == (3, 0, 5)
    assert told["error"] is None
    failures = client.get(f"/v1/jobs/{job}/failures").json()
    assert failures["next"] is None
    assert [(each["line"], each["id"], each["code"]) for each in failures["failures"]] == [
        (2, None, "bad_item"),
        (4, "b", "bad_item"),
        (5, "c", "media_not_found"),
        (6, "d", "url_refused"),
        (8, None, "bad_item"),
    ]
    assert all(each["message"] for each in failures["failures"])
    assert client.get("/v1/documents/a").json()["text"] == "the last line of an id counts"
    assert client.get("/v1/documents/e/images/0").content == helpers.picture()
    again = ended(client, begin(client, items[:1]))
    assert counts(again) == (1, 0, 0)
    assert counts(ended(client, begin(client, items[:1]))) == (0, 1, 0)


def test_what_the_encoder_refuses_fails_alone(client, encoder):
    encoder.fail_on = "poison"
    job = begin(client, [{"id": f"d{n}", "text": "poison" if n == 70 else f"food {n}"} for n in range(100)])
    assert counts(ended(client, job)) == (99, 0, 1)
    (failure,) = client.get(f"/v1/jobs/{job}/failures").json()["failures"]
    assert (failure["line"], failure["id"], failure["code"]) == (71, "d70", "not_encodable")


def test_failures_and_jobs_are_listed_by_cursor(client):
    job = begin(client, ["bad"] * 5)
    ended(client, job)
    found, cursor = [], None
    while True:
        params = {"limit": 2} | ({"cursor": cursor} if cursor else {})
        page = client.get(f"/v1/jobs/{job}/failures", params=params).json()
        found += [each["line"] for each in page["failures"]]
        cursor = page["next"]
        if cursor is None:
            break
    assert found == [1, 2, 3, 4, 5]
    other = begin(client, [])
    ended(client, other)
    first = client.get("/v1/jobs", params={"limit": 1}).json()
    assert [each["id"] for each in first["jobs"]] == [other]
    second = client.get("/v1/jobs", params={"limit": 1, "cursor": first["next"]}).json()
    assert [each["id"] for each in second["jobs"]] == [job]
    assert code(client.get("/v1/jobs", params={"cursor": "x"})) == (400, "bad_cursor")


def test_a_job_never_blocks_a_search(client, retriever, monkeypatch):
    held, go_on = threading.Event(), threading.Event()
    plain, batches = retriever.collection.upsert, []

    def upsert(*arguments):
        batches.append(len(arguments[0]))
        if len(batches) == 3:
            held.set()
            assert go_on.wait(120)
        return plain(*arguments)

    monkeypatch.setattr(retriever.collection, "upsert", upsert)
    job = begin(client, [{"id": f"d{n}", "text": f"text {n}"} for n in range(1000)])
    searched = 0

    def search():
        nonlocal searched
        answer = client.post("/v1/search", json={"text": f"text {searched}", "k": 1})
        assert answer.status_code == 200
        assert answer.json()["hits"][0]["id"] == f"d{searched}"
        searched += 1

    assert held.wait(120)
    try:
        for _ in range(20):
            search()
        told = client.get(f"/v1/jobs/{job}").json()
        assert (told["state"], told["lines"]) == ("running", 128)
    finally:
        go_on.set()
    while searched < 128 and client.get(f"/v1/jobs/{job}").json()["state"] == "running":
        search()
    assert counts(ended(client, job)) == (1000, 0, 0)
    assert client.get("/v1/collection").json()["documents"] == 1000
    assert max(batches) == 64


def test_a_job_is_cancelled_and_goes_on(client, gate, helpers):
    job = begin(client, [{"id": f"d{n}", "text": f"text {n}" if n < 64 else f"gated {n}"} for n in range(200)])
    waiting = begin(client, [{"id": "w", "text": "w"}])
    helpers.wait_until(lambda: gate.reached)
    assert client.get(f"/v1/jobs/{job}").json()["state"] == "running"
    assert code(client.delete(f"/v1/jobs/{job}")) == (409, "job_state")
    assert code(client.post(f"/v1/jobs/{job}/resume")) == (409, "job_state")
    cancelled = client.post(f"/v1/jobs/{job}/cancel").json()
    assert cancelled["state"] == "cancelled"
    assert client.post(f"/v1/jobs/{waiting}/cancel").json()["state"] == "cancelled"
    assert client.post(f"/v1/jobs/{job}/cancel").json()["state"] == "cancelled"
    gate.open_up()
    assert client.post("/v1/search", json={"text": "x"}).status_code == 200
    told = client.get(f"/v1/jobs/{job}").json()
    assert (told["indexed"], told["lines"]) == (64, 64)
    assert 0 < told["progress"] < 1
    assert client.post(f"/v1/jobs/{job}/resume").json()["state"] == "waiting"
    assert counts(ended(client, job)) == (200, 0, 0)
    assert code(client.post(f"/v1/jobs/{job}/resume")) == (409, "job_state")
    assert client.get("/v1/documents/w").status_code == 404
    assert client.delete(f"/v1/jobs/{job}").json() == {"deleted": job}
    assert code(client.get(f"/v1/jobs/{job}")) == (404, "unknown_job")
    assert client.get("/v1/collection").json()["documents"] == 200


def test_a_job_goes_on_after_a_restart(start, gate, helpers, tmp_path):
    client = start()
    job = begin(client, [{"id": f"d{n}", "text": f"text {n}" if n < 64 else f"gated {n}"} for n in range(150)])
    later = begin(client, [{"id": "later", "text": "later"}])
    helpers.wait_until(lambda: gate.reached)
    with pytest.raises(ConfigError, match="another server"):
        start()
    threading.Timer(0.3, gate.open_up).start()  # a server that stops waits for what is with the model
    client.app.state.service.close()
    after = start()
    assert counts(ended(after, job)) == (150, 0, 0)
    assert counts(ended(after, later)) == (1, 0, 0)
    assert after.get("/v1/collection").json()["documents"] == 151
    inputs = after.app.state.service.jobs.inputs
    helpers.wait_until(lambda: inputs.bytes == 0)  # a job is done a moment before its input is removed, never after
    assert not list((tmp_path / "data" / "jobs").iterdir())


def test_what_passes_is_tried_again_and_what_does_not_fails_the_job(client, retriever, monkeypatch):
    from mmseek.api.server.errors import WorkerLost
    from mmseek.errors import StorageError

    monkeypatch.setattr(client.app.state.service.jobs._worker, "_first_wait", 0.001)
    plain = retriever.collection.upsert
    errors = [WorkerLost("lost"), WorkerLost("lost"), StorageError("/secret/place is full")]

    def upsert(*arguments):
        if errors:
            raise errors.pop(0)
        return plain(*arguments)

    monkeypatch.setattr(retriever.collection, "upsert", upsert)
    job = begin(client, [{"id": f"d{n}", "text": f"text {n}"} for n in range(100)])
    told = ended(client, job)
    assert told["state"] == "failed"
    assert told["error"]["code"] == "storage_error"
    assert "secret" not in json.dumps(told)
    client.post(f"/v1/jobs/{job}/resume")
    assert counts(ended(client, job)) == (100, 0, 0)


def test_a_bug_ends_its_job_and_no_other(client, retriever, monkeypatch):
    monkeypatch.setattr(retriever.collection, "digests", lambda ids: 1 / 0)
    told = ended(client, begin(client, [{"id": "a", "text": "a"}]))
    assert (told["state"], told["error"]["code"]) == ("failed", "internal_error")
    monkeypatch.undo()
    assert ended(client, begin(client, [{"id": "a", "text": "a"}]))["state"] == "done"


def test_forms_bring_pictures(client, helpers):
    items = [
        {"id": "one", "image": "a.png", "text": "a caption"},
        {"id": "two", "content": [{"type": "text", "text": "x"}, {"type": "image", "image": "../b.jpg"}]},
        {"id": "three", "image": "none.png"},
        {"id": "four", "image": "broken.png"},
    ]
    files = [
        ("items", ("items.jsonl", lines(items))),
        ("files", ("a.png", helpers.picture("red"))),
        ("files", ("../b.jpg", helpers.picture("blue", kind="JPEG"))),
        ("files", ("broken.png", b"no picture")),
    ]
    answer = client.post("/v1/jobs", files=files)
    assert answer.status_code == 202, answer.text
    job = answer.json()["id"]
    assert counts(ended(client, job)) == (2, 0, 2)
    failures = client.get(f"/v1/jobs/{job}/failures").json()["failures"]
    assert [each["code"] for each in failures] == ["media_not_found", "bad_media"]
    assert client.get("/v1/documents/one/images/0").content == helpers.picture("red")
    assert client.get("/v1/documents/two/images/0").content == helpers.picture("blue", kind="JPEG")
    alone = client.post("/v1/jobs", files=[("files", ("photo.png", helpers.picture("green")))]).json()["id"]
    assert counts(ended(client, alone)) == (1, 0, 0)
    assert client.get("/v1/documents/photo.png/images/0").content == helpers.picture("green")


@pytest.mark.parametrize(
    "files",
    [
        [("files", ("a.png", b"x")), ("files", ("a.png", b"y"))],
        [("items", ("i", b"")), ("items", ("j", b""))],
        [("other", ("a.png", b"x"))],
    ],
)
def test_forms_that_make_no_job_leave_nothing(client, files, tmp_path):
    assert code(client.post("/v1/jobs", files=files)) == (400, "bad_input")
    assert client.get("/v1/jobs").json()["jobs"] == []
    assert not list((tmp_path / "data" / "jobs").iterdir())
    assert client.app.state.service.jobs.inputs.bytes == 0


def test_a_page_of_another_origin_cannot_send_forms(start):
    client = start(cors_origins=["https://friend.example"])
    files = [("files", ("a.png", b"x"))]
    for headers in ({"origin": "https://evil.example"}, {"origin": "null"}, {"sec-fetch-site": "cross-site"}):
        assert code(client.post("/v1/jobs", files=files, headers=headers)) == (403, "cross_origin")
    for headers in ({"origin": "http://testserver"}, {"origin": "https://friend.example"}, {}):
        assert client.post("/v1/jobs", files=files, headers=headers).status_code == 202
    for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
        assert client.post("/v1/jobs", content=b"{}", headers={"content-type": kind}).status_code == 415


def test_files_of_the_server_only_below_the_folder_that_it_opened(start, tmp_path, helpers):
    root = tmp_path / "import"
    (root / "deep").mkdir(parents=True)
    (root / "deep" / "a.png").write_bytes(helpers.picture())
    outside = tmp_path / "secret.jsonl"
    outside.write_bytes(lines([{"id": "secret", "text": "secret"}]))
    (tmp_path / "outside.png").write_bytes(helpers.picture("blue"))
    (root / "link.jsonl").symlink_to(outside)
    items = [
        {"id": "in", "image": "a.png"},
        {"id": "out", "image": "../../outside.png"},
        {"id": "absolute", "image": str(tmp_path / "outside.png")},
    ]
    (root / "deep" / "items.jsonl").write_bytes(lines(items))
    client = start(import_root=root)
    for path in ("../secret.jsonl", str(outside), "link.jsonl", "none.jsonl", "\0", "x" * 300):
        answer = client.post("/v1/jobs", json={"path": path})
        assert code(answer) == (400, "bad_input")
        assert str(tmp_path) not in answer.json()["error"]["message"].replace(str(outside), "")
    job = client.post("/v1/jobs", json={"path": "deep/items.jsonl"}).json()["id"]
    assert counts(ended(client, job)) == (1, 0, 2)
    assert client.get("/v1/documents/in/images/0").content == helpers.picture()
    assert (root / "deep" / "items.jsonl").exists()
    answer = client.post("/v1/jobs", content=b"{", headers={"content-type": "application/json"})
    assert code(answer) == (400, "bad_json")
    for body in (b"[]", b"{}", b'{"path": 1}', b'{"path": "a", "more": 1}'):
        answer = client.post("/v1/jobs", content=body, headers={"content-type": "application/json"})
        assert code(answer) == (422, "bad_request"), answer.text


def test_a_file_that_changed_is_not_gone_on_with(start, tmp_path, gate, helpers):
    root = tmp_path / "import"
    root.mkdir()
    path = root / "items.jsonl"
    path.write_bytes(lines([{"id": f"d{n}", "text": f"gated {n}"} for n in range(70)]))
    client = start(import_root=root)
    job = client.post("/v1/jobs", json={"path": "items.jsonl"}).json()["id"]
    helpers.wait_until(lambda: gate.reached)
    client.post(f"/v1/jobs/{job}/cancel")
    gate.open_up()
    path.write_bytes(lines([{"id": "other", "text": "other"}]))
    assert code(client.post(f"/v1/jobs/{job}/resume")) == (409, "input_gone")
    assert client.get(f"/v1/jobs/{job}").json()["state"] == "cancelled"


def test_inputs_take_no_more_room_than_they_may(start, gate, helpers, tmp_path):
    client = start(limits={"max_job_bytes": 3000})
    big = [{"id": "big", "text": "gated " + "x" * 2000}]
    first = begin(client, big)
    helpers.wait_until(lambda: gate.reached)
    answer = client.post("/v1/jobs", content=lines(big), headers=LINES)
    assert code(answer) == (429, "jobs_full")
    assert int(answer.headers["retry-after"]) > 0
    client.post(f"/v1/jobs/{first}/cancel")
    second = begin(client, big)  # what is finished makes room
    assert code(client.post(f"/v1/jobs/{first}/resume")) == (409, "input_gone")
    gate.open_up()
    assert ended(client, second)["state"] == "done"
    inputs = client.app.state.service.jobs.inputs
    helpers.wait_until(lambda: inputs.bytes == 0)  # a job is done a moment before its input is removed, never after
    assert not list((tmp_path / "data" / "jobs").iterdir())


def test_no_more_jobs_wait_than_may(start, gate, helpers):
    client = start()
    client.app.state.service.jobs._most_waiting = 2
    begin(client, [{"id": "a", "text": "gated"}])
    begin(client, [])
    assert code(client.post("/v1/jobs", content=b"", headers=LINES)) == (429, "jobs_full")


def test_without_a_folder_there_are_no_jobs(make_client):
    answer = make_client().post("/v1/jobs", content=b"", headers=LINES)
    assert code(answer) == (501, "not_offered")
    assert "--data-dir" in answer.json()["error"]["message"]


def test_jobs_are_of_their_collection(tmp_path, encoder, gate, helpers):
    with TestClient(create_app(root=CollectionRoot(tmp_path / "root", [encoder]))) as client:
        for name in ("a", "b"):
            client.post("/v1/collections", json={"name": name})
        client.put("/v1/aliases/live", json={"collection": "a"})
        job = begin(client, [{"id": "x", "text": "x"}], "/v1/collections/live")
        assert counts(ended(client, job, "/v1/collections/a")) == (1, 0, 0)
        assert code(client.get(f"/v1/collections/b/jobs/{job}")) == (404, "unknown_job")
        assert client.get("/v1/collections/b/jobs").json()["jobs"] == []
        assert code(client.post("/v1/collections/none/jobs", content=b"", headers=LINES)) == (404, "unknown_collection")
        blocked = begin(client, [{"id": "y", "text": "gated"}], "/v1/collections/a")
        helpers.wait_until(lambda: gate.reached)
        queued = begin(client, [{"id": "z", "text": "z"}], "/v1/collections/b")
        assert client.delete("/v1/collections/b").status_code == 200
        client.post("/v1/collections", json={"name": "b"})
        told = client.get(f"/v1/collections/b/jobs/{queued}").json()
        assert (told["state"], told["error"]["code"]) == ("cancelled", "unknown_collection")
        gate.open_up()
        assert ended(client, blocked, "/v1/collections/a")["state"] == "done"
        assert client.get("/v1/collections/b").json()["documents"] == 0


_ITEM = st.one_of(
    st.builds(
        lambda n, word: json.dumps({"id": f"d{n}", "text": word or "x"}).encode(),
        st.integers(0, 5),
        st.text(max_size=4),
    ),
    st.binary(max_size=12),
    st.just(b'{"id": "p", "image": "https://x.example/a.png"}'),
)


@given(st.lists(_ITEM, max_size=20), st.sampled_from([b"\n", b"\r\n"]), st.booleans(), st.integers(1, 40))
@settings(max_examples=60)
def test_batches_read_what_the_plain_reader_reads(tmp_path_factory, items, end, last, size):
    path = tmp_path_factory.mktemp("input") / "lines.jsonl"
    path.write_bytes(end.join(items) + (end if last else b""))
    documents, failures, place, number = {}, [], 0, 0
    before = batches.BYTES
    batches.BYTES = size
    try:
        while True:
            batch = read_batch(path, place, number, NoPictures(), ServerLimits())
            assert len({document.id for document in batch.documents}) == len(batch.documents)
            documents |= {document.id: document.content for document in batch.documents}
            failures += [failure.line for failure in batch.failures]
            assert batch.ended or batch.place > place
            place, number = batch.place, batch.lines
            if batch.ended:
                break
    finally:
        batches.BYTES = before
    plain, wrong = {}, []
    try:
        for item in read_items(path):
            if isinstance(item, ItemError):
                wrong.append(item.line)
            else:
                plain[item.id] = item.content
    except Exception:  # noqa: BLE001  # a file that is of another encoding altogether
        return
    assert documents == plain
    assert failures == wrong
    assert place == path.stat().st_size


def test_pictures_of_a_folder_stay_in_it(tmp_path):
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "a.png").write_bytes(b"x")
    (tmp_path / "b.png").write_bytes(b"x")
    (tmp_path / "root" / "link.png").symlink_to(tmp_path / "b.png")
    pictures = FolderPictures(tmp_path / "root", tmp_path / "root")
    assert pictures.find("a.png") == (tmp_path / "root" / "a.png").resolve()
    assert pictures.find("./x/../a.png") is None or Path("a.png").name == "a.png"
    for address in ("../b.png", "link.png", str(tmp_path / "b.png"), ".", "\0", "x" * 5000):
        assert pictures.find(address) is None
