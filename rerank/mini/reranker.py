"""`mini`: a second look at the first hits that costs milliseconds and needs no download.

The score of a pair is what the `mini` encoder gives it, plus what its one vector cannot hold:

    cosine + WORDS_WEIGHT * shared words + PICTURE_WEIGHT * trained head

- *Shared words*, where both sides have text: BM25 over word pieces with shipped weights (`lexical`).
- *Trained heads*, where the document has a picture and the query has text: a query of text alone, or of a picture and
  text together, against the picture's features and colours (`scorer`). Of several pictures the best counts.

Weights were chosen on the training and dev splits of the data sets in MODEL_CARD.md. Any first stage may be used: the
cosine is computed here, always by `mini`. An instruction changes nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn, Protocol, Self, TypeAlias, TypeVar

import numpy as np
import torch

from mmseek._types import Content, Pair, RerankerIdentity, Sent, Text
from mmseek.errors import InputError, SpecError
from mmseek.models.spec import Spec
from mmseek.rerank.base import BatchedReranker, Prepared, cut_batches
from mmseek.rerank.mini.lexical import lexical_score
from mmseek.rerank.mini.memory import Memory
from mmseek.rerank.mini.scorer import WEIGHTS, PairScorer, load_scorer

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmseek._types import FloatArray, Image

__all__ = ["PICTURE_WEIGHT", "RECIPE_VERSION", "WORDS_WEIGHT", "Look", "MiniReranker", "load"]

WORDS_WEIGHT: Final = 0.43
PICTURE_WEIGHT: Final = 0.43
# To be raised by any change that gives other scores from the same weights.
RECIPE_VERSION: Final = 1

_WINDOW_BUDGET: Final = 1 << 30  # pairs are cheap: a whole window at once, so that each side is looked at once
_PIECES_BUDGET: Final = 1024
_DIM: Final = 384  # of the encoder's vectors, which end what is seen of a picture
_PICTURES_AT_ONCE: Final = 16
# About 55 MB of vectors and, for sides of one picture, 40 MB of pixels, at most.
_REMEMBERED: Final = 8192
_REMEMBERED_SIDES: Final = 1024

Key = TypeVar("Key", bound=Hashable)
Stamp: TypeAlias = tuple[int, int] | None


class Look(Protocol):
    """What this room needs of the `mini` encoder's towers; see `mmseek.embed.mini.look.MiniLook`."""

    @property
    def fingerprint(self) -> str: ...

    def pieces(self, text: str) -> list[int]: ...

    def pixels(self, image: Image) -> NDArray[np.uint8]: ...

    def texts(self, texts: Sequence[Sequence[int]]) -> FloatArray: ...

    def pictures(self, pictures: Sequence[NDArray[np.uint8]]) -> FloatArray: ...

    def compose(self, picture: FloatArray, text: FloatArray) -> FloatArray: ...


@dataclass(frozen=True, slots=True)
class _Side:
    """A query or a document: its texts in word pieces, its pictures by their hashes, and the pixels of each hash."""

    texts: tuple[tuple[int, ...], ...]
    pictures: tuple[bytes, ...]
    pixels: Mapping[bytes, NDArray[np.uint8]]

    @property
    def words(self) -> list[int]:
        """The word pieces of all its texts, without the marks at their ends."""
        return [piece for text in self.texts for piece in text[1:-1]]


