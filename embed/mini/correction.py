"""What is added to the image tower's guess, and how a picture and a text make one query. Trained on the frozen tower.

`Correction` moves the vectors of pictures that are no photos of single things (figures, products, drawings, aerial
photos) towards what texts say of their kind; it sees the tower's features and how colours are spread. A gate, trained
to tell such pictures from photos of things, leaves those where they are. `Fusion` does the same to the sum of a
picture's and a text's vector where the text asks for a change ("the same in orange"): gated by the text, since most
texts beside a picture say what it shows or ask about it, and the sum serves them well.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own convention

__all__ = ["Correction", "Fusion"]

_GATE = 64
# Unit vectors of 384 numbers, brought to numbers of about 1.
_SCALE = 20.0


class Correction(nn.Module):
    """Vectors `(n, dim)` and what is seen of their pictures `(n, seen)` -> better vectors `(n, dim)`, L2-normalised."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, seen: int, hidden: int, dim: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.drop = nn.Dropout(dropout)
        self.gate = nn.Sequential(nn.Dropout(min(dropout, 0.2)), nn.Linear(seen, _GATE), nn.GELU(), nn.Linear(_GATE, 1))
        self.inner = nn.Linear(seen, hidden)
        self.outer = nn.Linear(hidden, dim)
        self.straight = nn.Linear(seen, dim)
        self.register_buffer("mean", torch.zeros(seen))
        self.register_buffer("deviation", torch.ones(seen))
        for layer in (self.outer, self.straight):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, vectors: Tensor, seen: Tensor) -> Tensor:
        return self.gated(vectors, seen)[0]

    def gated(self, vectors: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
        """The vectors, and the gate's logits `(n,)`."""
        scaled = (seen - self.mean) / self.deviation
        gate: Tensor = self.gate(scaled)
        shown = self.drop(scaled)
        shift = self.outer(self.drop(F.gelu(self.inner(shown)))) + self.straight(shown)
        return F.normalize(vectors + gate.sigmoid() * shift, dim=-1), gate[:, 0]


class Fusion(nn.Module):
    """Unit vectors of pictures and of texts beside them, `(n, dim)` each -> vectors to search with `(n, dim)`."""

    def __init__(self, dim: int, hidden: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.drop = nn.Dropout(dropout)
        self.gate = nn.Linear(dim, 1)
        self.inner = nn.Linear(2 * dim, hidden)
        self.outer = nn.Linear(hidden, dim)
        self.straight = nn.Linear(dim, dim)
        nn.init.constant_(self.gate.bias, -1.0)
        for layer in (self.outer, self.straight):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, pictures: Tensor, texts: Tensor) -> Tensor:
        return self.gated(pictures, texts)[0]

    def gated(self, pictures: Tensor, texts: Tensor) -> tuple[Tensor, Tensor]:
        """The vectors, L2-normalised, and the gate's logits `(n,)`."""
        gate: Tensor = self.gate(_SCALE * texts)
        both = _SCALE * torch.cat([pictures, texts], dim=-1)
        shift = self.outer(self.drop(F.gelu(self.inner(self.drop(both)))))
        shift = shift + self.straight(self.drop(_SCALE * texts))
        return F.normalize(pictures + texts + gate.sigmoid() * shift, dim=-1), gate[:, 0]
