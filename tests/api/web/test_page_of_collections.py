"""The page on a server of several collections: one is chosen, and everything on the page is about that one."""

import json
import urllib.request

import pytest

from mmseek._types import Content, Document
from mmseek.api.server import Answering
from mmseek.api.server.hosting import CollectionRoot
from mmseek.pipeline.chat import Chat
from mmseek.testing import FakeEncoder

HITS = "[...document.querySelectorAll('#hits .name')].map(name => name.textContent)"
ABOUT = "document.getElementById('about').textContent"
OPTIONS = "[...document.getElementById('collection').options].map(each => [each.value, each.textContent])"
CHOSEN = "document.getElementById('collection').value"


def post(url, body, method="POST"):
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers, method=method)
    with urllib.request.urlopen(request, timeout=120) as answer:
        return json.load(answer)


@pytest.fixture
def root(tmp_path, encoder):
    return CollectionRoot(tmp_path / "root", [encoder, FakeEncoder(dim=8, spec="other")])


@pytest.fixture
def filled(serve, root, helpers):
    """Starts a server with the collections `notes` and `photos`, and an alias of `photos`."""

    def start(**options):
        site = serve(root=root, **options)
        for name in ("photos", "notes"):
            post(f"{site}/v1/collections", {"name": name})
        items = [{"id": f"p/{n}", "image": helpers.data_uri(helpers.picture(n, (80, 60)))} for n in ("red", "blue")]
        post(f"{site}/v1/collections/photos/documents", {"documents": items})
        words = [{"id": f"n{n}", "text": f"note {n}"} for n in range(3)]
        post(f"{site}/v1/collections/notes/documents", {"documents": words})
        post(f"{site}/v1/aliases/live", {"collection": "photos"}, "PUT")
        return site

    return start


@pytest.fixture
def shown(page, filled):
    site = filled(own=False)
    page.open(f"{site}/")
    page.wait(f"{ABOUT}.startsWith('3 documents')")
    page.site = site
    yield page
    assert page.problems == []


def ask(page, words):
    page.run("document.activeElement.blur()")
    page.press("/", text="/")
    page.write(words)
    page.press("Enter", text="\r")


def answered(page, count):
    page.wait(f"document.querySelectorAll('#hits > li').length === {count} && !document.querySelector('[aria-busy]')")


def choose_by_key(page, letter):
    """As somebody without a mouse: a letter in the picker goes to the name that begins with it."""
    page.run("document.getElementById('collection').focus()")
    page.press(letter, text=letter)


def test_one_is_chosen_and_the_address_says_which(shown):
    assert shown.run(OPTIONS) == [["notes", "notes"], ["photos", "photos"], ["live", "live (now photos)"]]
    assert shown.run(CHOSEN) == "notes"
    ask(shown, "note 1")
    answered(shown, 3)
    assert shown.run(HITS)[0] == "n1"
    assert shown.run("location.search") == "?q=note+1&collection=notes"
    choose_by_key(shown, "p")
    answered(shown, 2)  # the same question of the other one
    shown.wait(f"{ABOUT}.startsWith('2 documents')")
    assert shown.run("location.search") == "?q=note+1&collection=photos"
    assert shown.run("document.title") == "photos · mmseek"
    shown.run("history.back()")
    answered(shown, 3)
    assert shown.run(CHOSEN) == "notes"
    shown.open(f"{shown.site}/?q=x&collection=live")
    answered(shown, 2)
    assert shown.run(CHOSEN) == "live"


def test_pictures_documents_and_more_like_them_are_those_of_the_chosen_one(shown):
    shown.open(f"{shown.site}/?q=x&collection=photos")
    answered(shown, 2)
    assert shown.wait("[...document.querySelectorAll('#hits img')].every(i => i.naturalWidth === 80)")
    shown.run("document.querySelector('#hits .open').click()")
    assert shown.wait("document.querySelector('#document-content img')?.naturalWidth") == 80
    address = shown.run("document.querySelector('#document-content a').href")
    with urllib.request.urlopen(address, timeout=120) as answer:
        assert answer.headers["content-type"] == "image/png"
    shown.run("document.getElementById('document-like').click()")
    answered(shown, 1)
    assert "collection=photos" in shown.run("location.search")
    choose_by_key(shown, "n")  # where that document is not
    shown.wait(f"{ABOUT}.startsWith('3 documents')")
    assert shown.run("document.getElementById('like').hidden")
    assert shown.run("location.search") == "?collection=notes"
    assert shown.run(HITS) == []


