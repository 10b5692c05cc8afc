"""From a trained tower to the shipped one: fuse, choose the head's settings on held-out photos, write."""

import copy
import itertools
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mmseek.embed.mini.tower import ImageTower
from mmseek.training.mini.measure import HeldOut, score_held_out

TEMPERATURES = (0.5, 0.7, 1.0, 1.4)
CENTRES = (0.0, 0.3, 0.6, 0.9)


@dataclass(frozen=True, slots=True)
class Choice:
    """The head's settings, and the held-out score by which they were chosen.

    `temperature` divides the class logits; `centre` is how much of the mean class vector is taken off every class
    vector, which keeps pictures of an uncertain class from being near to every query.
    """

    temperature: float
    centre: float
    score: float


def fused(tower: ImageTower) -> ImageTower:
    """A fused copy in eval mode."""
    copied = copy.deepcopy(tower).eval()
    copied.fuse()
    made = ImageTower(replace(tower.config, fused=True)).eval()
    made.load_state_dict(copied.state_dict())
    return made.to(memory_format=torch.channels_last)


def blended(first: ImageTower, second: ImageTower, share: float) -> ImageTower:
    """`share` of the way from one unfused tower to another that was trained on from it, in eval mode.

    Between the two lie towers that keep most of what the first knows of classes that no training picture shows, and
    have most of what the second learned ("robust fine-tuning", Wortsman et al. 2021, arXiv:2109.01903).
    """
    made = copy.deepcopy(first).eval()
    with torch.no_grad():
        for kept, new in zip(made.state_dict().values(), second.state_dict().values(), strict=True):
            if kept.dtype.is_floating_point:
                kept.lerp_(new, share)
    return made


def with_settings(tower: ImageTower, label_vectors: Tensor, temperature: float, centre: float) -> ImageTower:
    """A copy of a fused tower with other settings of its head."""
    made = ImageTower(replace(tower.config, temperature=temperature)).eval()
    made.load_state_dict(tower.state_dict())
    made.label_vectors.copy_(label_vectors - centre * label_vectors.mean(0))
    return made.to(memory_format=torch.channels_last)


def choose(tower: ImageTower, label_vectors: Tensor, held: HeldOut) -> tuple[ImageTower, list[Choice]]:
    """The tower with the settings that find held-out photos best, and every combination tried, best first."""
    tried = [
        Choice(t, c, score_held_out(with_settings(tower, label_vectors, t, c), held))
        for t, c in itertools.product(TEMPERATURES, CENTRES)
    ]
    tried.sort(key=lambda choice: choice.score, reverse=True)
    best = tried[0]
    return with_settings(tower, label_vectors, best.temperature, best.centre), tried
