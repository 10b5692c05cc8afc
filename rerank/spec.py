"""Reranker specs: `family:model` or `family:model@revision`, by the same grammar as those of encoders."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from mmseek.errors import SpecError

__all__ = ["Spec", "absolute", "parse_spec"]


@dataclass(frozen=True, slots=True)
class Spec:
    """A parsed spec. `model` is a hub id or a local folder; `str()` gives back what was parsed."""

    family: str
    model: str
    revision: str | None = None

    def __str__(self) -> str:
        revision = "" if self.revision is None else f"@{self.revision}"
        return f"{self.family}:{self.model}{revision}"


def parse_spec(text: str, families: Collection[str]) -> Spec:
    """Take a spec apart.

    The family ends at the first colon, so a model may be any path. The revision follows the last `@` of the model,
    unless a slash comes after it or a folder of the whole name exists.

    Args:
        text: the spec.
        families: the known families, which the error lists.

    Raises:
        SpecError: the family is unknown, or a part is empty.
    """
    family, _, model = text.strip().partition(":")
    if family not in families:
        raise SpecError(
            f"unknown reranker {text!r}: write FAMILY:MODEL[@REVISION], "
            f"where FAMILY is one of {', '.join(sorted(families))}"
        )
    name, at, revision = model.rpartition("@")
    if not at or "/" in revision or "\\" in revision or Path(model).is_dir():
        name, at, revision = model, "", ""
    if not name:
        raise SpecError(f"the reranker {text!r} names no model: write {family}:HUB_ID or {family}:FOLDER")
    if at and not revision:
        raise SpecError(f"the reranker {text!r} names no revision after the @: add one or leave out the @")
    return Spec(family, name, revision or None)


def absolute(spec: Spec) -> str:
    """The spec with a folder written in full, so that it means the same wherever it is read."""
    place = Path(spec.model).expanduser()
    return f"{spec.family}:{place.resolve()}" if place.is_dir() else str(spec)
