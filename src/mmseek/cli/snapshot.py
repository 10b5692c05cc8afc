"""`mmseek snapshot` and `mmseek restore`: a whole copy of a collection, and a collection from it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mmseek.cli.options import CollectionOption, JsonOption, collection_path
from mmseek.cli.output import count, one_line, verb_output


def snapshot(
    collection: CollectionOption,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR_OR_TAR", help="A new folder, or a file named *.tar.")
    ],
    as_json: JsonOption = False,
) -> None:
    """Copy a collection while others write to it.

    The copy is of one state, and a collection itself: open it where it is, or make one of a .tar with `mmseek restore`.
    It is read back and checked before it appears under its name.
    """
    with verb_output(as_json) as out:
        from rich.text import Text

        from mmseek.index import take_snapshot

        report = take_snapshot(collection_path(collection), output)
        out.json({"output": str(output), "documents": report.documents, "vectors": report.vectors})
        out.show(Text(f"copied {count(report.documents, 'document')} to {one_line(str(output))}"))


def restore(
    source: Annotated[
        Path, typer.Argument(metavar="DIR_OR_TAR", help="What `mmseek snapshot` wrote.", show_default=False)
    ],
    collection: CollectionOption,
    as_json: JsonOption = False,
) -> None:
    """Make a collection of a snapshot.

    The collection must not be there yet. A damaged snapshot leaves nothing behind.
    """
    with verb_output(as_json) as out:
        from rich.text import Text

        from mmseek.index import restore_collection

        report = restore_collection(source, collection_path(collection))
        out.json({"documents": report.documents, "vectors": report.vectors})
        out.show(Text(f"restored {count(report.documents, 'document')} to {one_line(collection)}"))
