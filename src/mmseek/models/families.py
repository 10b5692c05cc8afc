"""Tables of families: one row and one module each. Encoders and rerankers each have one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

from mmseek.models.spec import Spec, parse_spec

if TYPE_CHECKING:
    from mmseek._types import Modality

__all__ = ["Family", "load_by_spec", "load_parsed", "table"]


@dataclass(frozen=True, slots=True)
class Family:
    """What `mmseek models` shows of a family, and how it is loaded.

    Args:
        name: as written in specs.
        summary: one line.
        modalities: what it takes.
        needs: what must be there besides mmseek itself, for people.
        takes_instruction: whether an instruction changes its answers.
        loader: `module:function`, imported when it is called.
    """

    name: str
    summary: str
    modalities: tuple[Modality, ...]
    needs: str
    takes_instruction: bool
    loader: str


Row = TypeVar("Row", bound=Family)


def table(*rows: Row) -> Mapping[str, Row]:
    """Rows under their names, in order."""
    return MappingProxyType({row.name: row for row in rows})


def load_by_spec(spec: str, families: Mapping[str, Family], what: str, **options: Any) -> Any:
    """Call the loader of the family that a spec names: `load(parsed, **options)`.

    Raises:
        SpecError: nothing answers to the spec.
    """
    return load_parsed(parse_spec(spec, families, what), families, **options)


def load_parsed(spec: Spec, families: Mapping[str, Family], **options: Any) -> Any:
    """Call the loader of the family of a parsed spec: `load(spec, **options)`."""
    module, _, function = families[spec.family].loader.partition(":")
    return getattr(import_module(module), function)(spec, **options)
