"""MM-Embed's model: LLaVA-NeXT whose language model looks both ways, and latent attention on top of it.

The modules are those of transformers. What is done here is to find the numbers of the language model, to bring the
names of the weights together, and to run the parts without the causal mask and with the picture's global patch only.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from mmseek.config import settings
from mmseek.embed.latent_attention import LatentAttention
from mmseek.errors import ModelError
from mmseek.models.checkpoints import json_object, weight_files
from mmseek.models.device import pick_dtype

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Batch", "MmEmbedConfig", "MmEmbedModel", "read_config", "read_model"]

CONFIG: Final = "config.json"
_POOLING: Final = "latent_attention_model."
# Beginnings of names, as transformers of several versions wrote them, and what they are in the one that is installed.
_RENAMED: Final = (
    ("model.", ""),
    ("language_model.model.", "language_model."),
    ("vision_tower.vision_model.", "vision_tower."),
)
# Heads of language models, which a model of embeddings does not have.
_UNUSED: Final = ("lm_head.", "language_model.lm_head.")
# NV-Embed's own; configurations leave it out where it is this.
_HEADS: Final = 8


@dataclass(frozen=True, slots=True)
class MmEmbedConfig:
    """What a checkpoint's configuration says.

    Args:
        llava: transformers' `LlavaNextConfig`, the language model set to look both ways.
        heads: of the latent attention.
        recipe: all that was read of the language model, for the fingerprint.
    """

    llava: Any
    heads: int
    recipe: str


@dataclass(frozen=True, slots=True)
class Batch:
    """Sequences padded on the right.

    Args:
        tokens: (n, length), the numbers that are looked up.
        attended: (n, length), 1 where there is a token.
        pooled: (n, length), 1 where a token's state counts.
        picture: (n, length), 1 where a state of a picture takes a token's place.
        pixels: (pictures, 3, side, side), standardised, in the order of the sequences; None without pictures.
    """

    tokens: NDArray[Any]
    attended: NDArray[Any]
    pooled: NDArray[Any]
    picture: NDArray[Any]
    pixels: torch.Tensor | None


class MmEmbedModel(torch.nn.Module):
    """The model on its device. Thread-safe. Its parts have the names of the checkpoint but for `llava.`.

    Args:
        llava: transformers' `LlavaNextModel`.
        pooling: the latent attention.
        device: where both are.
    """

    def __init__(self, llava: Any, pooling: LatentAttention, *, device: str) -> None:
        super().__init__()
        self.llava = llava
        self.latent_attention_model = pooling
        self.device = device
        self.to(device).eval().requires_grad_(requires_grad=False)
        # Beside the configuration's `is_causal`: whether that reaches the layers is up to the version of transformers.
        for layer in llava.language_model.layers:
            layer.self_attn.is_causal = False

    @property
    def dtype(self) -> torch.dtype:
        dtype: torch.dtype = self.llava.dtype
        return dtype

    def forward(self, batch: Batch) -> torch.Tensor:
        """L2-normalised vectors (n, dim), float32, on the device, with a graph where gradients are enabled."""
        language = self.llava.language_model
        inputs = language.embed_tokens(self._moved(batch.tokens))
        if batch.pixels is not None:
            seen = self._seen(batch.pixels).to(inputs.dtype)
            inputs = inputs.masked_scatter(self._moved(batch.picture).bool()[..., None], seen)
        attended = self._moved(batch.attended)
        states = language(inputs_embeds=inputs, attention_mask=attended, use_cache=False).last_hidden_state
        vectors: torch.Tensor = self.latent_attention_model(states, self._moved(batch.pooled))
        return vectors.float()

    def _seen(self, pixels: torch.Tensor) -> torch.Tensor:
        """What the language model gets of pictures: their patches, projected, and a mark of the line's end for each."""
        llava, config = self.llava, self.llava.config
        states = llava.vision_tower(pixels.to(self.dtype), output_hidden_states=True).hidden_states
        layers = config.vision_feature_layer
        layers = [layers] if isinstance(layers, int) else layers
        chosen = torch.cat([states[layer] for layer in layers], dim=-1)
        if config.vision_feature_select_strategy == "default":
            chosen = chosen[:, 1:]
        patches = llava.multi_modal_projector(chosen)
        return torch.cat([patches, llava.image_newline.expand(len(patches), 1, -1)], dim=1)

    def _moved(self, array: NDArray[Any]) -> torch.Tensor:
        return torch.from_numpy(array).to(self.device)