class MiniReranker(BatchedReranker):
    """Scores of texts, pictures and both on either side. Thread-safe.

    Args:
        look: the towers of the `mini` encoder.
        scorer: the trained heads.
        fingerprint: see `RerankerIdentity`.
    """

    def __init__(self, look: Look, scorer: PairScorer, *, fingerprint: str) -> None:
        self._look = look
        self._scorer = scorer
        self._piece_weights: FloatArray = scorer.piece_weights.numpy()
        self._identity = RerankerIdentity("mini", fingerprint)
        self._texts: Memory[tuple[int, ...]] = Memory(_REMEMBERED)
        self._looks: Memory[bytes] = Memory(_REMEMBERED)
        self._places: Memory[bytes] = Memory(_REMEMBERED)
        self._sides = lru_cache(maxsize=_REMEMBERED_SIDES)(self._make_side)

    @classmethod
    def on(cls, look: Look) -> Self:
        """On the towers of the encoder, with the shipped heads.

        Raises:
            ModelError: the heads are missing, damaged, or of another version.
        """
        return cls(look, load_scorer(), fingerprint=fingerprint(look.fingerprint))

    @property
    def identity(self) -> RerankerIdentity:
        return self._identity

    @property
    def budget(self) -> int:
        """No bound of its own: towers are run in small batches inside, and the window bounds the rest."""
        return _WINDOW_BUDGET

    def prepare(self, pair: Pair) -> Prepared:
        """Word pieces and pixels of both sides.

        Raises:
            MediaError: a picture cannot be used.
            InputError: the query is empty.
        """
        if pair.query.is_empty:
            raise InputError("the query has neither text nor image: give at least one")
        return Prepared(
            (self._sides(pair.query, _stamps(pair.query)), self._sides(pair.document, _stamps(pair.document))), cost=1
        )

    def sent(self, pair: Pair) -> Sent:
        """The parts of both sides, a line each; a picture is one look, and its mark `<picture>`.

        Raises:
            MmseekError: as in `prepare`.
        """
        sides = self.prepare(pair).payload
        parts = [*pair.query.parts, *pair.document.parts]
        looks = sum(len(side.pictures) for side in sides)
        return Sent(
            prompt="\n".join(part.text if isinstance(part, Text) else "<picture>" for part in parts),
            picture_tokens=(1,) * looks,
            tokens=looks + sum(len(text) for side in sides for text in side.texts),
        )

    def forward(self, payloads: Sequence[tuple[_Side, _Side]]) -> FloatArray:
        """Scores (n,), float32; every text and picture is looked at once, however many pairs it stands in."""
        sides = [side for pair in payloads for side in pair]
        pixels = {key: pixels for side in sides for key, pixels in side.pixels.items()}
        texts = self._texts.rows((text for side in sides for text in side.texts), self._text_vectors)
        looks = self._looks.rows(pixels, lambda keys: self._picture_looks(keys, pixels))
        places = self._places.rows(pixels, lambda keys: self._in_head_space([looks[key] for key in keys], keys))
        seen = _Seen(texts, looks, places)
        # A query stands in all of its pairs: its vector, and what it asks of pictures, are found once.
        queries = {id(query): query for query, _ in payloads}
        vectors = {place: self._asked_for(seen, query) for place, query in queries.items()}
        asked = {place: self._asked(seen, query) for place, query in queries.items()}
        scores = [
            float(vectors[id(query)] @ seen.vector(document)) + self._beyond(seen, query, document, asked[id(query)])
            for query, document in payloads
        ]
        return np.array(scores, dtype=np.float32)

    def _make_side(self, content: Content, stamps: tuple[Stamp, ...]) -> _Side:
        del stamps  # a changed file is another side
        # As the encoder has it: blank text counts only where there is nothing else.
        said = [text for text in content.texts if text.strip()] or ([] if content.images else content.texts[:1])
        texts = tuple(tuple(self._look.pieces(text)) for text in said)
        pixels = [self._look.pixels(image) for image in content.images]
        keys = tuple(hashlib.sha256(each.tobytes()).digest() for each in pixels)
        return _Side(texts, keys, dict(zip(keys, pixels, strict=True)))

    def _text_vectors(self, texts: Sequence[tuple[int, ...]]) -> dict[tuple[int, ...], FloatArray]:
        ordered = sorted(texts, key=lambda text: (-len(text), text))
        batches = cut_batches(range(len(ordered)), [len(text) for text in ordered], _PIECES_BUDGET)
        return _by_key(ordered, batches, self._look.texts, ordered)

    def _picture_looks(
        self, keys: Sequence[bytes], pictures: Mapping[bytes, NDArray[np.uint8]]
    ) -> dict[bytes, FloatArray]:
        batches = cut_batches(range(len(keys)), [1] * len(keys), _PICTURES_AT_ONCE)
        return _by_key(keys, batches, self._look.pictures, [pictures[key] for key in keys])

    def _asked_for(self, seen: _Seen, query: _Side) -> FloatArray:
        """The vector that the `mini` encoder gives a query, (384,), L2-normalised."""
        if query.texts and query.pictures:
            return self._look.compose(seen.picture(query), seen.text(query))
        return seen.vector(query)

    def _beyond(self, seen: _Seen, query: _Side, document: _Side, asked: FloatArray | None) -> float:
        """What is added to the cosine: shared words, and the trained head."""
        score = 0.0
        if query.texts and document.texts:
            score += WORDS_WEIGHT * lexical_score(query.words, document.words, self._piece_weights)
        if asked is not None and document.pictures:
            # Of several pictures the one that is liked best.
            score += PICTURE_WEIGHT * max(float(asked @ seen.places[key]) for key in document.pictures)
        return score

    @torch.inference_mode()
    def _in_head_space(self, looks: Sequence[FloatArray], keys: Sequence[bytes]) -> dict[bytes, FloatArray]:
        """Where both heads see pictures: their vectors one after the other, (2 * space,)."""
        scaled = self._scorer.scaled(torch.from_numpy(np.stack(looks)))
        both = torch.cat([self._scorer.words.pictures(scaled), self._scorer.composed.pictures(scaled)], dim=1)
        return dict(zip(keys, both.numpy(), strict=True))

    @torch.inference_mode()
    def _asked(self, seen: _Seen, query: _Side) -> FloatArray | None:
        """What the head that fits the query asks of pictures, with zeros for the other head; None without text."""
        if not query.texts:
            return None
        text = torch.from_numpy(seen.text(query))[None]
        if query.pictures:
            pictures = torch.from_numpy(seen.pictures(query)).mean(dim=0, keepdim=True)
            wanted = self._scorer.composed.queries(text, self._scorer.scaled(pictures))
            both = torch.cat([torch.zeros_like(wanted), wanted], dim=1)
        else:
            wanted = self._scorer.words.queries(text)
            both = torch.cat([wanted, torch.zeros_like(wanted)], dim=1)
        found: FloatArray = both[0].numpy()
        return found


