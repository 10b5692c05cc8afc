"""`mmseek serve`: a collection, or models alone, over REST."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mmseek._network import is_loopback
from mmseek.cli.opening import DEFAULT_ENCODER, load_either, load_scorer, open_retriever
from mmseek.cli.options import DeviceOption, JsonOption, collection_path
from mmseek.cli.output import Output, say, verb_output
from mmseek.cli.reranking import DepthsOption, RerankersOption
from mmseek.errors import ConfigError
from mmseek.models.allocator import use_few_arenas
from mmseek.models.device import calm_openmp, usable_cores

if TYPE_CHECKING:
    from mmseek.api.server import ServeSettings
    from mmseek.api.server.hosting import CollectionRoot
    from mmseek.pipeline.encoders import AnyEncoder


def serve(
    collection: Annotated[
        str | None,
        typer.Option("--collection", "-c", metavar="PLACE", help="Folder, qdrant-edge:DIR or qdrant://HOST:PORT/NAME."),
    ] = None,
    collections: Annotated[
        Path | None,
        typer.Option("--collections", metavar="DIR", help="A folder of collections, which clients may make too."),
    ] = None,
    encoder: Annotated[
        str | None, typer.Option("--encoder", "-e", metavar="SPEC", help="Without a collection: the encoder to serve.")
    ] = None,
    allow_encoder: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-encoder",
            metavar="SPEC",
            help="One more encoder; may be given again.",
        ),
    ] = None,
    name: Annotated[
        list[str] | None,
        typer.Option("--name", metavar="NAME", help="What clients may call the encoder too; may be given again."),
    ] = None,
    host: Annotated[
        str | None, typer.Option("--host", metavar="ADDRESS", help="Address to listen on. [default: 127.0.0.1]")
    ] = None,
    port: Annotated[
        int | None,
        typer.Option("--port", metavar="N", min=0, max=65535, help="Port; 0 picks a free one. [default: 8000]"),
    ] = None,
    api_key_file: Annotated[
        Path | None,
        typer.Option("--api-key-file", metavar="FILE", help="Let in only who has a key of it; see `mmseek keys`."),
    ] = None,
    allow_remote: Annotated[
        bool, typer.Option("--allow-remote", help="Let other machines in without keys: all who reach it may write.")
    ] = False,
    otlp_endpoint: Annotated[
        str | None,
        typer.Option("--otlp-endpoint", metavar="URL", help="Send traces of requests there, by OTLP over HTTP."),
    ] = None,
    allow_urls: Annotated[
        bool, typer.Option("--allow-urls", help="Fetch pictures that requests name by URL, of public hosts alone.")
    ] = False,
    url_host: Annotated[
        list[str] | None,
        typer.Option(
            "--url-host",
            metavar="HOST",
            help="With --allow-urls: from this host only, or from all below .HOST; may be given again.",
        ),
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", metavar="FILE", help="Settings in TOML; the environment and flags win.")
    ] = None,
    print_config: Annotated[
        bool, typer.Option("--print-config", help="Print the settings as they would be used, and stop.")
    ] = False,
    data_dir: Annotated[
        Path | None,
        typer.Option("--data-dir", metavar="DIR", help="A folder for this server's bulk jobs; else in --collections."),
    ] = None,
    import_root: Annotated[
        Path | None,
        typer.Option("--import-root", metavar="DIR", help="Bulk jobs may read what is below it."),
    ] = None,
    rerank: RerankersOption = None,
    rerank_depth: DepthsOption = None,
    llm_url: Annotated[
        str | None, typer.Option("--llm-url", metavar="URL", help="Answer questions by this chat API, as OpenAI's.")
    ] = None,
    llm_model: Annotated[
        str | None, typer.Option("--llm-model", metavar="NAME", help="The model, by the name that the chat API knows.")
    ] = None,
    llm_api_key_file: Annotated[
        Path | None,
        typer.Option("--llm-api-key-file", metavar="FILE", help="A file with its key. [default: the setting's]"),
    ] = None,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Serve a collection, a folder of them, or models alone, over REST until Ctrl-C.

    OpenAI's, Cohere's, Jina's and Voyage's clients can embed and rerank with it. Only this machine can reach it unless
    there are keys or --allow-remote is given. With --llm-url, POST /v1/ask answers questions from the collection. With
    --json, one document with the address is printed as soon as the server listens.
    """
    with verb_output(as_json) as out:
        from mmseek.api.server import serve_settings

        flags: dict[str, Any] = {
            "collection": collection,
            "collections": collections,
            "encoder": encoder,
            "allow_encoders": tuple(allow_encoder) if allow_encoder else None,
            "device": device,
            "rerank": tuple(rerank) if rerank else None,
            "rerank_depth": tuple(rerank_depth) if rerank_depth else None,
            "names": tuple(name) if name else None,
            "host": host,
            "port": port,
            "api_key_file": api_key_file,
            "data_dir": data_dir,
            "import_root": import_root,
            "allow_remote": allow_remote or None,
            "llm_url": llm_url,
            "llm_model": llm_model,
            "llm_api_key_file": llm_api_key_file,
            "otlp_endpoint": otlp_endpoint,
            "allow_urls": allow_urls or None,
            "url_hosts": tuple(url_host) if url_host else None,
        }
        asked = serve_settings(config, flags)
        if print_config:
            out.json(asked.to_json())
            out.show(asked.to_toml())
            return
        _serve(asked, out)


