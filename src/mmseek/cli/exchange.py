"""`mmseek export` and `mmseek import`: a collection as Parquet tables and pictures, and back."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from mmseek.cli.options import CollectionOption, JsonOption, collection_path
from mmseek.cli.output import count, one_line, verb_output


def export(
    collection: CollectionOption,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="A new folder.")],
    as_json: JsonOption = False,
) -> None:
    """Write a collection as Parquet tables and pictures.

    A manifest has the checksums. One state of the collection is written, whoever writes to it meanwhile. Pictures that
    came as files stay where they are.
    """
    with verb_output(as_json) as out:
        from rich.text import Text

        from mmseek.index import open_collection
        from mmseek.index.exchange import export_collection

        with closing(open_collection(collection_path(collection))) as opened:
            manifest = export_collection(opened, output.absolute())
        out.json({"output": str(output), "documents": manifest.documents, "files": len(manifest.files)})
        out.show(Text(f"exported {count(manifest.documents, 'document')} to {one_line(str(output))}"))


def import_(
    source: Annotated[Path, typer.Argument(metavar="DIR", help="What `mmseek export` wrote.", show_default=False)],
    collection: CollectionOption,
    as_json: JsonOption = False,
) -> None:
    """Store an exported collection, vectors included.

    Nothing is encoded. The collection is made if there is none; one that is there must be of the same encoder. A
    stopped run is resumed by running it again.
    """
    with verb_output(as_json) as out:
        from rich.text import Text

        from mmseek.index import open_collection
        from mmseek.index.exchange import import_collection, read_export

        encoder = read_export(source).encoder
        with closing(open_collection(collection_path(collection), mode="write", encoder=encoder)) as opened:
            report = import_collection(source, opened)
            documents = opened.info().documents
        out.json({"imported": report.imported, "unchanged": report.unchanged, "documents": documents})
        out.show(
            Text(
                f"imported {count(report.imported, 'document')}, {report.unchanged:,} unchanged; "
                f"{one_line(collection)} holds {documents:,}"
            )
        )
