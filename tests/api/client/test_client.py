"""Both clients against the service itself, in this process."""

import inspect
import subprocess
import sys

import httpx
import pytest
from PIL import Image as Pil

from mmseek._types import Content, Document, Image, Text, Weighted
from mmseek.client import AsyncClient, BadAnswer, Busy, Client, KeyRefused, NotFound, Unreachable
from mmseek.errors import EncoderMismatch, InputError, MediaError, MediaNotFound, MmseekError, StorageError


@pytest.fixture
def connect(either, client):
    """Connects either client with the app, or with a function from request to answer."""
    return lambda handler=None, **options: either(client.app, handler, **options)


@pytest.fixture
def filled(connect, helpers):
    connected = connect()
    picture = Image(data=helpers.picture("red", size=(900, 600)))
    steps = Content((Text("one"), picture, Text("two")))
    added = connected.add(
        [
            Document("words", Content.of("a red bike"), {"year": 2020}),
            Document("odd/100%2F?", steps, {"year": 1990}, parent_id="book"),
            {"id": "item", "text": "as in a file"},
        ]
    )
    assert (added.indexed, added.unchanged, added.failed) == (3, 0, ())
    return connected


def test_documents_come_back_as_they_went_but_for_addresses(filled, helpers):
    found = filled.get("odd/100%2F?")
    assert found.parent_id == "book"
    assert found.metadata == {"year": 1990}
    assert [type(part) for part in found.content.parts] == [Text, Image, Text]
    assert found.content.images[0].url.startswith("http://testserver/v1/documents/odd%2F100%252F%3F/images/")
    assert filled.picture("odd/100%2F?") == helpers.picture("red", size=(900, 600))
    assert len(filled.picture("odd/100%2F?", side=320)) < len(helpers.picture("red", size=(900, 600)))


def test_search_by_words_picture_and_both(filled, helpers, tmp_path):
    answer = filled.search("a red bike", k=2, filter="year >= 1980")
    assert answer.hits[0].id == "words"
    assert len(answer) == 2
    assert answer.hits[0].score == pytest.approx(1, abs=1e-5)
    assert answer.hits[0].document.content.text == "a red bike"
    data = helpers.picture("red", size=(900, 600))
    filled.add([Document("picture", Content((Image(data=data),)))])
    (tmp_path / "red.png").write_bytes(data)
    for given in (data, Image(data=data), tmp_path / "red.png", str(tmp_path / "red.png")):
        assert filled.search(image=given).hits[0].id == "picture"
    assert filled.search_upload(data, k=1).hits[0].id == "picture"
    assert len(filled.search(image=Pil.new("RGB", (9, 9)), k=1)) == 1
    steps = Content((Text("one"), Image(data=data), Text("two")))
    assert filled.search(steps).hits[0].id == "odd/100%2F?"


def test_search_options_go_along(filled):
    assert "words" not in [hit.id for hit in filled.search(like=["words"])]
    assert [hit.id for hit in filled.search("bike", mode="lexical")] == ["words"]
    mixed = filled.search("x", also=[Weighted(Content.of("a red bike"), 3.0)], exclude=["item"], k=5)
    assert mixed.hits[0].id == "words"
    assert "item" not in [hit.id for hit in mixed]
    explained = filled.search("a red bike", explain=True).explained["words"]
    assert explained.first_rank == 1
    assert explained.scores["dense"] == pytest.approx(1, abs=1e-5)
    assert len(filled.search("x", candidates=["item"])) == 1
    assert len(filled.search("a red bike", threshold=0.99)) == 1
    with pytest.raises(TypeError, match="colour"):
        filled.search("x", colour="red")


def test_what_fails_is_named_by_its_place_over_all_batches(connect, helpers, monkeypatch):
    monkeypatch.setattr("mmseek.api.client.requests.BATCH_DOCUMENTS", 2)
    items = [{"id": f"d{number}", "text": f"text {number}"} for number in range(5)]
    items[3] = {"id": "bad", "image": helpers.data_uri(helpers.picture()[:40])}
    added = connect().add(iter(items))
    assert added.indexed == 4
    assert [(failed.position, failed.id, failed.code) for failed in added.failed] == [(3, "bad", "bad_media")]


