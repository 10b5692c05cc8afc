"""How many texts and pictures a second `POST /v1/embeddings` answers, beside infinity-emb with the same weights.

    python -m venv /tmp/infinity && /tmp/infinity/bin/pip install 'infinity-emb[server,torch,vision]==0.0.78'
    python benchmarks/serve_embeddings.py --infinity /tmp/infinity/bin/infinity_emb [--seconds 4] [--rounds 3]

Texts go through all-MiniLM-L6-v2, pictures (640 x 480, JPEG) through a model of the shape of CLIP ViT-B/32 with random
weights. Both servers run at once, each in a process of its own, and take turns; an idle server takes no time. The load
comes from a further process: closed-loop clients (a client asks again when it has its answer), `clients x items a
request`. No text is sent twice, and mmseek's cache of vectors is off. Answers are asked for as base64, as OpenAI's
client does, and as lists of numbers with `--float`. All of it takes about two minutes on two cores.

`times` is the median over the rounds of our items a second divided by theirs of the same round; above 1, mmseek is
faster. p50 and p99 are milliseconds of a request, over all rounds. The last line of stdout is one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import tempfile
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.table import Table
from serving import (
    Load,
    free_port,
    infinity_command,
    load_from_another_process,
    mmseek_command,
    percentile,
    run_load,
    server,
)

TEXTS = ((1, 32), (8, 8), (16, 1))
PICTURES = ((1, 16), (8, 1))
PATHS = {"mmseek": "/v1/embeddings", "infinity": "/embeddings"}


def sentences(data: Path, into: Path) -> Path:
    """A file of sentences of scifact's abstracts, up to 40 words, shuffled."""
    with (data / "corpus.jsonl").open(encoding="utf-8") as file:
        abstracts = [json.loads(line)["text"] for line in file]
    found = [" ".join(part.split()[:40]) for text in abstracts for part in text.split(". ") if len(part) > 20]
    random.Random(0).shuffle(found)
    into.write_text("\n".join(found), encoding="utf-8")
    return into


def run(cases, encoder: str, model: Path, source: Path, options: argparse.Namespace) -> dict:
    """Both servers with one model, all cases in turn."""
    found: dict[str, dict] = {}
    ports = {name: free_port() for name in PATHS}
    commands = {
        "mmseek": mmseek_command(encoder, ports["mmseek"]),
        "infinity": infinity_command(options.infinity, model, ports["infinity"]),
    }
    kind = "float" if options.float else "base64"
    loads = {name: Load(ports[name], PATHS[name], 1, 1, 0.1, str(source), kind) for name in PATHS}
    with ExitStack() as both:
        for name, command in commands.items():
            both.enter_context(server(command, partial(run_load, loads[name])))
        for clients, items in cases:
            runs: dict[str, list[dict]] = {name: [] for name in PATHS}
            for _ in range(options.rounds):
                for name, load in loads.items():
                    asked = replace(load, clients=clients, items=items, seconds=options.seconds)
                    runs[name].append(load_from_another_process(asked))
            found[f"{clients}x{items}"] = _compared(runs)
    return found


def _compared(runs: dict[str, list[dict]]) -> dict:
    pairs = zip(runs["mmseek"], runs["infinity"], strict=True)
    case: dict = {"times": round(statistics.median(a["rate"] / b["rate"] for a, b in pairs), 2)}
    for name, each in runs.items():
        times = [one for done in each for one in done["times"]]
        case[name] = {
            "items_per_s": round(statistics.median(done["rate"] for done in each), 1),
            "p50_ms": round(percentile(times, 0.5), 1),
            "p99_ms": round(percentile(times, 0.99), 1),
            "requests": len(times),
        }
    return case


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--infinity", type=Path, required=True, help="infinity_emb of an environment of its own")
    parser.add_argument("--data", type=Path, default=Path("../shared/data/scifact"))
    parser.add_argument("--seconds", type=float, default=4.0, help="of each run")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--float", action="store_true", help="ask for lists of numbers instead of base64")
    parser.add_argument("--only", choices=("texts", "pictures"))
    options = parser.parse_args()
    if not options.infinity.exists():
        parser.error("--infinity must be the program infinity_emb: the top of this script says how to install it")
    found: dict[str, dict] = {}
    with tempfile.TemporaryDirectory() as scratch:
        if options.only != "pictures":
            from mmseek.embed.mini.weights import find_text_model

            texts = sentences(options.data, Path(scratch, "texts"))
            cases = run(TEXTS, "mini", find_text_model(), texts, options)
            found |= {f"{case} texts": each for case, each in cases.items()}
        if options.only != "texts":
            from encode_clip import make_model, make_pictures

            model, pictures = Path(scratch, "model"), Path(scratch, "pictures")
            model.mkdir()
            pictures.mkdir()
            make_model(model)
            make_pictures(pictures, 256, "equal")
            cases = run(PICTURES, f"clip:{model}", model, pictures, options)
            found |= {f"{case} pictures": each for case, each in cases.items()}
    table = Table("clients x items", "server", "items/s", "p50 ms", "p99 ms", "times as fast")
    for case, result in found.items():
        for name in PATHS:
            row = result[name]
            ratio = str(result["times"]) if name == "mmseek" else ""
            table.add_row(case, name, str(row["items_per_s"]), str(row["p50_ms"]), str(row["p99_ms"]), ratio)
    Console(stderr=True).print(table)
    answers = "float" if options.float else "base64"
    print(json.dumps({"benchmark": "serve_embeddings", "answers": answers, "rounds": options.rounds, "cases": found}))


if __name__ == "__main__":
    main()
