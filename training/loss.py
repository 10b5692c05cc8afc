"""The contrastive loss: InfoNCE (van den Oord et al. 2018, arXiv:1807.03748) over gathered documents, and what may be
added to it. What is trained is `model`; the loss itself has one parameter at most, the temperature.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own convention

from mmseek.training.gathering import gathered, rank, world_size
from mmseek.training.late import maxsim, own_maxsim
from mmseek.training.settings import LossConfig

__all__ = ["Contrastive", "Layout"]


@dataclass(frozen=True, slots=True)
class Layout:
    """Where a batch's vectors stand, in rows of one matrix: n queries, n positives, then n * k negatives.

    Args:
        queries: n.
        negatives: k, of every query; those that a row lacks repeat another vector and are not `present`.
        present: (n, k) bool.
        keys: (2 n + n k,) int64, equal for equal content.
        known: (n, m) int64, keys of all positives of each row, repeated to m.
        teacher: (n, 1 + k) a teacher's scores of the positive and the negatives, NaN where there are none.
    """

    queries: int
    negatives: int
    present: Tensor
    keys: Tensor
    known: Tensor
    teacher: Tensor

    def to(self, device: torch.device) -> Layout:
        """The same on another device."""
        moved = (each.to(device) for each in (self.present, self.keys, self.known, self.teacher))
        return Layout(self.queries, self.negatives, *moved)


class Contrastive(nn.Module):
    """The loss of a batch of vectors.

    The mean of it over the processes, each of which has as many queries, is the loss of the whole batch in one process,
    and so are the gradients.

    Args:
        config: see `LossConfig`.
        model: what is trained; kept here because the trainer takes all parameters from the loss.
    """

    def __init__(self, config: LossConfig, model: nn.Module | None = None) -> None:
        super().__init__()
        self.config = config
        self.model = model
        # As its logarithm, so that no step makes it negative; CLIP keeps it so as well.
        scale = torch.tensor(-math.log(config.temperature))
        self.logit_scale = nn.Parameter(scale, requires_grad=config.learn_temperature)

    def forward(self, vectors: Tensor, layout: Layout) -> Tensor:
        """The loss of vectors (2 n + n k, dim), L2-normalised, float32.

        Of vectors (2 n + n k, tokens, dim), rows of zeros for tokens that are not there, the scores are MaxSim. With
        `visual`, the second half of each vector is its picture's, zeros without one.
        """
        visual = self.config.visual
        if not visual:
            return self._whole(vectors, layout)
        whole, own = vectors.chunk(2, dim=1)
        return (1 - visual) * self._whole(whole, layout) + visual * self._of_pictures(own, layout)

    def _whole(self, vectors: Tensor, layout: Layout) -> Tensor:
        config = self.config
        lengths = (vectors.shape[-1], *config.matryoshka)
        weights = config.matryoshka_weights or (1.0,) * len(lengths)
        total = vectors.new_zeros(())
        for length, weight in zip(lengths, weights, strict=True):
            cut = vectors if length == vectors.shape[-1] else F.normalize(vectors[..., :length], dim=-1)
            total = total + weight * self._at_length(cut, layout)
        return total / sum(weights)

    def _of_pictures(self, vectors: Tensor, layout: Layout) -> Tensor:
        """InfoNCE of the rows whose query and positive have a picture, among the documents that have one."""
        n = layout.queries
        there = vectors.detach().abs().amax(dim=1) > 0
        rows = there[:n] & there[n : 2 * n]
        total = gathered(rows).sum()
        if not total:
            return vectors.sum() * 0
        present = layout.present & there[2 * n :].view(n, layout.negatives)
        scores, out, own, scale = self._scored(vectors, replace(layout, present=present))
        lacking = ~gathered(there[n : 2 * n])
        out[:, : len(lacking)] |= lacking
        out[torch.arange(n, device=out.device), own] = False
        each = F.cross_entropy((scores * scale).masked_fill(out, -torch.inf), own, reduction="none")
        # The mean over all processes' rows, as the mean over the processes of this.
        return (each * rows).sum() * world_size() / total

    def _scored(self, vectors: Tensor, layout: Layout) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Scores (n, m) of all documents, which of them do not count, the places of the positives, and the scale."""
        n = layout.queries
        queries, positives, negatives = vectors[:n], vectors[n : 2 * n], vectors[2 * n :]
        scale = self.logit_scale.clamp(max=math.log(1000)).exp()
        keys = gathered(layout.keys[n : 2 * n])
        own = torch.arange(n, device=vectors.device) + rank() * n
        here = torch.arange(n, device=vectors.device)
        scores = _score(queries, gathered(positives))
        best = scores[here, own].unsqueeze(1)
        out = self._false(scores, best, keys, layout)
        out[here, own] = False
        if layout.negatives:
            hard, hard_out = self._hard(queries, negatives, best, layout)
            scores, out = torch.cat([scores, hard], dim=1), torch.cat([out, hard_out], dim=1)
        return scores, out, own, scale

    def _at_length(self, vectors: Tensor, layout: Layout) -> Tensor:
        config, n = self.config, layout.queries
        scores, out, own, scale = self._scored(vectors, layout)
        # Scaled first: the scale's gradient of a product with minus infinity is not a number.
        loss = F.cross_entropy((scores * scale).masked_fill(out, -torch.inf), own)
        if config.symmetric:
            back = _score(gathered(vectors[:n]), vectors[n : 2 * n]).T * scale
            if config.mask_duplicates:
                keys = gathered(layout.keys[n : 2 * n])
                same = layout.keys[n : 2 * n].unsqueeze(1) == keys
                same[torch.arange(n, device=own.device), own] = False
                back = back.masked_fill(same, -torch.inf)
            loss = (loss + F.cross_entropy(back, own)) / 2
        if config.distill:
            best = scores.gather(1, own.unsqueeze(1))
            loss = (1 - config.distill) * loss + config.distill * self._distilled(vectors, best, layout, scale)
        return loss

    def _hard(self, queries: Tensor, negatives: Tensor, best: Tensor, layout: Layout) -> tuple[Tensor, Tensor]:
        """Scores of hard negatives and which of them do not count: (n, all of them) or (n, k)."""
        keys = layout.keys[2 * layout.queries :]
        if self.config.others_negatives:
            scores, keys = _score(queries, gathered(negatives)), gathered(keys)
            absent = ~gathered(layout.present).reshape(1, -1)
        else:
            scores = _own_scores(queries, negatives, layout)
            keys = keys.view(layout.queries, layout.negatives)
            absent = ~layout.present
        return scores, absent | self._false(scores, best, keys, layout)

    def _false(self, scores: Tensor, best: Tensor, keys: Tensor, layout: Layout) -> Tensor:
        """Which documents are no negatives of a query: (n, m)."""
        out = torch.zeros_like(scores, dtype=torch.bool)
        if self.config.mask_duplicates:
            wide = keys if keys.ndim == 2 else keys.unsqueeze(0)
            out |= (wide.unsqueeze(2) == layout.known.unsqueeze(1)).any(dim=2)
        if self.config.false_negative_margin is not None:
            out |= scores.detach() > best.detach() + self.config.false_negative_margin
        return out

    def _distilled(self, vectors: Tensor, best: Tensor, layout: Layout, scale: Tensor) -> Tensor:
        """Cross entropy to the teacher's softmax over 1 + k, of the rows that have scores."""
        n, k = layout.queries, layout.negatives
        told = torch.nonzero(~layout.teacher[:, 0].isnan()).flatten()
        if not k or not len(told):
            return vectors.sum() * 0
        own = _own_scores(vectors[:n], vectors[2 * n :], layout)
        # Picked before anything else: a softmax over nothing would make every gradient of it NaN.
        teacher, scores = layout.teacher[told], torch.cat([best, own], dim=1)[told] * scale
        absent = teacher.isnan()
        wanted = (teacher / self.config.distill_temperature).masked_fill(absent, -torch.inf).softmax(dim=1)
        found = scores.masked_fill(absent, -torch.inf).log_softmax(dim=1).masked_fill(absent, 0.0)
        return -(wanted * found).sum(dim=1).mean()


def _score(queries: Tensor, documents: Tensor) -> Tensor:
    """Every query with every document: (n, m)."""
    return queries @ documents.T if queries.ndim == 2 else maxsim(queries, documents)


def _own_scores(queries: Tensor, negatives: Tensor, layout: Layout) -> Tensor:
    """Every query with its own negatives: (n, k)."""
    own = negatives.view(layout.queries, layout.negatives, *negatives.shape[1:])
    return torch.einsum("nd,nkd->nk", queries, own) if queries.ndim == 2 else own_maxsim(queries, own)
