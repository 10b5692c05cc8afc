"""How fast families encode a mix of items, beside one item after the other without the engine, on small checkpoints.

    python benchmarks/encode_families.py [--slice 24] [--rounds 3]

The checkpoints are random and made here, of the published architectures with fewer and narrower layers, so the ratios
say what the engine adds and not how fast a published model runs. A round takes the next slice of items and times, in
turn, `FAMILY`, which is `encoder.stream`, and `FAMILY plain`, the same weights without the engine:

- `vlm2vec`, `gme`: transformers' Pillow image processor, tokenizer and model on one item, texts and pictures mixed;
- `st`: `SentenceTransformer.encode` on one text, the small text model of `mini`.

Read the ratios as in `encode_text.py`; `min_cosine` compares both. The last line of stdout is one line of JSON.
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch
from rich.console import Console
from rich.table import Table
from sentence_transformers import SentenceTransformer
from tokenizers import AddedToken, Tokenizer, pre_tokenizers
from tokenizers.models import BPE
from transformers import Qwen2VLConfig, Qwen2VLModel
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil, smart_resize

from mmseek import Content, EncodeRequest, Image, load_encoder
from mmseek.embed.mini.weights import find_text_model

MARKS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>"]
COLOURS = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
# Of the pixels of a picture, as each family's own code sets them.
PIXELS = {"vlm2vec": (3136, 1003520), "gme": (200704, 1003520)}


def make_qwen(folder: Path) -> Path:
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(BPE({letter: number for number, letter in enumerate(letters)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.add_special_tokens([AddedToken(mark, special=True) for mark in MARKS])
    text = {"hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 4, "num_attention_heads": 4}
    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [8, 12, 12]}
    config = Qwen2VLConfig(
        text_config={**text, "num_key_value_heads": 2, "vocab_size": 256 + len(MARKS), "rope_parameters": rope},
        vision_config={"depth": 4, "embed_dim": 128, "hidden_size": 256, "num_heads": 4, "mlp_ratio": 4},
        image_token_id=tokenizer.token_to_id("<|image_pad|>"),
        video_token_id=256 + len(MARKS),
    )
    torch.manual_seed(0)
    Qwen2VLModel(config).save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "preprocessor_config.json").write_text(json.dumps(COLOURS))
    return folder


def make_items(count: int) -> list[Content]:
    """In turn: a text of 5 to 400 letters, a picture, both."""
    random = np.random.default_rng(0)
    items = []
    for number in range(count):
        words = "".join(random.choice(list("abcdefgh "), random.integers(5, 400)))
        width, height = (int(side) for side in random.integers(120, 420, 2))
        noise = random.integers(0, 255, (height // 8, width // 8, 3), dtype=np.uint8)
        picture = Image.from_pil(PIL.Image.fromarray(noise).resize((width, height)))
        items.append(Content.of(*((words,), (picture,), (picture, words))[number % 3]))
    return items


@torch.inference_mode()
def plain_qwen(items: list[Content], family: str, encoder: Any, model: Any, tokenizer: Any) -> np.ndarray:
    low, high = PIXELS[family]
    size = {"shortest_edge": low, "longest_edge": high}
    processor = Qwen2VLImageProcessorPil(**COLOURS, size=size)
    rows = []
    for item in items:
        prompt, inputs = encoder.prompt(EncodeRequest(item)), {}
        if item.images:
            opened = [PIL.Image.open(io.BytesIO(image.data)) for image in item.images]
            if family == "gme":
                sizes = [smart_resize(image.height, image.width, 28, 3136, 12845056) for image in opened]
                opened = [image.resize(size[::-1]) for image, size in zip(opened, sizes, strict=True)]
            inputs = dict(processor(images=opened, return_tensors="pt"))
            tokens = int(inputs["image_grid_thw"].prod() // 4)
            prompt = prompt.replace("<|image_pad|>", "<|image_pad|>" * tokens)
        ids = torch.tensor([tokenizer.encode(prompt).ids])
        positions = torch.arange(ids.shape[1]).expand(3, 1, -1)
        state = model(input_ids=ids, position_ids=positions, **inputs).last_hidden_state[0, -1]
        rows.append(torch.nn.functional.normalize(state, dim=0).numpy())
    return np.stack(rows)


def ours(items: list[Content], encoder: Any) -> np.ndarray:
    return np.stack([answer.vector for answer in encoder.stream(EncodeRequest(item) for item in items)])


def compared(
    items: list[Content], size: int, plain: Callable[[list[Content]], np.ndarray], encoder: Any
) -> dict[str, float]:
    """Median ratios of the rounds, and the smallest cosine."""
    ratios, cosines = [], []
    plain(items[-3:])
    ours(items[-3:], encoder)
    for start in range(0, len(items) - 3, size):
        part = items[start : start + size]
        marks, rows = [], []
        for work in (plain, partial(ours, encoder=encoder)):
            wall, cpu = time.perf_counter(), time.process_time()
            rows.append(work(part))
            marks.append((time.perf_counter() - wall, time.process_time() - cpu))
        ratios.append([theirs / mine for theirs, mine in zip(*marks, strict=True)])
        cosines.append((rows[0] * rows[1]).sum(1).min())
    wall, cpu = (statistics.median(column) for column in zip(*ratios, strict=True))
    return {"wall": round(wall, 2), "cpu": round(cpu, 2), "min_cosine": round(float(min(cosines)), 6)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--slice", type=int, default=24, help="items a round")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    items = make_items(options.slice * options.rounds + 3)
    found: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = make_qwen(Path(scratch))
        model = Qwen2VLModel.from_pretrained(folder, dtype=torch.float32).eval()
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        for family in PIXELS:
            encoder = load_encoder(f"{family}:{folder}", device="cpu")
            plain = partial(plain_qwen, family=family, encoder=encoder, model=model, tokenizer=tokenizer)
            found[family] = compared(items, options.slice, plain, encoder)
    small = find_text_model()
    peer = SentenceTransformer(str(small), device="cpu")
    texts = [Content.of(item.text or "a picture") for item in items]
    found["st"] = compared(
        texts,
        options.slice,
        lambda part: np.stack([peer.encode(item.text, normalize_embeddings=True) for item in part]),
        load_encoder(f"st:{small}", device="cpu"),
    )
    table = Table("family", "times as fast (wall)", "(cpu)", "min cosine", title="families beside one item at a time")
    for family, row in found.items():
        table.add_row(family, *map(str, row.values()))
    Console(stderr=True).print(table)
    rounds = {"rounds": options.rounds, "items_a_round": options.slice}
    print(json.dumps({"benchmark": "encode_families", **rounds, "families": found}))


if __name__ == "__main__":
    main()
