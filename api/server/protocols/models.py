"""The models by the names that requests use: which there are, which one is meant, and what there is instead."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from mmseek.api.server.errors import NotOffered, UnknownModel
from mmseek.api.server.service import Served, Service
from mmseek.errors import InputError
from mmseek.pipeline.encoders import gives_tokens

_SHOWN: Final = 20  # names in a sentence
_OF_TOKENS: Final = "multi-vector-embedding"


def names_of(spec: str) -> list[str]:
    """What clients may call a model: its spec, and the name behind the family, with and without its revision."""
    names = [spec, spec.partition("@")[0]]
    names += [name.partition(":")[2] for name in names]
    return [name for name in dict.fromkeys(names) if name]


def encoder_names(service: Service) -> dict[str, Served]:
    """Every name of an encoder. A short name that would fit two is the first one's; a spec is nobody else's."""
    found: dict[str, Served] = {}
    if service.encoders:
        found.update(dict.fromkeys(service.names, service.encoders[0]))
    for served in service.encoders:
        found.setdefault(served.spec, served)
    for served in service.encoders:
        for name in names_of(served.spec):
            found.setdefault(name, served)
    return found


def chosen_encoder(service: Service, asked: str | None, *, tokens: bool = False) -> tuple[str, Served]:
    """The encoder that a request names, or the usual one, and the name to answer with.

    Args:
        service: that runs the encoders.
        asked: as the request names it; nothing means the first that fits.
        tokens: whether a vector for each token is wanted, and not one an input.

    Raises:
        NotOffered: the server has no encoder, or none that gives one vector an input.
        UnknownModel: it has no encoder of this name.
        InputError: the encoder gives vectors of the other kind, or none gives one for each token.
    """
    if not service.encoders:
        raise NotOffered("this server has no encoder: start it with --encoder SPEC or --collection PLACE")
    if asked:
        served = encoder_names(service).get(asked)
        if served is None:
            raise UnknownModel(f"there is no encoder {asked[:200]!r} here: use {_or(_each(service))}")
        if gives_tokens(served.encoder) != tokens:
            raise InputError(_wrong_kind(service, asked, tokens=tokens))
        return asked, served
    fitting = [served for served in service.encoders if gives_tokens(served.encoder) == tokens]
    if not fitting:
        wanted = "a vector for each token" if tokens else "one vector an input"
        there = f"this server has no encoder that gives {wanted}: it runs {_or(_each(service))}"
        raise InputError(there) if tokens else NotOffered(there)
    return _usual_name(service, fitting[0]), fitting[0]


def reranker_name(service: Service, asked: str | None) -> str:
    """As `chosen_encoder`, of the reranker: the name to answer with."""
    if service.reranker is None:
        raise NotOffered("this server has no reranker: start it with --rerank SPEC")
    spec = service.reranker.identity.spec
    if not asked:
        return (*service.names, spec)[0]
    if asked not in (*service.names, *names_of(spec)):
        raise UnknownModel(f"there is no reranker {asked[:200]!r} here: use {spec}")
    return asked


def list_models(service: Service) -> list[dict[str, Any]]:
    """Every model under every name, as OpenAI's `/v1/models` has them."""
    about = []
    names = encoder_names(service)
    for served in service.encoders:
        identity = served.encoder.identity
        task = _OF_TOKENS if gives_tokens(served.encoder) else "embedding"
        about += [
            _about(name, task, identity.fingerprint) | {"dimensions": identity.dim}
            for name, owner in names.items()
            if owner is served
        ]
    if service.reranker is not None:
        ranker = service.reranker.identity
        about += [_about(name, "rerank", ranker.fingerprint) for name in names_of(ranker.spec)]
    return about


def find_model(service: Service, name: str) -> dict[str, Any]:
    """One of `list_models`.

    Raises:
        UnknownModel: there is none of this name.
    """
    for found in list_models(service):
        if found["id"] == name:
            return found
    there = _each(service) + ([] if service.reranker is None else [service.reranker.identity.spec])
    raise UnknownModel(f"there is no model {name[:200]!r} here: use {_or(there)}")


def _wrong_kind(service: Service, asked: str, *, tokens: bool) -> str:
    fitting = [_usual_name(service, each) for each in service.encoders if gives_tokens(each.encoder) == tokens]
    instead = f", or use {_or(fitting)}" if fitting else ""
    if tokens:
        return f"the encoder {asked[:200]!r} gives one vector an input: leave return_multivector out{instead}"
    way = "ask /v1/embeddings for it with return_multivector: true"
    return f"the encoder {asked[:200]!r} gives a vector for each token and no single one: {way}{instead}"


def _usual_name(service: Service, served: Served) -> str:
    return (*service.names, served.spec)[0] if served is service.encoders[0] else served.spec


def _each(service: Service) -> list[str]:
    """A name of each encoder, and what it is if that is not the usual."""
    return [
        _usual_name(service, each) + (" (a vector for each token)" if gives_tokens(each.encoder) else "")
        for each in service.encoders
    ]


def _or(names: Sequence[str]) -> str:
    shown = [*names[:_SHOWN], *(["one more of /v1/models"] if len(names) > _SHOWN else [])]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} or {shown[-1]}"


def _about(name: str, task: str, fingerprint: str) -> dict[str, Any]:
    return {
        "id": name,
        "object": "model",
        "created": 0,
        "owned_by": "mmseek",
        "task": task,
        "fingerprint": fingerprint,
    }
