"""`mmseek verify`: is a collection sound?"""

from __future__ import annotations

import typer

from mmseek.cli.failures import EXIT_PARTIAL
from mmseek.cli.options import CollectionOption, JsonOption, collection_path
from mmseek.cli.output import count, one_line, verb_output


def verify(collection: CollectionOption, as_json: JsonOption = False) -> None:
    """Check that a collection is sound.

    Reads every byte, compares checksums, documents and vectors, and changes nothing. The exit code is 1 if there are
    problems.
    """
    with verb_output(as_json) as out:
        from rich.text import Text

        from mmseek.index import verify_collection

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
