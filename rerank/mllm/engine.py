"""One forward pass a pair, cheaply: pictures are seen once, and what pairs begin with in common is read once.

The language model is called with embeddings, into which the states of pictures are put, so the vision tower's output
can be kept. A beginning that several pairs share (the query, where the prompt has it first) is read by itself; its keys
and values stand before each of the rests. Where the document is first its beginning is kept for the next query.
"""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

import numpy as np

from mmseek._types import Image, Pair, RerankerIdentity, Sent
from mmseek.errors import MmseekError
from mmseek.media import MediaLimits, open_image, read_bytes
from mmseek.models.device import usable_cores
from mmseek.rerank.base import BatchedReranker, Prepared, cut_batches
from mmseek.rerank.mllm.caches import ByteCache
from mmseek.rerank.mllm.reading import Past, read_last
from mmseek.rerank.mllm.sequences import Prompt, Tokens, numbered

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from mmseek._types import FloatArray
    from mmseek.protocols import ScoreScale
    from mmseek.rerank.mllm.backbone import Backbone, Picture, Seen

__all__ = ["Head", "Memory", "MllmReranker"]

Given = TypeVar("Given")
Made = TypeVar("Made")
Head = Callable[["torch.Tensor"], "torch.Tensor"]

_CPU_BUDGET: Final = 1024
_GPU_BUDGET: Final = 16384
# Visual tokens that are seen at once; on a CPU few, so that what is between two layers stays in its cache.
_CPU_SEEN: Final = 512
# A row that stands behind a kept beginning costs memory for it: this many of its tokens count as one.
_KEPT_PER_TOKEN: Final = 8
_LEAST_FOR_THREADS: Final = 4
_MIB: Final = 2**20


@dataclass(frozen=True, slots=True)
class Memory:
    """How many bytes are kept for reuse.

    Args:
        seen: of the vision tower's output.
        pasts: of keys and values of beginnings.
        pixels: of prepared pictures that were not seen yet.
    """

    seen: int = 256 * _MIB
    pasts: int = 512 * _MIB
    pixels: int = 64 * _MIB

    @classmethod
    def of(cls, device: str) -> Memory:
        """What is usual on a device."""
        return cls() if device == "cpu" else cls(seen=2048 * _MIB, pasts=4096 * _MIB)


@dataclass(frozen=True, slots=True)
class _Illustrated:
    """A prompt and its prepared pictures, before its tokens are numbered."""

    prompt: Prompt
    pictures: list[Picture]


