"""More tiny models of random weights: those that are put together of several, in the layouts of their checkpoints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import load_file, save_file

from mmseek.embed.latent_attention import LatentAttention
from mmseek.training.tiny import byte_tokenizer, redraw, tiny_qwen_vl

__all__ = ["tiny_colpali", "tiny_colqwen2", "tiny_mm_embed", "tiny_mme5", "tiny_notellm2"]

_SIDE: Final = 28
_LAYERS: Final = {"num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
_VISION: Final = {"hidden_size": 16, "image_size": _SIDE, "patch_size": 14, **_LAYERS}
_COLOURS: Final = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.3, 0.3, 0.3]}


def tiny_mme5(folder: Path, *, std: float = 0.2, seed: int = 0) -> Path:
    """Write an Mllama of random weights whose gates are open. Arguments as in `tiny_qwen_vl`."""
    from transformers import MllamaConfig, MllamaForConditionalGeneration

    tokenizer = byte_tokenizer(
        "<|begin_of_text|>", "<|finetune_right_pad_id|>", "<|image|>", before="<|begin_of_text|>"
    )
    config = MllamaConfig(
        text_config={
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 3,
            "cross_attention_layers": [1],
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "vocab_size": 258,
            "max_position_embeddings": 400,
            "bos_token_id": 256,
            "eos_token_id": 257,
            "pad_token_id": 257,
        },
        vision_config={
            "hidden_size": 16,
            "intermediate_size": 24,
            "num_hidden_layers": 3,
            "num_global_layers": 1,
            "attention_heads": 2,
            "vision_output_dim": 48,
            "image_size": _SIDE,
            "patch_size": 14,
            "intermediate_layers_indices": [1, 2],
        },
        image_token_index=258,
    )
    torch.manual_seed(seed)
    model: Any = MllamaForConditionalGeneration(config)
    _open_gates(model, std)
    return _saved(model, tokenizer, folder)


def tiny_mm_embed(folder: Path, *, std: float = 0.2, seed: int = 0) -> Path:
    """Write a LLaVA-NeXT with latent attention, and the NV-Embed's configuration in `retriever/`."""
    from transformers import LlavaNextConfig, LlavaNextModel

    # The last two have no rows in the model, as in the published one.
    tokenizer = byte_tokenizer("<s>", "</s>", "<image>", "<pad>")
    language = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "vocab_size": 258,
        "bos_token_id": 256,
        "eos_token_id": 257,
    }
    vision = {**_VISION, "model_type": "clip_vision_model", "num_hidden_layers": 3}
    config = LlavaNextConfig(
        text_config={**language, "model_type": "mistral"}, vision_config=vision, image_token_index=258
    )
    torch.manual_seed(seed)
    llava: Any = LlavaNextModel(config)
    pooling = LatentAttention(32, latents=6, heads=2, head_dim=32, inner=64)
    for module in (llava, pooling):
        redraw(module, std)
    weights = llava.state_dict()
    weights |= {f"latent_attention_model.{name}": value for name, value in pooling.state_dict().items()}
    own = {"model_type": "llava_next", "image_token_index": 258, "retriever": "retriever", "vision_config": vision}
    retriever = {"text_config": language, "latent_attention_config": {"num_cross_heads": 2}}
    (folder / "retriever").mkdir(parents=True, exist_ok=True)
    (folder / "retriever" / "config.json").write_text(json.dumps(retriever))
    return _written(weights, own, tokenizer, folder)


def tiny_notellm2(folder: Path, *, std: float = 0.2, seed: int = 0) -> Path:
    """Write a Llama, a CLIP and a Q-Former under the names of NoteLLM-2's training code."""
    from transformers import (
        Blip2QFormerConfig,
        Blip2QFormerModel,
        CLIPVisionConfig,
        CLIPVisionModel,
        LlamaConfig,
        LlamaModel,
    )

    tokenizer = byte_tokenizer("<s>", "</s>", "<IMG>", "<IMG_EMB>", before="<s>")
    language = LlamaConfig(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        vocab_size=264,
        max_position_embeddings=700,
    )
    qformer = {"hidden_size": 20, **_LAYERS}
    torch.manual_seed(seed)
    parts: dict[str, Any] = {
        "model.": LlamaModel(language),
        "vision_tower.": CLIPVisionModel(CLIPVisionConfig(**_VISION)),
        "qformer.": Blip2QFormerModel(Blip2QFormerConfig(**qformer, encoder_hidden_size=16)),
        "mm_projector.": torch.nn.Linear(20, 32),
        "mm_projector_latefusion.": torch.nn.Linear(16, 32, bias=False),
        "gate.trans_all.": torch.nn.Linear(64, 32, bias=False),
        "linear.": torch.nn.Linear(32, 12, bias=False),
    }
    weights = {"query_tokens": torch.randn(1, 3, 20)}
    for name, module in parts.items():
        redraw(module, std)
        weights |= {f"{name}{key}": value for key, value in module.state_dict().items()}
    config = {**language.to_dict(), "vision_config": _VISION, "qformer_config": qformer}
    return _written(weights, config, tokenizer, folder)


def tiny_colqwen2(folder: Path, *, dim: int = 16, std: float = 0.2, seed: int = 0) -> Path:
    """Write a Qwen2-VL with the layer that makes a vector of `dim` numbers of each token."""
    tiny_qwen_vl(folder, "qwen2_vl", std=std, seed=seed)
    pixels = {"min_pixels": 56 * 56, "max_pixels": 112 * 112}
    (folder / "preprocessor_config.json").write_text(json.dumps(_COLOURS | pixels))
    return _projecting(folder, dim, seed)


def tiny_colpali(folder: Path, *, dim: int = 16, std: float = 0.2, seed: int = 0) -> Path:
    """Write a PaliGemma with that layer."""
    from transformers import PaliGemmaConfig, PaliGemmaModel

    tokenizer = byte_tokenizer("<pad>", "<bos>", "<image>")
    config = PaliGemmaConfig(
        text_config={
            "model_type": "gemma",
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "head_dim": 16,
            "vocab_size": 259,
        },
        vision_config={**_VISION, "model_type": "siglip_vision_model", "projection_dim": 32, "vision_use_head": False},
        projection_dim=32,
        image_token_id=258,
    )
    torch.manual_seed(seed)
    model: Any = PaliGemmaModel(config)
    redraw(model, std)
    return _projecting(_saved(model, tokenizer, folder), dim, seed)


def _open_gates(model: torch.nn.Module, std: float) -> None:
    """Those of Mllama begin at zero, and no picture would be seen."""
    redraw(model, std)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "gate" in name.rpartition(".")[2]:
                weight.fill_(0.5)


def _projecting(folder: Path, dim: int, seed: int) -> Path:
    generator = torch.Generator().manual_seed(seed + 1)
    weights = load_file(folder / "model.safetensors")
    weights["custom_text_proj.weight"] = torch.randn(dim, 32, generator=generator)
    weights["custom_text_proj.bias"] = torch.randn(dim, generator=generator)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def _saved(model: Any, tokenizer: Any, folder: Path) -> Path:
    model.save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "preprocessor_config.json").write_text(json.dumps(_COLOURS))
    return folder


def _written(weights: dict[str, torch.Tensor], config: dict[str, Any], tokenizer: Any, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: value.contiguous() for name, value in weights.items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config))
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "preprocessor_config.json").write_text(json.dumps(_COLOURS))
    return folder
