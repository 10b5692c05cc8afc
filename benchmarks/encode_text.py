"""How fast `mini` encodes text, beside `SentenceTransformer.encode` with the same weights.

    python benchmarks/encode_text.py --data ../shared/data/scifact [--lengths mixed] [--slice 256] [--rounds 5]
        [--st] [--openvino]

Of the corpus, shuffled, either the abstracts as they are (`--lengths abstracts`: most reach the model's 256 word
pieces) or, in turn, a title, a sentence, the first half of an abstract and an abstract (`mixed`). Each round takes the
next slice and times three paths over the same items, in turn, so that whatever else the machine is doing falls on all
of them:

- `loop`: `for chunk of 32: model.encode(chunk)`, what a plain indexing loop does;
- `all`: one call `model.encode(slice)`, which sorts the slice by length itself;
- `mini`: `MiniEncoder.stream`, tokenising and batching included;
- `st`, with `--st`: the same model through the family `st`, which any model of sentence-transformers goes through;
- `mini openvino`, with `--openvino`: the same with `--backend openvino`, float32.

Read the ratios and not the rates. `wall` is the median over the rounds of the other path's seconds divided by `mini`'s;
`cpu` is the same of the processor time of all threads, which a busy machine disturbs less, but which also counts those
that wait by spinning. Above 1, `mini` is faster. `min_cosine` is the lowest agreement of two vectors of
one text. The last line of stdout is one line of JSON; the table goes to stderr.
"""

from __future__ import annotations

import argparse
import json
import random
from functools import partial
from pathlib import Path

import numpy as np
from rich.console import Console
from sentence_transformers import SentenceTransformer
from side_by_side import SideBySide, chunks

from mmseek import Content, EncodeRequest, load_encoder
from mmseek.embed.mini.weights import find_text_model


def read_texts(corpus: Path, lengths: str) -> list[str]:
    """Abstracts as they are, or, in turn, a title, a sentence, half an abstract and an abstract."""
    with corpus.open(encoding="utf-8") as file:
        texts = [json.loads(line)["text"] for line in file]
    random.Random(0).shuffle(texts)
    if lengths == "abstracts":
        return texts
    pieces = []
    for number, text in enumerate(texts):
        title, _, abstract = text.partition("\n")
        sentences = abstract.split(". ")
        sentence = sentences[number % len(sentences)]
        pieces.append((title, sentence, abstract[: len(abstract) // 2], text)[number % 4])
    return pieces


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data/scifact"))
    parser.add_argument("--slice", type=int, default=256, help="items a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--lengths", choices=("mixed", "abstracts"), default="mixed")
    parser.add_argument("--st", action="store_true", help="also through the family st")
    parser.add_argument("--openvino", action="store_true", help="also with the backend openvino")
    options = parser.parse_args()

    texts = read_texts(options.data / "corpus.jsonl", options.lengths)
    model = SentenceTransformer(str(find_text_model()), device="cpu")
    ours = {"mini": load_encoder("mini", device="cpu", backend="torch")}
    if options.st:
        ours["st"] = load_encoder(f"st:{find_text_model()}", device="cpu", backend="torch")
    if options.openvino:
        ours["mini openvino"] = load_encoder("mini", device="cpu", backend="openvino")

    def plain(chunk: list[str]) -> np.ndarray:
        return model.encode(chunk, show_progress_bar=False)

    def loop(chunk: list[str]) -> np.ndarray:
        return np.concatenate([plain(part) for part in chunks(chunk, 32)])

    def stream(chunk: list[str], path: str = "mini") -> np.ndarray:
        requests = (EncodeRequest(Content.of(text)) for text in chunk)
        return np.stack([result.vector for result in ours[path].stream(requests)])

    bench = SideBySide("mini")
    plain(texts[-8:])
    for path in ours:
        stream(texts[-8:], path)
    lowest = 1.0
    for number in range(options.rounds):
        chunk = texts[number * options.slice :][: options.slice]
        looped = bench.time("loop", len(chunk), partial(loop, chunk))
        for path in ours:
            rows = bench.time(path, len(chunk), partial(stream, chunk, path))
            lowest = min(lowest, float((looped * rows).sum(1).min()))
        bench.time("all", len(chunk), partial(plain, chunk))
    about = {"data": options.data.name, "lengths": options.lengths}
    bench.report(Console(stderr=True), "text", **about, min_cosine=round(lowest, 7))


if __name__ == "__main__":
    main()
