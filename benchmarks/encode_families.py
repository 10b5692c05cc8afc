"""How fast each family encodes a mix of items, beside one item after the other without the engine.

    python benchmarks/encode_families.py [--slice 9] [--rounds 2] [--seconds 200] [--only vlm2vec gme]

The checkpoints are the tiny random ones that the tests make, of the published architectures, so the ratios say what the
engine adds (batches, threads, nothing encoded twice) and not how fast a published model runs. A round takes the next
slice of items (in turn a text, a picture, both) and times, in turn, `encoder.stream` and the plain
way over the same weights:

- `vlm2vec`, `gme` (larger models, made here): transformers' Pillow image processor, tokenizer and model on one item;
- `st`: `SentenceTransformer.encode` on one text, the small text model of `mini`;
- all others: the family's own steps on one item, `prepare`, `forward` and `combine`.

No more rounds of a family are begun when its share of the seconds is over; each has at least one. Read the ratios as in
`encode_text.py`; `min_cosine` compares both ways. The last line of stdout is one line of JSON.
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch
from rich.console import Console
from rich.table import Table
from sentence_transformers import SentenceTransformer
from tokenizers import AddedToken, Tokenizer, pre_tokenizers
from tokenizers.models import BPE
from transformers import Qwen2VLConfig, Qwen2VLModel
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil, smart_resize

from mmseek import Content, EncodeRequest, Image, load_encoder
from mmseek.embed import FAMILIES, load_multi_vector_encoder
from mmseek.embed.mini.weights import find_text_model

TESTS = Path(__file__).parents[1] / "tests" / "embed"

MARKS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>"]
COLOURS = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
# Of the pixels of a picture, as each family's own code sets them.
PIXELS = {"vlm2vec": (3136, 1003520), "gme": (200704, 1003520)}


def make_qwen(folder: Path, **text_config: int) -> Path:
    folder.mkdir()
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(BPE({letter: number for number, letter in enumerate(letters)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.add_special_tokens([AddedToken(mark, special=True) for mark in MARKS])
    text = {"hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 4, "num_attention_heads": 4}
    hidden = text_config.get("hidden_size", text["hidden_size"])
    sections = [hidden // 32, hidden * 3 // 64, hidden * 3 // 64]
    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": sections}
    config = Qwen2VLConfig(
        text_config={
            **text,
            **text_config,
            "num_key_value_heads": 2,
            "vocab_size": 256 + len(MARKS),
            "rope_parameters": rope,
        },
        vision_config={"depth": 4, "embed_dim": 128, "hidden_size": hidden, "num_heads": 4, "mlp_ratio": 4},
        image_token_id=tokenizer.token_to_id("<|image_pad|>"),
        video_token_id=256 + len(MARKS),
    )
    torch.manual_seed(0)
    Qwen2VLModel(config).save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "preprocessor_config.json").write_text(json.dumps(COLOURS))
    return folder


def make_items(count: int, longest: int = 400) -> list[Content]:
    """In turn: a text of 5 letters up to the longest, a picture, both."""
    random = np.random.default_rng(0)
    items = []
    for number in range(count):
        words = "".join(random.choice(list("abcdefgh "), random.integers(5, longest)))
        width, height = (int(side) for side in random.integers(120, 420, 2))
        noise = random.integers(0, 255, (height // 8, width // 8, 3), dtype=np.uint8)
        picture = Image.from_pil(PIL.Image.fromarray(noise).resize((width, height)))
        items.append(Content.of(*((words,), (picture,), (picture, words))[number % 3]))
    return items


@torch.inference_mode()
def plain_qwen(items: list[Content], family: str, encoder: Any, model: Any, tokenizer: Any) -> list[np.ndarray]:
    low, high = PIXELS[family]
    size = {"shortest_edge": low, "longest_edge": high}
    processor = Qwen2VLImageProcessorPil(**COLOURS, size=size)
    rows = []
    for item in items:
        prompt, inputs = encoder.prompt(EncodeRequest(item)), {}
        if item.images:
            opened = [PIL.Image.open(io.BytesIO(image.data)) for image in item.images]
            if family == "gme":
                sizes = [smart_resize(image.height, image.width, 28, 3136, 12845056) for image in opened]
                opened = [image.resize(size[::-1]) for image, size in zip(opened, sizes, strict=True)]
            inputs = dict(processor(images=opened, return_tensors="pt"))
            tokens = int(inputs["image_grid_thw"].prod() // 4)
            prompt = prompt.replace("<|image_pad|>", "<|image_pad|>" * tokens)
        ids = torch.tensor([tokenizer.encode(prompt).ids])
        positions = torch.arange(ids.shape[1]).expand(3, 1, -1)
        state = model(input_ids=ids, position_ids=positions, **inputs).last_hidden_state[0, -1]
        rows.append(torch.nn.functional.normalize(state, dim=0).numpy()[None])
    return rows


def ours(items: list[Content], encoder: Any) -> list[np.ndarray]:
    stream = getattr(encoder, "stream", None) or encoder.stream_tokens
    answers = list(stream(EncodeRequest(item) for item in items))
    return [np.atleast_2d(answer.vector) for answer in answers]


@torch.inference_mode()
def by_own_steps(items: list[Content], encoder: Any) -> list[np.ndarray]:
    """One item after the other through what a family tells the engine."""
    recipe = getattr(encoder, "recipe", encoder)
    recipe = encoder if isinstance(recipe, str) else recipe  # families on CLIP name their version so
    rows = []
    for item in items:
        request = EncodeRequest(item)
        units = recipe.prepare(request)
        vector = recipe.combine(request, units, [recipe.forward(unit.kind, [unit.payload])[0] for unit in units])
        rows.append(unit_rows(np.atleast_2d(vector)))
    return rows


def unit_rows(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


class Places:
    """Where the tests' fixtures make their folders."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def mktemp(self, name: str) -> Path:
        return Path(tempfile.mkdtemp(prefix=name, dir=self._root))


