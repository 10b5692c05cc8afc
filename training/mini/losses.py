"""The training objective: agree with the teacher on a crop, and with the texts known about its picture."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own convention

from mmseek.embed.mini.tower import ImageTower, TowerOutput
from mmseek.training.mini.targets import NO_CLASS, Targets


@dataclass(frozen=True, slots=True)
class LossWeights:
    """The share of each term; `hard` is how much of the class target is the picture's own label where it has one.

    `classes` asks for the teacher's probabilities; `logits` for its logits about their mean, in units of their own
    spread. The logits also order the many classes that no training picture shows, which the probabilities hardly do.
    """

    classes: float = 1.0
    logits: float = 0.0
    features: float = 2.0
    embedding: float = 2.0
    projected: float = 1.0
    texts: float = 0.5
    hard: float = 0.4
    text_temperature: float = 0.05


@dataclass(frozen=True, slots=True)
class Batch:
    """Crops uint8 `(n, S, S, 3)`, the teacher's features `(m, d)`, mixed `(n,)`, and the pictures' numbers `(n,)`.

    The teacher has judged the first `m` crops; the others are for their texts alone.
    """

    crops: Tensor
    features: Tensor
    mixed: Tensor
    index: Tensor


class Objective(nn.Module):
    """Scores a tower on a batch. The adaptor from the student's to the teacher's features is learned, not shipped."""

    mean: Tensor
    std: Tensor
    weight: Tensor
    bias: Tensor

    def __init__(
        self,
        tower: ImageTower,
        targets: Targets,
        classifier: tuple[Tensor, Tensor],
        statistics: tuple[Tensor, Tensor],
        weights: LossWeights | None = None,
    ) -> None:
        super().__init__()
        self.tower = tower
        self.targets = targets
        self.weights = weights or LossWeights()
        self.adaptor = nn.Linear(tower.config.features, classifier[0].shape[1])
        constants = (*classifier, *statistics)
        for name, value in zip(("weight", "bias", "mean", "std"), constants, strict=True):
            self.register_buffer(name, value.clone(), persistent=False)

    def class_targets(self, logits: Tensor, batch: Batch) -> Tensor:
        """The teacher's class probabilities `(m, classes)`, moved towards the picture's own label where it has one."""
        soft, judged = logits.softmax(-1), len(logits)
        classes = self.targets.classes[batch.index[:judged]]
        known = (classes != NO_CLASS) & ~batch.mixed[:judged]
        hard = F.one_hot(classes.clamp(min=0), soft.shape[1]).to(soft.dtype)
        return torch.where(known[:, None], torch.lerp(soft, hard, self.weights.hard), soft)

    def text_loss(self, embedding: Tensor, batch: Batch) -> Tensor:
        """Cross-entropy of a picture's own texts among all texts of its domain; mixed views have no text."""
        positives = self.targets.positives[batch.index]
        rows = (positives[:, 0] >= 0) & ~batch.mixed
        if not bool(rows.any()):
            return embedding.sum() * 0
        positives = positives[rows]
        scores = embedding[rows] @ self.targets.bank.T / self.weights.text_temperature
        foreign = self.targets.domain[batch.index[rows], None] != self.targets.bank_domain[None]
        logs = scores.masked_fill(foreign, -1e4).log_softmax(-1).gather(1, positives.clamp(min=0))
        own = (positives >= 0).to(logs.dtype)
        return -((logs * own).sum(1) / own.sum(1)).mean()

    def forward(self, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        """The loss of a batch, and its terms for the log."""
        out: TowerOutput = self.tower.outputs(batch.crops)
        judged = len(batch.features)
        answer = F.linear(batch.features, self.weight, self.bias)
        probabilities = self.class_targets(answer, batch)
        goal = F.normalize(probabilities @ self.targets.label_vectors, dim=-1)
        photo = self.targets.photo[batch.index[:judged]].to(goal.dtype)
        share = photo / photo.sum().clamp(min=1)
        logits = out.logits[:judged]
        terms = {
            "classes": F.cross_entropy(logits, probabilities),
            "logits": F.mse_loss(centred(logits), centred(answer)) / centred(answer).square().mean(),
            "features": F.mse_loss(self.adaptor(out.features[:judged]), (batch.features - self.mean) / self.std),
            "embedding": ((1 - (out.embedding[:judged] * goal).sum(-1)) * share).sum(),
            "projected": ((1 - (out.projected[:judged] * goal).sum(-1)) * share).sum(),
            "texts": self.text_loss(out.embedding, batch),
        }
        total = torch.stack([getattr(self.weights, name) * term for name, term in terms.items()]).sum()
        return total, {name: float(term.detach()) for name, term in terms.items()}


def centred(logits: Tensor) -> Tensor:
    """Logits `(n, classes)` about each row's mean."""
    return logits - logits.mean(dim=-1, keepdim=True)
