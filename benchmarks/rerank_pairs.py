"""Seconds to rerank 100 candidates with pictures: mmseek beside one pair at a time, and beside plain batches.

The model is a random Qwen3-VL of a tiny size, made here: what is measured is how the work is arranged, with the prompt,
the head and the pictures the same on all paths. `pair at a time` is what the published code does: each pair is one
whole forward pass, and the query's picture is seen anew for every candidate. `plain batches` is the same work in
batches, nothing kept. `mmseek, seen before` is the next query over the same candidates.

    python benchmarks/rerank_pairs.py [--candidates 100] [--rounds 3] [--query-pictures 0 1] [--size tiny]

`--size 2b` is the shape of Qwen3-VL-Reranker-2B, for a GPU.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch
from rich.console import Console
from side_by_side import SideBySide
from tokenizers import AddedToken, Tokenizer, pre_tokenizers
from tokenizers.models import BPE

from mmseek._quiet import quiet_pillow
from mmseek._types import Content, Image, Pair
from mmseek.media import open_image
from mmseek.rerank import load_reranker
from mmseek.rerank.mllm.engine import Memory
from mmseek.rerank.qwen3_vl import LEAST_PIXELS, MOST_PIXELS, render

MARKS = ["<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>"]
SIZES: dict[str, dict[str, dict[str, Any]]] = {
    "tiny": {
        "text": {
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 16,
        },
        "vision": {
            "depth": 3,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_heads": 2,
            "out_hidden_size": 64,
            "deepstack_visual_indexes": [0, 1],
        },
    },
    "small": {
        "text": {
            "hidden_size": 128,
            "intermediate_size": 384,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 32,
        },
        "vision": {
            "depth": 4,
            "hidden_size": 128,
            "intermediate_size": 384,
            "num_heads": 4,
            "out_hidden_size": 128,
            "deepstack_visual_indexes": [1, 2],
        },
    },
    "2b": {
        "text": {
            "hidden_size": 2048,
            "intermediate_size": 6144,
            "num_hidden_layers": 28,
            "num_attention_heads": 16,
            "num_key_value_heads": 8,
            "head_dim": 128,
        },
        "vision": {
            "depth": 24,
            "hidden_size": 1024,
            "intermediate_size": 4096,
            "num_heads": 16,
            "out_hidden_size": 2048,
            "deepstack_visual_indexes": [5, 11, 17],
        },
    },
}


def make_checkpoint(folder: Path, size: str) -> Path:
    """A random Qwen3-VL whose tokenizer has common words as tokens, so prompts are about as long as real ones."""
    from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(BPE({letter: number for number, letter in enumerate(letters)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.add_special_tokens([AddedToken(mark, special=True) for mark in MARKS])
    prompt = (
        "Judge whether the Document meets the requirements based on the Query and the Instruct provided. Note that the "
        'answer can only be "yes" or "no". Given a search query, retrieve relevant candidates that answer the query. '
        "system user assistant yes no a photo of picture showing with some on street red blue boat"
    )
    tokenizer.add_tokens(sorted({form for word in prompt.split() for form in (word, f" {word}")}))
    config = SIZES[size]
    vocabulary = tokenizer.get_vocab_size()
    model = Qwen3VLForConditionalGeneration(
        Qwen3VLConfig(
            text_config={
                **config["text"],
                "vocab_size": vocabulary,
                "max_position_embeddings": 32768,
                "rope_parameters": {
                    "rope_type": "default",
                    "rope_theta": 5e6,
                    "mrope_section": _sections(config["text"]["head_dim"]),
                    "mrope_interleaved": True,
                },
            },
            vision_config={**config["vision"], "num_position_embeddings": 2304},
            image_token_id=tokenizer.token_to_id("<|image_pad|>"),
            vision_start_token_id=tokenizer.token_to_id("<|vision_start|>"),
            vision_end_token_id=tokenizer.token_to_id("<|vision_end|>"),
            video_token_id=vocabulary,
            tie_word_embeddings=True,
        )
    )
    model.to(torch.bfloat16 if size == "2b" else torch.float32).save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.5] * 3, "image_std": [0.5] * 3}))
    return folder


def _sections(size: int) -> list[int]:
    """How the halves of a head's size are shared by time, height and width: 24, 20, 20 of 64 in the published model."""
    side = size // 2 * 5 // 16
    return [size // 2 - 2 * side, side, side]


def pictures(count: int, side: int, seed: int) -> list[Image]:
    """Random pictures of about `side` pixels."""
    drawn = np.random.default_rng(seed)
    return [
        Image.from_pil(PIL.Image.fromarray(drawn.integers(0, 255, (int(side * h), int(side * w), 3), dtype=np.uint8)))
        for h, w in drawn.uniform(0.7, 1.3, (count, 2))
    ]


class Original:
    """The published code's way: transformers' processor and one whole forward pass a pair, two rows of the head.

    Args:
        folder: of the checkpoint.
        device: where it runs.
        prompts: gives the prompt of a pair, the same as ours.
    """

    def __init__(self, folder: Path, device: str, prompts: Any) -> None:
        from transformers import Qwen3VLForConditionalGeneration
        from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

        dtype = torch.bfloat16 if device.startswith("cuda") else torch.float32
        self.model = Qwen3VLForConditionalGeneration.from_pretrained(folder, dtype=dtype).to(device).eval()
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.pictures = Qwen2VLImageProcessorPil(
            patch_size=16,
            image_mean=[0.5] * 3,
            image_std=[0.5] * 3,
            size={"shortest_edge": LEAST_PIXELS, "longest_edge": MOST_PIXELS},
        )
        rows = self.model.get_output_embeddings().weight
        yes, no = (self.tokenizer.token_to_id(word) for word in ("yes", "no"))
        self.direction = (rows[yes].float() - rows[no].float()).detach()
        self.device = device
        self.prompts = prompts

    def score(self, pairs: list[Pair]) -> list[float]:
        """One after the other."""
        return [self._one(pair) for pair in pairs]

    @torch.inference_mode()
    def _one(self, pair: Pair) -> float:
        prompt = self.prompts(pair).text("<|vision_start|><|image_pad|><|vision_end|>")
        opened = [open_image(image) for image in (*pair.query.images, *pair.document.images)]
        inputs = dict(self.pictures(images=opened, return_tensors="pt"))
        for grid in inputs["image_grid_thw"]:
            prompt = prompt.replace("<|image_pad|>", "<placeholder>" * (int(grid.prod()) // 4), 1)
        ids = torch.tensor([self.tokenizer.encode(prompt.replace("<placeholder>", "<|image_pad|>")).ids])
        states = self.model.model(
            input_ids=ids.to(self.device),
            mm_token_type_ids=(ids == self.model.config.image_token_id).int().to(self.device),
            **{name: value.to(self.device) for name, value in inputs.items()},
        ).last_hidden_state
        return float(torch.sigmoid(states[0, -1].float() @ self.direction))


def main() -> None:
    """Make the model, time the paths in turn, compare their scores."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--candidates", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--query-pictures", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--side", type=int, default=160, help="about how many pixels a candidate's picture is wide")
    parser.add_argument("--query-side", type=int, default=448, help="the same of the query's picture")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--size", choices=list(SIZES), default="tiny")
    options = parser.parse_args()
    console = Console(stderr=True)
    with tempfile.TemporaryDirectory() as folder, quiet_pillow():
        make_checkpoint(Path(folder), options.size)
        ours = load_reranker(f"qwen3-vl-reranker:{folder}", device=options.device)
        original = Original(Path(folder), options.device, render)
        for count in options.query_pictures:
            measure(ours, original, count, options, console)


def measure(ours: Any, original: Original, query_pictures: int, options: argparse.Namespace, console: Console) -> None:
    """One table: a query with so many pictures."""
    kind = type(ours)
    plain = kind(ours.backbone, ours.head, identity=ours.identity, memory=Memory(0, 0, 0))
    query = Content.of(*pictures(query_pictures, options.query_side, 1), "a photo of some red boat on a street")
    documents = [
        Content.of(picture, "a picture showing a boat") for picture in pictures(options.candidates, options.side, 2)
    ]
    pairs = [Pair(query, document) for document in documents]
    original.score(pairs[:2])  # warm
    bench = SideBySide("mmseek")
    scores: dict[str, np.ndarray] = {}
    for _ in range(options.rounds):
        fresh = kind(ours.backbone, ours.head, identity=ours.identity)  # nothing kept from the round before
        for name, work in {
            "mmseek": lambda fresh=fresh: fresh.score(query, documents),
            "plain batches": lambda: plain.score(query, documents),
            "pair at a time": lambda: original.score(pairs),
            "mmseek, seen before": lambda fresh=fresh: fresh.score(query, documents),
        }.items():
            scores[name] = np.asarray(bench.time(name, len(pairs), work))
    worst = max(float(np.abs(each - scores["pair at a time"]).max()) for each in scores.values())
    sent = ours.sent(pairs[0])
    bench.report(
        console,
        f"rerank, {query_pictures} pictures in the query",
        device=options.device,
        size=options.size,
        tokens_a_pair=sent.tokens,
        picture_tokens=list(sent.picture_tokens),
        largest_difference=worst,
    )


if __name__ == "__main__":
    sys.exit(main())
