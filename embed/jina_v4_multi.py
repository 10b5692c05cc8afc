"""`jina-v4-multi`: jina-embeddings-v4 (Guenther et al. 2025, arXiv:2506.18902) with a vector for each token.

What is read is what `jina-v4` reads, task and prefixes included. The states of all tokens, those of the prompt too, go
through the checkpoint's `multi_vector_projector`, to which the task's adapter is added, and are normalised. Two items
are compared by MaxSim.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from mmseek._types import EncoderIdentity
from mmseek.embed import jina_v4
from mmseek.embed.colqwen2 import ColQwen2Recipe
from mmseek.embed.engine import EngineOptions
from mmseek.embed.multi_vector import EngineTokenEncoder
from mmseek.embed.projection import Projection, load_projection
from mmseek.embed.qwen_vl import engine_options
from mmseek.errors import ModelError
from mmseek.media import MediaLimits
from mmseek.models.checkpoints import files_sha256, find_checkpoint
from mmseek.models.lora import add_pair, read_adapter
from mmseek.models.spec import Spec

__all__ = ["load"]

# To be raised by any change that gives other vectors from the same weights.
RECIPE_VERSION: Final = 1
_NAME: Final = "base_model.model.multi_vector_projector.lora_{}.{}.weight"


def load(spec: Spec, *, device: str | None, limits: MediaLimits, options: EngineOptions) -> EngineTokenEncoder:
    """Load `jina-v4-multi:FOLDER` or `jina-v4-multi:HUB_ID[@REVISION]`, either with `#TASK` after it.

    Raises:
        SpecError: the spec names no model, or a task that there is not.
        ModelError: the checkpoint is missing, of another kind or not whole.
    """
    backbone = jina_v4.load(spec, device=device, limits=limits, options=options)
    plain, task = jina_v4.task_of(spec)
    folder = find_checkpoint(plain)
    like = next(backbone.model.parameters())
    projection = load_projection(folder, like=like, width=backbone.checkpoint.dim)
    adapters = folder / "adapters"
    if jina_v4.has_adapters(folder):
        projection = _adapted(projection, *read_adapter(adapters), task, adapters)
    recipe = f"jina-v4-multi {RECIPE_VERSION} {backbone.identity.fingerprint}"
    return EngineTokenEncoder(
        ColQwen2Recipe(backbone, projection),
        EncoderIdentity(backbone.identity.spec, files_sha256([], recipe=recipe), projection.dim),
        engine_options(options),
    )


def _adapted(projection: Projection, weights: Mapping[str, Any], scale: float, task: str, folder: Path) -> Projection:
    """The projection with the task's adapter added, in float32.

    Raises:
        ModelError: the adapter lacks it, or is another model's.
    """
    inner, outer = (weights.get(_NAME.format(side, task)) for side in "AB")
    layer = copy.deepcopy(projection.layer)
    if not add_pair(layer.get_parameter("weight"), inner, outer, scale):
        raise ModelError(f"{folder} has no adapter {task!r} of the multi_vector_projector: get the checkpoint again")
    return Projection(layer)
