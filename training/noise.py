"""Noise-injected training of the generator that answers from retrieved pictures (RagVL, arXiv:2407.21439).

Data level: pictures that have nothing to do with a question are put among its own. Token level: a second pass without
gradients reads the same pictures under diffusion noise; a token of the answer weighs the more, the more its logit owes
to what the noise hides. The logit is taken at the label's own number in the vocabulary. The published code takes number
0 for every token, which weighs tokens by something else.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - torch's own convention
from transformers import Trainer

__all__ = [
    "IGNORED",
    "STEP",
    "NoiseInjectedTrainer",
    "noise_weighted_loss",
    "noised",
    "token_weights",
    "with_irrelevant",
]

IGNORED: Final = -100
"""The label of tokens that are not learned."""
STEP: Final = 500
"""Of the 1,000 steps of diffusion, the one whose noise pictures get."""
_STEPS: Final = 1000
_LEAST: Final = 1.0
_MOST: Final = 5.0

Picture = TypeVar("Picture")


def noised(pixels: Tensor, step: int = STEP, generator: torch.Generator | None = None) -> Tensor:
    """Pixels under diffusion noise: `sqrt(a) x + sqrt(1 - a) e`, `a` the product of `1 - beta` up to the step.

    Args:
        pixels: standardised, of any shape.
        step: from 0 to 999; beta rises from 1e-5 to 5e-3 along a sigmoid from -6 to 6.
        generator: for equal noise.
    """
    betas = torch.sigmoid(torch.linspace(-6, 6, _STEPS)) * (0.5e-2 - 1e-5) + 1e-5
    kept = float((1 - betas).cumprod(0)[step])
    noise = torch.empty_like(pixels).normal_(generator=generator)
    made: Tensor = kept**0.5 * pixels + (1 - kept) ** 0.5 * noise
    return made


def token_weights(clean: Tensor, noisy: Tensor, labels: Tensor) -> Tensor:
    """How much each token of the answer counts: (rows, tokens), 0 where the label is ignored.

    `clamp(clean - noisy, 1, 5)` at the label's own number, then the mean over the token and its two neighbours, of
    which those count that are labels too.

    Args:
        clean: logits (rows, tokens, vocabulary), each at the place of the label that it foretells.
        noisy: the same from noised pictures.
        labels: (rows, tokens), `IGNORED` where nothing is learned.
    """
    learned = (labels != IGNORED).float()
    own = labels.clamp(min=0).unsqueeze(-1)
    gain = (clean.float().gather(-1, own) - noisy.float().gather(-1, own)).squeeze(-1).clamp(_LEAST, _MOST)
    sums, counts = (F.avg_pool1d(each.unsqueeze(1), 3, 1, 1).squeeze(1) for each in (gain * learned, learned))
    return learned * sums / counts.clamp(min=1e-9)


def noise_weighted_loss(clean: Tensor, noisy: Tensor, labels: Tensor) -> Tensor:
    """The weighted mean of the tokens' cross entropies; see `token_weights`, which carries no gradient."""
    weights = token_weights(clean.detach(), noisy.detach(), labels)
    losses = F.cross_entropy(clean.float().flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction="none")
    return (losses * weights.flatten()).sum() / weights.sum().clamp(min=1e-9)


def with_irrelevant(
    own: Sequence[Picture], pool: Sequence[Picture], count: int, rng: np.random.Generator
) -> tuple[Picture, ...]:
    """A question's pictures with irrelevant ones among them, in a new order (the data level).

    Args:
        own: the question's pictures.
        pool: where irrelevant ones are drawn from; the question's own are passed over.
        count: how many; fewer if the pool has not as many.
        rng: what is drawn.
    """
    others = [each for each in pool if each not in own]
    drawn = [others[place] for place in rng.permutation(len(others))[:count]]
    mixed = [*own, *drawn]
    return tuple(mixed[place] for place in rng.permutation(len(mixed)))


class NoiseInjectedTrainer(Trainer):  # type: ignore[misc]  # the library has no types
    """transformers' trainer with the token level's loss.

    Inputs are those of a model with pictures, `labels` among them; each step's `pixel_values` are read a second time
    under noise. Batches without pictures have the plain loss: there is nothing that noise could hide.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Else the trainer would leave the mean over accumulated batches to a loss that it hands their tokens' number.
        self.model_accepts_loss_kwargs = False

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """See `noise_weighted_loss`."""
        del num_items_in_batch
        rest = {name: value for name, value in inputs.items() if name != "labels"}
        # The logit at a place foretells the next token.
        labels = F.pad(inputs["labels"][:, 1:], (0, 1), value=IGNORED)
        out = model(**rest)
        noisy = out.logits
        if rest.get("pixel_values") is not None:
            with torch.no_grad():
                noisy = model(**{**rest, "pixel_values": noised(rest["pixel_values"])}).logits
        loss = noise_weighted_loss(out.logits, noisy, labels)
        return (loss, out) if return_outputs else loss
