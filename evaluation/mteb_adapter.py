"""mmseek's encoders and retrievers as models of `mteb` (Muennighoff et al. 2022, arXiv:2210.07316), extra `[mteb]`.

import mteb
from mmseek.evaluation.mteb_adapter import MtebEncoder
mteb.evaluate(MtebEncoder(load_encoder("mini")), mteb.get_tasks(tasks=["Flickr30kT2IRetrieval"]))
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np

from mmseek._types import Content, Document, EncodeRequest, Image, Part, Query, Text
from mmseek.errors import EncodeError, InputError, MissingExtra
from mmseek.pipeline import Retriever

if TYPE_CHECKING:
    from mmseek._types import EncoderIdentity, FloatArray, Role, SearchMode
    from mmseek.protocols import Encoder, Reranker

try:
    from mteb.models.abs_encoder import AbsEncoder
    from mteb.models.model_meta import ModelMeta, ScoringFunction
except ImportError as _error:
    raise MissingExtra("evaluating with mteb", "mteb") from _error

__all__ = ["MtebEncoder", "MtebRetriever", "content_of"]

_MODALITIES: Final = ("text", "image")


def _meta(identity: EncoderIdentity, modalities: Sequence[str], searched: str = "") -> ModelMeta:
    """What `mteb` writes of a model: it is known by its spec, and its revision is the fingerprint."""
    family, _, rest = identity.spec.partition(":")
    name = f"mmseek/{family}-{Path(rest).name}" if rest else f"mmseek/{family}"
    return ModelMeta.create_empty(
        {
            "name": name + (f"-{searched}" if searched else ""),
            "revision": identity.fingerprint,
            "embed_dim": identity.dim,
            "modalities": list(modalities),
            "similarity_fn_name": ScoringFunction.COSINE,
            "framework": ["PyTorch"],
        }
    )


class MtebEncoder(AbsEncoder):  # type: ignore[misc]  # mteb is not typed for us
    """An encoder under `mteb`'s own search and tasks.

    The instruction of a query is that of the dataset's row, else the task's prompt; documents have none.

    Args:
        encoder: any encoder of one vector an item.
        modalities: what it takes: text, pictures or both.
        use_task_prompts: whether the prompt that a task brings is the query's instruction.
    """

    def __init__(
        self, encoder: Encoder, *, modalities: Sequence[str] = _MODALITIES, use_task_prompts: bool = True
    ) -> None:
        self.encoder = encoder
        self.model = encoder
        self._prompts = use_task_prompts
        self.mteb_model_meta = _meta(encoder.identity, modalities)

    def encode(
        self,
        inputs: Iterable[Mapping[str, Any]],
        *,
        task_metadata: Any,
        hf_split: str,
        hf_subset: str,
        prompt_type: Any = None,
        **kwargs: Any,
    ) -> FloatArray:
        """Vectors (n, dim), float32, of all batches in order.

        Raises:
            EncodeError: an item cannot be encoded; `mteb` has no place for one that is missing.
        """
        del hf_split, hf_subset, kwargs
        query = prompt_type is None or str(getattr(prompt_type, "value", prompt_type)) == "query"
        asked = self.get_instruction(task_metadata, prompt_type) if query and self._prompts else None
        role: Role = "query" if query else "document"
        requests = (
            EncodeRequest(content_of(row), role, (row.get("instruction") or asked or None) if query else None)
            for row in _rows(inputs)
        )
        vectors = []
        for place, outcome in enumerate(self.encoder.stream(requests)):
            if outcome.vector is None:
                raise EncodeError(f"item {place} of the task cannot be encoded: {outcome.error}")
            vectors.append(outcome.vector)
        return np.stack(vectors) if vectors else np.zeros((0, self.encoder.identity.dim), dtype=np.float32)


class MtebRetriever:
    """A whole retriever under `mteb`'s `SearchProtocol`: collection, search by vector, in words or both, rerankers.

    The corpus of a task is indexed into a collection that is gone after the next one.

    Args:
        encoder: any encoder of one vector an item.
        reranker, rerank_depth: see `Retriever`.
        mode: `dense`, `lexical` or `hybrid`.
        modalities: what the encoder takes.
    """

    def __init__(
        self,
        encoder: Encoder,
        *,
        reranker: Reranker | None = None,
        rerank_depth: int | None = None,
        mode: SearchMode = "dense",
        modalities: Sequence[str] = _MODALITIES,
    ) -> None:
        self._encoder, self._reranker, self._depth, self._mode = encoder, reranker, rerank_depth, mode
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._retriever: Retriever | None = None
        self.mteb_model_meta = _meta(encoder.identity, modalities, mode if reranker is None else f"{mode}-reranked")

    def index(self, corpus: Iterable[Mapping[str, Any]], **_kwargs: Any) -> None:
        """Index a task's corpus in place of the one before.

        Raises:
            InputError: a document cannot be indexed.
        """
        self.close()
        self._folder = tempfile.TemporaryDirectory(prefix="mmseek-mteb-")
        self._retriever = Retriever.open(
            Path(self._folder.name) / "collection",
            self._encoder,
            mode="create",
            reranker=self._reranker,
            rerank_depth=self._depth,
        )
        report = self._retriever.add(Document(str(row["id"]), content_of(row)) for row in corpus)
        if report.failed:
            raise InputError(f"{len(report.failed)} documents of the task cannot be indexed, first: {report.failed[0]}")

    def search(
        self,
        queries: Iterable[Mapping[str, Any]],
        *,
        top_k: int,
        top_ranked: Mapping[str, Sequence[str]] | None = None,
        **_kwargs: Any,
    ) -> dict[str, dict[str, float]]:
        """The documents found for each query, with scores that fall strictly from rank to rank.

        Raises:
            InputError: nothing was indexed.
        """
        if self._retriever is None:
            raise InputError("nothing is indexed yet: call index first")
        found = {}
        for row in queries:
            query_id = str(row["id"])
            allowed = None if top_ranked is None else frozenset(map(str, top_ranked.get(query_id, ())))
            query = Query(content_of(row), row.get("instruction") or None, k=top_k, candidates=allowed, mode=self._mode)
            hits = self._retriever.search(query).hits if allowed is None or allowed else ()
            # The order is ours alone: the score of a reranked hit is not on the scale of the others.
            found[query_id] = {hit.id: 1.0 / (1.0 + place) for place, hit in enumerate(hits)}
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """Give up the collection; a second call does nothing."""
        if self._retriever is not None:
            self._retriever.close()
        if self._folder is not None:
            self._folder.cleanup()
        self._retriever = self._folder = None


def content_of(row: Mapping[str, Any]) -> Content:
    """Picture, then title and text, of one row as `mteb` has it.

    Raises:
        InputError: it has neither.
    """
    parts: list[Part] = []
    picture = row.get("image")
    if picture is not None:
        parts.append(Image.from_pil(picture))
    text = _words(row)
    if text.strip():
        parts.append(Text(text))
    if not parts:
        raise InputError("a row of the task has neither a text nor a picture")
    return Content(tuple(parts))


def _words(row: Mapping[str, Any]) -> str:
    """The text without the instruction, and with the title.

    `mteb`'s loader puts the instruction behind a query's text, and the title before a document's; the datasets do not.
    """
    text = row.get("query") or row.get("text") or ""
    if isinstance(text, list):
        turns = [f"{each['role']}: {each['content']}" if isinstance(each, dict) else str(each) for each in text]
        return "; ".join(turns)
    title = row.get("title")
    return f"{title} {text}" if title and "body" not in row else str(text)


def _rows(batches: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """The rows of batches that hold a list for each column."""
    for batch in batches:
        columns = {name: values for name, values in batch.items() if isinstance(values, list | tuple)}
        for place in range(max((len(values) for values in columns.values()), default=0)):
            yield {name: values[place] for name, values in columns.items()}
