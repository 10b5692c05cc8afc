"""The page as a person meets it, in a real browser."""

import json

import pytest

from mmseek._types import Content, Document, Image, Text
from mmseek.api.server import Answering
from mmseek.pipeline.chat import Chat

HITS = "[...document.querySelectorAll('#hits .name')].map(name => name.textContent)"


@pytest.fixture
def shown(page, site, retriever, helpers):
    """The open page, over a collection of pictures and texts."""
    red, blue = (Image(data=helpers.picture(colour, size=(800, 600), kind="JPEG")) for colour in ("red", "blue"))
    steps = Content((Text("First this"), red, Text("then that"), blue))
    retriever.add(
        [
            Document("red", Content((red,)), {"caption": "a red <b>field</b>", "year": 2020}),
            Document("blue", Content((blue,)), {"year": 1999}),
            Document("note", Content.of("a note of words"), {"lang": "en"}),
            Document("odd/id?&#%", steps, {"year": 2021}, parent_id="book"),
        ]
    )
    page.open(f"{site}/")
    page.wait("document.getElementById('about').textContent.includes('4 documents')")
    yield page
    assert page.problems == []


def answered(page, count):
    page.wait(f"document.querySelectorAll('#hits > li').length === {count} && !document.querySelector('[aria-busy]')")


def ask(page, words):
    page.run("document.activeElement.blur()")
    page.press("/", text="/")
    page.write(words)
    page.press("Enter", text="\r")


def test_typing_finds_and_the_address_can_be_kept(shown, site):
    ask(shown, "a note of words")
    answered(shown, 4)
    assert shown.run(HITS)[0] == "note"
    assert shown.run("location.search") == "?q=a+note+of+words"
    assert "4 results" in shown.run("document.getElementById('status').textContent")
    shown.open(f"{site}/?q=a+note+of+words&filter=year+%3E+2000")
    answered(shown, 2)
    assert set(shown.run(HITS)) == {"red", "odd/id?&#%"}
    assert shown.run("document.getElementById('filter').value") == "year > 2000"


def test_going_back_shows_what_was_asked_before(shown):
    ask(shown, "a note of words")
    answered(shown, 4)
    shown.run("document.getElementById('mode').value = 'lexical'")
    ask(shown, "note")
    answered(shown, 1)
    shown.run("history.back()")
    answered(shown, 4)
    assert shown.run("[document.getElementById('text').value, document.getElementById('mode').value]") == [
        "a note of words",
        "dense",
    ]


def test_text_of_documents_is_never_html(shown):
    ask(shown, "anything")
    answered(shown, 4)
    captions = shown.run("[...document.querySelectorAll('#hits .caption')].map(c => c.textContent)")
    assert "a red <b>field</b>" in captions
    assert shown.run("document.querySelectorAll('#hits b').length") == 0


def test_thumbnails_are_small_and_load(shown):
    ask(shown, "anything")
    answered(shown, 4)
    sizes = shown.wait(
        "(() => { const all = [...document.querySelectorAll('#hits img')];"
        " return all.length === 3 && all.every(i => i.complete && i.naturalWidth) && all.map(i => i.naturalWidth) })()"
    )
    assert max(sizes) <= 320


def picture_given(page, helpers, tmp_path, how):
    path = tmp_path / "query.jpg"
    path.write_bytes(helpers.picture("blue", size=(800, 600), kind="JPEG"))
    if how == "file":
        page.give_files("#file", path)
        return
    transfer = {"paste": ("ClipboardEvent", "clipboardData"), "drop": ("DragEvent", "dataTransfer")}[how]
    page.run(
        "(() => {"
        f" const bytes = Uint8Array.from(atob({json.dumps(helpers.data_uri(path.read_bytes()).partition(',')[2])}),"
        " c => c.charCodeAt(0)); const held = new DataTransfer();"
        " held.items.add(new File([bytes], 'query.jpg', {type: 'image/jpeg'}));"
        f" document.getElementById('text').dispatchEvent(new {transfer[0]}('{how}',"
        f" {{bubbles: true, cancelable: true, {transfer[1]}: held}})) }})()"
    )


@pytest.mark.parametrize("how", ["file", "paste", "drop"])
def test_a_picture_is_searched_with_and_taken_away(shown, helpers, tmp_path, how):
    picture_given(shown, helpers, tmp_path, how)
    answered(shown, 4)
    assert shown.run(HITS)[0] == "blue"
    assert not shown.run("document.getElementById('picture').hidden")
    shown.run("document.getElementById('picture-away').click()")
    answered(shown, 0)
    assert shown.run("document.getElementById('picture').hidden")


def test_a_document_is_read_in_its_order_and_leads_to_more_like_it(shown):
    ask(shown, "First this")
    answered(shown, 4)
    shown.run("[...document.querySelectorAll('.open')].find(o => o.textContent.includes('odd/id')).click()")
    parts = shown.wait(
        "(() => { const parts = [...document.getElementById('document-content').children];"
        " return parts.length === 4 && parts.every(p => p.tagName === 'P' || p.firstChild.naturalWidth)"
        " && parts.map(p => p.tagName === 'P' ? p.textContent : 'picture') })()"
    )
    assert parts == ["First this", "picture", "then that", "picture"]
    words = shown.run("document.getElementById('document').innerText")
    assert "Part of book" in words
    assert "2021" in words
    shown.press("Escape", code="Escape", windowsVirtualKeyCode=27)
    shown.wait("!document.getElementById('document').open")
    shown.run("[...document.querySelectorAll('.open')].find(o => o.textContent.includes('odd/id')).click()")
    shown.run("document.getElementById('document-like').click()")
    answered(shown, 3)
    assert "odd/id?&#%" not in shown.run(HITS)
    assert shown.run("new URLSearchParams(location.search).get('like')") == "odd/id?&#%"


