"""Everything a collection in Qdrant says about itself, compared with everything else it says."""

from __future__ import annotations

from collections.abc import Iterator

from mmseek.errors import CollectionError
from mmseek.index import codec
from mmseek.index.qdrant import records
from mmseek.index.qdrant.meta import Meta
from mmseek.index.qdrant.pictures import Pictures
from mmseek.index.qdrant.reading import all_found
from mmseek.index.qdrant.store import DOCUMENTS, Found, Store, point_id
from mmseek.index.qdrant.terms import Tokenizer
from mmseek.protocols import VerifyReport

_PAGE = 256
_MOST = 100
_FIELDS = (*records.SHOWN, "checksum", "terms", "counts", "length", "facts")


def verify(store: Store, meta: Meta, pictures: Pictures, tokenizer: Tokenizer) -> VerifyReport:
    """Read every document and vector and compare; changes nothing.

    Qdrant's own files are Qdrant's to check; what is compared is what comes out of them.
    """
    problems: list[str] = []
    documents = vectors = 0
    names: set[str] = set()
    try:
        stored = Meta.of(store)
        if stored is None or stored.encoder != meta.encoder:
            problems.append(f"{store.place}: what says whose vectors it holds is missing or has changed")
        for page in all_found(store, _PAGE, _FIELDS, vectors=True):
            for found in page:
                documents += 1
                vectors += found.dense is not None
                problems += _problems(found, meta, tokenizer, names)
        counted = store.count(DOCUMENTS)
        if counted != documents:
            problems.append(f"{store.place}: it counts {counted} documents and gives {documents}: is it being written?")
        problems += [
            f"{store.place}: picture {name} {problem}: index its document again"
            for name in sorted(names)
            if (problem := pictures.problem_of(name)) is not None
        ]
    except CollectionError as error:
        problems.append(str(error))
    if len(problems) > _MOST:
        problems = [*problems[:_MOST], f"there are {len(problems) - _MOST} more problems"]
    return VerifyReport(documents, vectors, tuple(problems))


def _problems(found: Found, meta: Meta, tokenizer: Tokenizer, names: set[str]) -> Iterator[str]:
    again = "index it again"
    try:
        record = records.to_record(found.payload)
        axes = 2 if meta.encoder.multi_vector else 1
        if found.dense is None or found.dense.shape[-1] != meta.encoder.dim or found.dense.ndim != axes:
            yield f"document {record.id!r} has no vector: {again}"
        elif found.payload.get("checksum") != records.checksum(record, found.dense):
            yield f"document {record.id!r}: what is stored does not have its checksum: {again}"
        elif found.id != point_id(record.id):
            yield f"document {record.id!r} is stored under another's point: {again}"
        elif not records.derived(found.payload, tokenizer):
            yield f"document {record.id!r}: its words or facts are not those of its content: {again}"
        else:
            names.update(codec.asset_names(record.item))
    except (CollectionError, ValueError, TypeError, KeyError, AttributeError) as error:
        yield f"point {found.id} is damaged ({type(error).__name__}): {again}"
