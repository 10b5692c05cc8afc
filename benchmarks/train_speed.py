"""Training beside sentence-transformers' own trainer, at equal settings: queries a second.

    python benchmarks/train_speed.py [--data ../shared/data] [--steps N] [--batch N] [--rounds N] [--only PART ...]

all-MiniLM-L6-v2, all weights, AdamW, no hard negatives. The runs take turns; each figure is the median over the rounds
of plain time by our time, above 1 mmseek is faster, by the clock and in the processor's time, which other work on the
machine disturbs less.

- `plain`: claims and abstracts of scifact's train split, which are nearly all cut at the model's 256 tokens:
  `MultipleNegativesRankingLoss` beside `mmseek train` with the batch as one chunk;
- `chunks`: the same rows; `CachedMultipleNegativesRankingLoss` with 8 texts at once beside GradCache by tokens, as many
  in all as 8 of the longest have;
- `mixed`: as `chunks`, on texts of mixed length: as many claims with their abstracts as openings of textbook figures'
  descriptions with their captions.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from proofs import rows_of, write_rows
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.sentence_transformer.losses import (
    CachedMultipleNegativesRankingLoss,
    MultipleNegativesRankingLoss,
)

from mmseek.embed.mini.weights import find_text_model
from mmseek.evaluation import load_dataset
from mmseek.training.configuring import from_mapping
from mmseek.training.data.benchmark import BenchmarkRows
from mmseek.training.run import Run
from mmseek.training.settings import TrainConfig

TOKENS = 2048  # eight abstracts, cut where the model cuts them
Pairs = list[tuple[str, str]]


def now() -> np.ndarray:
    """Seconds by the clock and of the processor."""
    return np.array([time.monotonic(), time.process_time()])


def theirs(model: Path, rows: Pairs, args: argparse.Namespace, folder: str, chunks: bool) -> np.ndarray:
    columns = {"anchor": [query for query, _ in rows], "positive": [document for _, document in rows]}
    encoder = SentenceTransformer(str(model), device="cpu")
    loss: Any = MultipleNegativesRankingLoss(encoder, scale=50)
    if chunks:
        loss = CachedMultipleNegativesRankingLoss(encoder, scale=50, mini_batch_size=8)
    settings = SentenceTransformerTrainingArguments(
        output_dir=folder,
        max_steps=args.steps,
        per_device_train_batch_size=args.batch,
        learning_rate=1e-5,
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
    )
    trainer = SentenceTransformerTrainer(encoder, settings, train_dataset=Dataset.from_dict(columns), loss=loss)
    began = now()
    trainer.train()
    return now() - began


def ours(model: Path, rows: Pairs, args: argparse.Namespace, folder: str, chunks: bool) -> np.ndarray:
    triples = write_rows(Path(f"{folder}.jsonl"), [{"query": query, "positives": [each]} for query, each in rows])
    settings = {
        "model": {"encoder": f"st:{model}"},
        "data": {"sources": [{"path": str(triples)}]},
        "batch": {"size": args.batch, "chunk_tokens": TOKENS if chunks else 0},
        "optimizer": {"rate": 1e-5},
        "schedule": {"steps": args.steps},
        "run": {"output": folder, "device": "cpu", "save_every": 0, "tensorboard": False},
    }
    run = Run(from_mapping(TrainConfig, settings))
    _ = run.sources, run.trainable
    marks: list[np.ndarray] = []
    began = now()
    run.start(lambda _: marks.append(now()))  # the last step's end, without writing the model
    return marks[-1] - began


def claims(data: Path) -> Pairs:
    """Claims of scifact and abstracts."""
    source = BenchmarkRows(load_dataset(data / "scifact", "train"))
    picked = [source.row(number) for number in range(len(source))]
    return [(row.query.content.text, row.positives[0].content.text) for row in picked]


def figures(data: Path) -> Pairs:
    """Openings of descriptions of textbook figures, and captions."""
    folder = data / "textbook_figures"
    captions = {row["id"]: row["metadata"].get("caption") for row in rows_of(folder / "corpus.jsonl")}
    asked = {row["id"]: row["text"] for row in rows_of(folder / "queries.jsonl") if row["id"].startswith("t2i:")}
    lines = (folder / "qrels" / "train.tsv").read_text(encoding="utf-8").splitlines()[1:]
    judged = [line.split("\t")[:2] for line in lines]
    return [(asked[query], captions[name]) for query, name in judged if query in asked and captions[name]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=("plain", "chunks", "mixed"), default=("plain", "chunks", "mixed"))
    args = parser.parse_args()
    long, short = claims(args.data), figures(args.data)
    count = min(len(long), len(short))
    model, found = find_text_model(), {}
    parts = {"plain": (long, False), "chunks": (long, True), "mixed": (long[:count] + short[:count], True)}
    for name in args.only:
        (rows, chunks), pairs = parts[name], []
        for number in range(args.rounds):
            with tempfile.TemporaryDirectory() as folder:
                pair = (
                    theirs(model, rows, args, f"{folder}/a", chunks),
                    ours(model, rows, args, f"{folder}/b", chunks),
                )
            print(name, number, [each.round(2).tolist() for each in pair], file=sys.stderr, flush=True)
            pairs.append(pair)
        found[name] = {
            "faster": round(statistics.median(plain[0] / own[0] for plain, own in pairs), 3),
            "faster_cpu": round(statistics.median(plain[1] / own[1] for plain, own in pairs), 3),
            "samples_per_second": round(statistics.median(args.steps * args.batch / own[0] for _, own in pairs), 1),
        }
    print(json.dumps({"steps": args.steps, "batch": args.batch, **found}))


if __name__ == "__main__":
    main()
