import base64
import hashlib
import io
import re
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pil

from mmseek._types import Content, Document, Hit, Image, Query, Text
from mmseek.api.pages import ResultSection, render_page, render_results
from mmseek.api.pages.thumbnails import Thumbnails

VOID = {"meta", "img", "rect", "circle", "path"}


class Page(HTMLParser):
    """Checks that tags close in order, and collects them and what is written."""

    def __init__(self, html):
        super().__init__()
        self.open, self.tags, self.words, self.wrong = [], [], [], []
        self.feed(html)
        self.close()
        self.wrong += self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "title"):
            self.words.append(data)

    def all(self, name):
        return [attrs for tag, attrs in self.tags if tag == name]

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


def hit(document, rank=1, score=0.5, **scores):
    return Hit(rank, document.id, score, scores or {"dense": score}, document)


def picture(colour="red", size=(1000, 500)):
    return Image.from_pil(Pil.new("RGB", size, colour))


def rendered(*documents, query="bike", **options):
    hits = [hit(document, rank) for rank, document in enumerate(documents, start=1)]
    return Page(render_results(Query(Content.of(query)), hits, title="bike", **options))


def test_shows_query_and_hits():
    page = rendered(
        Document("a", Content.of("a red bike")), Document("b", Content((picture(), Text("blue")))), took_ms=12.4
    )
    assert not page.wrong
    assert "2 hits in 12 ms" in page.text
    assert "a red bike" in page.text
    assert "0.500" in page.text
    assert [attrs["aria-label"] for attrs in page.all("article")] == ["Hit 1: a", "Hit 2: b"]
    (image,) = page.all("img")
    assert image["alt"] == "picture of b"


def test_interleaved_content_keeps_its_order():
    content = Content((Text("first"), picture("red"), Text("second"), picture("blue"), Text("third")))
    html = render_results(Query(Content.of("x")), [hit(Document("a", content))], title="x")
    seen = re.findall(r"first|second|third|<img", html)
    assert seen == ["first", "<img", "second", "<img", "third"]


def test_a_query_of_a_picture_is_shown():
    query = Query(Content((picture("green"), Text("in blue"))), instruction="find the same thing")
    page = Page(render_results(query, [], title="a picture"))
    assert [attrs["alt"] for attrs in page.all("img")] == ["the picture of the query"]
    assert "in blue" in page.text
    assert "find the same thing" in page.text
    assert "Nothing was found." in page.text


def test_several_queries_have_a_list_to_jump_from():
    sections = [ResultSection(name, Query(Content.of(name)), [], note=f"note {name}") for name in ("one", "two")]
    page = Page(render_page(sections, title="demo", summary="a summary"))
    assert not page.wrong
    ids = {attrs.get("id") for _, attrs in page.tags}
    targets = [attrs["href"][1:] for attrs in page.all("a")]
    assert len(targets) == 3
    assert set(targets) <= ids
    assert "a summary" in page.text
    assert "note two" in page.text


