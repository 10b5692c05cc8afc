"""Does modality-aware mining help? `mini` on a pool of pictures and of their texts, which of the two being asked for.

    python benchmarks/mining_helps.py [--data ../shared/data] [--stage1 N] [--stage2 N] [--seeds N] [--split test]

Every figure of textbook_figures and every product of apparel_women stands in one pool twice: as a picture, and as its
caption or description. Each text query asks once for the picture and once for the words. `mini` reads no instructions,
so the request is written into the query. Its text tower stays as it is, and so does its picture tower: trained is what
follows it, which decides where pictures lie.

Stage 1 trains with one random negative a row. From there, equally long and at equal settings but for the negatives:

- `mined`: of `mmseek mine --negatives N --c1-share 1` with the model of stage 1 (C1 where there are any, C2 for the
  rest; MM-Embed, arXiv:2411.02571, takes either with equal probability);
- `random`: as many a query, drawn from the whole pool.

Told on the test split, the means over the seeds: how often the first hit is of the modality that was not asked for, and
recall@10, with 95 % intervals over queries; and the paired differences, mined less random. The settings were chosen on
the dev split, see LOG.md.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from proofs import KeptEncoder, rows_of, shrunk, told, train, write_rows

from mmseek.evaluation import Dataset, load_dataset
from mmseek.evaluation.runner import rank_by
from mmseek.training.mining import MiningOptions, mine

METRICS = ("wrong_at_1", "recall@10")
# The first as M-BEIR has it for MSCOCO. Where picture and text are to be told apart by pictures alone, the request must
# move a query far enough from the texts: see LOG.md for one with which no place of the pictures would have been enough.
ASKED = {
    "picture": "Find me an everyday image that matches the given caption. ",
    "text": "Find a written description of this: ",
}


def words_of(metadata: dict[str, Any]) -> str:
    return str(metadata.get("caption") or metadata.get("description") or "")


def documents_of(source: Path, folder: Path) -> list[dict[str, Any]]:
    """Each of a set's documents twice, `picture:ID` and, where it has words, `text:ID`."""
    found: list[dict[str, Any]] = []
    for row in rows_of(source / "corpus.jsonl"):
        path = f"images/{source.name}-{row['id']}.png"
        shrunk(source / row["image"], folder / path)
        found.append({"id": f"picture:{row['id']}", "image": path})
        if text := words_of(row["metadata"]):
            found.append({"id": f"text:{row['id']}", "text": text})
    return found


def judged_of(source: Path, split: str, known: set[str]) -> dict[str, list[str]]:
    """The ids of the documents that each query by a picture's description finds."""
    found: dict[str, list[str]] = {}
    for line in (source / "qrels" / f"{split}.tsv").read_text(encoding="utf-8").splitlines()[1:]:
        query, document, _ = line.split("\t")
        if query in known:
            found.setdefault(query, []).append(document)
    return found


