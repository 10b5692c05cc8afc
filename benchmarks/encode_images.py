"""How fast `mini` encodes pictures, beside a plain loop with the same image tower.

    python benchmarks/encode_images.py --data ../shared/data/imagenet1k_sample [--slice 96] [--rounds 5]

Each round takes the next slice of a shuffled corpus and times three paths over the same files, in turn:

- `one by one`: open with PIL, convert to RGB, resize, run the tower on this one picture;
- `by 32`: the same, but the tower sees 32 pictures at once;
- `mini`: `MiniEncoder.stream`: JPEG decoded in threads, no larger than needed, ahead of the tower.

Read the ratios as in `encode_text.py`. `min_cosine` and `mean_cosine` compare `mini` with `one by one`: decoding a JPEG
at a fraction of its size does not give the same pixels as shrinking the whole. `weights` says whether the tower is the
trained one or, where that is not there yet, one of the same shape with random weights, for which the speed is the same
and the cosines mean little. The last line of stdout is one line of JSON; the table goes to stderr.
"""

from __future__ import annotations

import argparse
import json
import random
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch
from rich.console import Console
from side_by_side import SideBySide, chunks

from mmseek import Content, EncodeRequest
from mmseek.embed.engine import EngineOptions
from mmseek.embed.mini.encoder import MiniEncoder
from mmseek.embed.mini.pictures import TOWER_FILE, PictureTower
from mmseek.embed.mini.text import TextTower
from mmseek.embed.mini.tower import ImageTower, TowerConfig, load_tower, preprocess
from mmseek.embed.registry import usable_cores


def tower_of(path: Path) -> Any:
    """The trained tower or one with random weights."""
    if path.exists():
        return load_tower(path)
    torch.manual_seed(0)
    tower = ImageTower(TowerConfig(fused=True))
    torch.nn.init.normal_(tower.label_vectors)
    return tower.to(memory_format=torch.channels_last).eval()


def pixels(path: Path, size: int) -> np.ndarray:
    with PIL.Image.open(path) as picture:
        return np.asarray(picture.convert("RGB").resize((size, size), PIL.Image.Resampling.BICUBIC))


@torch.inference_mode()
def plain(paths: list[Path], tower: Any, batch: int) -> np.ndarray:
    rows = [
        tower(torch.from_numpy(np.stack([pixels(path, tower.config.size) for path in part]))).numpy()
        for part in chunks(paths, batch)
    ]
    return np.concatenate(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data/imagenet1k_sample"))
    parser.add_argument("--slice", type=int, default=96, help="pictures a round")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()

    with (options.data / "corpus.jsonl").open(encoding="utf-8") as file:
        paths = [options.data / json.loads(line)["image"] for line in file]
    random.Random(0).shuffle(paths)
    tower = tower_of(TOWER_FILE)
    size = tower.config.size
    pictures = PictureTower(tower, partial(preprocess, size=size), size=size)
    cores = usable_cores()
    mini = MiniEncoder(TextTower(), lambda: pictures, fingerprint="", options=EngineOptions(workers=cores, lanes=cores))

    def stream(chunk: list[Path]) -> np.ndarray:
        return np.stack([result.vector for result in mini.stream(EncodeRequest(Content.of(path)) for path in chunk)])

    bench = SideBySide("mini")
    plain(paths[-8:], tower, 4)
    stream(paths[-8:])
    cosines: list[float] = []
    for number in range(options.rounds):
        chunk = paths[number * options.slice :][: options.slice]
        single = bench.time("one by one", len(chunk), partial(plain, chunk, tower, 1))
        rows = bench.time("mini", len(chunk), partial(stream, chunk))
        bench.time("by 32", len(chunk), partial(plain, chunk, tower, 32))
        cosines.extend((single * rows).sum(1).tolist())
    bench.report(
        Console(stderr=True),
        "images",
        data=options.data.name,
        weights="trained" if TOWER_FILE.exists() else "random",
        min_cosine=round(min(cosines), 5),
        mean_cosine=round(float(np.mean(cosines)), 5),
    )


if __name__ == "__main__":
    main()
