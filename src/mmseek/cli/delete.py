"""`mmseek delete`: take documents out of a collection."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from mmseek.cli.failures import EXIT_PARTIAL
from mmseek.cli.options import CollectionOption, JsonOption, collection_path
from mmseek.cli.output import count, one_line, say, verb_output
from mmseek.errors import InputError


def delete(
    ids: Annotated[list[str], typer.Argument(metavar="ID", help="Ids of documents.", show_default=False)],
    collection: CollectionOption,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Delete documents by id, for good.

    Ids that the collection does not hold are named and the exit code is 1; the others are deleted.
    """
    with verb_output(as_json) as out:
        from rich.text import Text

        from mmseek.index import open_collection

        wanted = list(dict.fromkeys(ids))
        place = collection_path(collection)
        opened = open_collection(place, mode="write")
        try:
            held = opened.get(wanted)
            present = [each for each in wanted if each in held]
            if present and not yes and not _confirmed(len(present), collection):
                raise InputError("nothing was deleted, because you did not say yes")
            deleted = opened.delete(present) if present else 0
            left = opened.info().documents
        finally:
            opened.close()
        unknown = [each for each in wanted if each not in held]
        out.json({"deleted": deleted, "unknown": unknown, "documents": left})
        out.show(Text(f"deleted {count(deleted, 'document')}; {one_line(collection)} holds {left:,}"))
        for each in unknown:
            say(f"not in the collection: {one_line(each, 200)}")
        if unknown:
            raise typer.Exit(EXIT_PARTIAL)


def _confirmed(number: int, collection: str) -> bool:
    if not sys.stdin.isatty():
        raise InputError("delete asks before it deletes and there is no terminal to ask on: add --yes")
    sys.stderr.write(f"Delete {count(number, 'document')} from {one_line(collection)}? [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")
