"""`mmseek compact`: give space back to the disk."""

from __future__ import annotations

from contextlib import closing

from mmseek.cli.options import CollectionOption, JsonOption, collection_path
from mmseek.cli.output import count, one_line, verb_output


def compact(collection: CollectionOption, as_json: JsonOption = False) -> None:
    """Give the space of deleted and replaced documents back to the disk.

    Searches go on meanwhile. Needs room for a second copy of the vectors that stay. A stopped run changes nothing.
    """
    with verb_output(as_json) as out:
        from rich.text import Text

        from mmseek.index import open_collection

        with closing(open_collection(collection_path(collection), mode="write")) as opened:
            dropped = opened.compact()
            size = opened.info().bytes
        out.json({"dropped": dropped, "bytes": size})
        out.show(Text(f"dropped {count(dropped, 'vector')}; {one_line(collection)} takes {size:,} bytes"))