def test_explaining_shows_where_hits_were(shown):
    shown.run("document.getElementById('explain').click()")
    ask(shown, "a note of words")
    answered(shown, 4)
    words = shown.run("document.querySelector('#hits details').innerText")
    assert "Found at" in words
    assert "dense" in words


def test_an_error_is_told_in_the_servers_words(shown):
    shown.run("document.getElementById('filter').value = 'year >>> 1'")
    ask(shown, "note")
    told = shown.wait("!document.getElementById('problem').hidden && document.getElementById('problem').textContent")
    assert "filter" in told
    shown.wait_for_problem("400")
    shown.problems.clear()


def test_arrow_keys_walk_through_the_results(shown):
    ask(shown, "anything")
    answered(shown, 4)
    shown.run("document.querySelector('.open').focus()")
    shown.press("ArrowRight")
    assert shown.run("[...document.querySelectorAll('.open')].indexOf(document.activeElement)") == 1
    shown.press("End")
    assert shown.run("[...document.querySelectorAll('.open')].indexOf(document.activeElement)") == 3
    shown.press("Enter", text="\r")
    shown.wait("document.getElementById('document').open")


def test_files_are_added_and_failures_named(shown, helpers, tmp_path, retriever):
    (tmp_path / "new.png").write_bytes(helpers.picture("green"))
    (tmp_path / "cut.png").write_bytes(helpers.picture("green", size=(200, 200))[:60])
    (tmp_path / "words.txt").write_text("some words")
    (tmp_path / "items.jsonl").write_text('{"id": "i1", "text": "one"}\n{broken\n\n{"id": "i2"}\n')
    (tmp_path / "prog.bin").write_bytes(b"\0\1")
    shown.run("document.getElementById('open-upload').click()")
    names = ("new.png", "cut.png", "words.txt", "items.jsonl", "prog.bin")
    shown.give_files("#upload-files", *(tmp_path / name for name in names))
    told = shown.wait("document.getElementById('upload-status').textContent")
    assert told == "3 documents added, 4 failed."
    failures = shown.run("[...document.querySelectorAll('#upload-failures li')].map(f => f.textContent.split(': ')[0])")
    assert failures == ["cut.png", "items.jsonl:2", "items.jsonl:4", "prog.bin"]
    assert set(retriever.collection.get(["new.png", "words.txt", "i1"])) == {"new.png", "words.txt", "i1"}
    shown.wait("document.getElementById('about').textContent.includes('7 documents')")


def test_everything_has_a_name_that_can_be_read_aloud(shown):
    ask(shown, "anything")
    answered(shown, 4)
    nodes = shown.tell("Accessibility.getFullAXTree")["nodes"]
    wanted = {"button", "searchbox", "textbox", "combobox", "checkbox", "image", "link", "list", "search"}
    nameless = [
        node["role"]["value"]
        for node in nodes
        if not node["ignored"] and node["role"]["value"] in wanted and not node.get("name", {}).get("value")
    ]
    assert nameless == []


def test_colours_can_be_chosen_and_stay_chosen(shown, site):
    background = "getComputedStyle(document.body).backgroundColor"
    light = shown.run(background)
    for _ in range(2):
        shown.run("document.getElementById('theme').click()")
    dark = shown.run(background)
    assert dark != light
    shown.open(f"{site}/?q=x")
    assert shown.run(background) == dark
    shown.run("localStorage.clear()")


def test_a_key_is_asked_for_once_and_goes_with_pictures_too(page, serve, retriever, helpers):
    retriever.add([Document("red", Content((Image(data=helpers.picture("red")),)))])
    page.open(f"{serve('secret')}/?q=anything")
    page.wait("document.getElementById('key').open")
    page.run("document.getElementById('key-value').focus()")
    page.write("secret")
    page.press("Enter", text="\r")
    answered(page, 1)
    assert page.wait("document.querySelector('#hits img')?.naturalWidth") == 40
    page.wait("document.getElementById('about').textContent.startsWith('1 document ')")
    assert not page.run("document.getElementById('key').open")
    assert page.run("JSON.stringify(localStorage)") == "{}"


def test_an_answer_comes_with_its_sources_and_is_only_text(page, serve, retriever, fake_chat):
    retriever.add([Document("r.pdf#3", Content.of("The bike is red."), {"title": "Report", "page": 3}, "r.pdf")])
    fake_chat.answers = ["It is <b>red</b> ![x](/y) [1]."]
    page.open(f"{serve(answering=Answering(Chat(fake_chat.url, 'm')))}/")
    page.wait("!document.getElementById('answer-ask').hidden")
    ask(page, "bike")
    answered(page, 1)
    page.run("document.getElementById('answer-ask').click()")
    sources = "[...document.querySelectorAll('#answer-sources button')].map(b => b.textContent)"
    page.wait(f"{sources}.length")
    assert page.run(sources) == ["[1] Report, page 3"]
    assert page.run("document.getElementById('answer-text').textContent") == "It is <b>red</b> ![x](/y) [1]."
    assert page.run("document.querySelectorAll('#answer b, #answer img').length") == 0
    page.run("document.querySelector('#answer-sources button').click()")
    page.wait("document.getElementById('document').open")
    assert page.run("document.getElementById('document-title').textContent") == "r.pdf#3"
    assert page.problems == []


def test_without_an_endpoint_no_answer_is_offered(shown):
    ask(shown, "anything")
    answered(shown, 4)
    assert shown.run("document.getElementById('answer-ask').hidden")