def test_deleting_and_the_collection(filled):
    info = filled.info()
    assert (info.documents, info.encoder, info.dim) == (3, "fake", 16)
    assert filled.delete(["words", "nobody"]) == 1
    assert filled.delete([]) == 0
    assert filled.info().documents == 2
    assert filled.is_ready() is True
    with pytest.raises(NotFound, match="words"):
        filled.get("words")
    with pytest.raises(NotFound, match="picture 7"):
        filled.picture("odd/100%2F?", 7)


def test_errors_of_the_server_are_the_errors_of_mmseek(filled, helpers, tmp_path):
    with pytest.raises(InputError, match="filter") as caught:
        filled.search("x", filter="year >>> 1")
    assert "HTTP 400" in caught.value.__notes__[0]
    with pytest.raises(MediaError):
        filled.search(image=helpers.picture()[:40])
    with pytest.raises(InputError, match="give at least one"):
        filled.search()
    with pytest.raises(MediaNotFound):
        filled.search(image=tmp_path / "nothing.png")
    with pytest.raises(InputError, match="fetches none"):
        filled.search(image=Image(url="http://x.example/a.png"))
    with pytest.raises(InputError, match="no document 'a'"):
        filled.search_upload(helpers.picture(), like=["a"])


def answering(*answers):
    """A server that gives these answers one after the other, the last for ever; it counts."""
    left = list(answers)

    def handle(request):
        handle.calls += 1
        status, body, headers = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(status, Exception):
            raise status
        return httpx.Response(status, json=body, headers=headers)

    handle.calls = 0
    return handle


BUSY = (503, {"error": {"code": "busy", "message": "too many"}}, {"Retry-After": "0"})


def test_a_request_is_sent_again_where_that_can_help(connect):
    server = answering(BUSY, (httpx.ConnectError("no"), None, None), (200, {"deleted": 1}, {}))
    assert connect(server).delete(["a"]) == 1
    assert server.calls == 3


def test_it_gives_up_in_the_end(connect):
    server = answering(BUSY)
    with pytest.raises(Busy, match="too many"):
        connect(server).info()
    assert server.calls == 3
    gone = answering((httpx.ReadTimeout("no"), None, None))
    with pytest.raises(Unreachable, match="mmseek serve"):
        connect(gone).info()
    assert gone.calls == 3


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "bad_input", InputError),
        (401, "unauthorized", KeyRefused),
        (403, "something_new", KeyRefused),
        (404, "not_found", NotFound),
        (422, "something_new", InputError),
        (507, "storage_error", StorageError),
        (500, "internal_error", MmseekError),
        (409, EncoderMismatch.code, EncoderMismatch.__mro__[1]),
    ],
)
def test_codes_decide_and_then_the_status(connect, status, code, kind):
    server = answering((status, {"error": {"code": code, "message": "why it is so"}}, {}))
    with pytest.raises(kind, match="why it is so") as caught:
        connect(server).info()
    assert type(caught.value) is kind
    assert server.calls == 1


def test_a_stranger_is_no_service(connect):
    with pytest.raises(BadAnswer, match="check the address"):
        connect(answering((200, {"hello": "there"}, {}))).info()
    with pytest.raises(NotFound, match="testserver"):
        connect(lambda request: httpx.Response(404, text="<html>")).info()


def test_a_key_goes_along_and_an_address_has_a_scheme(connect):
    seen = []

    def handle(request):
        seen.append(request.headers.get("authorization"))
        return httpx.Response(200, json={"deleted": 0})

    connect(handle, key="secret").delete(["a"])
    assert seen == ["Bearer secret"]
    with pytest.raises(InputError, match="http://127"):
        Client("localhost:8000")


def test_both_clients_have_the_same_methods():
    def methods(kind):
        found = {name: value for name, value in vars(kind).items() if inspect.isfunction(value) and name[0] != "_"}
        return {name: str(inspect.signature(value)).partition(" -> ")[0] for name, value in found.items()}

    assert methods(Client) == methods(AsyncClient)
    assert all(getattr(kind, name).__doc__ for kind in (Client, AsyncClient) for name in methods(kind))
    assert str(inspect.signature(Client.get)) == "(self, document_id: 'str') -> 'Document'"


def test_importing_it_is_cheap():
    code = (
        "import sys, mmseek.client\n"
        "print({'torch', 'transformers', 'numpy', 'PIL', 'faiss', 'fastapi', 'pydantic'} & set(sys.modules))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=240, check=True)
    assert ran.stdout.strip() == "set()"
