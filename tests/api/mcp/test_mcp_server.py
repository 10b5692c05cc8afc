"""The tools as a client of the protocol calls them, in this process."""

import base64
import io
import json
import subprocess
import sys

import pytest
from PIL import Image as Pil

from mmseek._types import Content, Document, Image, Text
from mmseek.errors import MissingExtra

pytest.importorskip("mcp", reason="mcp is not installed")


@pytest.fixture
def filled(retriever, helpers, tmp_path):
    (tmp_path / "gone.png").write_bytes(helpers.picture("green"))
    red = Image(data=helpers.picture("red", size=(2000, 1000), kind="JPEG"))
    retriever.add(
        [
            Document("note", Content.of("a note of words " * 40), {"year": 2020}),
            Document("red", Content((red,)), {"caption": "a red field", "year": 1999}),
            Document("steps", Content((Text("one"), red, Text("two"), red)), parent_id="book"),
            Document("gone", Content((Image(path=tmp_path / "gone.png"),))),
        ]
    )
    (tmp_path / "gone.png").unlink()
    return retriever


@pytest.fixture
def call(filled):
    """Calls a tool; the answer, or the sentence of the error."""
    from mcp import Client

    from mmseek.api.mcp import make_server

    async def call(tool, *, allow_write=False, **arguments):
        async with Client(make_server(filled, allow_write=allow_write)) as client:
            answer = await client.call_tool(tool, arguments)
        if answer.is_error:
            return answer.content[0].text
        return answer.structured_content if answer.structured_content is not None else answer.content

    return call


async def tools_of(retriever, **options):
    from mcp import Client

    from mmseek.api.mcp import make_server

    async with Client(make_server(retriever, **options)) as client:
        return {tool.name: tool for tool in (await client.list_tools()).tools}


async def test_nothing_can_be_changed_unless_it_is_allowed(filled, call):
    tools = await tools_of(filled)
    assert set(tools) == {"search", "list_documents", "get_document", "get_image"}
    assert all(tool.annotations.read_only_hint and tool.description for tool in tools.values())
    assert set(await tools_of(filled, allow_write=True)) == {*tools, "add_document", "delete_documents"}
    # The client refuses by itself what is not on the list; the server's own answer is an error too.
    try:
        refused = await call("add_document", id="x", text="y")
    except Exception as error:  # noqa: BLE001
        refused = str(error)
    assert "add_document" in refused
    assert filled.collection.info().documents == 4


async def test_search_by_words_picture_and_likeness(call, helpers):
    found = (await call("search", text="a note of words " * 40, k=2))["hits"]
    assert found[0]["id"] == "note"
    assert found[0]["score"] == 1.0
    assert len(found[0]["caption"]) <= 301
    picture = helpers.picture("red", size=(2000, 1000), kind="JPEG")
    for given in (base64.b64encode(picture).decode(), helpers.data_uri(picture, "image/jpeg")):
        best = (await call("search", image_base64=given))["hits"][0]
        assert (best["id"], best["caption"], best["pictures"]) == ("red", "a red field", 1)
    assert [hit["id"] for hit in (await call("search", text="x", filter="year < 2000"))["hits"]] == ["red"]
    assert "steps" not in [hit["id"] for hit in (await call("search", like=["steps"]))["hits"]]


async def test_documents_are_listed_and_deleted(call, filled):
    every = await call("list_documents", limit=3)
    assert (len(every["documents"]), every["total"]) == (3, 4)
    rest = await call("list_documents", limit=3, after=every["next"])
    assert (len(rest["documents"]), rest["next"]) == (1, None)
    assert len({each["id"] for each in [*every["documents"], *rest["documents"]]}) == 4
    old = await call("list_documents", filter="year < 2000")
    assert [(each["id"], each["pictures"]) for each in old["documents"]] == [("red", 1)]
    assert old["total"] == 1
    assert "filter" in await call("list_documents", filter="year >>> 1")
    assert await call("delete_documents", allow_write=True, ids=["red", "none"]) == {"deleted": 1}
    assert filled.collection.info().documents == 3
    assert "note" not in [hit["id"] for hit in (await call("search", text="x", unlike=["note"]))["hits"]]


async def test_a_document_is_read_in_its_order(call):
    read = await call("get_document", id="steps")
    assert [(part["text"], part["picture"]) for part in read["parts"]] == [
        ("one", None),
        (None, 0),
        ("two", None),
        (None, 1),
    ]
    assert (read["parent_id"], read["shortened"]) == ("book", False)
    cut = await call("get_document", id="steps", max_chars=4)
    assert [part["text"] for part in cut["parts"]] == ["one", None, "t", None]
    assert cut["shortened"]


async def test_a_picture_comes_small(call):
    (block,) = await call("get_image", id="steps", number=1, max_side=200)
    assert (block.type, block.mime_type in {"image/jpeg", "image/png"}) == ("image", True)
    assert Pil.open(io.BytesIO(base64.b64decode(block.data))).size == (200, 100)


async def test_errors_say_what_to_do_and_name_no_file(call, tmp_path):
    assert "no document 'nobody'" in await call("get_document", id="nobody")
    assert "2 pictures" in await call("get_image", id="steps", number=2)
    gone = await call("get_image", id="gone")
    assert "index the document again" in gone
    assert str(tmp_path) not in gone
    assert "neither text nor image" in await call("search")
    assert "no base64" in await call("search", image_base64="!!")
    assert "filter" in await call("search", text="x", filter="year >>> 1")
    assert await call("search", text="still there", k=1)


async def test_adding_keeps_text_and_picture(call, filled, helpers):
    picture = base64.b64encode(helpers.picture("blue")).decode()
    given = {"id": "new", "text": "a blue one", "image_base64": picture, "metadata": {"year": 2024}}
    assert await call("add_document", allow_write=True, **given) == {"id": "new", "outcome": "indexed"}
    assert (await call("add_document", allow_write=True, **given))["outcome"] == "unchanged"
    kept = filled.collection.get(["new"])["new"]
    assert (kept.content.text, len(kept.content.images), kept.metadata) == ("a blue one", 1, {"year": 2024})
    assert "neither text nor image" in await call("add_document", allow_write=True, id="empty")
    broken = base64.b64encode(helpers.picture()[:40]).decode()
    assert "error" in (await call("add_document", allow_write=True, id="cut", image_base64=broken)).lower()
    assert "cut" not in filled.collection.get(["cut"])


def test_a_missing_extra_names_the_command(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.delitem(sys.modules, "mmseek.api.mcp", raising=False)
    with pytest.raises(MissingExtra, match=r"mmseek\[mcp\]"):
        __import__("mmseek.api.mcp")


def test_what_a_program_is_configured_with_is_a_command_that_runs(tmp_path):
    ran = subprocess.run(
        [sys.executable, "-m", "mmseek", "mcp", "-c", str(tmp_path / "none"), "--allow-write", "--json"],
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
    )
    told = json.loads(ran.stdout)["mcpServers"]["mmseek"]
    assert told["args"] == ["-m", "mmseek", "mcp", "--collection", str(tmp_path / "none"), "--allow-write"]
    started = subprocess.run(
        [told["command"], *told["args"]], capture_output=True, text=True, timeout=240, check=False, input=""
    )
    assert started.returncode == 2
    assert "none" in started.stderr