def read_config(folder: Path) -> MmEmbedConfig:
    """The configuration of a checkpoint, and of the NV-Embed that it names as its `retriever`.

    Raises:
        ModelError: it is missing, of another kind of model, or names an NV-Embed that cannot be had.
    """
    from transformers import LlavaNextConfig

    own = json_object(folder / CONFIG)
    if own.get("model_type") != "llava_next":
        raise ModelError(
            f"{folder} is a {own.get('model_type')} model, and mm-embed runs llava_next: use another family"
        )
    # The published model's own text_config is the one of the LLaVA-NeXT that it was made from.
    retriever = own.get("retriever")
    language = own if retriever is None else _retriever(folder, str(retriever))
    text, pooling = language.get("text_config"), language.get("latent_attention_config", {})
    if not isinstance(text, dict) or not isinstance(pooling, dict):
        raise ModelError(f"the configuration of {folder} has no text_config of a language model: get it again")
    text = {**text, "model_type": "mistral", "sliding_window": None}
    try:
        llava = LlavaNextConfig(**{**own, "text_config": text})
    except (ValueError, TypeError, KeyError) as error:
        raise ModelError(f"{folder / CONFIG} cannot be used ({_short(error)}): get the checkpoint again") from error
    llava.text_config.is_causal = False
    heads = int(pooling.get("num_cross_heads", _HEADS))
    return MmEmbedConfig(llava, heads, json.dumps({"text": text, "heads": heads}, sort_keys=True))


def read_model(folder: Path, config: MmEmbedConfig, device: str) -> MmEmbedModel:
    """The weights in their modules, in the precision that `pick_dtype` gives; scaled dot product attention.

    Raises:
        ModelError: weights are missing or of other sizes.
    """
    from transformers import LlavaNextModel

    dtype = pick_dtype(device)
    try:
        weights = {_name(key): value for path in weight_files(folder) for key, value in load_file(path).items()}
        pooling = {
            name.removeprefix(_POOLING): weights.pop(name).to(dtype)
            for name in sorted(weights)
            if name.startswith(_POOLING)
        }
        latent = LatentAttention.shaped_as(pooling, heads=config.heads)
        weights = {name: value for name, value in weights.items() if not name.startswith(_UNUSED)}
        llava, report = LlavaNextModel.from_pretrained(
            None,
            config=config.llava,
            state_dict=weights,
            dtype=dtype,
            attn_implementation="sdpa",
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, SafetensorError) as error:
        raise ModelError(f"{folder} cannot be loaded ({_short(error)}): get it again") from error
    lacking = sorted({*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"])})
    if lacking:
        raise ModelError(f"{folder} lacks {len(lacking)} of the weights, {lacking[0]} among them: get it again")
    if len(latent.latents[0]) != config.llava.text_config.hidden_size:
        raise ModelError(f"the latent attention of {folder} is of another size than its language model: get it again")
    return MmEmbedModel(llava, latent, device=device)


def _retriever(folder: Path, name: str) -> dict[str, Any]:
    """The configuration of the NV-Embed: from a folder, in the checkpoint's or elsewhere, or from the hub."""
    for place in (folder / name, Path(name).expanduser()):
        if (place / CONFIG).is_file():
            return json_object(place / CONFIG)
    from huggingface_hub import hf_hub_download

    try:
        return json_object(Path(hf_hub_download(name, CONFIG, local_files_only=settings().offline)))
    except Exception as error:  # the client raises errors of its own, of httpx and of the system
        raise ModelError(
            f"{folder / CONFIG} takes its language model's numbers from {name}, which is neither a folder nor to be "
            f"had from the hub: put that model's {CONFIG} into {folder / name}"
        ) from error


def _name(key: str) -> str:
    for old, new in _RENAMED:
        if key.startswith(old):
            key = new + key.removeprefix(old)
    return key


def _short(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
