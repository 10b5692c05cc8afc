"""Encoders and collections as the verbs open them: cheap checks first, the model last."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mmseek.cli.output import one_line, say
from mmseek.errors import InputError, NotACollection, SpecError

if TYPE_CHECKING:
    from mmseek.pipeline import Retriever
    from mmseek.pipeline.encoders import AnyEncoder
    from mmseek.protocols import Collection, Encoder, MultiVectorEncoder, Reranker

__all__ = [
    "DEFAULT_ENCODER",
    "fewer_tokens",
    "load",
    "load_either",
    "load_scorer",
    "load_tokens",
    "multi_vector",
    "note_unused_instruction",
    "open_for_indexing",
    "open_retriever",
]

DEFAULT_ENCODER = "mini"


def load(spec: str, device: str | None, **options: Any) -> Encoder:
    """Load an encoder; a terminal is told what takes so long. `options` are those of `load_encoder`.

    Raises:
        SpecError: no family answers to the spec.
        ModelError: its weights are missing or unusable.
    """
    spec = _named(spec)
    with _waiting(f"loading encoder {one_line(spec)}"):
        from mmseek.embed import load_encoder

        return load_encoder(spec, device=device, **options)


def load_either(spec: str, device: str | None) -> AnyEncoder:
    """Load an encoder of one vector an item, or of one for each token; errors as in `load`."""
    try:
        many = multi_vector(spec)
    except SpecError:  # `load` says what is wrong with it
        many = False
    return load_tokens(spec, device) if many else load(spec, device)


def fewer_tokens(spec: str, amount: str | None) -> str:
    """The spec of an encoder that reads a share or a number of the visual tokens; as it is where none is given.

    Raises:
        SpecError: the amount cannot be read, or is given twice.
    """
    if amount is None:
        return spec
    from mmseek.models.spec import with_visual_tokens

    return with_visual_tokens(spec, amount)


def multi_vector(spec: str) -> bool:
    """Whether the encoder of a spec gives many vectors an item; no weights are loaded."""
    from mmseek.embed import FAMILIES, parse_spec

    return FAMILIES[parse_spec(_named(spec, quiet=True), FAMILIES).family].multi_vector


def load_tokens(spec: str, device: str | None) -> MultiVectorEncoder:
    """Load an encoder of many vectors an item; errors as in `load`."""
    spec = _named(spec)
    with _waiting(f"loading encoder {one_line(spec)}"):
        from mmseek.embed import load_multi_vector_encoder

        return load_multi_vector_encoder(spec, device=device)


def load_scorer(spec: str, device: str | None) -> Reranker:
    """Load a reranker; a terminal is told what takes so long.

    Raises:
        SpecError: no family answers to the spec.
        ModelError: its weights are missing or unusable.
    """
    with _waiting(f"loading reranker {one_line(spec)}"):
        from mmseek.pipeline.rerankers import load_reranker

        return load_reranker(spec, device=device)


def _named(spec: str, *, quiet: bool = False) -> str:
    """The spec, or for `auto:MODEL` the one that it stands for, and a note of why."""
    if not spec.strip().startswith("auto:"):
        return spec
    from mmseek.embed import FAMILIES, parse_spec
    from mmseek.embed.detect import resolve

    found, detection = resolve(parse_spec(spec, FAMILIES))
    if not quiet:
        say(f"note: {one_line(spec)} is {one_line(str(found))}, for {one_line(detection.reason)}")
    return str(found)


@contextmanager
def open_retriever(
    place: Path | str,
    *,
    device: str | None,
    mode: Literal["read", "write"] = "read",
    rerank: Sequence[str] = (),
    rerank_depth: Sequence[int] | None = None,
) -> Iterator[Retriever]:
    """A collection, the encoder that it names and rerankers. The collection is first: it opens quickly or fails early.

    Raises:
        InputError: a depth is below 1, or there are more depths than rerankers.
    """
    from mmseek.index import open_collection

    if rerank_depth and not rerank:
        raise InputError("--rerank-depth needs a reranker: add --rerank SPEC")

    with closing(open_collection(place, mode=mode)) as collection:
        rerankers = [load_scorer(spec, device) for spec in rerank]
        encoder = load_either(collection.info().encoder.spec, device)
        from mmseek.pipeline import Retriever

        yield Retriever(encoder, collection, rerankers, rerank_depth)


@contextmanager
def open_for_indexing(
    place: Path | str, spec: str | None, *, device: str | None, token_pooling: int | None = None
) -> Iterator[tuple[AnyEncoder, Collection]]:
    """The encoder and a collection open for writing, made if there is none.

    `token_pooling` is of a new multi-vector collection; one that is there keeps its own, and another is refused.

    An existing collection keeps its encoder; it is opened first, so that a lock or damage is told before a model loads.

    Raises:
        EncoderMismatch: the collection was made with another encoder than `spec`.
        NotACollection: the folder holds something else.
    """
    from mmseek.index import open_collection

    try:
        existing: Collection | None = open_collection(place, mode="write")
    except NotACollection:
        existing = None
    if existing is None:
        encoder = load_either(spec or DEFAULT_ENCODER, device)
        from mmseek.pipeline.encoders import opened_for

        with closing(opened_for(encoder, place, "write", token_pooling)) as made:
            yield encoder, made
        return
    with closing(existing):
        stored = existing.info().encoder
        if token_pooling not in {None, stored.token_pooling}:
            raise InputError(
                f"{place} was made with --token-pooling {stored.token_pooling}, not {token_pooling}: "
                "leave it out, or index into a new collection"
            )
        encoder = load_either(spec or stored.spec, device)
        from mmseek.pipeline import Retriever

        Retriever(encoder, existing)  # refuses an encoder that is not the collection's
        yield encoder, existing


def note_unused_instruction(spec: str, instruction: str | None, *, rerank: Sequence[str] = ()) -> None:
    """Say so if neither the encoder nor a reranker can follow the instruction that was given."""
    if instruction is None or any(map(_reranker_follows, rerank)):
        return
    from mmseek.embed import FAMILIES, parse_spec

    if not FAMILIES[parse_spec(spec, FAMILIES).family].takes_instruction:
        say(f"note: encoder {one_line(spec)} does not follow instructions; --instruction changes nothing")


def _reranker_follows(spec: str) -> bool:
    from mmseek.rerank import FAMILIES, parse_spec

    return FAMILIES[parse_spec(spec, FAMILIES).family].takes_instruction


@contextmanager
def _waiting(words: str) -> Iterator[None]:
    if not sys.stderr.isatty():
        yield
        return
    from mmseek.cli.screen import Screen

    with Screen(stderr=True).status(words):
        yield
