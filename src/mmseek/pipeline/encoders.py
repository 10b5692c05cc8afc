"""Which encoders go with which collections: those of one vector an item, and those of one for each token."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Literal, TypeAlias

from mmseek._types import Encoded, EncodeRequest, EncoderIdentity
from mmseek.embed import FAMILIES, load_encoder, load_multi_vector_encoder, parse_spec
from mmseek.embed.token_pooling import check_factor, pool_tokens
from mmseek.errors import EncoderMismatch, InputError
from mmseek.index import open_collection
from mmseek.protocols import Collection, CollectionInfo, Encoder, MultiVectorEncoder

__all__ = [
    "AnyEncoder",
    "check_encoder",
    "check_one_vector",
    "gives_tokens",
    "load_any",
    "opened_for",
    "outcomes",
    "stored_identity",
]

AnyEncoder: TypeAlias = Encoder | MultiVectorEncoder


def load_any(spec: str, *, device: str | None = None) -> AnyEncoder:
    """Load an encoder of either kind by its spec.

    Raises:
        MmseekError: as `mmseek.embed.load_encoder`.
    """
    parsed = parse_spec(spec, FAMILIES)
    if parsed.family == "auto":
        from mmseek.embed.detect import resolve

        parsed = resolve(parsed)[0]
    if FAMILIES[parsed.family].multi_vector:
        return load_multi_vector_encoder(str(parsed), device=device)
    return load_encoder(spec, device=device)


def gives_tokens(encoder: AnyEncoder) -> bool:
    """Whether an encoder gives many vectors an item and no single one."""
    return not isinstance(encoder, Encoder)


def stored_identity(encoder: AnyEncoder, token_pooling: int = 1) -> EncoderIdentity:
    """What a collection remembers of an encoder.

    Args:
        encoder: of either kind.
        token_pooling: how many vectors of a document become one.

    Raises:
        InputError: there is nothing to pool.
    """
    if gives_tokens(encoder):
        return replace(encoder.identity, multi_vector=True, token_pooling=token_pooling)
    if token_pooling != 1:
        raise InputError(
            f"--token-pooling is for many vectors an item, and {encoder.identity.spec} gives one: leave it out"
        )
    return encoder.identity


def check_encoder(encoder: AnyEncoder, info: CollectionInfo) -> None:
    """Refuse an encoder that is not the collection's.

    Raises:
        InputError: one of them is of one vector an item, the other of many.
        EncoderMismatch: the collection holds vectors of another encoder.
    """
    mine, stored = stored_identity(encoder), info.encoder
    if mine.same_vectors(stored):
        return
    if mine.multi_vector and not stored.multi_vector:
        raise InputError(
            f"{mine} gives a vector for each token and {info.location} holds one a document, of {stored}: "
            "index into a new collection, or use it as a reranker, late-interaction"
        )
    if stored.multi_vector and not mine.multi_vector:
        raise InputError(
            f"{mine} gives one vector an item and {info.location} holds one for each token, of {stored}: "
            "use that encoder, or index into a new collection"
        )
    raise EncoderMismatch(wanted=str(mine), stored=str(stored), place=info.location)


def opened_for(
    encoder: AnyEncoder,
    location: str | Path,
    mode: Literal["read", "write", "create"],
    token_pooling: int | None = None,
) -> Collection:
    """Open a collection for an encoder of either kind, or make one.

    Args:
        encoder: whose vectors are to be searched or stored.
        location: see `mmseek.index.open_collection`, also for errors.
        mode: see there.
        token_pooling: of a new multi-vector collection; one that is there keeps its own.

    Raises:
        InputError: the encoder is of the other kind, there is nothing to pool, or the collection pools otherwise.
    """
    wanted = stored_identity(encoder, 1 if token_pooling is None else check_factor(token_pooling))
    try:
        opened = open_collection(location, mode=mode, encoder=wanted)
    except EncoderMismatch:
        with closing(open_collection(location)) as found:
            check_encoder(encoder, found.info())
        raise
    info = opened.info()
    if token_pooling is not None and info.encoder.token_pooling != token_pooling:
        opened.close()
        raise InputError(
            f"{info.location} was made with --token-pooling {info.encoder.token_pooling}, not {token_pooling}: "
            "leave it out, or index into a new collection"
        )
    return opened


def check_one_vector(encoder: AnyEncoder) -> Encoder:
    """The encoder, where there is only room for one vector an item.

    Raises:
        InputError: the encoder gives many vectors an item and no single one.
    """
    if isinstance(encoder, Encoder):
        return encoder
    raise InputError(
        f"{encoder.identity} gives a vector for each token and this needs one an item: use a single-vector encoder here"
    )


def outcomes(
    encoder: AnyEncoder, requests: Iterable[EncodeRequest], token_pooling: int = 1
) -> Generator[Encoded, None, None]:
    """An encoder's outcomes of any number of documents, in order, pooled as the collection wants them."""
    with _ended(encoder.stream(requests) if isinstance(encoder, Encoder) else encoder.stream_tokens(requests)) as found:
        for outcome in found:
            if outcome.vector is None or token_pooling == 1:
                yield outcome
            else:
                yield replace(outcome, vector=pool_tokens(outcome.vector, token_pooling))


@contextmanager
def _ended(found: Iterator[Encoded]) -> Iterator[Iterator[Encoded]]:
    """A stream whose threads end with the block, not when it is collected."""
    try:
        yield found
    finally:
        if isinstance(found, Generator):
            found.close()