def _serve(asked: ServeSettings, out: Output) -> None:
    calm_openmp(os.environ)  # before any import that brings torch
    use_few_arenas(os.environ, usable_cores())  # and before there are threads

    from mmseek.api.server import serve as run_server
    from mmseek.api.server.security import KeyRing, read_keys

    _check(asked)
    keys = None if asked.api_key_file is None else KeyRing(read_keys(asked.api_key_file.expanduser()))
    if keys is not None and not len(keys):
        raise ConfigError(f"{asked.api_key_file} has no key: add one with `mmseek keys --add NAME`")
    answering = asked.answering()
    kind, what, first = _what(asked)

    def ready(url: str) -> None:
        out.json({"url": url, kind: what}, now=True)
        say(f"serving {what} at {url} until Ctrl-C; POST {url}/v1/{first}, description at {url}/openapi.json")

    with _models(asked) as models:
        run_server(
            **models,
            host=asked.host.strip("[]"),
            port=asked.port,
            limits=asked.limits(),
            keys=keys,
            names=asked.names,
            cors_origins=asked.cors_origins,
            answering=answering,
            data=asked.data_dir,
            import_root=asked.import_root,
            otlp_endpoint=asked.otlp_endpoint,
            trace_share=asked.trace_share,
            on_ready=ready,
        )


def _what(asked: ServeSettings) -> tuple[str, str, str]:
    """The kind of what is served, its name, and what to ask for first."""
    if asked.collection:
        return "collection", str(collection_path(asked.collection)), "search"
    if asked.collections is not None:
        return "collections", str(asked.collections.expanduser()), "collections"
    return "model", asked.encoder or asked.rerank[-1], "embeddings"


def _check(asked: ServeSettings) -> None:
    if not (asked.collection or asked.collections or asked.encoder or asked.rerank):
        raise ConfigError(
            "there is nothing to serve: give --collection PLACE, --collections DIR, --encoder SPEC or --rerank SPEC"
        )
    if (asked.data_dir or asked.import_root) and not (asked.collection or asked.collections):
        raise ConfigError("--data-dir and --import-root are for bulk jobs: add --collection PLACE or --collections DIR")
    if asked.allow_encoders and not (asked.collection or asked.collections or asked.encoder):
        raise ConfigError("--allow-encoder is one more than the usual one: add --encoder SPEC, or a collection")
    _check_folders(asked)
    if asked.collection and asked.encoder:
        raise ConfigError("a collection brings its own encoder: give --collection or --encoder, not both")
    if asked.llm_url and not (asked.collection or asked.collections):
        raise ConfigError("answers come from a collection: add --collection PLACE or --collections DIR")
    if not (asked.collection or asked.collections) and len(asked.rerank) > 1:
        raise ConfigError("a chain of rerankers needs a collection to search: give one --rerank, or --collection PLACE")
    if asked.api_key_file is None and not asked.allow_remote and not is_loopback(asked.host):
        raise ConfigError(
            f"--host {asked.host} lets other machines read and change everything without a key: "
            "add --api-key-file FILE, or --allow-remote if that is wanted, or use 127.0.0.1"
        )


def _check_folders(asked: ServeSettings) -> None:
    from mmseek.index.manifest import NAME

    root = None if asked.collections is None else asked.collections.expanduser()
    if root is not None and (root / NAME).exists():
        raise ConfigError(f"{root} is a collection, not a folder of collections: give it as --collection {root}")
    for flag, folder in (("--collections", root), ("--data-dir", asked.data_dir)):
        if folder is not None and folder.expanduser().exists() and not folder.expanduser().is_dir():
            raise ConfigError(f"{flag} {folder} is a file: name a folder")
    if asked.import_root is not None and not asked.import_root.expanduser().is_dir():
        raise ConfigError(f"--import-root {asked.import_root} is no folder: make it, or name the one with the files")


def _root(asked: ServeSettings, encoder: AnyEncoder) -> CollectionRoot | None:
    """The folder of collections with what works on it, if there is one. A collection's own rerankers are theirs too."""
    if asked.collections is None:
        return None
    from mmseek.api.server.hosting import CollectionRoot
    from mmseek.pipeline.reranking import as_stages

    own = () if asked.collection else asked.rerank
    return CollectionRoot(
        asked.collections,
        [encoder, *_allowed(asked)],
        as_stages([load_scorer(spec, asked.device) for spec in own], asked.rerank_depth if own else None),
        asked.max_open,
    )


def _allowed(asked: ServeSettings) -> list[AnyEncoder]:
    return [load_either(spec, asked.device) for spec in asked.allow_encoders]


@contextmanager
def _models(asked: ServeSettings) -> Iterator[dict[str, Any]]:
    """What to serve, as `mmseek.api.server.serve` takes it."""
    if asked.collection:
        place = collection_path(asked.collection)
        with open_retriever(
            place, mode="write", device=asked.device, rerank=asked.rerank, rerank_depth=asked.rerank_depth
        ) as retriever:
            root = _root(asked, retriever.encoder)
            yield {"retriever": retriever, "root": root, "encoders": [] if root is not None else _allowed(asked)}
        return
    if asked.collections is not None:
        yield {"root": _root(asked, load_either(asked.encoder or DEFAULT_ENCODER, asked.device))}
        return
    yield {
        "encoder": load_either(asked.encoder, asked.device) if asked.encoder else None,
        "encoders": _allowed(asked),
        "reranker": load_scorer(asked.rerank[0], asked.device) if asked.rerank else None,
    }