def mixed_pool(sets: list[Path], folder: Path) -> Path:
    """Write the mixed dataset; its queries are `picture:SET:QUERY` and `text:SET:QUERY`."""
    corpus: list[dict[str, Any]] = []
    queries: list[dict[str, Any]] = []
    qrels = {split: ["query-id\tcorpus-id\tscore"] for split in ("train", "dev", "test")}
    for source in sets:
        corpus += documents_of(source, folder)
        present = {row["id"] for row in corpus}
        asked = {row["id"]: row["text"] for row in rows_of(source / "queries.jsonl") if row["id"].startswith("t2i:")}
        for split, lines in qrels.items():
            for query, documents in judged_of(source, split, set(asked)).items():
                for kind, request in ASKED.items():
                    name = f"{kind}:{source.name}:{query}"
                    right = [f"{kind}:{each}" for each in documents if f"{kind}:{each}" in present]
                    if right:
                        queries.append({"id": name, "text": request + asked[query], "metadata": {"task": kind}})
                        lines += [f"{name}\t{each}\t1" for each in right]
    write_rows(folder / "corpus.jsonl", corpus)
    write_rows(folder / "queries.jsonl", queries)
    (folder / "qrels").mkdir()
    for split, lines in qrels.items():
        (folder / "qrels" / f"{split}.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def random_negatives(folder: Path, output: Path, seed: int, count: int = 1) -> Path:
    """Triples of the training split, each with negatives of the whole pool."""
    rng = np.random.default_rng(seed)
    data = load_dataset(folder, "train")
    items = {
        row["id"]: {key: row[key] for key in ("image", "text") if key in row}
        for row in rows_of(folder / "corpus.jsonl")
    }
    names = list(items)

    def rows() -> Iterator[dict[str, Any]]:
        for query in data.queries:
            right = list(data.qrels[query.id])
            wrong: list[str] = []
            while len(wrong) < count:
                name = names[int(rng.integers(len(names)))]
                if name not in right and name not in wrong:
                    wrong.append(name)
            yield {
                "id": query.id,
                "query": {"text": query.content.text},
                "positives": [items[name] for name in right],
                "negatives": [items[name] for name in wrong],
            }

    return write_rows(output, list(rows()))


def measured(data: Dataset, spec: str, features: Path) -> tuple[np.ndarray, list[str]]:
    """For each query: whether the first hit is of the wrong modality, recall@10; and what it asks for."""
    found = rank_by(data, KeptEncoder(spec, features), 10)
    values = np.zeros((len(data.queries), 2))
    for place, query in enumerate(data.queries):
        names = [found.ids[row] for row in found.rows[query.id]]
        right = data.qrels[query.id]
        values[place] = not names[0].startswith(f"{query.task}:"), len(right.keys() & set(names)) / len(right)
    return values, [str(query.task) for query in data.queries]


def report(name: str, values: np.ndarray, tasks: list[str]) -> dict[str, Any]:
    chosen = np.array(tasks)
    found = {"all": told(values, METRICS)} | {task: told(values[chosen == task], METRICS) for task in ASKED}
    print(name, json.dumps(found), file=sys.stderr, flush=True)
    return found


def one_seed(folder: Path, place: Path, features: Path, seed: int, args: argparse.Namespace) -> dict[str, str]:
    """Train stage 1 and both arms of stage 2; their specs."""
    settings: dict[str, Any] = {"batch": args.batch, "rate": args.rate, "temperature": args.temperature, "seed": seed}
    settings["features"] = features
    triples = random_negatives(folder, folder / f"random-1-{seed}.jsonl", seed=2 * seed)
    first, _ = train("mini", triples, place / f"stage1-{seed}", steps=args.stage1, negatives=1, **settings)
    rows = folder / f"mined-{seed}.jsonl"
    options = MiningOptions(negatives=args.negatives, c1_share=1.0, seed=seed)
    mined, _ = mine(load_dataset(folder, "train"), KeptEncoder(first, features), rows, options=options)
    report = {key: value for key, value in mined.to_json().items() if not key.startswith("failed")}
    print("mining", json.dumps(report), file=sys.stderr, flush=True)
    drawn = random_negatives(folder, folder / f"random-2-{seed}.jsonl", seed=2 * seed + 1, count=args.negatives)
    specs = {"stage1": first}
    for arm, file in (("random", drawn), ("mined", rows)):
        output = place / f"{arm}-{seed}"
        specs[arm], _ = train(first, file, output, steps=args.stage2, negatives=args.negatives, **settings)
    return specs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--stage1", type=int, default=300)
    parser.add_argument("--stage2", type=int, default=300)
    parser.add_argument("--negatives", type=int, default=4)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rate", type=float, default=3e-4)
    parser.add_argument("--temperature", type=float, default=0.02)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--split", default="test")
    parser.add_argument("--features", type=Path, help="file that keeps what the towers give; without it, a new one")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    found: dict[str, Any] = {"stage1_steps": args.stage1, "stage2_steps": args.stage2, "seeds": args.seeds}
    with tempfile.TemporaryDirectory() as name:
        place, features = Path(name), args.features or Path(name) / "features.sqlite"
        folder = mixed_pool([args.data / "textbook_figures", args.data / "apparel_women"], place / "mixed")
        data = load_dataset(folder, args.split)
        values, tasks = measured(data, "mini", features)
        found |= {"split": args.split, "queries": len(tasks), "start": report("start", values, tasks)}
        arms: dict[str, list[np.ndarray]] = {"stage1": [], "random": [], "mined": []}
        for seed in range(args.seeds):
            for arm, spec in one_seed(folder, place, features, seed, args).items():
                arms[arm].append(measured(data, spec, features)[0])
                print(seed, arm, arms[arm][-1].mean(axis=0).round(3).tolist(), file=sys.stderr, flush=True)
        means = {arm: np.mean(each, axis=0) for arm, each in arms.items()}
        found |= {arm: report(arm, each, tasks) for arm, each in means.items()}
        found["mined_less_random"] = report("difference", means["mined"] - means["random"], tasks)
    print(json.dumps(found) if args.json else json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
