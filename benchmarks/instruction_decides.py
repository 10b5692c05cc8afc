"""Does the instruction decide? A tiny Qwen2-VL of random weights learns it with `mmseek train`, in minutes on a CPU.

    python benchmarks/instruction_decides.py [--steps N] [--json]

A world of coloured shapes (`mmseek.training.worlds`): the same picture asks for its colour or for its shape. Trained on
30 of 36 combinations, measured on the 6 others, by hit@1 over pictures of all combinations but the query's own:

- `colour`, `shape`: with the instruction;
- `without`: the same queries without any. One answer cannot be right for both, so 0.5 is the most there is;
- `untrained`: the model before training.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from mmseek.embed import load_encoder
from mmseek.evaluation import Dataset, evaluate, load_dataset
from mmseek.training.configuring import from_mapping
from mmseek.training.run import Run
from mmseek.training.settings import TrainConfig
from mmseek.training.tiny import tiny_qwen_vl
from mmseek.training.worlds import WORDS, World


def hits(data: Dataset, spec: str) -> dict[str, float]:
    encoder = load_encoder(spec, device="cpu")
    told = evaluate(data, encoder)
    untold = replace(data, queries=tuple(replace(query, instruction=None) for query in data.queries))
    return {task: round(result.metrics["hit@1"], 3) for task, result in told.by_task.items()} | {
        "without": round(evaluate(untold, encoder).overall.metrics["hit@1"], 3)
    }


def trained(
    folder: Path, *, steps: int, batch: int = 64, rate: float = 1e-3, width: int = 64, copies: int = 12
) -> tuple[str, Dataset, str]:
    """Train in a folder: the spec of the trained model, what it is measured on, and the spec of the untrained one."""
    folder.mkdir(exist_ok=True)
    triples, test = World(folder / "world", copies=copies).write()
    start = tiny_qwen_vl(
        folder / "start", width=width, vision_width=32, layers=2, vision_layers=2, words=WORDS, std=0.05
    )
    settings = {
        "model": {"encoder": f"vlm2vec:{start}"},
        "data": {"sources": [{"path": str(triples)}]},
        "batch": {"size": batch},
        "loss": {"temperature": 0.05},
        "optimizer": {"rate": rate, "weight_decay": 0.01},
        "schedule": {"steps": steps, "warmup": 50, "kind": "cosine"},
        "run": {"output": f"{folder}/run", "device": "cpu", "save_every": 0, "tensorboard": False},
    }
    done = Run(from_mapping(TrainConfig, settings)).start(
        lambda r: None if r.step % 50 else print(r.step, round(r.loss, 3), file=sys.stderr)
    )
    return done.spec, load_dataset(test), f"vlm2vec:{start}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--copies", type=int, default=12)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        started = time.monotonic()
        settings = {"batch": args.batch, "rate": args.rate, "width": args.width, "copies": args.copies}
        spec, data, start = trained(Path(folder), steps=args.steps, **settings)
        minutes = round((time.monotonic() - started) / 60, 2)
        untrained, after = hits(data, start), hits(data, spec)
    found = {"queries": len(data.queries), "steps": args.steps, "minutes": minutes, **after, "untrained": untrained}
    print(json.dumps(found) if args.json else "\n".join(f"{name}: {value}" for name, value in found.items()))


if __name__ == "__main__":
    main()
