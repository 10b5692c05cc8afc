"""Export and import: an equal collection, and nothing from outside the export."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmseek import Content, Document, EncoderIdentity, Image, Text
from mmseek.errors import CorruptCollection, EncoderMismatch, InputError
from mmseek.index import open_collection, verify_collection
from mmseek.index.exchange import export_collection, import_collection, read_export
from mmseek.index.exchange.layout import ExportManifest

DIM = 3
IDENTITY = EncoderIdentity("mini", "e" * 64, DIM)

_text = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=12)
_ids = _text.filter(bool)
_picture = st.binary(min_size=1, max_size=20).map(lambda data: Image(data=data))
_left = st.sampled_from([Image(path=Path("/pictures/a.png")), Image(url="https://example.org/b.png")])
_contents = st.lists(st.one_of(_text.map(Text), _picture, _left), max_size=4).map(lambda parts: Content(tuple(parts)))
_metadata = st.dictionaries(_text, st.one_of(st.none(), st.integers(-5, 5), st.booleans(), _text), max_size=3)
_vectors = st.lists(st.floats(-1, 1, width=32), min_size=DIM, max_size=DIM).filter(any)
_documents = st.builds(Document, _ids, _contents, _metadata, st.one_of(st.none(), _ids))
_rows = st.lists(st.tuples(_documents, _vectors, st.one_of(st.none(), _text)), max_size=8, unique_by=lambda r: r[0].id)


def contents(collection):
    return [
        (document, vector.tobytes(), digest)
        for batch in collection.export(3)
        for document, vector, digest in zip(batch.documents, batch.vectors, batch.digests, strict=True)
    ]


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(rows=_rows, size=st.integers(1, 4))
def test_export_then_import_gives_an_equal_collection(tmp_path_factory, rows, size):
    folder = tmp_path_factory.mktemp("exchange")
    with open_collection(folder / "one", mode="create", encoder=IDENTITY) as one:
        for document, vector, digest in rows:
            one.upsert([document], np.array([vector], dtype=np.float32), None if digest is None else [digest])
        manifest = export_collection(one, folder / "export", rows=size)
        before = contents(one)
    assert manifest == read_export(folder / "export")
    assert manifest.documents == len(rows)
    with open_collection(folder / "two", mode="create", encoder=read_export(folder / "export").encoder) as two:
        report = import_collection(folder / "export", two)
        assert (report.imported, report.unchanged) == (len(rows), 0)
        assert contents(two) == before
        assert two.verify().ok
        again = import_collection(folder / "export", two)
        assert again.unchanged == sum(digest is not None for _, _, digest in rows)
        assert sorted(map(repr, contents(two))) == sorted(map(repr, before))


@pytest.fixture
def exported(tmp_path, documents, vectors, identity):
    with open_collection(tmp_path / "one", mode="create", encoder=identity) as one:
        one.upsert(documents(range(10)), vectors(10), [f"h{n}" for n in range(10)])
        one.upsert([Document("p", Content((Image(data=b"\x89PNG\r\n\x1a\n1"),)))], vectors(1, seed=1), ["hp"])
        export_collection(one, tmp_path / "export", rows=4)
    return tmp_path / "export"


@pytest.fixture
def target(tmp_path, identity):
    with open_collection(tmp_path / "two", mode="create", encoder=identity) as made:
        yield made


def rewrite(exported, **changes):
    """The manifest with changes and a checksum that fits them, as an attacker would write it."""
    manifest = read_export(exported)
    fields = {name: getattr(manifest, name) for name in ("encoder", "documents", "created_at", "files")}
    (exported / "manifest.json").write_bytes(ExportManifest(**(fields | changes)).to_bytes())


def rewrite_item(exported, content):
    name = "part-00000.parquet"
    table = pq.read_table(exported / name)
    items = table.column("item").to_pylist()
    items[0] = json.dumps({"content": content, "metadata": {}})
    table = table.set_column(table.schema.get_field_index("item"), "item", [items])
    pq.write_table(table, exported / name)
    files = dict(read_export(exported).files)
    files[name] = hashlib.sha256((exported / name).read_bytes()).hexdigest()
    rewrite(exported, files=files)


def test_the_files_are_what_others_can_read(exported, vectors):
    table = pq.read_table(exported / "part-00000.parquet")
    assert table.column("id").to_pylist() == ["d0", "d1", "d2", "d3"]
    np.testing.assert_array_equal(np.array(table.column("vector").to_pylist(), dtype=np.float32), vectors(10)[:4])
    assert sorted(path.name for path in exported.iterdir()) == [
        "assets",
        "manifest.json",
        "part-00000.parquet",
        "part-00001.parquet",
        "part-00002.parquet",
    ]


def test_vectors_of_another_encoder_are_refused(exported, tmp_path):
    other = EncoderIdentity("other", "a" * 64, 8)
    with (
        open_collection(tmp_path / "three", mode="create", encoder=other) as three,
        pytest.raises(EncoderMismatch, match="other"),
    ):
        import_collection(exported, three)


@pytest.mark.parametrize(
    "name", ["../evil.parquet", "/etc/passwd", "assets/../../x", "part-00000.parquet/../../x", "assets\\x"]
)
def test_a_manifest_that_leads_out_of_the_export_is_refused(exported, target, name):
    rewrite(exported, files={**read_export(exported).files, name: "0" * 64})
    with pytest.raises(InputError, match="not written by"):
        import_collection(exported, target)


@pytest.mark.parametrize(
    "part",
    [
        {"asset": "../../etc/passwd"},
        {"asset": "assets/ab/../../../secret.png"},
        {"path": "../secret.png"},
        {"path": "relative.png"},
        {"path": "/pictures/../etc/secret.png"},
        {"path": "C:\\pictures\\..\\secret.png"},
    ],
)
def test_a_picture_outside_of_the_export_is_refused(exported, target, part):
    rewrite_item(exported, [part])
    with pytest.raises(InputError, match="tampered"):
        import_collection(exported, target)
    assert target.info().documents == 0


@pytest.mark.parametrize("content", [7, [{"text": 7}], [{"nothing": ""}], [[]]])
def test_an_item_that_is_none(exported, target, content):
    rewrite_item(exported, content)
    with pytest.raises(CorruptCollection, match="row 0"):
        import_collection(exported, target)


@pytest.mark.parametrize("name", ["manifest.json", "part-00001.parquet", "assets"])
def test_a_flipped_bit_in_any_file(exported, target, name):
    path = exported / name
    path = path if path.is_file() else next(path.rglob("*.png"))
    whole = path.read_bytes()
    for position in range(0, len(whole), max(1, len(whole) // 12)):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 4]) + whole[position + 1 :])
        with pytest.raises((CorruptCollection, InputError)):
            import_collection(exported, target)
    path.write_bytes(whole)
    assert import_collection(exported, target).imported > 0  # what was sound before the damage is there already
    assert target.info().documents == 11
    assert target.verify().ok


def test_a_stopped_import_goes_on(exported, target, documents, vectors):
    target.upsert(documents(range(4)), vectors(10)[:4], [f"h{n}" for n in range(4)])
    report = import_collection(exported, target)
    assert (report.imported, report.unchanged) == (7, 4)
    assert target.info().documents == 11


def test_what_is_no_export(tmp_path, target):
    with pytest.raises(InputError, match="no export"):
        import_collection(tmp_path / "absent", target)
    with pytest.raises(InputError, match="exists already"):
        export_collection(target, tmp_path / "two")
    assert verify_collection(tmp_path / "two").ok
