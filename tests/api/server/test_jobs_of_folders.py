"""Bulk jobs that read folders and documents of the server, as `mmseek index` reads them."""

import json
import threading

import pytest
from fastapi.testclient import TestClient

from mmseek.api.server import ServerLimits, create_app
from mmseek.pipeline import Retriever


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "import"
    folder.mkdir()
    return folder


@pytest.fixture
def client(root, tmp_path, retriever):
    with TestClient(create_app(retriever, data=tmp_path / "data", import_root=root, limits=ServerLimits())) as opened:
        yield opened


def begin(client, path):
    answer = client.post("/v1/jobs", json={"path": path})
    assert answer.status_code == 202, answer.text
    return answer.json()["id"]


def ended(client, helpers, job):
    helpers.wait_until(lambda: client.get(f"/v1/jobs/{job}").json()["state"] not in ("waiting", "running"))
    return client.get(f"/v1/jobs/{job}").json()


def counts(job):
    return job["state"], job["indexed"], job["unchanged"], job["failed"]


def test_a_folder_is_read_as_by_mmseek_index(client, root, helpers, make_pdf, tmp_path, encoder):
    from mmseek.index import open_collection
    from mmseek.index.corpus import read_corpus

    deep = root / "new" / "deep"
    deep.mkdir(parents=True)
    (deep / "report.pdf").write_bytes(make_pdf(["one", "two"]))
    (root / "new" / "photo.png").write_bytes(helpers.picture("red"))
    (root / "new" / "page.md").write_text("# Words\n\n![a picture](deep/in.png)\n")
    (deep / "in.png").write_bytes(helpers.picture("blue"))
    (deep / "broken.pdf").write_bytes(b"%PDF-1.4 and no more")
    (deep / "items.jsonl").write_text('{"id": "i", "text": "x"}\n{"id": "none"}\n')
    told = ended(client, helpers, begin(client, "new"))
    assert counts(told) == ("done", 5, 0, 2)
    assert (told["lines"], told["progress"], told["error"]) == (7, 1.0, None)
    with Retriever(encoder, open_collection(tmp_path / "plain", mode="write", encoder=encoder.identity)) as plain:
        report = plain.add(read_corpus(root / "new"))
        ids = [document.id for document in plain.collection.documents()]
    assert (report.indexed, len(report.failed)) == (5, 2)
    assert [each["id"] for each in client.get("/v1/documents").json()["documents"]] == ids
    assert client.get("/v1/documents/photo.png/images/0").content == helpers.picture("red")
    assert client.get("/v1/documents/page.md/images/0").content == helpers.picture("blue")
    assert client.get("/v1/documents/deep%2Freport.pdf%232/images/0").status_code == 200
    failures = client.get(f"/v1/jobs/{told['id']}/failures").json()["failures"]
    assert [each["line"] for each in failures] == [1, 2]
    assert {each["id"] for each in failures} == {"deep/broken.pdf", "none"}
    assert str(tmp_path) not in json.dumps(failures)
    again = ended(client, helpers, begin(client, "new"))
    assert counts(again) == ("done", 0, 5, 2)


def test_one_document_of_the_server(client, root, helpers, make_pdf):
    (root / "report.pdf").write_bytes(make_pdf(["one", "two", "three"]))
    assert counts(ended(client, helpers, begin(client, "report.pdf"))) == ("done", 3, 0, 0)
    shown = client.get("/v1/documents/report.pdf%231").json()
    assert shown["metadata"]["page"] == 1
    (root / "report.pdf").write_bytes(make_pdf(["one"]))  # pages that it no longer has go
    assert counts(ended(client, helpers, begin(client, "report.pdf"))) == ("done", 1, 0, 0)
    assert client.get("/v1/collection").json()["documents"] == 1


def test_nothing_outside_of_the_folder_is_read(client, root, tmp_path, helpers):
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret.png").write_bytes(helpers.picture("blue"))
    (tmp_path / "outside" / "secret.txt").write_text("secret")
    (root / "in").mkdir()
    (root / "in" / "link.txt").symlink_to(tmp_path / "outside" / "secret.txt")
    (root / "in" / "folder").symlink_to(tmp_path / "outside")
    (root / "in" / "picture.png").write_bytes(helpers.picture("red"))
    items = [
        {"id": "absolute", "image": str(tmp_path / "outside" / "secret.png")},
        {"id": "above", "image": "../../outside/secret.png"},
        {"id": "linked", "image": "folder/secret.png"},
        {"id": "inside", "image": "picture.png"},
    ]
    (root / "in" / "items.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    (root / "in" / "page.md").write_text("# Words\n\n![x](../../outside/secret.png)\n")
    for path in ("../outside", "in/folder", "in/link.txt", str(tmp_path / "outside"), "none", "\0"):
        refused = client.post("/v1/jobs", json={"path": path})
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "bad_input"), path
    told = ended(client, helpers, begin(client, "in"))
    assert told["state"] == "done"
    failures = client.get(f"/v1/jobs/{told['id']}/failures").json()["failures"]
    assert {each["id"] for each in failures} == {"absolute", "above", "linked", "page.md"}
    assert str(root) not in json.dumps(failures)
    stored = client.get("/v1/documents").json()["documents"]
    assert [each["id"] for each in stored] == ["inside"]


def test_it_is_cancelled_and_goes_on_from_what_is_stored(client, root, helpers, encoder):
    hold, reached = threading.Event(), threading.Event()
    plain = encoder._vector

    def vector(content):
        if content.text.startswith("gated"):
            reached.set()
            assert hold.wait(30)
        return plain(content)

    encoder._vector = vector
    (root / "in").mkdir()
    for number in range(300):  # more than the batch that is stored first
        (root / "in" / f"{number:03d}.txt").write_text(f"{'gated' if number == 299 else 'text'} {number}")
    job = begin(client, "in")
    assert reached.wait(30)
    try:
        assert client.get(f"/v1/jobs/{job}").json()["state"] == "running"
        assert client.post(f"/v1/jobs/{job}/cancel").json()["state"] == "cancelled"
    finally:
        hold.set()
    assert client.post(f"/v1/jobs/{job}/resume").json()["state"] == "waiting"
    told = ended(client, helpers, job)
    assert (told["state"], told["failed"], told["indexed"] + told["unchanged"], told["lines"]) == ("done", 0, 300, 300)
    assert client.get("/v1/collection").json()["documents"] == 300


def test_a_folder_that_is_gone_cannot_be_gone_on_with(client, root, helpers, encoder):
    hold, reached = threading.Event(), threading.Event()
    plain = encoder._vector
    encoder._vector = lambda content: (reached.set(), hold.wait(30), plain(content))[2]
    (root / "in").mkdir()
    (root / "in" / "a.txt").write_text("a")
    job = begin(client, "in")
    assert reached.wait(30)
    client.post(f"/v1/jobs/{job}/cancel")
    hold.set()
    (root / "in").rename(root / "other")
    refused = client.post(f"/v1/jobs/{job}/resume")
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "input_gone")


def test_what_cannot_be_read_at_all_fails_the_job(client, root, helpers, encoder):
    from mmseek.index import open_collection

    open_collection(root / "collection", mode="create", encoder=encoder.identity).close()
    told = ended(client, helpers, begin(client, "collection"))
    assert told["state"] == "failed"
    assert told["error"]["code"] == "bad_input"
    assert str(root) not in told["error"]["message"]
