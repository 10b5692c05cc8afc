"""`lamra-listwise`: LamRA-Rank (arXiv 2412.01720) asked which of some candidates fits the query best.

The model saw lists of two to five candidates. More are put in order by a window of five that moves from the last
candidates to the first, two places at a time, and orders its own by the logits of their numbers; so the best wanders to
the front. One pass a window and no generation: `Ans: (` is given, and the rows of the head for the numbers are read in
float32. The scores tell the order and nothing else, and, unlike those of all other families, depend on the list.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, islice
from typing import TYPE_CHECKING, Final

from mmseek._types import Content, Pair, Scored
from mmseek.errors import MmseekError
from mmseek.rerank.lamra import KINDS, instructed, side
from mmseek.rerank.mllm.chats import turns
from mmseek.rerank.mllm.engine import MllmReranker
from mmseek.rerank.mllm.loading import load_family
from mmseek.rerank.mllm.sequences import Prompt

if TYPE_CHECKING:
    from mmseek.models.spec import Spec

__all__ = ["RECIPE_VERSION", "LamraListwiseReranker", "load"]

# To be raised by any change that gives other scores from the same weights.
RECIPE_VERSION: Final = 1
LIST: Final = 5
STEP: Final = 2
# More pairs than this of one query are put in order in pieces.
_MOST: Final = 512
_ASKED: Final = (
    "I will provide you with a query followed by multiple candidates in the format: (1) cand1 (2) cand2, etc. Each "
    "candidate is independent of the others. Evaluate each candidate against the query, and respond with the number "
    "corresponding to the candidate that best meets the requirements of the query."
)


class LamraListwiseReranker(MllmReranker):
    """Scores that tell the order of one query's candidates: 1 for the best, less for each that follows, above 0."""

    def prompt(self, pair: Pair) -> Prompt:
        """The list of one candidate."""
        return self.list_prompt(instructed(pair), [pair.document])

    def list_prompt(self, query: Content, candidates: Sequence[Content]) -> Prompt:
        """The question, the query, the numbered candidates, and the answer up to its number."""
        start, end = turns(self.backbone)
        shared = (f"{start}{_ASKED}Query:", *side(query), "Candidates:")
        numbered = [part for n, each in enumerate(candidates, start=1) for part in (f"({n}) ", *side(each))]
        return Prompt(shared, (*numbered, f"{end}Ans: ("))

    def stream(self, pairs: Iterable[Pair]) -> Iterator[Scored]:
        """One outcome a pair, in input order; neighbours with the same query are one list."""
        for _, same in groupby(pairs, key=lambda pair: (pair.query, pair.instruction)):
            while piece := list(islice(same, _MOST)):
                yield from self._ordered(piece)

    def _ordered(self, pairs: Sequence[Pair]) -> list[Scored]:
        outcomes: dict[int, Scored] = {}
        order: list[int] = []
        for place, pair in enumerate(pairs):
            try:
                self.prepare(pair)
                order.append(place)
            except MmseekError as error:
                outcomes[place] = Scored(error=error)
        query = instructed(pairs[0])
        try:
            for start in _starts(len(order)):
                window = order[start : start + LIST]
                best = self.best_first(query, [pairs[place].document for place in window])
                order[start : start + LIST] = [window[place] for place in best]
        except MmseekError as error:
            return [outcomes.get(place, Scored(error=error)) for place in range(len(pairs))]
        for rank, place in enumerate(order):
            outcomes[place] = Scored(score=1.0 - rank / len(order))
        return [outcomes[place] for place in range(len(pairs))]

    def best_first(self, query: Content, candidates: Sequence[Content]) -> list[int]:
        """The places of up to five candidates, best first; equal ones stay as they are."""
        logits = self.logits(query, candidates)
        return sorted(range(len(candidates)), key=lambda place: -logits[place])

    def logits(self, query: Content, candidates: Sequence[Content]) -> list[float]:
        """The logit of each candidate's number."""
        tokens = self.tokens(self.list_prompt(query, candidates))
        return [float(each) for each in self.answer_logits(tokens)[: len(candidates)]]


def _starts(count: int) -> list[int]:
    """Where the window stands, from the last place to the first."""
    if count < 2:
        return []
    return [*range(max(count - LIST, 0), 0, -STEP), 0]


def load(spec: Spec, *, device: str | None) -> LamraListwiseReranker:
    """Load `lamra-listwise:HUB_ID[@REVISION]` or `lamra-listwise:FOLDER`.

    Raises:
        ModelError: the checkpoint is missing, of another kind or not whole.
    """
    return load_family(
        LamraListwiseReranker,
        spec,
        device,
        kinds=KINDS,
        answers=tuple(str(number) for number in range(1, LIST + 1)),
        recipe=f"lamra-listwise {RECIPE_VERSION} {LIST} {STEP}",
        adapter=True,
    )
