"""Train the image tower of the `mini` encoder from random initialisation.

    python -m mmseek.training.mini --data ../shared/data --teacher ../shared/teacher \\
        --out embed/mini/image_tower.safetensors

Data: the pictures that `data.py` lists, none of an evaluation split. Seed: 0 unless told. Time: a set of views takes 3
to 10 minutes on two cores, the training as long as `--minutes` says (55 unless told). RUN.md holds the figures of the
run that made the shipped weights; its settings stand in the weights file's header.
"""

import argparse
import copy
import json
import logging
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import distributed, multiprocessing

from mmseek.embed.mini.tower import ImageTower, TowerConfig, save_tower
from mmseek.training.mini.crops import CropSet, build_set, open_set
from mmseek.training.mini.data import Picture, Pictures, load_pictures
from mmseek.training.mini.duplicates import duplicates_kept
from mmseek.training.mini.finish import blended, choose, fused, with_settings
from mmseek.training.mini.fresh import Fresh, prepare
from mmseek.training.mini.loop import Schedule, State, load_state, run, save_state
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
    parser.add_argument("--start", type=Path, help="checkpoint of an earlier run (its --work's tower.safetensors)")
    parser.add_argument("--blend", type=float, default=1.0, help="with --start: how far from there to the new weights")
    parser.add_argument("--head", type=float, nargs=2, metavar=("TEMPERATURE", "CENTRE"), help="instead of choosing")
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


def plan(args: argparse.Namespace) -> tuple[Schedule, LossWeights]:
    """How to train: from nothing, or on from a tower that knows its photos, gently and with more for the texts."""
    if args.start is None:
        return Schedule(minutes=args.minutes, steps=args.steps, seed=args.seed), LossWeights()
    schedule = Schedule(
        minutes=args.minutes, steps=args.steps, seed=args.seed, rate=1.2e-3, decay=1.0, average=0.998, fresh=24,
        batch=96, sizes=((0.0, 80), (0.55, 96), (0.82, 112)), warmup_steps=100,
    )  # fmt: skip
    return schedule, LossWeights(logits=0.5, texts=1.0)


def fit_adaptor(objective: Objective, views: CropSet, count: int = 2048) -> None:
    """The adaptor that serves the tower best as it is, by least squares: a random one would spoil what it knows."""
    chosen = np.linspace(0, len(views.crops) - 1, count).astype(int)
    with torch.inference_mode():
        crops = torch.from_numpy(views.crops[chosen])
        seen = torch.cat([objective.tower.outputs(part).features for part in torch.split(crops, 64)])
        wanted = (torch.from_numpy(views.features[chosen]).float() - objective.mean) / objective.std
        ones = torch.cat([seen, torch.ones(len(seen), 1)], dim=1)
        gram = ones.T @ ones + 0.01 * len(seen) * torch.eye(ones.shape[1]) * seen.var()
        solved = torch.linalg.solve(gram, ones.T @ wanted)
    with torch.no_grad():
        objective.adaptor.weight.copy_(solved[:-1].T)
        objective.adaptor.bias.copy_(solved[-1])


def make_objective(
    targets: Targets,
    teacher: Teacher,
    views: CropSet,
    seed: int,
    start: Path | None = None,
    weights: LossWeights | None = None,
) -> Objective:
    """A tower, of random weights or a checkpoint's, and its objective; features have the statistics of `views`."""
    torch.manual_seed(seed)
    tower = ImageTower(TowerConfig(classes=len(teacher.labels), dim=targets.label_vectors.shape[1]))
    tower.label_vectors.copy_(targets.label_vectors)
    tower = tower.to(memory_format=torch.channels_last)
    if start is not None:
        load_state(start, tower)
    sample = torch.from_numpy(np.asarray(views.features[::7], dtype=np.float32))
    statistics = (sample.mean(0), sample.std(0) + 1e-3)
    objective = Objective(tower, targets, (teacher.weight, teacher.bias), statistics, weights)
    if start is not None:
        tower.eval()
        fit_adaptor(objective, views)
    return objective


@dataclass(frozen=True, slots=True)
class Material:
    """What every process trains on, beside the views: targets, pictures to leave out, and fresh crops if any."""

    targets: Targets
    left_out: tuple[int, ...] = ()
    fresh: Fresh | None = None


