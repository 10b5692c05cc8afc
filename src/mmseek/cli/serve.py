"""`mmseek serve`: a collection, or models alone, over REST."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mmseek.cli.opening import load, load_scorer, open_retriever
from mmseek.cli.options import DeviceOption, JsonOption, collection_path
from mmseek.cli.output import Output, say, verb_output
from mmseek.cli.reranking import DepthsOption, RerankersOption
from mmseek.errors import ConfigError

if TYPE_CHECKING:
    from mmseek.api.server import ServeSettings


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server that listens on `host`. A name that is not known counts as no."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def serve(
    collection: Annotated[
        str | None,
        typer.Option("--collection", "-c", metavar="PLACE", help="Folder, qdrant-edge:DIR or qdrant://HOST:PORT/NAME."),
    ] = None,
    encoder: Annotated[
        str | None, typer.Option("--encoder", "-e", metavar="SPEC", help="Without a collection: the encoder to serve.")
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
    rerank: RerankersOption = None,
    rerank_depth: DepthsOption = None,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Serve a collection, or models alone, over REST until Ctrl-C.

    OpenAI's, Cohere's, Jina's and Voyage's clients can embed and rerank with it. Only this machine can reach it unless
    there are keys or --allow-remote is given. With --json, one document with the address is printed as soon as the
    server listens.
    """
    with verb_output(as_json) as out:
        from mmseek.api.server import serve_settings

        flags: dict[str, Any] = {
            "collection": collection,
            "encoder": encoder,
            "rerank": tuple(rerank) if rerank else None,
            "rerank_depth": tuple(rerank_depth) if rerank_depth else None,
            "names": tuple(name) if name else None,
            "host": host,
            "port": port,
            "api_key_file": api_key_file,
            "allow_remote": allow_remote or None,
            "allow_urls": allow_urls or None,
            "url_hosts": tuple(url_host) if url_host else None,
        }
        asked = serve_settings(config, flags)
        if print_config:
            out.json(asked.to_json())
            out.show(asked.to_toml())
            return
        _serve(asked, device, out)


def _serve(asked: ServeSettings, device: str | None, out: Output) -> None:
    from mmseek.api.server import serve as run_server
    from mmseek.api.server.security import KeyRing, read_keys

    _check(asked)
    keys = None if asked.api_key_file is None else KeyRing(read_keys(asked.api_key_file.expanduser()))
    if keys is not None and not len(keys):
        raise ConfigError(f"{asked.api_key_file} has no key: add one with `mmseek keys --add NAME`")
    what = str(collection_path(asked.collection)) if asked.collection else asked.encoder or asked.rerank[-1]

    def ready(url: str) -> None:
        out.json({"url": url, "collection" if asked.collection else "model": what}, now=True)
        first = "search" if asked.collection else "embeddings"
        say(f"serving {what} at {url} until Ctrl-C; POST {url}/v1/{first}, description at {url}/openapi.json")

    with _models(asked, device) as models:
        run_server(
            **models,
            host=asked.host.strip("[]"),
            port=asked.port,
            limits=asked.limits(),
            keys=keys,
            names=asked.names,
            cors_origins=asked.cors_origins,
            on_ready=ready,
        )


def _check(asked: ServeSettings) -> None:
    if not (asked.collection or asked.encoder or asked.rerank):
        raise ConfigError("there is nothing to serve: give --collection PLACE, --encoder SPEC or --rerank SPEC")
    if asked.collection and asked.encoder:
        raise ConfigError("a collection brings its own encoder: give --collection or --encoder, not both")
    if not asked.collection and len(asked.rerank) > 1:
        raise ConfigError("a chain of rerankers needs a collection to search: give one --rerank, or --collection PLACE")
    if asked.api_key_file is None and not asked.allow_remote and not is_loopback(asked.host):
        raise ConfigError(
            f"--host {asked.host} lets other machines read and change everything without a key: "
            "add --api-key-file FILE, or --allow-remote if that is wanted, or use 127.0.0.1"
        )


@contextmanager
def _models(asked: ServeSettings, device: str | None) -> Iterator[dict[str, Any]]:
    """What to serve, as `mmseek.api.server.serve` takes it."""
    if asked.collection:
        place = collection_path(asked.collection)
        with open_retriever(
            place, mode="write", device=device, rerank=asked.rerank, rerank_depth=asked.rerank_depth
        ) as retriever:
            yield {"retriever": retriever}
        return
    yield {
        "encoder": load(asked.encoder, device) if asked.encoder else None,
        "reranker": load_scorer(asked.rerank[0], device) if asked.rerank else None,
    }
