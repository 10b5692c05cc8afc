"""Specs of encoders and rerankers: `family`, `family:model`, `family:model@revision`, `family:model#adapter`, and of
models that see pictures as tokens `family:model?visual-tokens=0.5`.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mmseek.errors import SpecError
from mmseek.models.visual_tokens import VisualTokens, parse_visual_tokens

__all__ = ["Spec", "absolute", "parse_spec", "with_visual_tokens"]

_VISUAL: Final = "?visual-tokens="


@dataclass(frozen=True, slots=True)
class Spec:
    """A parsed spec; `str()` gives back what was parsed.

    `model` is a hub id or a local folder, `adapter` the folder or hub id of a LoRA adapter on it, `visual_tokens` how
    many of a picture's tokens are read if not all.
    """

    family: str
    model: str | None = None
    revision: str | None = None
    adapter: str | None = None
    visual_tokens: VisualTokens | None = None

    def __str__(self) -> str:
        model = "" if self.model is None else f":{self.model}"
        revision = "" if self.revision is None else f"@{self.revision}"
        adapter = "" if self.adapter is None else f"#{self.adapter}"
        visual = "" if self.visual_tokens is None else f"{_VISUAL}{self.visual_tokens}"
        return self.family + model + revision + adapter + visual


def parse_spec(text: str, families: Collection[str], what: str = "encoder") -> Spec:
    """Take a spec apart.

    The family ends at the first colon, so a model may be any path: `st:/models/minilm`, `st:C:\\models\\minilm`. The
    revision follows the last `@` of the model, unless a slash comes after it or a folder of the whole name exists. An
    adapter follows the first `#` after the model, unless a folder of the whole name exists. Last comes how many
    visual tokens are read.

    Args:
        text: the spec.
        families: the known families, which the error lists.
        what: what the spec names, for the error.

    Raises:
        SpecError: the family is unknown, or a part is empty.
    """
    family, colon, model = text.strip().partition(":")
    if family not in families:
        raise SpecError(
            f"unknown {what} {text!r}: write FAMILY or FAMILY:MODEL[@REVISION], "
            f"where FAMILY is one of {', '.join(sorted(families))}"
        )
    if not colon:
        return Spec(family)
    model, visual, amount = model.partition(_VISUAL)
    kept = parse_visual_tokens(amount) if visual else None
    adapter: str | None = None
    if "#" in model and not Path(model).expanduser().is_dir():
        model, _, adapter = model.partition("#")
        if not adapter:
            raise SpecError(f"the {what} {text!r} names no adapter after the #: add its folder or leave out the #")
    name, at, revision = model.rpartition("@")
    if not at or "/" in revision or "\\" in revision or Path(model).is_dir():
        name, at, revision = model, "", ""
    if not name:
        raise SpecError(f"the {what} {text!r} names no model after the colon: write {family}:HUB_ID or {family}:FOLDER")
    if at and not revision:
        raise SpecError(f"the {what} {text!r} names no revision after the @: add one or leave out the @")
    return Spec(family, name, revision or None, adapter, kept)


def absolute(spec: Spec) -> str:
    """The spec as a collection should remember it: a folder keeps its name wherever the next command is run."""
    model, adapter = _resolved(spec.model), _resolved(spec.adapter)
    revision = None if model != spec.model else spec.revision
    return str(Spec(spec.family, model, revision, adapter, spec.visual_tokens))


def with_visual_tokens(text: str, amount: str | None) -> str:
    """A spec with a share or number of visual tokens; as it is where there is none.

    Raises:
        SpecError: the amount cannot be read, the spec has one already, or names no model.
    """
    if amount is None:
        return text
    if ":" not in text:
        raise SpecError(
            f"{text} has no visual tokens to leave out: name a model that sees pictures as tokens, such as "
            "qwen3-vl:FOLDER, or give no amount"
        )
    if _VISUAL in text:
        raise SpecError(f"the visual tokens are given twice, in {text!r} and as {amount!r}: leave one out")
    kept = parse_visual_tokens(amount)
    return text if kept is None else f"{text}{_VISUAL}{kept}"


def _resolved(name: str | None) -> str | None:
    if name is not None and (place := Path(name).expanduser()).is_dir():
        return str(place.resolve())
    return name
