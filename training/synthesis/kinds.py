"""What a row may be: a task and the modalities of its two sides; and which row is made of which pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from mmseek.errors import ConfigError

__all__ = ["KINDS", "Job", "Kind", "Plan", "chosen_kinds"]

_LENGTHS: Final = ("a few words", "one sentence", "two or three sentences")
_LEVELS: Final = ("easy: it is seen at a glance", "medium: it takes a look at details", "hard: it takes reasoning")


@dataclass(frozen=True, slots=True)
class Kind:
    """A task, and the modalities of query and documents as M-BEIR writes them: `text`, `image` or `image,text`."""

    task: str
    query: str
    document: str

    @property
    def name(self) -> str:
        return f"{self.task}:{self.query}->{self.document}"

    @property
    def roles(self) -> tuple[str, ...]:
        """What each of the row's pictures is: `query`, `positive`, `hard_negative`."""
        asks = ("query",) if "image" in self.query else ()
        return (*asks, "positive", "hard_negative") if "image" in self.document else asks

    @property
    def fields(self) -> tuple[str, ...]:
        """The texts that the model writes."""
        asks = ("query",) if "text" in self.query else ()
        answers = ("positive", "hard_negative") if "text" in self.document else ()
        return ("instruction", *asks, *answers)


KINDS: Final = (
    Kind("classification", "image", "text"),
    Kind("classification", "image,text", "text"),
    Kind("vqa", "image,text", "text"),
    Kind("retrieval", "image", "text"),
    Kind("retrieval", "text", "image"),
    Kind("retrieval", "text", "image,text"),
    Kind("retrieval", "image", "image"),
    Kind("retrieval", "image,text", "text"),
    Kind("retrieval", "image,text", "image"),
    Kind("retrieval", "image,text", "image,text"),
)
"""mmE5's three tasks. In all there are seven combinations of modalities."""


def chosen_kinds(names: Sequence[str]) -> tuple[Kind, ...]:
    """Kinds by task (`vqa`) or in full (`retrieval:text->image`); all of them for none.

    Raises:
        ConfigError: there is no such kind.
    """
    if not names:
        return KINDS
    for name in names:
        if not any(name in (kind.task, kind.name) for kind in KINDS):
            known = ", ".join([*dict.fromkeys(kind.task for kind in KINDS), *(kind.name for kind in KINDS)])
            raise ConfigError(f"there is no task {name!r}: the tasks are {known}")
    return tuple(kind for kind in KINDS if kind.task in names or kind.name in names)


@dataclass(frozen=True, slots=True)
class Job:
    """One row to be made.

    Args:
        number: from 0.
        kind: what it is.
        pictures: numbers in the pool, one for each of the kind's roles.
        language: of the query and the documents.
        length, level: of the query.
        again: how many rows were made around the first picture before.
    """

    number: int
    kind: Kind
    pictures: tuple[int, ...]
    language: str
    length: str
    level: str
    again: int


class Plan:
    """Which job has which number: the same for the same arguments, however many are asked for.

    Every picture is the first of a job once before any is again. Retrieval is drawn twice as often as the other tasks.

    Args:
        pictures: how many there are.
        kinds: to draw from.
        languages: to draw from, equally.
        near: number of a picture -> numbers of others, the most alike first; asked where a row has several pictures.
        seed: of all that is drawn.

    Raises:
        ConfigError: there are too few pictures for all of the kinds, or no language.
    """

    def __init__(
        self,
        pictures: int,
        kinds: Sequence[Kind],
        languages: Sequence[str],
        near: Callable[[int], Sequence[int]],
        seed: int,
    ) -> None:
        # Two that are like the first: the row's other two pictures.
        self._kinds = [kind for kind in kinds if len(kind.roles) <= pictures]
        if not self._kinds or not languages:
            raise ConfigError(f"{pictures} pictures in {len(languages)} languages make no row: give at least 3 and 1")
        tasks = sorted({kind.task for kind in self._kinds})
        weights = np.array([2.0 if task == "retrieval" else 1.0 for task in tasks])
        self._tasks, self._weights = tasks, weights / weights.sum()
        self._pictures, self._languages, self._near, self._seed = pictures, list(languages), near, seed
        self._order: tuple[int, list[int]] = (-1, [])

    def job(self, number: int) -> Job:
        """The job of this number. Not for several threads."""
        turn, place = divmod(number, self._pictures)
        if self._order[0] != turn:
            order = np.random.default_rng([self._seed, 0, turn]).permutation(self._pictures)
            self._order = (turn, order.tolist())
        first = self._order[1][place]
        rng = np.random.default_rng([self._seed, 1, number])
        task = self._tasks[int(rng.choice(len(self._tasks), p=self._weights))]
        kinds = [kind for kind in self._kinds if kind.task == task]
        kind = kinds[int(rng.integers(len(kinds)))]
        return Job(
            number,
            kind,
            (first, *self._others(first, len(kind.roles) - 1, rng)),
            self._languages[int(rng.integers(len(self._languages)))],
            _LENGTHS[int(rng.integers(len(_LENGTHS)))],
            _LEVELS[int(rng.integers(len(_LEVELS)))],
            turn,
        )

    def _others(self, first: int, count: int, rng: np.random.Generator) -> list[int]:
        """Of the ten nearest: what is almost the same makes the hard row. A positive is nearer than its negative."""
        if not count:
            return []
        near = list(self._near(first))[:10]
        return [near[place] for place in sorted(rng.permutation(len(near))[:count].tolist())]