def from_tests(module: str) -> Any:
    """A file of the tests, as a module."""
    spec = importlib.util.spec_from_file_location(f"benchmark_{module}", TESTS / f"{module}.py")
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = made
    spec.loader.exec_module(made)
    return made


def tiny(places: Places) -> Iterator[tuple[str, Callable[[], Path]]]:
    """Each family beside those of `PIXELS` and `st`, and how its checkpoint is made."""
    vlm = from_tests("conftest").tiny_vlm.__wrapped__(places)
    for family, kind in {
        "qwen3-vl": "qwen3_vl",
        "e5-v": "llava_next",
        "bge-vl": "llava_next",
        "mme5": "mllama",
        "jina-v4": "jina_v4",
        "notellm2": "notellm2",
    }.items():
        yield family, partial(vlm, kind)
    clips = from_tests("test_clip_families").tiny.__wrapped__(places)
    yield "clip", lambda: clips.transformers
    yield "uniir-clip-sf", lambda: clips.original
    yield "uniir-clip-ff", lambda: from_tests("test_uniir_clip_ff").folder.__wrapped__(places)
    yield "mm-embed", lambda: from_tests("test_mm_embed").folder.__wrapped__(places)
    many = from_tests("test_multi_vector")
    single = many.biqwen2.__wrapped__(places)
    yield "biqwen2", lambda: single
    yield "colqwen2", lambda: many.colqwen2.__wrapped__(single, places)
    yield "colpali", lambda: from_tests("test_colpali").folder.__wrapped__(places)
    jina = from_tests("test_jina_v4_multi")
    yield "jina-v4-multi", lambda: jina.folder.__wrapped__(vlm, places)


def compared(
    items: list[Content], size: int, plain: Callable[[list[Content]], list[np.ndarray]], encoder: Any, until: float
) -> dict[str, float]:
    """Median ratios of the rounds, and the smallest cosine."""
    ratios, cosines = [], []
    plain(items[-3:])
    ours(items[-3:], encoder)
    for start in range(0, len(items) - 3, size):
        if ratios and time.monotonic() > until:
            break
        part = items[start : start + size]
        marks, rows = [], []
        for work in (plain, partial(ours, encoder=encoder)):
            wall, cpu = time.perf_counter(), time.process_time()
            rows.append(work(part))
            marks.append((time.perf_counter() - wall, time.process_time() - cpu))
        ratios.append([theirs / mine for theirs, mine in zip(*marks, strict=True)])
        cosines += [float((one * other).sum(axis=1).min()) for one, other in zip(*rows, strict=True)]
    wall, cpu = (statistics.median(column) for column in zip(*ratios, strict=True))
    return {"wall": round(wall, 2), "cpu": round(cpu, 2), "min_cosine": round(min(cosines), 6), "rounds": len(ratios)}


def plain_st(items: list[Content], peer: SentenceTransformer) -> list[np.ndarray]:
    return [peer.encode([item.text], normalize_embeddings=True) for item in items]


def prepared(scratch: Path, items: list[Content]) -> Iterator[tuple[str, list[Content], Any, Any]]:
    """Each family: its name, the items for it, the plain way and the encoder, loaded when its turn comes."""
    folder = make_qwen(scratch / "qwen")
    model = Qwen2VLModel.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    for family in PIXELS:
        encoder: Any = load_encoder(f"{family}:{folder}", device="cpu")
        plain: Any = partial(plain_qwen, family=family, encoder=encoder, model=model, tokenizer=tokenizer)
        yield family, items, plain, encoder
    small = find_text_model()
    peer = SentenceTransformer(str(small), device="cpu")
    texts = [Content.of(f"{item.text} {number}") for number, item in enumerate(items)]
    yield "st", texts, partial(plain_st, peer=peer), load_encoder(f"st:{small}", device="cpu")
    mini = load_encoder("mini", device="cpu")
    yield "mini", items, partial(by_own_steps, encoder=mini), mini
    items = make_items(len(items), longest=100)  # the tiny models take a few hundred letters
    for family, make in tiny(Places(scratch)):
        load: Any = load_multi_vector_encoder if FAMILIES[family].multi_vector else load_encoder
        encoder = load(f"{family}:{make()}", device="cpu")
        yield family, items, partial(by_own_steps, encoder=encoder), encoder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--slice", type=int, default=9, help="items a round")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=200, help="after which a family has one round each")
    parser.add_argument("--only", nargs="*", help="families")
    options = parser.parse_args()
    items = make_items(options.slice * options.rounds + 3)
    found: dict[str, dict[str, float]] = {}
    began, share = time.monotonic(), options.seconds / (len(FAMILIES) - 1)  # all but auto
    with tempfile.TemporaryDirectory() as scratch:
        for family, those, plain, encoder in prepared(Path(scratch), items):
            if options.only and family not in options.only:
                continue
            until = min(time.monotonic() + share, began + options.seconds)
            found[family] = compared(those, options.slice, plain, encoder, until)
            print(f"{family}: {found[family]}", file=sys.stderr, flush=True)
    table = Table("family", "times as fast (wall)", "(cpu)", "min cosine", "rounds", title="beside one item at a time")
    for family, row in found.items():
        table.add_row(family, *map(str, row.values()))
    Console(stderr=True).print(table)
    print(json.dumps({"benchmark": "encode_families", "items_a_round": options.slice, "families": found}))


if __name__ == "__main__":
    main()
