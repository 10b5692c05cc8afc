"""Tiny models of random weights, in the layout of real checkpoints: to try recipes, to test, to train from scratch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers, processors
from tokenizers.models import BPE, WordLevel

__all__ = ["byte_tokenizer", "qwen_vl_config", "redraw", "tiny_clip", "tiny_qwen_vl"]

_MARKS: Final = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>")
_CLASSES: Final = {"qwen2_vl": "Qwen2VL", "qwen2_5_vl": "Qwen2_5_VL", "qwen3_vl": "Qwen3VL"}


def tiny_qwen_vl(
    folder: Path,
    kind: str = "qwen2_vl",
    *,
    width: int = 32,
    layers: int = 2,
    vision_width: int = 16,
    vision_layers: int = 2,
    key_heads: int | None = None,
    words: tuple[str, ...] = (),
    std: float = 0.2,
    seed: int = 0,
) -> Path:
    """Write a Qwen-VL of random weights.

    Args:
        folder: made if it is not there.
        kind: `qwen2_vl`, `qwen2_5_vl` or `qwen3_vl`.
        width, layers: of the language model; the width is a multiple of 16.
        vision_width, vision_layers: of the picture tower; the width is a multiple of 8.
        key_heads: heads of keys and values, which share the others; None for one each.
        words: with words, each of them is a token, and every other text one and the same; without, a byte is a token.
        std: of the weights. Transformers' own start, 0.02, is so small that a fault would not show.
        seed: of the weights.
    """
    import transformers

    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = _word_tokenizer(words) if words else byte_tokenizer(*_MARKS)
    config = qwen_vl_config(
        kind,
        tokenizer,
        width=width,
        layers=layers,
        vision_width=vision_width,
        vision_layers=vision_layers,
        key_heads=key_heads,
    )
    torch.manual_seed(seed)
    model = getattr(transformers, f"{_CLASSES[kind]}Model")(config)
    redraw(model, std)
    model.save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    colours = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.3, 0.3, 0.3]}
    (folder / "preprocessor_config.json").write_text(json.dumps(colours))
    return folder


def qwen_vl_config(
    kind: str,
    tokenizer: Tokenizer,
    *,
    width: int = 32,
    layers: int = 2,
    vision_width: int = 16,
    vision_layers: int = 2,
    key_heads: int | None = None,
    **text: Any,
) -> Any:
    """The configuration of a tiny Qwen-VL; arguments as in `tiny_qwen_vl`, and what else the language model is told."""
    import transformers

    size, heads = tokenizer.get_vocab_size(), width // 16
    told: dict[str, Any] = {
        "hidden_size": width,
        "intermediate_size": 2 * width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": key_heads or heads,
        "vocab_size": size,
        "tie_word_embeddings": True,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3]},
        **({"head_dim": 16} if kind == "qwen3_vl" else {}),
        **text,
    }
    return getattr(transformers, f"{_CLASSES[kind]}Config")(
        text_config=told,
        vision_config=_vision(kind, width, vision_width, vision_layers),
        image_token_id=tokenizer.token_to_id("<|image_pad|>"),
        vision_start_token_id=tokenizer.token_to_id("<|vision_start|>"),
        vision_end_token_id=tokenizer.token_to_id("<|vision_end|>"),
        video_token_id=size,
        tie_word_embeddings=told["tie_word_embeddings"],
    )


def _vision(kind: str, width: int, own: int, layers: int) -> Mapping[str, Any]:
    if kind == "qwen2_vl":
        return {"depth": layers, "embed_dim": own, "hidden_size": width, "num_heads": own // 8, "mlp_ratio": 2}
    rest: dict[str, Any] = {"fullatt_block_indexes": [layers - 1]}
    if kind == "qwen3_vl":
        rest = {"num_position_embeddings": 16, "deepstack_visual_indexes": [0]}
    return {
        "depth": layers,
        "hidden_size": own,
        "intermediate_size": 2 * own,
        "num_heads": own // 8,
        "out_hidden_size": width,
        **rest,
    }


def tiny_clip(
    folder: Path, *, width: int = 32, layers: int = 2, dim: int = 24, side: int = 16, std: float = 0.2, seed: int = 0
) -> Path:
    """Write a CLIP of random weights that reads bytes.

    Args:
        folder: made if it is not there.
        width, layers: of both towers; the width is a multiple of 16.
        dim: of the vectors.
        side: of the pictures, in pixels; a multiple of 4.
        std: of the weights.
        seed: of the weights.
    """
    from transformers import CLIPConfig, CLIPModel

    folder.mkdir(parents=True, exist_ok=True)
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({piece: number for number, piece in enumerate(pieces)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    tower = {
        "hidden_size": width,
        "intermediate_size": 2 * width,
        "num_hidden_layers": layers,
        "num_attention_heads": width // 16,
    }
    ends = {"bos_token_id": len(pieces) - 2, "eos_token_id": len(pieces) - 1, "pad_token_id": len(pieces) - 1}
    torch.manual_seed(seed)
    model: Any = CLIPModel(
        CLIPConfig(
            projection_dim=dim,
            text_config={**tower, **ends, "vocab_size": len(pieces), "max_position_embeddings": 77},
            vision_config={**tower, "image_size": side, "patch_size": 4},
        )
    )
    redraw(model, std)
    model.save_pretrained(folder)
    return folder


def redraw(model: torch.nn.Module, std: float) -> None:
    """Draw the weights of all maps again; norms and biases stay."""
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                weight.normal_(0, std)


def byte_tokenizer(*marks: str, before: str | None = None) -> Tokenizer:
    """A token a byte, and the marks, of which one may stand before every text."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(BPE({letter: number for number, letter in enumerate(letters)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(mark, special=True) for mark in marks])
    if before is not None:
        number = tokenizer.token_to_id(before)
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{before} $A", special_tokens=[(before, number)]
        )
    return tokenizer


def _word_tokenizer(words: tuple[str, ...]) -> Tokenizer:
    vocabulary = {word: number for number, word in enumerate(["[UNK]", *dict.fromkeys(words)])}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))  # noqa: S106  # a token of text
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens([AddedToken(mark, special=True) for mark in _MARKS])
    return tokenizer
