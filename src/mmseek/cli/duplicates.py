"""`mmseek duplicates`: what a collection has more than once."""

from __future__ import annotations

from contextlib import closing
from typing import Annotated

import typer

from mmseek.cli.options import CollectionOption, JsonOption, collection_path
from mmseek.cli.output import count, one_line, say, verb_output


def duplicates(
    collection: CollectionOption,
    threshold: Annotated[
        float, typer.Option("--threshold", metavar="COSINE", help="How near the vectors of near duplicates are.")
    ] = 0.98,
    pictures: Annotated[
        bool, typer.Option("--pictures/--no-pictures", help="Decode pictures and compare how they look.")
    ] = True,
    as_json: JsonOption = False,
) -> None:
    """List documents that a collection has more than once.

    Exact: equal content. Picture: pictures that look the same, scaled or recompressed. Near: vectors whose cosine is
    at least --threshold. Metadata is not compared, and nothing is changed; `mmseek delete` takes documents out.
    """
    with verb_output(as_json) as out:
        from rich.text import Text

        from mmseek.index import open_collection
        from mmseek.index.duplicates import find_duplicates

        with closing(open_collection(collection_path(collection))) as opened:
            report = find_duplicates(opened, threshold=threshold, pictures=pictures)
        groups = [{"kind": group.kind, "score": group.score, "ids": list(group.ids)} for group in report.groups]
        out.json({"documents": report.documents, "groups": groups, "unreadable": report.unreadable})
        out.show(Text(f"{count(len(groups), 'group')} of duplicates in {count(report.documents, 'document')}"))
        for group in report.groups:
            names = ", ".join(one_line(name, 80) for name in group.ids)
            out.show(Text(f"  {group.kind:8}{group.score:.4f}  {names}"))
        for name, reason in report.unreadable.items():
            say(f"{one_line(name, 80)} was compared by its vector alone: {one_line(reason)}")
