"""`mmseek reembed`: a collection with another encoder, beside the old one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mmseek.cli.failures import EXIT_PARTIAL
from mmseek.cli.options import CollectionOption, DeviceOption, JsonOption, collection_path
from mmseek.cli.output import count, one_line, verb_output


def reembed(
    collection: CollectionOption,
    encoder: Annotated[
        str, typer.Option("--encoder", "-e", metavar="SPEC", help="The new encoder; `mmseek models` lists them.")
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="DIR", help="The new collection. [default: beside the old one]"),
    ] = None,
    switch: Annotated[
        bool, typer.Option("--switch/--no-switch", help="Turn the alias, if --collection is one, to the new one.")
    ] = True,
    force: Annotated[
        bool, typer.Option("--force", help="Turn it although some documents could not be encoded.")
    ] = False,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Encode a collection anew with another encoder, beside the old one.

    An alias is turned to the new one when that is whole. The old collection stays in use meanwhile and is kept. A
    stopped run is resumed by running it again.

    \b
    mmseek alias photos --to photos.index
    mmseek reembed -c photos -e clip:ViT-B-32
    """
    with verb_output(as_json) as out:
        from rich.text import Text

        from mmseek.cli.opening import load_either
        from mmseek.cli.reports import failure_document, show_failures
        from mmseek.index import folder_of
        from mmseek.pipeline.reembedding import reembed_collection

        place = collection_path(collection)
        folder_of(place)  # told before a model loads
        done = reembed_collection(place, load_either(encoder, device), output, switch=switch, force=force)
        failed = done.report.failed
        out.json(
            {
                "source": str(done.source),
                "target": str(done.target),
                "switched": done.switched,
                "indexed": done.report.indexed,
                "unchanged": done.report.unchanged,
                "removed": done.removed,
                "failed": [failure_document(failure) for failure in failed],
            }
        )
        held = count(done.report.indexed + done.report.unchanged, "document")
        out.show(Text(f"{one_line(str(done.target))} holds {held} of {one_line(encoder)}"))
        if done.switched:
            out.show(Text(f"{one_line(collection)} stands for it now; {one_line(str(done.source))} is kept"))
        else:
            out.show(Text(f"{one_line(collection)} is as it was; to use the new one: mmseek alias NAME --to DIR"))
        show_failures(failed, None)
        if failed:
            raise typer.Exit(EXIT_PARTIAL)
