"""`mmseek alias`: a name that can be turned from one collection to another."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mmseek.cli.options import JsonOption, collection_path
from mmseek.cli.output import one_line, verb_output
from mmseek.errors import NotACollection, SpecError


def alias(
    name: Annotated[Path, typer.Argument(metavar="ALIAS", help="The alias, a small file.", show_default=False)],
    to: Annotated[
        str | None, typer.Option("--to", metavar="DIR", help="The collection that it stands for from now on.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Give a collection a second name that can be turned to another.

    Without --to, say what it stands for. Every verb takes an alias as --collection. It is turned at an instant: a
    search gets the one or the other collection. A server keeps the one that it has open until it is started again.
    """
    with verb_output(as_json) as out:
        from rich.text import Text

        from mmseek.index import folder_of, is_alias, set_alias

        before = None
        if to is not None:
            target = collection_path(to)
            if isinstance(target, str):
                raise SpecError(f"an alias stands for a folder, and {to} is in Qdrant: use Qdrant's own aliases")
            before = set_alias(name, target)
        elif not is_alias(name):
            raise NotACollection(f"{name} is no alias: make it one with --to DIR")
        stands_for = folder_of(name)
        out.json({"alias": str(name), "target": str(stands_for), "before": None if before is None else str(before)})
        out.show(Text(f"{one_line(str(name))} stands for {one_line(str(stands_for))}"))
        if before is not None and before != stands_for:
            out.show(Text(f"{one_line(str(before))}, for which it stood before, is kept"))
