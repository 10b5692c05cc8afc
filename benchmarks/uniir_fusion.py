"""Does score fusion (UniIR, arXiv:2311.17136) use both sides of a query? `mini` on "the same item in orange".

    python benchmarks/uniir_fusion.py [--data ../shared/data] [--steps N] [--json]

The composed queries of apparel_women: a product's picture and the wanted change in words; the product in that colour is
to be found among all pictures but the query's own. A content's vector is the normalised sum of its text's and its
picture's, which is UniIR's score fusion over `mini`'s towers; the picture tower is trained, through the sum, on the
composed queries of the train split.

Three models are trained equally long: on the whole queries, on their pictures alone and on their words alone. Told is
hit@1 on the test split, of each model with the queries that it was trained on, of the fused model with one side taken
away, and of `mini` as it comes, with 95 % intervals over queries; and the paired differences between the fused model
and the two others.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from proofs import rows_of, shrunk, told, train, write_rows

from mmseek._types import Content
from mmseek.embed import load_encoder
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
    for split in ("train", "test"):
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


def hits(data: Dataset, spec: str, side: str) -> np.ndarray:
    """hit@1 of each query, (queries, 1)."""

    def seen(content: Content) -> Content:
        parts = [*content.images] if side == "picture" else [*content.texts]
        return content if side == "both" else Content.of(*parts)

    asked = replace(data, queries=tuple(replace(query, content=seen(query.content)) for query in data.queries))
    found = rank_by(asked, load_encoder(spec, device="cpu"), 1)
    first = [found.ids[found.rows[query.id][0]] in data.qrels[query.id] for query in data.queries]
    return np.array(first, dtype=np.float64)[:, None]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rate", type=float, default=3e-4)
    parser.add_argument("--temperature", type=float, default=0.05)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    settings = {"steps": args.steps, "batch": args.batch, "rate": args.rate, "temperature": args.temperature}
    with tempfile.TemporaryDirectory() as name:
        folder = copied(args.data / "apparel_women", Path(name) / "apparel")
        data = load_dataset(folder, "test")
        found: dict[str, Any] = {"queries": len(data.queries), **settings, "minutes": {}}
        found["untrained"] = {side: told(hits(data, "mini", side), ["hit@1"])["hit@1"] for side in SIDES}
        specs = {}
        for side in SIDES:
            specs[side], found["minutes"][side] = train(
                "mini", triples(folder, side), Path(name) / side, negatives=0, **settings
            )
        own = {side: hits(data, spec, side) for side, spec in specs.items()}
        found["trained"] = {side: told(values, ["hit@1"])["hit@1"] for side, values in own.items()}
        found["fused_with_one_side"] = {
            side: told(hits(data, specs["both"], side), ["hit@1"])["hit@1"] for side in ("picture", "words")
        }
        found["both_less"] = {side: told(own["both"] - own[side], ["hit@1"])["hit@1"] for side in ("picture", "words")}
    print(json.dumps(found) if args.json else json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
