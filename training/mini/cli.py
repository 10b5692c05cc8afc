"""Train the image tower of the `mini` encoder from random initialisation.

    python -m mmseek.training.mini --data ../shared/data --teacher ../shared/teacher \\
        --out embed/mini/image_tower.safetensors

Data: the pictures that `data.py` lists, none of an evaluation split. Seed: 0 unless told. Time: a set of views takes 3
to 10 minutes on two cores, the training as long as `--minutes` says (55 unless told). RUN.md holds the figures of the
run that made the shipped weights; its settings stand in the weights file's header.
"""

import argparse
import json
import logging
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import distributed, multiprocessing

from mmseek.embed.mini.tower import ImageTower, TowerConfig, save_tower
from mmseek.training.mini.crops import build_set, open_set
from mmseek.training.mini.data import Pictures, load_pictures
from mmseek.training.mini.finish import choose, fused
from mmseek.training.mini.loop import Schedule, State, run, save_state
from mmseek.training.mini.losses import LossWeights, Objective
from mmseek.training.mini.measure import HeldOut, held_out, score_held_out
from mmseek.training.mini.targets import Targets, build_targets, minilm, remembering
from mmseek.training.mini.teacher import Teacher

logger = logging.getLogger("mmseek.training.mini")


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m mmseek.training.mini", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--teacher", type=Path, required=True, help="folder of the teacher: teacher.py and its weights")
    parser.add_argument("--out", type=Path, required=True, help="weights file to write (safetensors)")
    parser.add_argument("--work", type=Path, help="folder for views and checkpoints (5 GB); kept, and taken up again")
    parser.add_argument("--minutes", type=float, default=55, help="length of the training; 0: by --steps alone")
    parser.add_argument("--steps", type=int, default=0, help="end after so many steps; 0: by --minutes alone")
    parser.add_argument("--sets", type=int, default=3, help="views of every picture")
    parser.add_argument("--workers", type=int, default=2, help="processes, one for each core")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    if args.minutes <= 0 and args.steps <= 0:
        parser.error("give --minutes or --steps, or the training would never end")
    return args


def make_objective(targets: Targets, teacher: Teacher, features: np.ndarray, seed: int) -> Objective:
    """A tower of random weights and its objective; the features' statistics are taken from one set of views."""
    torch.manual_seed(seed)
    tower = ImageTower(TowerConfig(classes=len(teacher.labels), dim=targets.label_vectors.shape[1]))
    tower.label_vectors.copy_(targets.label_vectors)
    tower = tower.to(memory_format=torch.channels_last)
    sample = torch.from_numpy(np.asarray(features[::7], dtype=np.float32))
    statistics = (sample.mean(0), sample.std(0) + 1e-3)
    return Objective(tower, targets, (teacher.weight, teacher.bias), statistics)


def train(
    rank: int, args: argparse.Namespace, schedule: Schedule, targets: Targets, meeting: str, held: HeldOut | None
) -> tuple[ImageTower, State]:
    """One process of the training: every rank computes the same weights from its own share of each batch."""
    torch.set_num_threads(1)
    if args.workers > 1:
        distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=args.workers)
    sets = [open_set(args.work / "crops", k) for k in range(args.sets)]
    objective = make_objective(targets, Teacher(args.teacher), sets[0].features, args.seed)
    captioned = torch.nonzero((targets.positives[:, 0] >= 0) & (targets.domain != targets.domain[0])).flatten()
    started = time.monotonic()

    def report(average: ImageTower, state: State, terms: dict[str, float]) -> None:
        save_state(args.work / "tower.safetensors", average, state)
        seconds = time.monotonic() - started
        score = score_held_out(average, held) if held is not None else float("nan")
        line = {"step": state.step, "progress": round(state.progress, 3), "minutes": round(seconds / 60, 1)}
        line |= {"pictures_per_second": round(state.step * schedule.batch / seconds), "held_out_map": round(score, 4)}
        logger.info("%s", json.dumps(line | {name: round(value, 4) for name, value in terms.items()}))

    result = run(objective, sets, captioned, schedule, report, rank, args.workers)
    if args.workers > 1:
        distributed.destroy_process_group()
    return result


def train_all(
    args: argparse.Namespace, schedule: Schedule, targets: Targets, held: HeldOut
) -> tuple[ImageTower, State]:
    """Start the other ranks, be rank 0 and return its tower."""
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        meeting = str(Path(folder) / "meeting")
        others = [
            context.Process(target=train, args=(rank, args, schedule, targets, meeting, None), daemon=True)
            for rank in range(1, args.workers)
        ]
        for other in others:
            other.start()
        result = train(0, args, schedule, targets, meeting, held)
        for other in others:
            other.join()
    return result


def about(
    args: argparse.Namespace, schedule: Schedule, pictures: Pictures, state: State, choice: object
) -> dict[str, str]:
    """What the weights file says of its making."""
    counts: dict[str, int] = {}
    for picture in pictures.train:
        counts[picture.source] = counts.get(picture.source, 0) + 1
    return {
        "made_by": "python -m mmseek.training.mini",
        "data": json.dumps(counts),
        "seed": str(args.seed),
        "views": str(args.sets),
        "schedule": json.dumps(asdict(schedule)),
        "loss_weights": json.dumps(asdict(LossWeights())),
        "steps": str(state.step),
        "head": json.dumps(choice),
        "text_space": "sentence-transformers/all-MiniLM-L6-v2, mean pooled, normalised",
        "license": "Apache-2.0",
    }


def main(argv: list[str] | None = None) -> None:
    """Read the pictures, build the views, train, choose the head's settings, write the weights."""
    args = arguments(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    if args.work is None:
        args.work = Path(tempfile.mkdtemp(prefix="mmseek_mini_"))
    pictures = load_pictures(args.data, args.seed)
    logger.info("%d pictures to train on, %d held out", len(pictures.train), len(pictures.held_out))
    for number in range(args.sets):
        started = time.monotonic()
        build_set(pictures.train, args.teacher, args.work / "crops", number, args.seed, args.workers)
        logger.info("views %d of %d ready after %.0f s", number + 1, args.sets, time.monotonic() - started)
    # Other programs may use the machine too, and threads that wait for each other suffer most from that.
    torch.set_num_threads(1)
    encode = remembering(minilm(), args.work / "texts.npz")
    targets = build_targets(pictures.train, Teacher(args.teacher).labels, encode)
    held = held_out(pictures.held_out, encode, TowerConfig().size)
    schedule = Schedule(minutes=args.minutes, steps=args.steps, seed=args.seed)
    tower, state = train_all(args, schedule, targets, held)
    final, tried = choose(fused(tower), targets.label_vectors, held)
    for choice in tried:
        logger.info("head %s", json.dumps(asdict(choice)))
    save_tower(final, args.out, about(args, schedule, pictures, state, asdict(tried[0])))
    logger.info("wrote %s, %d bytes", args.out, args.out.stat().st_size)