def train(
    rank: int, args: argparse.Namespace, material: Material, meeting: str, held: HeldOut | None
) -> tuple[ImageTower, State]:
    """One process of the training: every rank computes the same weights from its own share of each batch."""
    torch.set_num_threads(1)
    if args.workers > 1:
        distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=args.workers)
    sets = [open_set(args.work / "crops", k) for k in range(args.sets)]
    targets, (schedule, weights) = material.targets, plan(args)
    objective = make_objective(targets, Teacher(args.teacher), sets[0], args.seed, args.start, weights)
    captioned = captioned_rows(targets) if material.fresh is None else torch.zeros(0, dtype=torch.long)
    started = time.monotonic()

    def report(average: ImageTower, state: State, terms: dict[str, float]) -> None:
        save_state(args.work / "tower.safetensors", average, state)
        seconds = time.monotonic() - started
        score = score_held_out(average, held) if held is not None else float("nan")
        line = {"step": state.step, "progress": round(state.progress, 3), "minutes": round(seconds / 60, 1)}
        line |= {"pictures_per_second": round(state.step * schedule.batch / seconds), "held_out_map": round(score, 4)}
        logger.info("%s", json.dumps(line | {name: round(value, 4) for name, value in terms.items()}))

    result = run(objective, sets, captioned, schedule, report, rank, args.workers, material.fresh, material.left_out)
    if args.workers > 1:
        distributed.destroy_process_group()
    return result


def captioned_rows(targets: Targets) -> torch.Tensor:
    """Pictures of the captioned sets that have a text."""
    return torch.nonzero((targets.positives[:, 0] >= 0) & (targets.domain != targets.domain[0])).flatten()


def train_all(args: argparse.Namespace, material: Material, held: HeldOut) -> tuple[ImageTower, State]:
    """Start the other ranks, be rank 0 and return its tower."""
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        meeting = str(Path(folder) / "meeting")
        others = [
            context.Process(target=train, args=(rank, args, material, meeting, None), daemon=True)
            for rank in range(1, args.workers)
        ]
        for other in others:
            other.start()
        result = train(0, args, material, meeting, held)
        for other in others:
            other.join()
    return result


def about(
    args: argparse.Namespace, pictures: Pictures, left_out: Sequence[int], state: State, choice: object
) -> dict[str, str]:
    """What the weights file says of its making."""
    schedule, weights = plan(args)
    counts: dict[str, int] = {}
    for row, picture in enumerate(pictures.train):
        if row in left_out:
            continue
        counts[picture.source] = counts.get(picture.source, 0) + 1
    return {
        "made_by": "python -m mmseek.training.mini",
        "data": json.dumps(counts),
        "seed": str(args.seed),
        "views": str(args.sets),
        "left_out": str(len(left_out)),
        "start": "nothing" if args.start is None else f"an earlier run's weights; {args.blend} of the way from them",
        "schedule": json.dumps(asdict(schedule)),
        "loss_weights": json.dumps(asdict(weights)),
        "steps": str(state.step),
        "head": json.dumps(choice),
        "text_space": "sentence-transformers/all-MiniLM-L6-v2, mean pooled, normalised",
        "license": "Apache-2.0",
    }


def gather(args: argparse.Namespace, pictures: list[Picture], targets: Targets) -> Material:
    """Near-duplicates of evaluation pictures to leave out, and, for a run that goes on, the captioned pictures."""
    left_out = duplicates_kept(args.work, args.data, args.teacher, pictures)
    if args.start is None:
        return Material(targets, left_out)
    rows = [row for row in captioned_rows(targets).tolist() if row not in set(left_out)]
    return Material(targets, left_out, prepare(pictures, rows))


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
    material = gather(args, pictures.train, targets)
    tower, state = train_all(args, material, held)
    if args.start is not None:
        earlier = copy.deepcopy(tower)
        load_state(args.start, earlier)
        tower = blended(earlier, tower, args.blend)
    final, tried = choose(fused(tower), targets.label_vectors, held)
    for choice in tried:
        logger.info("head %s", json.dumps(asdict(choice)))
    chosen = asdict(tried[0])
    if args.head is not None:
        final = with_settings(fused(tower), targets.label_vectors, *args.head)
        chosen = {"temperature": args.head[0], "centre": args.head[1]}
    save_tower(final, args.out, about(args, pictures, material.left_out, state, chosen))
    logger.info("wrote %s, %d bytes", args.out, args.out.stat().st_size)
