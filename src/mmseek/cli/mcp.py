"""`mmseek mcp`: a collection as tools of a language model."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from mmseek.cli.opening import open_retriever
from mmseek.cli.options import CollectionOption, DeviceOption, JsonOption, collection_path
from mmseek.cli.output import say, verb_output
from mmseek.cli.reranking import DepthsOption, RerankersOption


def mcp(
    collection: CollectionOption,
    allow_write: Annotated[
        bool, typer.Option("--allow-write", help="Offer add_document too; else nothing can be changed.")
    ] = False,
    rerank: RerankersOption = None,
    rerank_depth: DepthsOption = None,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Serve a collection to a language model over the Model Context Protocol, on stdin and stdout.

    Programs that speak it start this themselves: with --json, what they want to know is printed and nothing is served.
    """
    place = collection_path(collection)
    if as_json:
        with verb_output(as_json) as out:
            out.json(_configuration(place, allow_write=allow_write, rerank=rerank, depths=rerank_depth, device=device))
        return
    from mmseek.api.mcp import make_server
    from mmseek.config import settings
    from mmseek.media import MediaLimits

    with open_retriever(
        place,
        mode="write" if allow_write else "read",
        device=device,
        rerank=rerank or (),
        rerank_depth=rerank_depth,
    ) as retriever:
        server = make_server(retriever, allow_write=allow_write, limits=MediaLimits.from_settings(settings()))
        say(f"serving {place} over the Model Context Protocol on stdin and stdout, until stdin ends")
        server.run("stdio")


def _configuration(
    place: Path | str,
    *,
    allow_write: bool,
    rerank: list[str] | None,
    depths: list[int] | None,
    device: str | None,
) -> dict[str, Any]:
    """What a client of the protocol is configured with, in the form that they share."""
    where = os.path.abspath(place) if isinstance(place, Path) else place  # noqa: PTH100  # keeps links as they are
    arguments = ["-m", "mmseek", "mcp", "--collection", where]
    arguments += ["--allow-write"] if allow_write else []
    for spec in rerank or ():
        arguments += ["--rerank", spec]
    for depth in depths or ():
        arguments += ["--rerank-depth", str(depth)]
    arguments += ["--device", device] if device else []
    return {"mcpServers": {"mmseek": {"command": sys.executable, "args": arguments}}}
