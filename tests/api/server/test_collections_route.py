"""Several collections under one server: making, listing, searching, aliases, deleting, and what must not happen."""

import json
import threading
from urllib.parse import quote

import pytest
from fastapi.testclient import TestClient

from mmseek._types import Content, Document
from mmseek.api.server import create_app
from mmseek.api.server.data import OWN_FOLDER
from mmseek.api.server.errors import CollectionInUse, ServerBusy, UnknownCollection
from mmseek.api.server.hosting import CollectionRoot
from mmseek.api.server.hosting.handles import Handles
from mmseek.api.server.hosting.names import is_name
from mmseek.api.server.security.gate import needed_scope
from mmseek.errors import ConfigError, InputError, StorageError
from mmseek.index import open_collection, set_alias
from mmseek.testing import FakeEncoder, FakeReranker

OTHER = FakeEncoder(dim=8, spec="other")


@pytest.fixture
def root(tmp_path, encoder):
    return CollectionRoot(tmp_path / "root", [encoder, OTHER], max_open=2)


@pytest.fixture
def client(root):
    with TestClient(create_app(root=root)) as opened:
        yield opened


def code(answer):
    return answer.status_code, answer.json()["error"]["code"]


def names_in(root):
    return sorted(path.name for path in root.folder.iterdir() if path.name != OWN_FOLDER)


def make(client, name, **more):
    answer = client.post("/v1/collections", json={"name": name, **more})
    assert answer.status_code == 201, answer.text
    return answer.json()


def fill(client, name, *texts):
    items = [{"id": text, "text": text} for text in texts]
    answer = client.post(f"/v1/collections/{name}/documents", json={"documents": items})
    assert answer.json()["indexed"] == len(texts), answer.text


def found(client, base, text):
    answer = client.post(f"{base}/search", json={"text": text, "k": 1})
    assert answer.status_code == 200, answer.text
    return answer.json()["hits"][0]


def test_collections_are_made_filled_searched_and_deleted(client, root, helpers):
    assert make(client, "photos")["documents"] == 0
    make(client, "notes")
    assert client.get("/v1/collections").json() == {
        "collections": ["notes", "photos"],
        "aliases": {},
        "encoders": ["fake", "other"],
    }
    fill(client, "photos", "red", "blue")
    fill(client, "notes", "red")
    assert client.get("/v1/collections/photos").json()["documents"] == 2
    assert client.get("/v1/collections/notes").json()["documents"] == 1
    item = {"id": "p/1", "image": helpers.data_uri(helpers.picture())}
    client.post("/v1/collections/photos/documents", json={"documents": [item]})
    shown = client.get("/v1/collections/photos/documents/p%2F1").json()
    assert shown["image"] == "/v1/collections/photos/documents/p%2F1/images/0"
    assert client.get(shown["image"]).content == helpers.picture()
    assert client.get("/v1/collections/photos/thumbnails/p%2F1/0").status_code == 200
    assert code(client.get("/v1/collections/notes/documents/p%2F1")) == (404, "not_found")
    assert client.delete("/v1/collections/photos/documents/p%2F1").json() == {"deleted": 1}
    assert client.delete("/v1/collections/photos").json() == {"deleted": "photos"}
    assert code(client.get("/v1/collections/photos")) == (404, "unknown_collection")
    assert code(client.post("/v1/collections/photos/search", json={"text": "x"})) == (404, "unknown_collection")
    assert names_in(root) == ["notes"]
    assert make(client, "photos")["documents"] == 0


def test_each_collection_is_of_its_encoder_and_only_of_those_allowed(client, root):
    assert make(client, "a", encoder="other")["encoder"]["dim"] == 8
    assert make(client, "b")["encoder"]["spec"] == "fake"
    fill(client, "a", "red", "blue")
    fill(client, "b", "red", "blue")
    assert found(client, "/v1/collections/a", "blue")["score"] == pytest.approx(1, abs=1e-5)
    assert found(client, "/v1/collections/b", "blue")["score"] == pytest.approx(1, abs=1e-5)
    assert code(client.post("/v1/collections", json={"name": "c", "encoder": "mini"})) == (409, "encoder_not_served")
    stranger = FakeEncoder(spec="stranger").identity
    open_collection(root.folder / "d", mode="create", encoder=stranger).close()
    answer = client.get("/v1/collections/d")
    assert code(answer) == (409, "encoder_not_served")
    assert str(root.folder) not in answer.text


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", "../x", ".hidden", "-a", "a.", "a b", "é", "a\n", "x" * 65, "C:", "a\\b", "%2e%2e"]
)
def test_what_is_no_name_never_reaches_the_disk(client, root, name):
    assert not is_name(name)
    assert client.post("/v1/collections", json={"name": name}).status_code == 422
    make(client, "real")
    hosted = client.app.state.service.hosted
    for call in (hosted.real_name, hosted.delete, hosted.remove_alias):
        with pytest.raises(UnknownCollection):
            call(name)
    for call in (hosted.create, lambda alias: hosted.set_alias(alias, "real")):
        with pytest.raises(InputError, match="no name"):
            call(name)
    if name.strip("./"):  # a client leaves the others out of an address
        for method, path in (("GET", "collections"), ("DELETE", "collections"), ("DELETE", "aliases")):
            assert client.request(method, f"/v1/{path}/{quote(name, safe='')}").status_code == 404
    assert names_in(root) == ["real"]


