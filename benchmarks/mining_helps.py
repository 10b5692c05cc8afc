"""Does modality-aware mining help? `mini` on a pool of pictures and of their texts, which of the two being asked for.

    python benchmarks/mining_helps.py [--data ../shared/data] [--stage1 N] [--stage2 N] [--json]

Every figure of textbook_figures and every product of apparel_women stands in one pool twice: as a picture, and as its
caption or description. Each text query asks once for the picture and once for the words. `mini` reads no instructions,
so the request is written into the query. Its text tower stays as it is: all that can be learned is where pictures lie.

Stage 1 trains with random negatives. From there, equally long and at equal settings but for the rows' negatives:

- `mined`: one a query of `mmseek mine` with the model of stage 1, C1 or C2 with equal probability (MM-Embed,
  arXiv:2411.02571);
- `random`: one a query, drawn from the whole pool.

Told on the test split: how often the first hit is of the modality that was not asked for, and recall@10, with 95 %
intervals over queries; and the paired differences, mined less random.
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
from proofs import rows_of, shrunk, told, train, write_rows

from mmseek.embed import load_encoder
from mmseek.evaluation import load_dataset
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
    qrels = {split: ["query-id\tcorpus-id\tscore"] for split in ("train", "test")}
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


def random_negatives(folder: Path, output: Path, seed: int) -> Path:
    """Triples of the training split, each with one negative of the whole pool."""
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
            wrong = right[0]
            while wrong in right:
                wrong = names[int(rng.integers(len(names)))]
            yield {
                "id": query.id,
                "query": {"text": query.content.text},
                "positives": [items[name] for name in right],
                "negatives": [items[wrong]],
            }

    return write_rows(output, list(rows()))


def measured(folder: Path, spec: str) -> tuple[np.ndarray, list[str]]:
    """For each test query: whether the first hit is of the wrong modality, recall@10; and what it asks for."""
    data = load_dataset(folder, "test")
    found = rank_by(data, load_encoder(spec, device="cpu"), 10)
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--stage1", type=int, default=60)
    parser.add_argument("--stage2", type=int, default=60)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rate", type=float, default=3e-4)
    parser.add_argument("--temperature", type=float, default=0.05)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    settings = {"negatives": 1, "batch": args.batch, "rate": args.rate, "temperature": args.temperature}
    found: dict[str, Any] = {"stage1_steps": args.stage1, "stage2_steps": args.stage2, "minutes": {}}
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        folder = mixed_pool([args.data / "textbook_figures", args.data / "apparel_women"], place / "mixed")
        values, tasks = measured(folder, "mini")
        found |= {"queries": len(tasks), "start": report("start", values, tasks)}
        triples = random_negatives(folder, folder / "random-1.jsonl", seed=1)
        first, found["minutes"]["stage1"] = train("mini", triples, place / "stage1", steps=args.stage1, **settings)
        found["stage1"] = report("stage1", measured(folder, first)[0], tasks)
        rows = folder / "mined.jsonl"
        mined, _ = mine(load_dataset(folder, "train"), load_encoder(first, device="cpu"), rows, options=MiningOptions())
        found["mining"] = {key: value for key, value in mined.to_json().items() if not key.startswith("failed")}
        print(json.dumps(found["mining"]), file=sys.stderr)
        results = {}
        for arm, file in (("mined", rows), ("random", random_negatives(folder, folder / "random-2.jsonl", seed=2))):
            spec, found["minutes"][arm] = train(first, file, place / arm, steps=args.stage2, **settings)
            results[arm] = measured(folder, spec)[0]
            found[arm] = report(arm, results[arm], tasks)
        found["mined_less_random"] = report("difference", results["mined"] - results["random"], tasks)
    print(json.dumps(found) if args.json else json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
