"""Runs every benchmark of this folder and prints one line of JSON for each.

    python benchmarks/run.py [--data ../shared/data]

A benchmark whose data set is not there is named and left out. Each runs in a process of its own, one after the other.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def plan(data: Path) -> list[tuple[str, list[str], Path | None]]:
    """Script, arguments, and the data set it needs."""
    text, pictures = data / "scifact", data / "imagenet1k_sample"
    return [
        ("encode_text.py", ["--data", str(text), "--st", "--openvino"], text),
        ("encode_text.py", ["--data", str(text), "--lengths", "abstracts", "--st"], text),
        ("encode_images.py", ["--data", str(pictures)], pictures),
        ("hybrid_scifact.py", ["--data", str(text)], text),
        ("encode_clip.py", ["--sizes", "mixed", "--openvino"], None),
        ("encode_clip.py", ["--sizes", "camera", "--slice", "40", "--rounds", "3"], None),
        ("encode_clip.py", ["--sizes", "equal", "--openvino"], None),
        ("encode_families.py", [], None),
        ("visual_tokens.py", ["--steps", "600"], None),
        ("search_100k.py", ["--json"], None),
        ("index_memory.py", [], None),
        ("index_pdf.py", [], None),
        ("index_mixed.py", [], None),
        ("ray_index.py", ["--data", str(text)], text),
        ("ray_index.py", ["--data", str(text), "--fake", "--items", "20000"], text),
        ("rerank_pairs.py", [], None),
        ("instruction_decides.py", ["--json"], None),
        ("mining_helps.py", ["--data", str(data), "--json"], data / "textbook_figures"),
        ("mini_compare.py", ["--data", str(data), "--json"], data / "textbook_figures"),
        ("uniir_fusion.py", ["--data", str(data), "--json"], data / "apparel_women"),
        ("train_speed.py", ["--data", str(text)], text),
        ("mining_share.py", ["--pictures", str(data / "textbook_figures")], data / "textbook_figures"),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    failed = 0
    for script, arguments, needed in plan(parser.parse_args().data):
        if needed is not None and not needed.is_dir():
            print(f"{script}: left out, {needed} is not there", file=sys.stderr)
            continue
        done = subprocess.run([sys.executable, HERE / script, *arguments], stdout=subprocess.PIPE, text=True)
        failed += done.returncode != 0
        if done.returncode == 0:
            print(json.dumps({"script": script, **_last_document(done.stdout)}), flush=True)
    return 1 if failed else 0


def _last_document(text: str) -> dict[str, object]:
    """The JSON object that a benchmark ends with, on one line or on several."""
    start = text.rfind("\n{", 0, len(text)) + 1 if "\n{" in text else text.find("{")
    found: dict[str, object] = json.loads(text[start:])
    return found


if __name__ == "__main__":
    sys.exit(main())
