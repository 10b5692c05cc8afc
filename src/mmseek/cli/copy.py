"""`mmseek copy`: one collection into another place, of any kind."""

from __future__ import annotations

from contextlib import closing
from typing import Annotated

import typer

from mmseek.cli.options import JsonOption, collection_path
from mmseek.cli.output import count, one_line, verb_output


def copy(
    source: Annotated[
        str, typer.Option("--from", metavar="PLACE", help="The collection that is copied.", show_default=False)
    ],
    target: Annotated[
        str, typer.Option("--to", metavar="PLACE", help="Where to; made if there is none.", show_default=False)
    ],
    batch_size: Annotated[
        int, typer.Option("--batch-size", metavar="N", min=1, help="Documents that are stored in one step.")
    ] = 256,
    as_json: JsonOption = False,
) -> None:
    """Copy a collection to another place, of any kind: a folder into Qdrant, or back.

    Nothing is encoded anew: documents, vectors, digests and kept pictures are copied in their order. A run that was
    stopped goes on when it is run again. At the end both are read and compared.

    \b
    mmseek copy --from my.index --to qdrant-edge:my.edge
    """
    with verb_output(as_json) as out:
        from rich.text import Text

        from mmseek.cli.progress import Meter
        from mmseek.index import copy_collection, open_collection

        with closing(open_collection(collection_path(source))) as origin:
            about = origin.info()
            with (
                closing(open_collection(collection_path(target), mode="write", encoder=about.encoder)) as goal,
                Meter("copying", about.documents) as meter,
            ):
                done = copy_collection(
                    origin, goal, batch_size=batch_size, on_progress=lambda number: meter.update(number, 0)
                )
                found = goal.info()
        out.json(
            {
                "from": about.location,
                "to": found.location,
                "copied": done.copied,
                "present": done.present,
                "documents": found.documents,
                "verified": True,
            }
        )
        earlier = f" ({done.present:,} were there already)" if done.present else ""
        out.show(
            Text(f"copied {count(done.copied, 'document')}{earlier} into {one_line(found.location)}; both are equal")
        )
