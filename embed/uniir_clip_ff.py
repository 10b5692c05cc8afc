"""`uniir-clip-ff:MODEL`, UniIR's CLIP with feature fusion (Wei et al. 2023, arXiv:2311.17136).

All states of the text tower (77, its padding too) and all projected states of the picture tower stand in one row, two
layers of T5 without a mask look at it, and the vector is the mean of what they give. What is missing is still there: no
text is the empty text, and no picture is one of zeros after standardising. Instructions and texts are treated as by
`uniir-clip-sf`. Beyond the original, the vector of several pictures is the mean of those that each has with the text.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from safetensors.torch import load_file

from mmseek._types import EncodeRequest, EncoderIdentity
from mmseek.embed.base import EngineEncoder
from mmseek.embed.batching import Budget
from mmseek.embed.clip_layout import config_of, converted
from mmseek.embed.clip_pictures import ClipPictures
from mmseek.embed.clip_tower import ClipTower, checkpoint_files, load_tokenizer
from mmseek.embed.engine import EngineOptions, Unit
from mmseek.embed.uniir_clip import rendered
from mmseek.errors import InputError, ModelError
from mmseek.media import MediaLimits
from mmseek.models.checkpoints import files_sha256, find_checkpoint, weight_files
from mmseek.models.device import pick_device
from mmseek.models.spec import Spec, absolute

if TYPE_CHECKING:
    from mmseek._types import FloatArray
    from mmseek.embed.clip_pictures import Pixels

__all__ = ["FusionTower", "UniirClipFusionEncoder", "load"]

# To be raised by any change that gives other vectors from the same weights.
_VERSION: Final = 1
_KIND: Final = "item"
_CPU_BUDGET: Final = Budget(4)
_GPU_BUDGET: Final = Budget(64)
_FUSION: Final = "t5_layers."
_HEAD: Final = 64


class FusionTower:
    """A CLIP and the layers that fuse what its towers give.

    Args:
        clip: the towers.
        fusion: transformers' `T5Stack`.
        device: where both are.
    """

    def __init__(self, clip: ClipTower, fusion: Any, *, device: str = "cpu") -> None:
        self.clip = clip
        self._fusion = fusion.eval().requires_grad_(requires_grad=False).to(device)
        self.dim: int = fusion.config.d_model

    @classmethod
    def load(cls, folder: Path, *, device: str = "cpu") -> FusionTower:
        """From a folder with UniIR's weights as safetensors and a tokenizer beside them.

        Raises:
            ModelError: a file is missing, damaged or of another model.
        """
        from transformers import CLIPConfig, CLIPModel

        try:
            weights = {name: tensor for path in weight_files(folder) for name, tensor in load_file(path).items()}
            fusion = {name.removeprefix(_FUSION): weights.pop(name) for name in list(weights) if _FUSION in name}
            if not fusion:
                raise ModelError(f"its weights have no {_FUSION}*, which fuse text and picture: it may be a CLIP-SF")
            # The original drops the projection of the text; the towers have one, so it becomes none.
            width = weights["clip_model.token_embedding.weight"].shape[1]
            weights["clip_model.text_projection"] = torch.eye(width)
            model = CLIPModel(CLIPConfig(**config_of(weights))).float()
            model.load_state_dict(converted(weights))
            size = model.config.vision_config.image_size
            pictures = ClipPictures.from_config({}, size=size, round_offset=True)
            return cls(
                ClipTower(model, load_tokenizer(folder), pictures, device=device), _fusion(fusion), device=device
            )
        except ModelError as error:
            raise ModelError(f"{folder} cannot be loaded as a CLIP-FF: {error}") from error
        except Exception as error:  # safetensors, transformers and torch each raise their own
            reason = " ".join(str(error).split())[:300]
            raise ModelError(
                f"{folder} cannot be loaded as a CLIP-FF ({type(error).__name__}: {reason}): check or fetch its files"
            ) from error

    @torch.inference_mode()
    def __call__(self, items: Sequence[tuple[Sequence[int], Any]]) -> FloatArray:
        """Vectors (n, dim), not normalised, of tokenised texts with a prepared picture or None."""
        texts = self.clip.text_states([numbers for numbers, _ in items])
        pictures = self.clip.image_states([pixels for _, pixels in items])
        states = self._fusion(inputs_embeds=torch.cat([texts, pictures], dim=1), use_cache=False).last_hidden_state
        vectors: FloatArray = states.mean(dim=1).cpu().numpy()
        return vectors


def _fusion(weights: Mapping[str, torch.Tensor]) -> Any:
    from transformers import T5Config
    from transformers.models.t5.modeling_t5 import T5Stack

    queries = weights["block.0.layer.0.SelfAttention.q.weight"]
    config = T5Config(
        vocab_size=1,  # nothing is looked up
        d_model=queries.shape[1],
        d_kv=_HEAD,
        d_ff=weights["block.0.layer.1.DenseReluDense.wi.weight"].shape[0],
        num_heads=queries.shape[0] // _HEAD,
        num_layers=len({found[1] for name in weights if (found := re.match(r"block\.(\d+)\.", name))}),
        relative_attention_num_buckets=weights["block.0.layer.0.SelfAttention.relative_attention_bias.weight"].shape[0],
        is_encoder_decoder=False,
        use_cache=False,
        pad_token_id=0,
        eos_token_id=0,
    )
    stack = T5Stack(config)
    stack.load_state_dict(
        {name: tensor.float() for name, tensor in weights.items() if not name.startswith("embed_tokens.")}
        | {name: value for name, value in stack.state_dict().items() if name.startswith("embed_tokens.")}
    )
    return stack


class UniirClipFusionEncoder(EngineEncoder):
    """CLIP-FF. Safe to use from several threads.

    Args:
        tower: the model.
        identity: see `EncoderIdentity`.
        limits: of pictures.
        options: of the engine.
        budget: how many items make a batch.
    """

    def __init__(
        self,
        tower: FusionTower,
        *,
        identity: EncoderIdentity,
        limits: MediaLimits | None = None,
        options: EngineOptions | None = None,
        budget: Budget = _CPU_BUDGET,
    ) -> None:
        self._budget = budget
        super().__init__(options)
        self._tower = tower
        self._limits = limits or MediaLimits()
        self._identity = identity

    @property
    def identity(self) -> EncoderIdentity:
        return self._identity

    @property
    def budgets(self) -> Mapping[str, Budget]:
        """By number: all texts have 77 tokens, all pictures one size."""
        return {_KIND: self._budget}

    def prepare(self, request: EncodeRequest) -> Sequence[Unit]:
        """The text alone, or with each picture.

        Raises:
            MediaError: a picture cannot be used.
            InputError: there is nothing to encode.
        """
        if request.content.is_empty:
            raise InputError("an item has neither text nor image: give at least one")
        numbers = self._tower.clip.tokenize(rendered(request))
        text = np.asarray(numbers, dtype=np.int32).tobytes()
        pictures: list[Pixels | None] = [None]
        if request.content.images:
            pictures = [self._tower.clip.prepare(image, self._limits) for image in request.content.images]
        return [
            Unit(
                _KIND,
                (numbers, pixels),
                cost=1,
                key=hashlib.sha256(text + b"|" + (b"" if pixels is None else pixels.tobytes())).digest(),
            )
            for pixels in pictures
        ]

    def forward(self, kind: str, payloads: Sequence[Any]) -> FloatArray:
        """Vectors (n, dim), not normalised."""
        del kind
        return self._tower(payloads)

    def combine(self, request: EncodeRequest, units: Sequence[Unit], vectors: Sequence[FloatArray]) -> FloatArray:
        """The mean of the units' vectors; not normalised."""
        del request, units
        mean: FloatArray = np.mean(vectors, axis=0, dtype=np.float32)
        return mean


def load(spec: Spec, *, device: str | None, limits: MediaLimits, options: EngineOptions) -> UniirClipFusionEncoder:
    """Load `uniir-clip-ff:HUB_ID[@REVISION]` or `uniir-clip-ff:FOLDER`, in float32.

    Raises:
        SpecError: the spec names no model.
        ModelError: a file is missing, is no safetensors file or is of another model.
    """
    folder = find_checkpoint(spec)
    chosen = pick_device(device)
    tower = FusionTower.load(folder, device=chosen)
    fingerprint = files_sha256(checkpoint_files(folder), recipe=f"uniir-clip-ff {_VERSION}")
    return UniirClipFusionEncoder(
        tower,
        identity=EncoderIdentity(spec=absolute(spec), fingerprint=fingerprint, dim=tower.dim),
        limits=limits,
        options=options,
        budget=_CPU_BUDGET if chosen == "cpu" else _GPU_BUDGET,
    )
