"""`mmseek serve`: a collection over REST."""

from __future__ import annotations

import ipaddress
from typing import Annotated

import typer

from mmseek.cli.opening import open_retriever
from mmseek.cli.options import CollectionOption, DeviceOption, JsonOption, collection_path
from mmseek.cli.output import say, verb_output
from mmseek.cli.reranking import DepthsOption, RerankersOption
from mmseek.errors import ConfigError


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server that listens on `host`. A name that is not known counts as no."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def serve(
    collection: CollectionOption,
    host: Annotated[str, typer.Option("--host", metavar="ADDRESS", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", metavar="N", min=0, max=65535, help="Port; 0 picks a free one.")
    ] = 8000,
    allow_remote: Annotated[
        bool,
        typer.Option("--allow-remote", help="Let other machines in. There are no keys: all who reach it may write."),
    ] = False,
    rerank: RerankersOption = None,
    rerank_depth: DepthsOption = None,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Serve a collection over REST until Ctrl-C.

    Only this machine can reach it unless --allow-remote is given. With --json, one document with the address is printed
    as soon as the server listens.
    """
    if not allow_remote and not is_loopback(host):
        raise ConfigError(
            f"--host {host} lets other machines read and change the collection without a key: "
            "add --allow-remote if that is wanted, or use 127.0.0.1"
        )
    with verb_output(as_json) as out:
        from mmseek.api.server import serve as run_server

        place = collection_path(collection)

        def ready(url: str) -> None:
            out.json({"url": url, "collection": str(place)}, now=True)
            say(f"serving {place} at {url} until Ctrl-C; POST {url}/v1/search, description at {url}/openapi.json")

        with open_retriever(
            place, mode="write", device=device, rerank=rerank or (), rerank_depth=rerank_depth
        ) as retriever:
            run_server(retriever, host=host.strip("[]"), port=port, on_ready=ready)
