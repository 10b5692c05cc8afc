"""`mmseek info`: what a collection holds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mmseek.cli.options import CollectionOption, JsonOption, collection_path
from mmseek.cli.output import clean, size, verb_output
from mmseek.cli.tune import index_document, index_words

if TYPE_CHECKING:
    from mmseek.protocols import CollectionInfo


def info(collection: CollectionOption, as_json: JsonOption = False) -> None:
    """Show what a collection holds.

    How many documents, of which kinds, by which encoder, and how their vectors are searched.
    """
    with verb_output(as_json) as out:
        from mmseek.index import open_collection

        opened = open_collection(collection_path(collection))
        try:
            found = opened.info()
        finally:
            opened.close()
        out.json(info_document(found))
        out.show(_table(found))


def info_document(found: CollectionInfo) -> dict[str, Any]:
    """The JSON document of `mmseek info --json`."""
    return {
        "location": found.location,
        "documents": found.documents,
        "encoder": found.encoder.spec,
        "dim": found.encoder.dim,
        **(
            {"multi_vector": True, "token_pooling": found.encoder.token_pooling, "tokens": found.tokens}
            if found.encoder.multi_vector
            else {}
        ),
        "fingerprint": found.encoder.fingerprint,
        "format_version": found.format_version,
        "modalities": dict(found.modalities),
        "bytes": found.bytes,
        "created_at": found.created_at,
        "updated_at": found.updated_at,
        "index": index_document(found.index),
    }


def _table(found: CollectionInfo) -> Any:
    from rich.table import Table
    from rich.text import Text

    kinds = ", ".join(f"{number:,} {modality}" for modality, number in sorted(found.modalities.items()) if number)
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in {
        "Collection": found.location,
        "Documents": f"{found.documents:,}" + (f" ({kinds})" if kinds else ""),
        "Encoder": f"{found.encoder.spec} ({found.encoder.dim}-d, fingerprint {found.encoder.fingerprint[:12]})",
        **_tokens(found),
        "Index": index_words(found.index),
        "On disk": size(found.bytes),
        "Created": found.created_at,
        "Updated": found.updated_at,
        "Format": str(found.format_version),
    }.items():
        table.add_row(name, Text(clean(value)))
    return table


def _tokens(found: CollectionInfo) -> dict[str, str]:
    """A line for a collection with a vector for each token."""
    if not found.encoder.multi_vector:
        return {}
    number = "one for each token" if found.tokens is None else f"{found.tokens:,}, one for each token"
    pooled = f", {found.encoder.token_pooling} pooled into one" if found.encoder.token_pooling > 1 else ""
    return {"Vectors": f"{number}{pooled}, float16"}
