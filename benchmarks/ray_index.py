"""The engine ray beside the local one: the same texts, the same encoder, taking turns in one run.

    python benchmarks/ray_index.py [--data ../shared/data/scifact] [--items 2000] [--actors 2] [--rounds 3] [--fake]

Prints JSON. `ratio` is ray's items a second over the local engine's, without the start of the cluster, which is told
apart (`start_seconds`) because it is paid once a run; that the workers load the encoder is within. Two figures do not
become better with more machines: `plan_items_per_second`, how quickly one process cuts the corpus into partitions, and
`rerun_items_per_second`, how quickly it finds that all are finished. `bytes_per_item` is the collection on the disk.
On a machine whose cores the local engine keeps busy there is nothing to win; what is measured is what the engine costs.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any


def texts(data: Path, items: int) -> list[Any]:
    from mmseek import Content, Document

    rows = [json.loads(row) for row in (data / "corpus.jsonl").read_text().splitlines()]
    return [
        Document(f"d{number}", Content.of(f"{rows[number % len(rows)]['text']} {number}"), {"n": number})
        for number in range(items)
    ]


def one_round(documents: list[Any], load: Callable[[], Any], actors: int, base: Path) -> dict[str, float]:
    from mmseek.index import open_collection
    from mmseek.pipeline import index_corpus
    from mmseek.pipeline.partitioned import RayOptions, index_on_ray
    from mmseek.pipeline.partitioned.plan import make_plan

    encoder = load()
    with closing(open_collection(base / "local", mode="create", encoder=encoder.identity)) as collection:
        local = index_corpus(documents, encoder, collection)
    with closing(open_collection(base / "ray", mode="create", encoder=encoder.identity)) as collection:
        go = partial(
            index_on_ray, documents, collection, base / "ray", load, base / "ray.w", options=RayOptions(actors=actors)
        )
        shared = go()
        again = go()
        info = collection.info()
    assert (shared.indexed, again.unchanged) == (local.indexed, local.indexed) == (len(documents), len(documents))
    (base / "plan").mkdir()
    began = time.perf_counter()
    make_plan(documents, base / "plan", 64)
    planned = time.perf_counter() - began
    return {
        "local_items_per_second": len(documents) / local.seconds,
        "ray_items_per_second": len(documents) / shared.seconds,
        "ratio": local.seconds / shared.seconds,
        "plan_items_per_second": len(documents) / planned,
        "rerun_items_per_second": len(documents) / again.seconds,
        "bytes_per_item": info.bytes / info.documents,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/scifact"))
    parser.add_argument("--items", type=int, default=2000)
    parser.add_argument("--actors", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--fake", action="store_true", help="an encoder that costs nothing: the engines alone")
    arguments = parser.parse_args()

    from mmseek.embed import load_encoder
    from mmseek.pipeline.partitioned.cluster import cluster
    from mmseek.testing import FakeEncoder

    load = partial(FakeEncoder, dim=384) if arguments.fake else partial(load_encoder, "mini", device="cpu")
    documents = texts(arguments.data, arguments.items)
    began = time.perf_counter()
    with cluster(None, cpus=arguments.actors + 2):
        started = time.perf_counter() - began
        rounds = []
        for _ in range(arguments.rounds):
            with tempfile.TemporaryDirectory() as name:
                rounds.append(one_round(documents, load, arguments.actors, Path(name)))
    result = {name: round(statistics.median(row[name] for row in rounds), 3) for name in rounds[0]}
    facts = {"benchmark": "ray_index", "encoder": "fake" if arguments.fake else "mini", "items": arguments.items}
    print(json.dumps({**facts, "actors": arguments.actors, "start_seconds": round(started, 2), **result}))


if __name__ == "__main__":
    main()
