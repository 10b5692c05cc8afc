"""Does score fusion (UniIR, arXiv:2311.17136) use both sides of a query? `mini` on "the same item in orange".

    python benchmarks/uniir_fusion.py [--data ../shared/data] [--steps N] [--seeds N] [--split test]

The composed queries of apparel_women: a product's picture and the wanted change in words; the product in that colour is
to be found among all pictures but the query's own. A content's vector is the normalised sum of its text's and its
picture's, which is UniIR's score fusion over `mini`'s towers: what `mini` has learned beyond the sum (its fusion of
picture and text) is taken out first. What follows the frozen picture tower is trained, through the sum, on the composed
queries of the train split.

Three models are trained equally long from equal seeds: on the whole queries, on their pictures alone and on their words
alone. Told is hit@1 on the test split, the mean over the seeds, of each model with the queries that it was trained on,
of the fused model with one side taken away, and of the start, with 95 % intervals over queries; and the paired
differences between the fused model and the two others. Rate and steps were chosen on the dev split.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from proofs import KeptEncoder, rows_of, shrunk, told, train, write_rows

from mmseek._types import Content
from mmseek.embed.mini.pictures import TOWER_FILE
from mmseek.embed.mini.tower import ImageTower, load_tower, save_tower
from mmseek.evaluation import Dataset, load_dataset
from mmseek.evaluation.runner import rank_by

SIDES = {"both": ("image", "text"), "picture": ("image",), "words": ("text",)}


def copied(source: Path, folder: Path) -> Path:
    """The dataset with its composed queries alone and small pictures."""
    corpus = rows_of(source / "corpus.jsonl")
    for row in corpus:
        small = f"images/{row['id']}.png"
        shrunk(source / row["image"], folder / small)
        row["small"] = small
    of = {row["image"]: row["small"] for row in corpus}
    queries = [
        row | {"image": of[row["image"]]} for row in rows_of(source / "queries.jsonl") if row["id"].startswith("comp:")
    ]
    write_rows(folder / "corpus.jsonl", [{"id": row["id"], "image": row["small"]} for row in corpus])
    write_rows(folder / "queries.jsonl", queries)
    (folder / "qrels").mkdir()
    known = {row["id"] for row in queries}
    for split in ("train", "dev", "test"):
        header, *judged = (source / "qrels" / f"{split}.tsv").read_text(encoding="utf-8").splitlines()
        kept = [line for line in judged if line.split("\t")[0] in known]
        (folder / "qrels" / f"{split}.tsv").write_text("\n".join([header, *kept]) + "\n", encoding="utf-8")
    return folder


def triples(folder: Path, side: str) -> Path:
    """Rows to train on, their queries without what is not of the side."""
    data = load_dataset(folder, "train")
    pictures = {row["id"]: row["image"] for row in rows_of(folder / "corpus.jsonl")}
    queries = {row["id"]: row for row in rows_of(folder / "queries.jsonl")}
    rows = [
        {
            "query": {key: queries[query.id][key] for key in SIDES[side]},
            "positives": [{"image": pictures[name]} for name in data.qrels[query.id]],
        }
        for query in data.queries
    ]
    return write_rows(folder / f"{side}.jsonl", rows)


def plain_sum(folder: Path) -> str:
    """The spec of `mini` without its learned fusion."""
    tower = load_tower()
    made = ImageTower(replace(tower.config, fusion=0))
    made.load_state_dict({name: value for name, value in tower.state_dict().items() if not name.startswith("fusion.")})
    folder.mkdir()
    save_tower(made, folder / TOWER_FILE.name)
    return f"mini:{folder}"


def hits(data: Dataset, spec: str, side: str, features: Path) -> np.ndarray:
    """hit@1 of each query, (queries, 1)."""

    def seen(content: Content) -> Content:
        parts = [*content.images] if side == "picture" else [*content.texts]
        return content if side == "both" else Content.of(*parts)

    asked = replace(data, queries=tuple(replace(query, content=seen(query.content)) for query in data.queries))
    found = rank_by(asked, KeptEncoder(spec, features), 1)
    first = [found.ids[found.rows[query.id][0]] in data.qrels[query.id] for query in data.queries]
    return np.array(first, dtype=np.float64)[:, None]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--temperature", type=float, default=0.05)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--features", type=Path, help="file that keeps what the tower gives; without it, a new one")
    parser.add_argument("--split", default="test")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    settings = {"steps": args.steps, "batch": args.batch, "rate": args.rate, "temperature": args.temperature}
    with tempfile.TemporaryDirectory() as name:
        place, features = Path(name), args.features or Path(name) / "features.sqlite"
        folder = copied(args.data / "apparel_women", place / "apparel")
        start, data = plain_sum(place / "start"), load_dataset(folder, args.split)
        found: dict[str, Any] = {"queries": len(data.queries), "split": args.split, "seeds": args.seeds, **settings}

        def measured(spec: str, side: str) -> np.ndarray:
            return hits(data, spec, side, features)

        found["untrained"] = {side: told(measured(start, side), ["hit@1"])["hit@1"] for side in SIDES}
        own: dict[str, list[np.ndarray]] = {side: [] for side in SIDES}
        less: dict[str, list[np.ndarray]] = {side: [] for side in ("picture", "words")}
        for seed in range(args.seeds):
            for side in SIDES:
                spec, _ = train(
                    start,
                    triples(folder, side),
                    place / f"{side}-{seed}",
                    negatives=0,
                    seed=seed,
                    features=features,
                    **settings,
                )
                own[side].append(measured(spec, side))
                for other in less if side == "both" else ():
                    less[other].append(measured(spec, other))
        means = {side: np.mean(values, axis=0) for side, values in own.items()}
        found["trained"] = {side: told(values, ["hit@1"])["hit@1"] for side, values in means.items()}
        found["of_each_seed"] = {
            side: [round(float(each.mean()), 3) for each in values] for side, values in own.items()
        }
        found["fused_with_one_side"] = {
            side: told(np.mean(values, axis=0), ["hit@1"])["hit@1"] for side, values in less.items()
        }
        found["both_less"] = {side: told(means["both"] - means[side], ["hit@1"])["hit@1"] for side in less}
    print(json.dumps(found) if args.json else json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
