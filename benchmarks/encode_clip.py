"""How fast `clip:` encodes pictures from paths, beside sentence-transformers and a plain loop over transformers.

    python benchmarks/encode_clip.py [--slice 64] [--rounds 5] [--sizes mixed|camera|equal] [--openvino]

The model has the shape of CLIP ViT-B/32 and random weights. The pictures are JPEG made here, all of 640 x 480
(`equal`), of 200 to 2000 pixels a side (`mixed`, 0.6 megapixels on average), or as folders of people are (`camera`, 2.9
megapixels on average): of twenty, five thumbnails of 120 to 320 pixels, eight of the web's 480 to 1600, four of 1600 to
2600 and three of a camera's 4032 x 3024. Each round takes a slice of them and times three paths over the same files, in
turn:

- `plain by 32`: open with PIL, transformers' Pillow image processor, `get_image_features` on 32 pictures at once;
- `sentence-transformers`: `SentenceTransformer.encode` of the paths, 32 at once, with its own image processor;
- `clip`: `ClipEncoder.stream`;
- `clip openvino`, with `--openvino`: the same with `--backend openvino`, float32.

Read the ratios as in `encode_text.py`. `min_cosine` compares `clip` with `plain by 32`. The last line of stdout is one
line of JSON; the table goes to stderr.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch
from rich.console import Console
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Transformer
from side_by_side import SideBySide, chunks
from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPProcessor, CLIPTokenizer

from mmseek import Content, EncodeRequest, load_encoder


def make_model(folder: Path, tower: dict[str, int] | None = None) -> CLIPModel:
    tower = tower or {}  # that of ViT-B/32
    letters = sorted(ByteLevel.alphabet())
    pieces = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({piece: number for number, piece in enumerate(pieces)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    ends = {"bos_token_id": len(pieces) - 2, "eos_token_id": len(pieces) - 1, "pad_token_id": len(pieces) - 1}
    torch.manual_seed(0)
    model = CLIPModel(CLIPConfig(text_config={"vocab_size": len(pieces), **ends, **tower}, vision_config=tower)).eval()
    model.save_pretrained(folder)
    CLIPProcessor(CLIPImageProcessorPil(), CLIPTokenizer.from_pretrained(folder)).save_pretrained(folder)
    return model


# How many of twenty pictures, and the shortest and longest side in pixels of each.
CAMERA = ((5, 120, 320), (8, 480, 1600), (4, 1600, 2600), (3, 3024, 4032))


def make_size(number: int, sizes: str, random: np.random.Generator) -> tuple[int, int]:
    """Width and height of a picture, in pixels."""
    if sizes == "equal":
        return 640, 480
    if sizes == "mixed":
        return int(200 * 10 ** random.random()), int(200 * 10 ** random.random())
    # 7 and 20 have no common divisor, so that each stretch of a folder has all kinds.
    kinds = [(low, high) for share, low, high in CAMERA for _ in range(share)]
    low, high = kinds[7 * number % len(kinds)]
    long = high if high == CAMERA[-1][2] else int(random.integers(low * 4 // 3, high + 1))
    size = long, long * 3 // 4
    return size if random.random() < 0.7 else size[::-1]


def make_pictures(folder: Path, count: int, sizes: str) -> list[Path]:
    random = np.random.default_rng(0)
    paths = []
    for number in range(count):
        size = make_size(number, sizes, random)
        noise = random.integers(0, 255, (max(size[1] // 8, 1), max(size[0] // 8, 1), 3), dtype=np.uint8)
        path = folder / f"{number}.jpg"
        PIL.Image.fromarray(noise).resize(size, PIL.Image.Resampling.BICUBIC).save(path, quality=90)
        paths.append(path)
    return paths


@torch.inference_mode()
def plain(paths: list[Path], model: Any, processor: Any) -> np.ndarray:
    rows = []
    for part in chunks(paths, 32):
        pictures = [PIL.Image.open(path).convert("RGB") for path in part]
        features = model.get_image_features(**processor(images=pictures, return_tensors="pt")).pooler_output
        rows.append(torch.nn.functional.normalize(features, dim=1).numpy())
    return np.concatenate(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--slice", type=int, default=64, help="pictures a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sizes", choices=("mixed", "camera", "equal"), default="mixed")
    parser.add_argument("--openvino", action="store_true", help="also with the backend openvino")
    options = parser.parse_args()

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch, "model")
        folder.mkdir()
        model = make_model(folder)
        paths = make_pictures(Path(scratch), options.slice * options.rounds + 8, options.sizes)
        processor = CLIPImageProcessorPil.from_pretrained(folder)
        peer = SentenceTransformer(modules=[Transformer(str(folder))], device="cpu")
        ours = {"clip": load_encoder(f"clip:{folder}", device="cpu", backend="torch")}
        if options.openvino:
            ours["clip openvino"] = load_encoder(f"clip:{folder}", device="cpu", backend="openvino")

        def stream(chunk: list[Path], path: str = "clip") -> np.ndarray:
            requests = (EncodeRequest(Content.of(path)) for path in chunk)
            return np.stack([result.vector for result in ours[path].stream(requests)])

        def by_peer(chunk: list[Path]) -> np.ndarray:
            return peer.encode([str(path) for path in chunk], batch_size=32)

        bench = SideBySide("clip")
        warmed = [partial(stream, path=path) for path in ours]
        for warm in (partial(plain, model=model, processor=processor), by_peer, *warmed):
            warm(paths[-8:])
        least = 1.0
        for number in range(options.rounds):
            chunk = paths[number * options.slice :][: options.slice]
            expected = bench.time("plain by 32", len(chunk), partial(plain, chunk, model, processor))
            for path in ours:
                rows = bench.time(path, len(chunk), partial(stream, chunk, path))
                least = min(least, float((expected * rows).sum(1).min()))
            bench.time("sentence-transformers", len(chunk), partial(by_peer, chunk))
        bench.report(Console(stderr=True), "clip", sizes=options.sizes, min_cosine=round(least, 6))


if __name__ == "__main__":
    main()
