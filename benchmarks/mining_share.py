"""How much of a mining is not encoding: search, choosing, reading and writing, beside what `mini` needs for vectors.

    python benchmarks/mining_share.py [--queries N] [--documents N] [--words N] [--sample N] [--pictures DIR]

`mine` runs over a made-up set with an encoder that only hands out random vectors, so its whole time is search and
bookkeeping (the random vectors' own making is taken off). `mini` then encodes a sample of the same texts, or, with
`--pictures`, pictures of a folder, and its rate says what 110,000 items would take. Told are both, and the share.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from mmseek._types import Content, Encoded, EncodeRequest, EncoderIdentity, Image
from mmseek.embed import load_encoder
from mmseek.evaluation import load_dataset
from mmseek.training.mining import MiningOptions, mine

DIM = 384


class HandsOut:
    """Random vectors for whatever is asked, in no time to speak of; `seconds` is what they took."""

    identity = EncoderIdentity("random", "random", DIM)

    def __init__(self) -> None:
        self._rng = np.random.default_rng(0)
        self.seconds = 0.0

    def encode_query(self, contents: list[Content], instruction: str | None = None) -> np.ndarray:
        raise NotImplementedError

    def encode_document(self, contents: list[Content]) -> np.ndarray:
        raise NotImplementedError

    def stream(self, requests: Iterable[EncodeRequest]) -> Iterator[Encoded]:
        source = iter(requests)
        while shard := list(islice(source, 1024)):
            began = time.perf_counter()
            rows = self._rng.standard_normal((len(shard), DIM), dtype=np.float32)
            rows /= np.linalg.norm(rows, axis=1, keepdims=True)
            self.seconds += time.perf_counter() - began
            for row in rows:
                yield Encoded(row)


def made_up(folder: Path, queries: int, documents: int, words: int) -> Path:
    """A set of texts whose queries have a labelled document each."""
    rng = np.random.default_rng(1)
    known = np.array([f"word{number}" for number in range(5000)])

    def lines(kind: str, count: int, length: int) -> Iterator[str]:
        for number in range(count):
            yield json.dumps({"id": f"{kind}{number}", "text": " ".join(rng.choice(known, length))}) + "\n"

    (folder / "qrels").mkdir(parents=True)
    for name, kind, count, length in (("corpus", "d", documents, words), ("queries", "q", queries, 8)):
        with (folder / f"{name}.jsonl").open("w") as file:
            file.writelines(lines(kind, count, length))
    with (folder / "qrels" / "train.tsv").open("w") as file:
        file.write("query-id\tcorpus-id\tscore\n")
        file.writelines(f"q{number}\td{number * 7 % documents}\t1\n" for number in range(queries))
    return folder


def sample_of(args: argparse.Namespace, folder: Path) -> list[Content]:
    if args.pictures is not None:
        paths = [path for path in sorted(args.pictures.rglob("*")) if path.suffix in (".png", ".jpg", ".jpeg")]
        return [Content((Image(path=path),)) for path in paths[: args.sample]]
    with (folder / "corpus.jsonl").open() as file:
        return [Content.of(json.loads(line)["text"]) for line in islice(file, args.sample)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--queries", type=int, default=10_000)
    parser.add_argument("--documents", type=int, default=100_000)
    parser.add_argument("--words", type=int, default=40)
    parser.add_argument("--sample", type=int, default=512)
    parser.add_argument("--pictures", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = made_up(Path(name) / "set", args.queries, args.documents, args.words)
        data, encoder = load_dataset(folder, "train"), HandsOut()
        began, processor = time.perf_counter(), time.process_time()
        report, _ = mine(data, encoder, Path(name) / "rows.jsonl", options=MiningOptions())
        wall, processor = time.perf_counter() - began - encoder.seconds, time.process_time() - processor
        contents, model = sample_of(args, folder), load_encoder("mini", device="cpu")
        model.encode_document(contents[:32])
        began, own = time.perf_counter(), time.process_time()
        model.encode_document(contents)
        took, own = time.perf_counter() - began, time.process_time() - own
    items = args.queries + args.documents
    encoding, encoding_processor = items * took / len(contents), items * own / len(contents)
    print(
        json.dumps(
            {
                "benchmark": "mining_share",
                "queries": report.rows,
                "documents": args.documents,
                "bookkeeping_s": round(wall, 2),
                "bookkeeping_cpu_s": round(processor, 2),
                "mini_items_per_s": round(len(contents) / took, 1),
                "mini_cpu_s": round(encoding_processor, 1),
                "share_wall": round(wall / (wall + encoding), 4),
                "share_cpu": round(processor / (processor + encoding_processor), 4),
            }
        )
    )


if __name__ == "__main__":
    main()
