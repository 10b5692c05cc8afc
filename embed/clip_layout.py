"""OpenAI's layout of CLIP's weights, in which UniIR and open_clip keep theirs, as a transformers model's.

The sizes follow from the shapes of the weights, as in OpenAI's code, with 64 dimensions a head and QuickGELU. Where
open_clip's configuration lies beside the weights, it says which activation and how many heads.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from mmseek.errors import ModelError

if TYPE_CHECKING:
    import torch

__all__ = ["config_of", "converted", "is_original", "is_plain"]

_PREFIX: Final = "clip_model."
_HEAD: Final = 64
_NAMES: Final = {
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "logit_scale": "logit_scale",
}
# transformers' own spelling: pre_layrnorm
_NORMS: Final = {
    "ln_final": "text_model.final_layer_norm",
    "visual.ln_pre": "vision_model.pre_layrnorm",
    "visual.ln_post": "vision_model.post_layernorm",
}
_IN_BLOCK: Final = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
    "attn.out_proj": "self_attn.out_proj",
}
# What an open_clip configuration may say of a plain CLIP; another key asks for another architecture.
_OPEN_CLIP: Final = {
    "": {"embed_dim", "quick_gelu", "vision_cfg", "text_cfg"},
    "vision_cfg": {"image_size", "layers", "width", "patch_size", "head_width", "mlp_ratio"},
    "text_cfg": {"context_length", "vocab_size", "width", "heads", "layers", "mlp_ratio"},
}
# Left over from tracing; the numbers they hold also follow from the shapes.
_EXTRA: Final = frozenset({"input_resolution", "context_length", "vocab_size"})


def is_original(names: Iterable[str]) -> bool:
    """Whether these are names of OpenAI's layout, with or without UniIR's prefix."""
    return any(name.removeprefix(_PREFIX) == "visual.conv1.weight" for name in names)


def config_of(weights: Mapping[str, torch.Tensor], open_clip: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The arguments of transformers' `CLIPConfig`.

    Args:
        weights: in OpenAI's layout.
        open_clip: the `model_cfg` of open_clip's configuration, if there is one.

    Raises:
        ModelError: a weight that says a size is missing, or the configuration is of no plain CLIP.
    """
    vision, text = _checked(open_clip or {})
    quick = open_clip is None or open_clip.get("quick_gelu", False)
    state = {name.removeprefix(_PREFIX): tensor for name, tensor in weights.items()}
    try:
        patches, width = state["visual.positional_embedding"].shape
        vocabulary, text_width = state["token_embedding.weight"].shape
        dim = state["text_projection"].shape[1]
        patch = state["visual.conv1.weight"].shape[-1]
        context = state["positional_embedding"].shape[0]
        feed_forward = state["visual.transformer.resblocks.0.mlp.c_fc.weight"].shape[0]
        text_feed_forward = state["transformer.resblocks.0.mlp.c_fc.weight"].shape[0]
    except KeyError as error:
        raise ModelError(f"the weights in OpenAI's layout have no {error}: give a whole CLIP with a ViT") from error
    shared = {"hidden_act": "quick_gelu" if quick else "gelu", "layer_norm_eps": 1e-5, "projection_dim": dim}
    return {
        "projection_dim": dim,
        "text_config": shared
        | {
            "vocab_size": vocabulary,
            "hidden_size": text_width,
            "intermediate_size": text_feed_forward,
            "num_hidden_layers": _layers(state, "transformer"),
            "num_attention_heads": text.get("heads", text_width // _HEAD),
            "max_position_embeddings": context,
            "bos_token_id": vocabulary - 2,
            "eos_token_id": vocabulary - 1,
            "pad_token_id": 0,
        },
        "vision_config": shared
        | {
            "hidden_size": width,
            "intermediate_size": feed_forward,
            "num_hidden_layers": _layers(state, "visual.transformer"),
            "num_attention_heads": width // vision.get("head_width", _HEAD),
            "image_size": round((patches - 1) ** 0.5) * patch,
            "patch_size": patch,
        },
    }


def is_plain(open_clip: Mapping[str, Any]) -> bool:
    """Whether open_clip's `model_cfg` is of a plain CLIP, which transformers runs too."""
    try:
        _checked(open_clip)
    except ModelError:
        return False
    return True


def converted(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same weights under transformers' names.

    Raises:
        ModelError: a name is none of CLIP's.
    """
    state: dict[str, torch.Tensor] = {}
    for original, tensor in weights.items():
        name = original.removeprefix(_PREFIX)
        if name in _EXTRA:
            continue
        if name == "text_projection":
            state["text_projection.weight"] = tensor.T.contiguous()
        elif name == "visual.proj":
            state["visual_projection.weight"] = tensor.T.contiguous()
        elif name in _NAMES:
            state[_NAMES[name]] = tensor
        elif name.rpartition(".")[0] in _NORMS:
            norm, _, kind = name.rpartition(".")
            state[f"{_NORMS[norm]}.{kind}"] = tensor
        else:
            state |= _block(name, tensor)
    return state


def _checked(config: Mapping[str, Any]) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """The vision and the text part of open_clip's configuration."""
    parts = {"": config, "vision_cfg": config.get("vision_cfg", {}), "text_cfg": config.get("text_cfg", {})}
    for name, part in parts.items():
        unknown = sorted(set(part) - _OPEN_CLIP[name])
        if unknown:
            raise ModelError(f"its open_clip_config.json asks for {unknown[0]!r}, which no plain CLIP has: use another")
    return parts["vision_cfg"], parts["text_cfg"]


def _block(name: str, tensor: torch.Tensor) -> dict[str, torch.Tensor]:
    found = re.fullmatch(r"(visual\.)?transformer\.resblocks\.(\d+)\.(.+?)[._](weight|bias)", name)
    if found is None:
        raise ModelError(f"the weight {name} belongs to no CLIP of OpenAI's layout: give the model's own file")
    visual, number, part, kind = found.groups()
    layer = f"{'vision' if visual else 'text'}_model.encoder.layers.{number}."
    if part == "attn.in_proj":  # queries, keys and values lie in one matrix
        thirds = tensor.chunk(3)
        return {f"{layer}self_attn.{role}_proj.{kind}": third for role, third in zip("qkv", thirds, strict=True)}
    if part not in _IN_BLOCK:
        raise ModelError(f"the weight {name} belongs to no CLIP of OpenAI's layout: give the model's own file")
    return {f"{layer}{_IN_BLOCK[part]}.{kind}": tensor}


def _layers(state: Mapping[str, object], stack: str) -> int:
    return len({name.split(".resblocks.")[1].split(".")[0] for name in state if name.startswith(f"{stack}.resblocks.")})
