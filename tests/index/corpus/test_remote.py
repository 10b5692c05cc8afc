"""Documents and pictures of the web, from a server of this machine: read in their order, and nothing without leave."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from mmseek import Document, Image, Text
from mmseek.errors import InputError, ItemError
from mmseek.fetching import Fetcher, FetchRules
from mmseek.index.corpus import Deferred, Entry, Skipped, read_corpus

Tree = Callable[[dict[str, str | bytes]], Path]


@pytest.fixture
def fetcher() -> Fetcher:
    """Takes every host for this machine, and this machine for public."""
    rules = FetchRules(wait=0.001, tries=2)
    return Fetcher(rules, resolver=lambda host, port: ["127.0.0.1"], allowed=lambda address: True)


def documents(entries: Iterable[Entry]) -> dict[str, Document]:
    loaded = (entry.load() if isinstance(entry, Deferred) else entry for entry in entries)
    return {entry.id: entry for entry in loaded if isinstance(entry, Document)}


def told(entries: Iterable[Entry]) -> list[str]:
    return [str(entry) for entry in entries if isinstance(entry, ItemError | Skipped)]


def test_nothing_is_fetched_without_leave(web: Any, tree: Tree, picture: bytes) -> None:
    web.pages["/a.png"] = (200, {}, picture)
    url = web.url("/a.png")
    folder = tree({"a.jsonl": json.dumps({"image": url}), "b.html": f"<p>words <img src='{url}' alt='red'>"})

    with pytest.raises(InputError, match="nothing is fetched unless you say so: pass --allow-urls"):
        read_corpus([url])
    entries = list(read_corpus(folder))
    assert documents(entries)["b.html"].content.parts == (Text("words red"),)
    assert "URLs are not allowed here" in told(entries)[0]
    assert web.asked == []


def test_a_page_of_the_web(web: Any, picture: bytes, fetcher: Fetcher) -> None:
    page = "<html><title>Ducks</title><p>one <img src='../p?x=1' alt='a duck'> two <img src='gone.png' alt='none'>"
    web.pages["/d/page"] = (302, {"Location": "/d/e/page"}, b"")
    web.pages["/d/e/page"] = (200, {"Content-Type": "text/html; charset=utf-8"}, page.encode())
    web.pages["/d/p"] = (200, {"Content-Type": "text/plain"}, picture)
    url = web.url("/d/page")

    entries = list(read_corpus(url, fetcher=fetcher))
    (found,) = documents(entries).values()

    assert (found.id, found.metadata["title"], found.metadata["path"]) == (url, "Ducks", url)
    assert found.content.parts == (Text("one"), Image(data=picture), Text("a duck\n\n two\n\nnone"))
    (notice,) = told(entries)
    assert "status 404" in notice
    assert notice.endswith("the page is indexed without it")


def test_files_of_the_web(
    web: Any, picture: bytes, fetcher: Fetcher, make_pdf: Callable[..., bytes], tree: Tree
) -> None:
    web.pages["/r"] = (200, {"Content-Type": "application/pdf"}, make_pdf(["one", "two"]))
    web.pages["/p"] = (200, {"Content-Type": "application/octet-stream"}, picture)
    web.pages["/n"] = (200, {"Content-Type": "text/plain"}, b"notes")
    web.pages["/t.md"] = (200, {"Content-Type": "text/plain"}, b"# Title")
    web.pages["/x.jsonl"] = (200, {}, b"{}")
    folder = tree({"here.txt": "words"})
    sources = [*(web.url(path) for path in ("/r", "/p", "/n", "/t.md", "/x.jsonl", "/none")), str(folder)]

    entries = list(read_corpus(sources, fetcher=fetcher))

    found = documents(entries)
    assert list(found) == [*(web.url(path) for path in ("/r#1", "/r#2", "/p", "/n", "/t.md")), "here.txt"]
    assert found[web.url("/r#2")].content.text == "two"
    assert found[web.url("/r#2")].parent_id == web.url("/r")
    jsonl, missing = (entry for entry in entries if isinstance(entry, ItemError))
    assert "is a JSONL file at a URL" in str(jsonl)
    assert (missing.item_id, missing.kind) == (web.url("/none"), "fetch_failed")
    assert (
        str(missing)
        == f"{web.url('/none')}: is answered with status 404: check the address, or save it and give its path"
    )


def test_pictures_of_items_in_their_order(web: Any, picture: bytes, fetcher: Fetcher, tree: Tree) -> None:
    web.pages["/p.png"] = (200, {}, picture)
    web.pages["/page"] = (200, {"Content-Type": "image/png"}, b"<html>no picture at all")
    rows = [{"id": str(number), "image": web.url(f"/p.png?{number}")} for number in range(40)]
    rows.insert(3, {"id": "words", "text": "no picture"})
    rows.insert(5, {"id": "none", "image": web.url("/page?key=secret")})
    rows.insert(7, {"id": "inner", "image": "http://127.0.0.1/a.png"})
    folder = tree({"a.jsonl": "\n".join(map(json.dumps, rows)), "b.csv": f"id,image\ncsv,{web.url('/p.png')}\n"})
    closed = Fetcher(fetcher.rules, resolver=lambda host, port: [host if host[0].isdigit() else "93.184.216.34"])

    entries = list(read_corpus(folder, fetcher=fetcher))

    found = documents(entries)
    names = [row["id"] for row in rows if row["id"] not in ("none", "inner")]
    assert list(found) == [*names, "csv"]
    assert {document.content.images[0].data for name, document in found.items() if name != "words"} == {picture}
    (wrong, _inner) = (entry for entry in entries if isinstance(entry, ItemError))
    assert (wrong.line, wrong.item_id) == (6, "none")
    assert "gives no picture of a known format" in str(wrong)
    refused = next(
        entry
        for entry in read_corpus(folder, fetcher=closed)
        if isinstance(entry, ItemError) and entry.item_id == "inner"
    )
    assert "private or reserved address" in str(refused)
    assert refused.kind == "url_refused"


def test_a_reader_that_stops_early_ends_its_threads(web: Any, picture: bytes, fetcher: Fetcher, tree: Tree) -> None:
    import threading

    web.pages["/p.png"] = (200, {}, picture)
    rows = [{"image": web.url(f"/p.png?{number}")} for number in range(40)]
    entries = read_corpus(tree({"a.jsonl": "\n".join(map(json.dumps, rows))}), fetcher=fetcher)

    next(entries)
    entries.close()  # type: ignore[attr-defined]

    assert not [thread for thread in threading.enumerate() if thread.name.startswith("fetch")]
    assert len(web.asked) < 40
