"""Fresh crops of the few captioned pictures, which their texts alone judge.

The cached views of `crops` carry the teacher's answer and cannot be drawn anew every time. What a caption says holds
for every crop, so the captioned sets, a tenth of the pictures, are cut, turned and flipped anew in every batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - torch's own convention

from mmseek.training.mini.crops import CROP
from mmseek.training.mini.data import Picture

SIDE = 144
# The least share of each side that a crop shows, the most that its sides' shares differ, the most it turns (radians).
LEAST, STRETCH, TURN = 0.65, 0.15, 0.12
WHOLE_SHARE = 0.3


@dataclass(frozen=True, slots=True)
class Fresh:
    """Whole pictures uint8 `(n, SIDE, SIDE, 3)`, their numbers in training `(n,)`, how often each is drawn `(n,)`."""

    pixels: Tensor
    rows: Tensor
    weights: Tensor


def prepare(pictures: Sequence[Picture], rows: Sequence[int]) -> Fresh:
    """Decode pictures; a set is drawn as often as the root of its size, so that no small one is drowned."""
    sources = [pictures[row].source for row in rows]
    pixels = [pictures[row].open().resize((SIDE, SIDE), Image.Resampling.BICUBIC, reducing_gap=2.0) for row in rows]
    return Fresh(
        torch.from_numpy(np.stack([np.asarray(each) for each in pixels])),
        torch.tensor(rows),
        torch.tensor([sources.count(source) ** -0.5 for source in sources]),
    )


def draw(fresh: Fresh, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """`count` crops uint8 `(count, CROP, CROP, 3)` and the numbers of their pictures."""
    chosen = torch.multinomial(fresh.weights, count, replacement=True, generator=generator)

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(count, generator=generator)

    scale, stretch, turn = uniform(LEAST, 1.0), uniform(1 - STRETCH, 1.0), uniform(-TURN, TURN)
    wide = torch.rand(count, generator=generator) < 0.5
    kept = torch.rand(count, generator=generator) < WHOLE_SHARE
    scale, turn = torch.where(kept, 1.0, scale), torch.where(kept, 0.0, turn)
    stretch = torch.where(kept, 1.0, stretch)
    across, down = torch.where(wide, scale, scale * stretch), torch.where(wide, scale * stretch, scale)
    x, y = (1 - across) * uniform(-1, 1), (1 - down) * uniform(-1, 1)
    cos, sin = turn.cos(), turn.sin()
    affine = torch.stack([across * cos, -down * sin, x, across * sin, down * cos, y], dim=1).view(count, 2, 3)
    grid = F.affine_grid(affine, [count, 3, CROP, CROP], align_corners=False)
    pictures = fresh.pixels[chosen].permute(0, 3, 1, 2).float()
    crops = F.grid_sample(pictures, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return crops.round().to(torch.uint8).permute(0, 2, 3, 1), fresh.rows[chosen]