def test_links_and_aliases_that_lead_out_of_the_folder_lead_nowhere(client, root, tmp_path, encoder):
    outside = tmp_path / "outside"
    open_collection(outside, mode="create", encoder=encoder.identity).close()
    (root.folder / "link").symlink_to(outside)
    set_alias(root.folder / "alias", outside)
    (root.folder / "broken").write_text(json.dumps({"format": "mmseek-alias", "target": 7}))
    (root.folder / "file").write_text("words")
    assert client.get("/v1/collections").json()["collections"] == []
    assert client.get("/v1/aliases").json() == {"aliases": {}}
    for name in ("link", "alias", "broken", "file"):
        assert code(client.get(f"/v1/collections/{name}")) == (404, "unknown_collection")
        assert code(client.delete(f"/v1/collections/{name}")) == (404, "unknown_collection")
        assert code(client.post("/v1/collections", json={"name": name})) == (409, "collection_exists")
    assert code(client.delete("/v1/aliases/link")) == (404, "unknown_collection")
    assert (outside / "mmseek.json").exists()


def test_an_alias_is_turned_from_one_request_to_the_next(client):
    for name in ("one", "two"):
        make(client, name)
        fill(client, name, name)
    assert client.put("/v1/aliases/live", json={"collection": "one"}).json() == {
        "alias": "live",
        "collection": "one",
        "before": None,
    }
    assert found(client, "/v1/collections/live", "one")["id"] == "one"
    assert client.put("/v1/aliases/live", json={"collection": "two"}).json()["before"] == "one"
    assert found(client, "/v1/collections/live", "one")["id"] == "two"
    assert client.get("/v1/collections/two").json()["aliases"] == ["live"]
    assert client.get("/v1/collections/live").json()["name"] == "two"
    assert code(client.delete("/v1/collections/two")) == (409, "collection_in_use")
    assert code(client.delete("/v1/collections/live")) == (404, "unknown_collection")
    assert code(client.put("/v1/aliases/one", json={"collection": "two"})) == (409, "collection_exists")
    assert code(client.put("/v1/aliases/x", json={"collection": "none"})) == (404, "unknown_collection")
    assert code(client.post("/v1/collections", json={"name": "live"})) == (409, "collection_exists")
    assert client.delete("/v1/aliases/live").json() == {"deleted": "live"}
    assert code(client.get("/v1/collections/live")) == (404, "unknown_collection")
    assert client.get("/v1/collections/two").json()["documents"] == 1


def test_addresses_without_a_name_work_on_the_default_collection(client, root, retriever):
    assert code(client.post("/v1/search", json={"text": "x"})) == (404, "unknown_collection")
    make(client, "v1")
    fill(client, "v1", "red")
    client.put("/v1/aliases/default", json={"collection": "v1"})
    assert found(client, "/v1", "red")["id"] == "red"
    assert client.get("/v1/collection").json()["documents"] == 1
    client.close()
    retriever.add([Document("own", Content.of("own"))])
    other = CollectionRoot(root.folder.parent / "other", root.encoders)
    with TestClient(create_app(retriever, root=other)) as both:
        make(both, "named")
        fill(both, "named", "blue")
        assert found(both, "/v1", "own")["id"] == "own"
        assert found(both, "/v1/collections/named", "blue")["id"] == "blue"
        assert both.get("/health/ready").status_code == 200


def test_collections_are_closed_when_others_are_asked_for_and_opened_again(client):
    names = [f"c{n}" for n in range(5)]
    for name in names:
        make(client, name)
        fill(client, name, name)
    hosted = client.app.state.service.hosted
    for name in [*names, *reversed(names)]:
        assert found(client, f"/v1/collections/{name}", name)["id"] == name
        assert hosted.open_now <= 2