@dataclass(frozen=True, slots=True)
class _Seen:
    """What the towers gave, by text and by picture, and where the heads see the pictures."""

    texts: Mapping[tuple[int, ...], FloatArray]
    looks: Mapping[bytes, FloatArray]
    places: Mapping[bytes, FloatArray]

    def text(self, side: _Side) -> FloatArray:
        """The mean of its texts' vectors, each counted by its length, (384,), L2-normalised."""
        return _unit(sum(len(text) * self.texts[text].astype(np.float64) for text in side.texts))

    def pictures(self, side: _Side) -> FloatArray:
        """What is seen of its pictures, (pictures, 1240)."""
        return np.stack([self.looks[key] for key in side.pictures])

    def picture(self, side: _Side) -> FloatArray:
        """The mean of its pictures' vectors, (384,), L2-normalised."""
        return _unit(self.pictures(side)[:, -_DIM:].astype(np.float64).sum(axis=0))

    def vector(self, side: _Side) -> FloatArray:
        """The vector that the `mini` encoder gives a document, (384,), L2-normalised; zero for an empty one."""
        parts = [self.text(side)] if side.texts else []
        if side.pictures:
            parts.append(self.picture(side))
        return _unit(sum(parts)) if parts else np.zeros(_DIM, dtype=np.float32)


def _stamps(content: Content) -> tuple[Stamp, ...]:
    """What tells a picture file from its later versions."""
    return tuple(_stamp(image.path) for image in content.images if image.path is not None)


def _stamp(path: Path) -> Stamp:
    try:
        status = path.stat()
    except OSError:
        return None  # looking at it will say what is wrong
    return status.st_mtime_ns, status.st_size


def _unit(vector: Any) -> FloatArray:
    length = float(np.linalg.norm(vector)) or 1.0
    return np.asarray(vector / length, dtype=np.float32)


def _by_key(
    keys: Sequence[Key], batches: Sequence[Sequence[int]], run: Callable[[Any], FloatArray], items: Sequence[Any]
) -> dict[Key, FloatArray]:
    found: dict[Key, FloatArray] = {}
    for batch in batches:
        for place, row in zip(batch, run([items[place] for place in batch]), strict=True):
            found[keys[place]] = row
    return found


def load(spec: Spec, *, device: str | None) -> NoReturn:
    """Nothing can be loaded without the encoder's towers.

    Raises:
        SpecError: always; it names the way.
    """
    del device
    raise SpecError(f"{spec} stands on the mini encoder: use mmseek.load_reranker('mini'), or MiniReranker.on(towers)")


def fingerprint(encoder: str, weights: Path = WEIGHTS) -> str:
    """Of the encoder's own fingerprint, the heads' weights and the recipe."""
    recipe = f"mini {RECIPE_VERSION} {WORDS_WEIGHT} {PICTURE_WEIGHT}"
    parts = (recipe, encoder, hashlib.sha256(weights.read_bytes()).hexdigest())
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
