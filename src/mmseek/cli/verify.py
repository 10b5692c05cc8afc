"""`mmseek verify`: is a collection sound?"""

from __future__ import annotations

from typing import Annotated

import typer

from mmseek.cli.failures import EXIT_PARTIAL
from mmseek.cli.options import CollectionOption, JsonOption, collection_path
from mmseek.cli.output import Output, count, one_line, verb_output


def verify(
    collection: CollectionOption,
    repair: Annotated[
        bool, typer.Option("--repair", help="Mend it: what is damaged is left out, listed, and kept beside it.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Check that a collection is sound.

    Reads every byte, compares checksums, documents and vectors, and without --repair changes nothing. The exit code is
    1 if there are problems, or if a repair had to leave documents out.
    """
    with verb_output(as_json) as out:
        from rich.text import Text

        from mmseek.index import verify_collection

        if repair:
            _repair(out, collection)
            return
        report = verify_collection(collection_path(collection))
        out.json(
            {
                "ok": report.ok,
                "documents": report.documents,
                "vectors": report.vectors,
                "problems": list(report.problems),
            }
        )
        held = f"{count(report.documents, 'document')}, {count(report.vectors, 'vector')}"
        if report.ok:
            out.show(Text(f"{one_line(collection)} is sound: {held}"))
            return
        out.show(Text(f"{one_line(collection)} has {count(len(report.problems), 'problem')} ({held}):"))
        out.show(*(Text(f"  {one_line(problem)}") for problem in report.problems))
        raise typer.Exit(EXIT_PARTIAL)


def _repair(out: Output, collection: str) -> None:
    from rich.text import Text

    from mmseek.index import repair_collection

    report = repair_collection(collection_path(collection))
    out.json(
        {
            "ok": report.after.ok,
            "documents": report.after.documents,
            "vectors": report.after.vectors,
            "found": list(report.problems),
            "done": list(report.done),
            "dropped": list(report.dropped),
            "kept": None if report.kept is None else str(report.kept),
            "problems": list(report.after.problems),
        }
    )
    held = f"{count(report.after.documents, 'document')}, {count(report.after.vectors, 'vector')}"
    if not report.problems:
        out.show(Text(f"{one_line(collection)} is sound, so nothing was done: {held}"))
        return
    out.show(Text(f"{one_line(collection)} had {count(len(report.problems), 'problem')}:"))
    out.show(*(Text(f"  {one_line(problem)}") for problem in report.problems))
    out.show(*(Text(one_line(each)) for each in report.done))
    out.show(Text(f"it is {'sound' if report.after.ok else 'not sound'} now: {held}"))
    if report.lossy or not report.after.ok:
        raise typer.Exit(EXIT_PARTIAL)