def test_a_picture_that_cannot_be_opened_has_a_placeholder(tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff broken")
    page = rendered(
        Document("gone", Content((Image(path=tmp_path / "gone.png"),)), {"caption": "a lost picture"}),
        Document("broken", Content((Image(path=tmp_path / "broken.jpg"),))),
        Document("url", Content((Image(url="http://x.example/a.png"),))),
        Document("whole", Content((picture(),))),
    )
    assert len(page.all("img")) == 1
    labels = [attrs["aria-label"] for attrs in page.all("div") if attrs.get("role") == "img"]
    assert labels == [
        "a lost picture (cannot be shown)",
        "picture of broken, without a description (cannot be shown)",
        "picture of url, without a description (cannot be shown)",
    ]
    assert "a lost picture" in page.text
    assert str(tmp_path) not in page.text


def test_the_page_needs_nothing_else():
    html = render_results(Query(Content.of("x")), [hit(Document("a", Content((picture(),))))], title="x")
    page = Page(html)
    for _, attrs in page.tags:
        for name in ("src", "href", "action", "srcset"):
            assert attrs.get(name, "data:").startswith(("data:", "#"))
        assert "style" not in attrs
        assert not [name for name in attrs if name.startswith("on")]
    assert not page.all("script")
    assert not page.all("link")
    assert "url(" not in html
    (policy,) = [attrs["content"] for attrs in page.all("meta") if attrs.get("http-equiv")]
    assert policy.startswith("default-src 'none'; img-src data:;")
    style = re.search(r"<style>(.*?)</style>", html, re.DOTALL)[1]
    assert f"'sha256-{base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()}'" in policy


def test_follows_the_dark_mode_and_says_its_language():
    html = render_results(Query(Content.of("x")), [], title="x")
    assert "prefers-color-scheme: dark" in html
    assert Page(html).all("html") == [{"lang": "en"}]


def test_a_document_says_its_own_language_only_if_it_is_one():
    for said, shown in (("de", "de"), ("pt-BR", "pt-BR"), ('de" onclick="x', None), (7, None)):
        page = rendered(Document("a", Content.of("x"), {"lang": said}))
        assert [attrs.get("lang") for attrs in page.all("div") if attrs.get("class") == "content"] == [shown]


def test_long_text_is_cut_at_a_word():
    page = rendered(Document("a", Content.of("word " * 1000)))
    assert page.text.count("word") < 60
    assert "word…" in page.text


def test_the_scores_behind_a_score_are_shown():
    document = Document("a", Content.of("x"))
    page = Page(render_results(Query(Content.of("x")), [hit(document, dense=0.25, lexical=7.5)], title="x"))
    assert "dense 0.250 · lexical 7.500" in page.text


@settings(max_examples=60)
@given(st.text(max_size=60), st.text(max_size=60), st.text(min_size=1, max_size=20))
def test_words_are_never_markup(words, caption, name):
    plain = Document("id", Content((Text("text"),)))
    usual = [tag for tag, _ in Page(render_results(Query(Content.of("q")), [hit(plain)], title="tt")).tags]
    odd = Document(name, Content((Text("text"),)), {"caption": caption, "lang": caption})
    page = Page(render_results(Query(Content.of("q")), [hit(odd)], title="t" + words))
    assert not page.wrong
    assert [tag for tag, _ in page.tags] == usual


@pytest.mark.parametrize(
    "attack", ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "</style>", "{{ 7 * 7 }}"]
)
def test_an_attack_is_shown_as_words(attack):
    document = Document(attack, Content((picture(), Text(attack))), {"caption": attack})
    query = Query(Content.of(attack), instruction=attack)
    section = ResultSection(attack + "!", query, [hit(document)], note=attack)
    page = Page(render_page([section, section], title=attack, summary=attack))
    assert not page.wrong
    assert not page.all("script")
    assert all(attrs["src"].startswith("data:image/") for attrs in page.all("img"))
    assert attack in page.text


def test_scores_out_of_bounds_do_not_break_the_bar():
    documents = [hit(Document(str(score), Content.of("x")), score=score) for score in (-0.5, 0.25, 17.0)]
    page = Page(render_results(Query(Content.of("x")), documents, title="x"))
    assert [attrs["value"] for attrs in page.all("meter")] == ["0.0000", "0.2500", "1.0000"]
    assert "17.000" in page.text


def decoded(thumbnail):
    data = base64.b64decode(thumbnail.uri.partition(",")[2])
    return Pil.open(io.BytesIO(data))


def test_thumbnails_are_small_and_keep_their_proportions():
    thumbnail = Thumbnails(100)(picture(size=(1000, 500)))
    assert (thumbnail.width, thumbnail.height) == (100, 50)
    assert decoded(thumbnail).size == (100, 50)


def test_a_small_picture_is_not_blown_up():
    assert Thumbnails(100)(picture(size=(20, 10))).width == 20


def test_a_very_long_picture_still_has_a_pixel_each_way():
    thumbnail = Thumbnails(100)(picture(size=(5000, 2)))
    assert min(thumbnail.width, thumbnail.height) >= 1


def test_a_picture_that_comes_again_is_made_once(monkeypatch):
    import mmseek.api.pages.thumbnails as module

    calls = []
    real = module.open_image
    monkeypatch.setattr(module, "open_image", lambda *args, **options: calls.append(1) or real(*args, **options))
    thumbnails = Thumbnails()
    assert thumbnails(picture("red")) is thumbnails(picture("red"))
    thumbnails(picture("blue"))
    assert len(calls) == 2
