"""`colqwen2`: ColQwen2, a vector for each token (Faysse et al. 2024, arXiv:2407.01449).

The states of all tokens, those of the prompt and of a query's ten added tokens included, go through a linear layer and
are normalised. Documents are mostly pages' pictures; what the model reads is in `mmseek.embed.biqwen2.render`. The
numbers are those of the authors' code (colpali_engine), with true rotary positions. A checkpoint in transformers' own
layout (`model_type` colqwen2) gives other vectors from the same weights there (flat positions, another query prompt)
and is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from mmseek._types import EncodeRequest, EncoderIdentity, Sent
from mmseek.embed.batching import Budget
from mmseek.embed.biqwen2 import MAX_TOKENS, MODELS, BiQwen2Encoder, pixel_range
from mmseek.embed.engine import EngineOptions, Unit
from mmseek.embed.multi_vector import EngineTokenEncoder
from mmseek.embed.projection import Projection, load_projection
from mmseek.embed.qwen_vl import QwenVLEncoder, engine_options, load_checkpoint
from mmseek.media import MediaLimits
from mmseek.models.adapters import split_adapter
from mmseek.models.checkpoints import find_checkpoint
from mmseek.models.spec import Spec, absolute

if TYPE_CHECKING:
    import torch

    from mmseek._types import FloatArray

__all__ = ["ColQwen2Recipe", "load"]

# To be raised by any change that gives other vectors from the same weights.
RECIPE_VERSION: Final = 1


class ColQwen2Recipe:
    """A backbone's inputs and states, BiQwen2's for ColQwen2, and the projection of all of them."""

    def __init__(self, backbone: QwenVLEncoder, projection: Projection) -> None:
        self.backbone = backbone
        self.projection = projection

    @property
    def model(self) -> Any:
        """The transformers model without its head."""
        return self.backbone.model

    @property
    def budgets(self) -> Mapping[str, Budget]:
        """By tokens, text and visual, padded to the longest."""
        return self.backbone.budgets

    def prepare(self, request: EncodeRequest) -> Sequence[Unit]:
        """One unit: the whole content."""
        return self.backbone.prepare(request)

    def reads(self, request: EncodeRequest) -> Sent:
        """The prompt, and how many tokens there are."""
        (unit,) = self.prepare(request)
        grids = [picture.grid for picture in unit.payload.pictures]
        visual = tuple(height * width for height, width in grids)
        return Sent(self.backbone.prompt(request), visual, len(unit.payload.tokens))

    def forward(self, kind: str, payloads: Sequence[Any]) -> Sequence[FloatArray]:
        """Vectors (tokens, dim) of each payload, float32, L2-normalised."""
        del kind
        import torch

        with torch.inference_mode():
            return [self.projection(states).cpu().numpy() for states in self.states(payloads)]

    def states(self, payloads: Sequence[Any]) -> list[torch.Tensor]:
        """The states (tokens, d) of each payload, with a graph where gradients are enabled."""
        return self.backbone.states(payloads)

    def combine(self, request: EncodeRequest, units: Sequence[Unit], vectors: Sequence[FloatArray]) -> FloatArray:
        """The only unit's vectors."""
        del request, units
        return vectors[0]


def load(spec: Spec, *, device: str | None, limits: MediaLimits, options: EngineOptions) -> EngineTokenEncoder:
    """Load `colqwen2:HUB_ID[@REVISION]` or `colqwen2:FOLDER`.

    Raises:
        SpecError: the spec names no model.
        ModelError: the checkpoint is missing, of another kind or not whole.
    """
    recipe = f"colqwen2 {RECIPE_VERSION} {MAX_TOKENS}"
    checkpoint = load_checkpoint(spec, device=device, models=MODELS, recipe=recipe, max_tokens=MAX_TOKENS)
    folder = find_checkpoint(split_adapter(spec)[0])
    like = next(checkpoint.model.parameters())
    projection = load_projection(folder, like=like, width=checkpoint.dim)
    name = absolute(spec)
    backbone = BiQwen2Encoder(checkpoint, pixels=pixel_range(folder), spec=name, limits=limits)
    return EngineTokenEncoder(
        ColQwen2Recipe(backbone, projection),
        EncoderIdentity(spec=name, fingerprint=checkpoint.fingerprint, dim=projection.dim),
        engine_options(options),
    )
