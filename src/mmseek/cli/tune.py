"""`mmseek tune`: choose, build and measure the vector index of a collection."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from mmseek.cli.opening import load_either
from mmseek.cli.options import CollectionOption, DeviceOption, JsonOption, collection_path
from mmseek.cli.output import one_line, say, verb_output
from mmseek.errors import InputError, ItemError

if TYPE_CHECKING:
    from mmseek._types import Content
    from mmseek.pipeline.encoders import AnyEncoder
    from mmseek.protocols import Collection, IndexInfo

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}


class Kind(StrEnum):
    """The kinds of vector index; `auto` chooses."""

    auto = "auto"
    exact = "exact"
    hnsw = "hnsw"
    ivf_sq8 = "ivf-sq8"
    ivf_pq = "ivf-pq"
    rabitq = "rabitq"
    float16 = "float16"
    int8 = "int8"
    binary = "binary"


RecallOption: TypeAlias = Annotated[
    float, typer.Option("--recall", metavar="R", help="Share of the true ten best to find, over 0 and up to 1.")
]
MemoryOption: TypeAlias = Annotated[
    str | None,
    typer.Option("--memory", metavar="SIZE", help="What the index may take, as 2GB. [default: half of the machine's]"),
]
QueriesOption: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--tune-queries",
        metavar="FILE",
        help="Sample queries, one text a line, or .jsonl items. [default: pieces of the documents' texts]",
    ),
]


def tune(
    collection: CollectionOption,
    ann: Annotated[Kind, typer.Option("--ann", help="The kind of index; auto chooses.")] = Kind.auto,
    recall: RecallOption = 0.95,
    memory: MemoryOption = None,
    tune_queries: QueriesOption = None,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Choose, build and measure the vector index of a collection.

    Prints what was chosen, and the recall that was measured with sample queries. Searches use it from then on; what is
    indexed later is searched exactly until it is folded in. A run that is stopped leaves the index there was.

    \b
    mmseek tune --collection my.index --ann auto --recall 0.95
    """
    with verb_output(as_json) as out:
        from rich.text import Text

        from mmseek.index import open_collection
        from mmseek.pipeline import tune_collection

        size = None if memory is None else memory_bytes(memory)
        contents = None if tune_queries is None else read_queries(tune_queries)
        with closing(open_collection(collection_path(collection), mode="write")) as opened:
            encoder = None if ann is Kind.exact else load_either(opened.info().encoder.spec, device)
            info = tune_collection(opened, encoder, ann.value, recall=recall, memory=size, queries=contents, tell=told)
        out.json({"collection": info.location, "index": index_document(info.index)})
        out.show(Text(one_line(index_words(info.index), 400)))


def build_index(opened: Collection, encoder: AnyEncoder, ann: Kind | None, recall: float) -> None:
    """At the end of `mmseek index`: build the index asked for, or fold what came into the one there is."""
    from mmseek.index.collection import LocalCollection
    from mmseek.pipeline import tune_collection

    if ann is not None and isinstance(opened, LocalCollection) and opened.ann.keeps(ann.value, recall):
        opened.ann.fold(told)
    elif ann is not None:
        tune_collection(opened, encoder, ann.value, recall=recall, tell=told)
        say(f"note: vector index: {one_line(index_words(opened.info().index), 400)}")
    elif isinstance(opened, LocalCollection):
        opened.ann.settle(told)


def told(words: str) -> None:
    """What a build is doing, on stderr."""
    say(f"note: {words}")


def memory_bytes(text: str) -> int:
    """Bytes of `2GB`, `500M` or `1000000`.

    Raises:
        InputError: it is none of these.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?", text.strip().lower())
    size = int(float(found[1]) * _UNITS[found[2]]) if found else 0
    if size < 1:
        raise InputError(f"--memory {text!r} is no size: give it as 500MB or 2GB")
    return size


def read_queries(path: Path) -> list[Content]:
    """The queries of a file: items of a `.jsonl`, or the lines of any other.

    Raises:
        InputError: the file cannot be read, or holds no query.
        ItemError: a line of the `.jsonl` is no item.
    """
    try:
        found = list(_queries(path))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--tune-queries {path} cannot be read ({error}): give a text file or .jsonl") from error
    if not found:
        raise InputError(f"--tune-queries {path} holds no query: write one a line")
    return found


def _queries(path: Path) -> Iterator[Content]:
    from mmseek import Content
    from mmseek.items import read_items

    if path.suffix == ".jsonl":
        for item in read_items(path):
            if isinstance(item, ItemError):
                raise item
            yield item.content
        return
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.strip():
            yield Content.of(line.strip())


def index_document(index: IndexInfo | None) -> dict[str, Any] | None:
    """The JSON of a vector index."""
    if index is None:
        return None
    return {
        "kind": index.kind,
        "wanted": index.wanted,
        "settings": index.settings,
        "recall": None if index.recall is None else round(index.recall, 4),
        "measured_on": index.measured_on,
        "bytes_per_vector": round(index.bytes_per_vector, 1),
        "rows": index.rows,
        "waiting": index.waiting,
    }


def index_words(index: IndexInfo | None) -> str:
    """A vector index in one line."""
    if index is None:
        return "kept by the server"
    if index.settings.startswith("MaxSim") and index.kind == "exact":
        return f"exact MaxSim, {index.bytes_per_vector:,.0f} bytes a document"
    chosen = f" (chosen by {index.wanted})" if index.wanted == "auto" else ""
    if index.kind == "exact":
        lost = (
            "" if index.wanted in {"auto", "exact"} else f"; {index.wanted} is wanted and not built: run `mmseek tune`"
        )
        return f"exact{chosen}, {index.bytes_per_vector:,.0f} bytes a vector{lost}"
    found = "recall not measured" if index.recall is None else f"recall@10 {index.recall:.3f} on {index.measured_on}"
    waiting = f", {index.waiting:,} waiting to be folded in" if index.waiting else ""
    return f"{index.settings}{chosen}: {found}, {index.bytes_per_vector:,.0f} bytes a vector{waiting}"
