from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmseek.errors import SpecError
from mmseek.models.spec import Spec, parse_spec

FAMILIES = ("mini", "st", "gme")


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("mini", Spec("mini")),
        (" mini ", Spec("mini")),
        ("st:org/name", Spec("st", "org/name")),
        ("st:org/name@v1.0", Spec("st", "org/name", "v1.0")),
        ("st:/models/a b", Spec("st", "/models/a b")),
        ("st:C:\\models\\a", Spec("st", "C:\\models\\a")),
        ("st:C:/models/a@main", Spec("st", "C:/models/a", "main")),
        ("st:/home/me@work/model", Spec("st", "/home/me@work/model")),
        ("st:C:\\me@work\\model", Spec("st", "C:\\me@work\\model")),
    ],
)
def test_parses(text: str, spec: Spec) -> None:
    assert parse_spec(text, FAMILIES) == spec


def test_a_folder_with_an_at_sign_is_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "model@2"
    assert parse_spec(f"st:{folder}", FAMILIES).revision == "2"
    folder.mkdir()
    assert parse_spec(f"st:{folder}", FAMILIES) == Spec("st", str(folder))


@pytest.mark.parametrize("text", ["", "clip:x", "C:\\models\\a", "Mini", "nonsense"])
def test_an_unknown_family_lists_the_known(text: str) -> None:
    with pytest.raises(SpecError, match="gme, mini, st"):
        parse_spec(text, FAMILIES)


@pytest.mark.parametrize("text", ["st:", "st:@main", "st:org/name@"])
def test_an_empty_part_is_named(text: str) -> None:
    with pytest.raises(SpecError, match="names no"):
        parse_spec(text, FAMILIES)


@given(st.from_regex(r"[\w./-]+", fullmatch=True), st.from_regex(r"[\w.-]+", fullmatch=True) | st.none())
def test_what_is_written_is_read(model: str, revision: str | None) -> None:
    spec = Spec("st", model, revision)
    assert parse_spec(str(spec), FAMILIES) == spec