class MllmReranker(BatchedReranker):
    """Scores of a multimodal language model. Thread-safe.

    Args:
        backbone: the loaded checkpoint.
        head: states (n, dim), float32, to scores (n,).
        identity: see `RerankerIdentity`.
        limits: of pictures.
        memory: what is kept for reuse; `Memory(0, 0, 0)` is the plain way.
        document_first: beginnings are those of documents, kept for the next query.
    """

    answers: tuple[str, ...] = ()
    """The words that the head compares, the one that means relevant first; none where it compares no words."""
    scale: ScoreScale | None = "unit"
    """See `Scaled`: heads are logistic functions."""

    def __init__(
        self,
        backbone: Backbone,
        head: Head,
        *,
        identity: RerankerIdentity,
        limits: MediaLimits | None = None,
        memory: Memory | None = None,
        document_first: bool = False,
    ) -> None:
        memory = memory or Memory.of(backbone.device)
        self.backbone = backbone
        self.head = head
        self._identity = identity
        self._limits = limits or MediaLimits()
        self._document_first = document_first
        self._shares = memory.pasts > 0
        self._seen: ByteCache[Seen] = ByteCache(memory.seen)
        self._pasts: ByteCache[Past] = ByteCache(memory.pasts)
        self._pixels: ByteCache[Picture] = ByteCache(memory.pixels)

    @property
    def identity(self) -> RerankerIdentity:
        return self._identity

    @property
    def budget(self) -> int:
        """By tokens, text and visual."""
        return _CPU_BUDGET if self.backbone.device == "cpu" else _GPU_BUDGET

    @abstractmethod
    def prompt(self, pair: Pair) -> Prompt:
        """What the model reads of a pair.

        Raises:
            InputError: the pair cannot be scored by this model.
        """

    def fit(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """Cut the tokens to what the model takes; as they are, unless a family says otherwise."""
        return numbers

    def prepare(self, pair: Pair) -> Prepared:
        """Tokens, positions and pictures.

        Raises:
            MediaError: a picture cannot be used.
            InputError: the pair is too long, or holds the mark of a picture in its text.
        """
        return self._numbered(self._illustrated(self.prompt(pair)))

    def sent(self, pair: Pair) -> Sent:
        """What the model reads of a pair, for people.

        Raises:
            MmseekError: as in `prepare`.
        """
        prompt = self.prompt(pair)
        tokens = self.tokens(prompt)
        return Sent(
            prompt=prompt.text(self.backbone.picture_text),
            picture_tokens=tuple(picture.tokens for picture in tokens.pictures),
            tokens=len(tokens),
        )

    def prepare_all(self, pairs: Sequence[Pair]) -> Iterable[Prepared | MmseekError]:
        """Pictures in threads, for they are decoded outside of Python; the first alone: then the query's is there.

        Tokens come after them and not in the threads, which would wait for each other: numbering is Python's own work.
        """
        if len(pairs) < _LEAST_FOR_THREADS or not any(pair.document.images for pair in pairs):
            return super().prepare_all(pairs)
        with ThreadPoolExecutor(usable_cores(), thread_name_prefix="pairs") as pool:
            illustrate = partial(_tried, lambda pair: self._illustrated(self.prompt(pair)))
            illustrated = [illustrate(pairs[0]), *pool.map(illustrate, pairs[1:])]
        return [each if isinstance(each, MmseekError) else _tried(self._numbered, each) for each in illustrated]

    def plan(self, prepared: Mapping[int, Prepared]) -> Mapping[int, Prepared]:
        """Mark the beginnings that are worth a pass of their own; what follows them is what a pair then costs."""
        if not self._shares:
            return prepared
        counts = Counter(each.payload.key for each in prepared.values() if each.payload.shared)
        return {place: self._planned(each, counts) for place, each in prepared.items()}

    def _planned(self, prepared: Prepared, counts: Counter[bytes]) -> Prepared:
        tokens: Tokens = prepared.payload
        if not tokens.shared:
            return prepared
        known = self._pasts.get(tokens.key) is not None
        if not (known or counts[tokens.key] > 1 or self._document_first):
            return prepared
        marked = replace(tokens, reuse=True)
        cheap = known or counts[tokens.key] > 1
        rest = len(tokens) - tokens.shared
        cost = max(rest, (rest + tokens.shared) // _KEPT_PER_TOKEN) if cheap else len(tokens)
        return Prepared(marked, cost=cost)

    def forward(self, payloads: Sequence[Tokens]) -> FloatArray:
        """Scores (n,), float32."""
        import torch

        with torch.inference_mode():
            seen = self._look(payloads)
            pasts = self._read_beginnings(payloads, seen)
            scores = np.empty(len(payloads), dtype=np.float32)
            behind = [place for place, each in enumerate(payloads) if each.key in pasts]
            alone = [place for place, each in enumerate(payloads) if each.key not in pasts]
            if behind:
                found = [pasts[payloads[place].key] for place in behind]
                scores[behind] = self._score([payloads[place] for place in behind], seen, found)
            for batch in cut_batches(alone, [len(payloads[place]) for place in alone], self.budget):
                scores[batch] = self._score([payloads[place] for place in batch], seen, None)
        return scores

    def _score(self, rows: Sequence[Tokens], seen: Mapping[bytes, Seen], pasts: Sequence[Past] | None) -> FloatArray:
        keep = pasts is None and any(row.reuse for row in rows)
        states, read = read_last(self.backbone, rows, seen, pasts, keep=keep)
        for row, past in zip(rows, read, strict=False):
            if row.reuse:
                beginning = past.first(row.shared)
                self._pasts.put(row.key, beginning, beginning.bytes)
        scores: FloatArray = self.head(states.float()).float().cpu().numpy()
        return scores

    def states(self, payloads: Sequence[Tokens]) -> torch.Tensor:
        """What the head reads of prepared pairs (n, dim), each read whole: the plain way, for training.

        Where gradients are enabled the language model has them; the vision tower never has.
        """
        import torch

        with torch.no_grad():
            seen = self._look(payloads)
        states, _ = read_last(self.backbone, payloads, seen, None, keep=False)
        return states

    def answer_logits(self, tokens: Tokens) -> FloatArray:
        """What the head makes of one sequence that is read by itself."""
        import torch

        with torch.inference_mode():
            logits: FloatArray = self.head(self.states([tokens]).float()).float().cpu().numpy()[0]
        return logits

    def _read_beginnings(self, payloads: Sequence[Tokens], seen: Mapping[bytes, Seen]) -> dict[bytes, Past]:
        """Keys and values of the beginnings that were kept, or that several of these pairs have."""
        pasts: dict[bytes, Past] = {}
        for row in payloads:
            if not row.reuse or row.key in pasts:
                continue
            past = self._pasts.get(row.key)
            # Of a document that no other pair has, the beginning is kept when the whole has been read.
            if past is None and not (self._document_first and self._lone(row, payloads)):
                _, (past,) = read_last(self.backbone, [row.beginning()], seen, None, keep=True)
                self._pasts.put(row.key, past, past.bytes)
            if past is not None:
                pasts[row.key] = past
        return pasts

    @staticmethod
    def _lone(row: Tokens, payloads: Sequence[Tokens]) -> bool:
        return sum(each.key == row.key for each in payloads) == 1

    def _look(self, payloads: Sequence[Tokens]) -> dict[bytes, Seen]:
        """What the vision tower makes of every picture, each seen once."""
        seen: dict[bytes, Seen] = {}
        unseen: dict[bytes, Picture] = {}
        for picture in (picture for row in payloads for picture in row.pictures):
            if picture.key in seen or picture.key in unseen:
                continue
            known = picture.seen or self._seen.get(picture.key)
            if known is None:
                unseen[picture.key] = picture
            else:
                seen[picture.key] = known
        waiting = sorted(unseen.values(), key=lambda picture: -picture.tokens)
        places = range(len(waiting))
        most = _CPU_SEEN if self.backbone.device == "cpu" else _GPU_BUDGET
        for batch in cut_batches(places, [picture.tokens for picture in waiting], most):
            pictures = [waiting[place] for place in batch]
            for picture, result in zip(pictures, self.backbone.see(pictures), strict=True):
                seen[picture.key] = result
                self._seen.put(picture.key, result, result.bytes)
        return seen

    def tokens(self, prompt: Prompt) -> Tokens:
        """A prompt with its pictures, ready for the model.

        Raises:
            MmseekError: as in `prepare`.
        """
        tokens: Tokens = self._numbered(self._illustrated(prompt)).payload
        return tokens

    def _illustrated(self, prompt: Prompt) -> _Illustrated:
        return _Illustrated(prompt, [self._picture(image) for image in prompt.images])

    def _numbered(self, illustrated: _Illustrated) -> Prepared:
        tokens = numbered(illustrated.prompt, illustrated.pictures, self.backbone, self.fit)
        return Prepared(tokens, cost=len(tokens))

    def _picture(self, image: Image) -> Picture:
        """A prepared picture; one that was seen before is not decoded again."""
        key = hashlib.sha256(read_bytes(image, self._limits)).digest()
        known = self._seen.get(key)
        if known is not None:
            return _seen_before(key, known)
        prepared = self._pixels.get(key)
        if prepared is None:
            prepared = self.backbone.prepare(open_image(image, limits=self._limits), image, key)
            self._pixels.put(key, prepared, _size(prepared))
        return prepared


def _tried(step: Callable[[Given], Made], given: Given) -> Made | MmseekError:
    """What a step makes, or what it fails with."""
    try:
        return step(given)
    except MmseekError as error:
        return error


def _seen_before(key: bytes, seen: Seen) -> Picture:
    from mmseek.rerank.mllm.backbone import Picture

    return Picture(key, len(seen.states), seen.grid, seen=seen)


def _size(picture: Picture) -> int:
    pixels = picture.pixels
    return int((pixels[0] if isinstance(pixels, tuple) else pixels).nbytes)
