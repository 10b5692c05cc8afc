"""Measure a finished tower: recall on the evaluation sets and the time a picture takes.

python -m mmseek.training.mini.report --data ../shared/data [--weights embed/mini/image_tower.safetensors]
"""

import argparse
import json
import logging
import statistics
import time
from pathlib import Path

import torch

from mmseek.embed.mini.tower import ImageTower, load_tower
from mmseek.training.mini.measure import score_set
from mmseek.training.mini.targets import minilm

logger = logging.getLogger("mmseek.training.mini.report")

# set, split, tasks
MEASURES = (
    ("imagenet1k_sample", "test", ("text->image",)),
    ("textbook_figures", "dev", ("text->image",)),
    ("textbook_figures", "test", ("text->image",)),
    ("textbook_figures", "test", ("caption->image",)),
    ("apparel_women", "dev", ("text->image",)),
    ("apparel_women", "test", ("text->image",)),
    ("aerial_ucm", "test", ("text->image",)),
    ("emoji", "test", ("text->image",)),
)


@torch.inference_mode()
def milliseconds(tower: ImageTower, batch: int = 16, rounds: int = 15) -> tuple[float, float]:
    """Least and median time a picture takes in a batch, preprocessing not counted."""
    pictures = torch.randint(0, 256, (batch, tower.config.size, tower.config.size, 3), dtype=torch.uint8)
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        tower(pictures)
        times.append((time.perf_counter() - start) * 1000 / batch)
    return min(times), statistics.median(times)


def main(argv: list[str] | None = None) -> None:
    """Log one line of JSON for each measure."""
    parser = argparse.ArgumentParser(prog="python -m mmseek.training.mini.report")
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--weights", type=Path, help="weights file; the shipped one unless told")
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    tower, encode = load_tower(args.weights), minilm()
    for name, split, tasks in MEASURES:
        scores = score_set(tower, args.data / name, split, encode, tasks)
        logger.info("%s", json.dumps({"set": name, "split": split, "task": tasks[0]} | scores))
    least, median = milliseconds(tower)
    logger.info("%s", json.dumps({"ms_per_picture_at_16": {"least": round(least, 2), "median": round(median, 2)}}))


if __name__ == "__main__":
    main()