def test_a_collection_is_never_closed_or_deleted_under_a_reader(client, root):
    for name in ("a", "b", "c"):
        make(client, name)
        fill(client, name, name)
    hosted = client.app.state.service.hosted
    hosted._handles._patience = 0.2
    with hosted.use("a") as reading:
        for name in ("b", "c"):  # room for one beside it
            assert found(client, f"/v1/collections/{name}", name)["id"] == name
        assert code(client.delete("/v1/collections/a")) == (409, "collection_in_use")
        assert reading.collection.info().documents == 1
        with hosted.use("b"):
            assert code(client.post("/v1/collections/c/search", json={"text": "c"})) == (429, "busy")
    assert client.delete("/v1/collections/a").status_code == 200


def test_what_a_cut_off_deletion_left_is_removed_at_the_next_start(client, root):
    make(client, "a")
    client.close()
    client.app.state.service.close()
    (root.folder / "a").rename(root.folder / ".deleted-1234")
    with TestClient(create_app(root=root)) as again:
        assert again.get("/v1/collections").json()["collections"] == []
    assert names_in(root) == []


def test_rerankers_order_the_hits_of_every_collection(root):
    from mmseek.pipeline.reranking import as_stages

    wanted = FakeReranker(lambda pair: float(len(pair.document.text)))
    with TestClient(create_app(root=CollectionRoot(root.folder, root.encoders, as_stages([wanted], None)))) as client:
        make(client, "a")
        fill(client, "a", "x", "xx", "xxx")
        assert found(client, "/v1/collections/a", "x")["id"] == "xxx"


def test_a_folder_needs_an_encoder_and_room(tmp_path):
    with pytest.raises(ConfigError, match="encoder"):
        CollectionRoot(tmp_path, [])
    with pytest.raises(ConfigError, match="max_open"):
        CollectionRoot(tmp_path, [OTHER], max_open=0)


class Thing:
    def __init__(self):
        self.closed = False

    def close(self):
        assert not self.closed
        self.closed = True


def test_handles_are_bounded_and_open_while_they_are_lent_however_many_threads_ask():
    handles = Handles(3)
    alive = set()
    most = 0
    guard = threading.Lock()
    wrong = []

    class Counted(Thing):
        def __init__(self):
            nonlocal most
            super().__init__()
            with guard:
                alive.add(self)
                most = max(most, len(alive))

        def close(self):
            super().close()
            with guard:
                alive.discard(self)

    def ask(number):
        for step in range(60):
            name = f"{(number * 7 + step * 3) % 8}"
            if step % 20 == number:
                with handles.alone(name):
                    continue
            with handles.lend(name, Counted) as thing:
                if thing.closed:
                    wrong.append(name)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
        assert not thread.is_alive()
    assert not wrong
    assert most <= 3
    handles.close()
    assert not alive


def test_a_handle_that_cannot_be_opened_is_in_nobodys_way():
    handles = Handles(1, patience=0.05)

    def broken():
        raise StorageError("full")

    for _ in range(3):
        with pytest.raises(StorageError), handles.lend("a", broken):
            pass
    with handles.lend("a", Thing), pytest.raises(ServerBusy), handles.lend("b", Thing):
        pass
    with handles.lend("b", Thing), pytest.raises(CollectionInUse), handles.alone("b"):
        pass


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [
        ("POST", "/v1/collections", "admin"),
        ("DELETE", "/v1/collections/a", "admin"),
        ("PUT", "/v1/aliases/a", "admin"),
        ("DELETE", "/v1/aliases/a", "admin"),
        ("GET", "/v1/collections", "read"),
        ("GET", "/v1/collections/a", "read"),
        ("POST", "/v1/collections/a/search", "read"),
        ("POST", "/v1/collections/a/search/upload", "read"),
        ("POST", "/v1/collections/a/recommend", "read"),
        ("POST", "/v1/recommend", "read"),
        ("POST", "/v1/ask", "read"),
        ("POST", "/v1/collections/a/ask", "read"),
        ("POST", "/v1/documents/get", "read"),
        ("POST", "/v1/collections/a/documents/get", "read"),
        ("POST", "/v1/collections/a/documents", "write"),
        ("DELETE", "/v1/collections/a/documents", "write"),
        ("DELETE", "/v1/collections/a/documents/collections/a", "write"),
        ("POST", "/v1/collections/a/jobs", "write"),
        ("POST", "/v1/collections/a/documents/upload", "write"),
        ("POST", "/v1/collections/a/compact", "admin"),
        ("POST", "/v1/compact", "admin"),
        ("POST", "/v1/collections/a/b/search", "write"),
        ("POST", "/v1/collections/a/anything/else", "write"),
    ],
)
def test_how_far_a_key_must_reach(method, path, scope):
    assert needed_scope(method, path) == scope
