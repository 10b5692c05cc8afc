"""Small copies of pictures: bounded, kept by browsers, and never of a file that was not asked for."""

import io

import pytest
from PIL import Image as Pil

from mmseek._types import Content, Document, Image, Text
from mmseek.api.pages.thumbnails import SmallCopy
from mmseek.api.server.small_copies import SmallCopies


@pytest.fixture
def stocked(client, retriever, helpers, tmp_path):
    large = Image(data=helpers.picture("red", size=(2000, 1000), kind="JPEG"))
    (tmp_path / "file.png").write_bytes(helpers.picture("green", size=(50, 50)))
    retriever.add(
        [
            Document("a", Content((large, Text("words"), Image(path=tmp_path / "file.png")))),
            Document("odd/100/?/images/0", Content((large,))),
            Document("text", Content.of("words only")),
        ]
    )
    return client


@pytest.mark.parametrize(("asked", "given"), [(1, 160), (160, 160), (161, 320), (1000, 1280), (10**9, 1280), (-5, 160)])
def test_sizes_are_a_few(stocked, asked, given):
    answer = stocked.get(f"/v1/thumbnails/a/0?side={asked}")
    assert answer.headers["content-type"] in {"image/jpeg", "image/png"}
    assert Pil.open(io.BytesIO(answer.content)).size == (given, given // 2)


def test_a_small_picture_is_not_blown_up(stocked):
    assert Pil.open(io.BytesIO(stocked.get("/v1/thumbnails/a/1").content)).size == (50, 50)


def test_any_id_has_one_address(stocked):
    assert stocked.get("/v1/thumbnails/odd%2F100%2F%3F%2Fimages%2F0/0").status_code == 200


def test_browsers_keep_them(stocked):
    first = stocked.get("/v1/thumbnails/a/0")
    assert "private" in first.headers["cache-control"]
    assert first.headers["content-security-policy"] == "default-src 'none'; sandbox"
    again = stocked.get("/v1/thumbnails/a/0", headers={"if-none-match": f'"x", W/{first.headers["etag"]}'})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == first.headers["etag"]
    assert (
        stocked.get("/v1/thumbnails/a/0?side=160", headers={"if-none-match": first.headers["etag"]}).status_code == 200
    )


def test_a_replaced_picture_has_another_tag(stocked, retriever, helpers):
    before = stocked.get("/v1/thumbnails/a/0")
    retriever.add([Document("a", Content((Image(data=helpers.picture("blue")),)))])
    after = stocked.get("/v1/thumbnails/a/0", headers={"if-none-match": before.headers["etag"]})
    assert after.status_code == 200
    assert after.content != before.content


def test_what_is_not_there_is_404_and_names_no_file(stocked, tmp_path):
    (tmp_path / "file.png").unlink()
    for address in ("a/1", "a/2", "text/0", "nobody/0", "a/-1", "a/x", "..%2F..%2Fetc%2Fpasswd/0"):
        answer = stocked.get(f"/v1/thumbnails/{address}")
        assert answer.status_code == 404, address
        assert str(tmp_path) not in answer.text
        assert answer.json()["error"]["code"] == "not_found"


def test_what_is_kept_is_bounded():
    kept = SmallCopies(max_bytes=100)
    made = []

    def make(name, size=40):
        def work():
            made.append(name)
            return SmallCopy("image/png", bytes(size), 1, 1)

        return kept.get(name, work)

    for name in ("a", "b", "a", "c", "a", "b"):
        make(name)
    assert made == ["a", "b", "c", "b"]  # the third pushed out b, which was asked for the longest ago
    make("huge", size=101)
    assert kept.bytes <= 100
    make("a")
    assert made.count("a") <= 2
