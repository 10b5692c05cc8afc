"""How alike two answers, or two queries, are: SQuAD's exact match and F1, ROUGE-L and BLEU-1."""

from __future__ import annotations

import math
import re
import string
from collections import Counter
from collections.abc import Sequence
from typing import Final

from mmseek.pipeline.asking import CITED

__all__ = ["bleu_1", "exact_match", "normalised", "requery_score", "rouge_l", "token_f1", "without_citations"]

_ARTICLES: Final = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION: Final = str.maketrans("", "", string.punctuation)


def without_citations(text: str) -> str:
    """An answer without its `[1]`: they are no words of it."""
    return CITED.sub(" ", text)


def normalised(text: str) -> str:
    """As SQuAD compares answers (Rajpurkar et al. 2016): lower case, no punctuation, no articles, single spaces."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def exact_match(text: str, right: Sequence[str]) -> float:
    """1 if it is one of the right answers, else 0."""
    return float(any(normalised(text) == normalised(each) for each in right))


def token_f1(text: str, right: Sequence[str]) -> float:
    """The best F1 of its words against those of a right answer, in [0, 1]."""
    return max((_f1(normalised(text).split(), normalised(each).split()) for each in right), default=0.0)


def _f1(said: Sequence[str], right: Sequence[str]) -> float:
    if not said or not right:  # as SQuAD 2.0 has it: nothing is alike only to nothing
        return float(said == right)
    common = (Counter(said) & Counter(right)).total()
    return 2 * common / (len(said) + len(right))


def requery_score(text: str, right: Sequence[str]) -> float:
    """MMSearch's score of a query (arXiv:2409.12959): the mean of ROUGE-L and BLEU-1, against the best reference."""
    said = _words(text)
    return max(((rouge_l(said, _words(each)) + bleu_1(said, _words(each))) / 2 for each in right), default=0.0)


def rouge_l(said: Sequence[str], right: Sequence[str]) -> float:
    """F1 of the longest common subsequence of words (Lin 2004)."""
    if not said or not right:
        return 0.0
    lengths = [0] * (len(right) + 1)
    for word in said:
        before = lengths[:]
        for place, other in enumerate(right, start=1):
            lengths[place] = before[place - 1] + 1 if word == other else max(lengths[place - 1], before[place])
    return 2 * lengths[-1] / (len(said) + len(right))


def bleu_1(said: Sequence[str], right: Sequence[str]) -> float:
    """Clipped precision of single words, less for what is too short (Papineni et al. 2002)."""
    if not said or not right:
        return 0.0
    precision = (Counter(said) & Counter(right)).total() / len(said)
    return precision * min(1.0, math.exp(1 - len(right) / len(said)))


def _words(text: str) -> list[str]:
    return text.lower().translate(_PUNCTUATION).split()