def test_files_go_to_the_chosen_one_even_if_another_is_chosen_meanwhile(shown, tmp_path):
    shown.open(f"{shown.site}/?collection=photos")
    shown.wait(f"{ABOUT}.startsWith('2 documents')")
    assert shown.run("document.getElementById('upload-title').textContent") == "Add documents to photos"
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"id": f"a{n}", "text": "x"}) + "\n" for n in range(130)))
    # Chosen once the first of three requests is on its way.
    shown.run(
        "(() => { const picker = document.getElementById('collection'); const send = XMLHttpRequest.prototype.send;"
        " XMLHttpRequest.prototype.send = function (body) { send.call(this, body);"
        " if (picker.value === 'notes') return; picker.value = 'notes';"
        " picker.dispatchEvent(new Event('change')) } })()"
    )
    shown.give_files("#upload-files", tmp_path / "a.jsonl")
    shown.wait("document.getElementById('upload-status').textContent === '130 documents added.'")
    with urllib.request.urlopen(f"{shown.site}/v1/collections/photos", timeout=120) as answer:
        assert json.load(answer)["documents"] == 132
    assert shown.run(CHOSEN) == "notes"
    assert shown.wait(f"{ABOUT}.startsWith('3 documents')")


def test_answers_are_of_the_chosen_one_and_go_when_another_is_chosen(page, filled, fake_chat):
    fake_chat.answers = ["It is note 1 [1]."]
    page.open(f"{filled(own=False, answering=Answering(Chat(fake_chat.url, 'm')))}/?q=note+1&collection=notes")
    answered(page, 3)
    page.wait("!document.getElementById('answer-ask').hidden")
    page.run("document.getElementById('answer-ask').click()")
    page.wait("document.querySelectorAll('#answer-sources button').length")
    page.run("document.querySelector('#answer-sources button').click()")
    page.wait("document.getElementById('document').open")
    assert page.run("document.getElementById('document-title').textContent") == "n1"
    page.run("document.getElementById('document').close()")
    choose_by_key(page, "p")
    answered(page, 2)
    assert page.run("document.getElementById('answer').hidden")
    assert page.problems == []


def test_a_collection_without_a_name_stands_first(page, filled, retriever):
    retriever.add([Document("own", Content.of("own"))])
    page.open(f"{filled()}/?q=x")
    answered(page, 1)
    assert page.run(OPTIONS)[0][0] == ""
    assert page.run(CHOSEN) == ""
    choose_by_key(page, "n")
    answered(page, 3)
    assert page.run("location.search") == "?q=x&collection=notes"
    page.run("history.back()")
    answered(page, 1)
    assert page.run(HITS) == ["own"]


def test_what_is_not_there_is_said(page, filled, serve, root, tmp_path):
    site = filled(own=False)
    page.open(f"{site}/?q=x&collection=none")
    problem = "document.getElementById('problem').textContent"
    assert page.wait(problem) == "There is no collection none here: choose another one."
    assert page.run(HITS) == []
    choose_by_key(page, "n")
    answered(page, 3)
    assert page.run("document.getElementById('problem').hidden")
    empty = CollectionRoot(tmp_path / "empty", root.encoders)
    page.open(f"{serve(own=False, root=empty)}/?q=x")
    assert "has no collection yet" in page.wait(problem)
    assert page.problems == []


def test_the_picker_has_a_name_and_its_choice_is_announced(shown):
    nodes = shown.tell("Accessibility.getFullAXTree")["nodes"]
    named = [(node["role"]["value"], node["name"]["value"]) for node in nodes if not node["ignored"] and "name" in node]
    assert ("combobox", "Collection") in named
    assert shown.run("document.getElementById('about').getAttribute('role')") == "status"


def test_a_server_of_one_collection_is_asked_for_no_other(page, site, retriever):
    retriever.add([Document("own", Content.of("own"))])
    page.open(f"{site}/?q=x")
    answered(page, 1)
    assert page.run("document.getElementById('collections').hidden")
    assert page.run("performance.getEntriesByType('resource').filter(each => each.name.includes('collections/'))") == []
    assert page.run("location.search") == "?q=x"
    assert page.problems == []
