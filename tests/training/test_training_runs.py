"""Whole runs on tiny models: what comes out loads with the same vectors, and a killed run goes on."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from shutil import copytree

import numpy as np
import pytest
import torch
import yaml

from mmseek import EncodeRequest, load_encoder
from mmseek.errors import ConfigError, DatasetError, InputError, ModelError, SpecError
from mmseek.training.configuring import to_mapping
from mmseek.training.data.rows import TrainingRow
from mmseek.training.data.triples import read_triples
from mmseek.training.run import Run
from mmseek.training.settings import TrainConfig

Configure = Callable[..., TrainConfig]
FAMILIES = [
    ("vlm2vec", "full"),
    ("vlm2vec", "dora"),
    ("vlm2vec-2.5", "lora"),
    ("qwen3-vl", "full"),
    ("gme", "lora"),
    ("clip", "full"),
    ("uniir-clip-sf", "full"),
    ("uniir-clip-sf", "lora"),
]


def requests(triples: Path) -> list[EncodeRequest]:
    rows = [row for row in read_triples(triples) if isinstance(row, TrainingRow)]
    return [request for row in rows[:3] for request in (row.query, *row.positives, *row.negatives)]


def encoded(spec: str, asked: list[EncodeRequest]) -> np.ndarray:
    rows = [outcome.vector for outcome in load_encoder(spec, device="cpu").stream(asked)]
    return np.stack([row for row in rows if row is not None])


def losses(folder: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (folder / "log.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(("family", "method"), FAMILIES)
def test_what_was_trained_is_what_embed_loads(configure: Configure, triples: Path, family: str, method: str) -> None:
    run = Run(configure(family, f"model.tune.method={method}", "model.tune.rank=2", "schedule.steps=2"))
    asked = requests(triples)
    before = encoded(run.config.model.encoder, asked)
    trained = run.start()
    after = encoded(trained.spec, asked)
    run.trainable.eval()
    with torch.no_grad():
        in_memory = run.trainable.vectors([run.trainable.prepare(request) for request in asked]).numpy()
    np.testing.assert_allclose(after, in_memory, atol=2e-5)
    assert np.abs(after - before).max() > 1e-3


@pytest.mark.parametrize("family", ["vlm2vec", "clip", "uniir-clip-sf", "mini"])
def test_training_sees_what_encoding_sees(configure: Configure, triples: Path, family: str) -> None:
    run = Run(configure(family, *(["model.encoder=mini"] if family == "mini" else [])))
    asked = [*requests(triples), EncodeRequest(requests(triples)[1].content, "query", "Find it:")]
    run.trainable.eval()
    with torch.no_grad():
        seen = run.trainable.vectors([run.trainable.prepare(request) for request in asked]).numpy()
    np.testing.assert_allclose(seen, encoded(run.config.model.encoder, asked), atol=1e-5)


def test_the_image_tower_of_mini_learns_and_loads(configure: Configure, triples: Path) -> None:
    run = Run(configure("mini", "model.encoder=mini", "schedule.steps=2", "batch.chunk=2"))
    asked = requests(triples)
    before, spec = encoded("mini", asked), run.start().spec
    after = encoded(spec, asked)
    texts = [place for place, request in enumerate(asked) if not request.content.images]
    np.testing.assert_array_equal(after[texts], before[texts])
    assert np.abs(after - before).max() > 1e-3
    assert (
        load_encoder(spec, device="cpu").identity.fingerprint != load_encoder("mini", device="cpu").identity.fingerprint
    )


def test_st_learns_with_its_own_prompts(configure: Configure, tmp_path: Path) -> None:
    from mmseek.embed.mini.weights import find_text_model

    folder, rows = tmp_path / "text-model", tmp_path / "texts.jsonl"
    copytree(find_text_model(), folder)
    prompts = {"prompts": {"query": "find: ", "document": "stored: "}, "similarity_fn_name": "cosine"}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(prompts))
    rows.write_text("".join(f'{{"query": "q {n}", "positives": ["document {n}"]}}\n' for n in range(6)))
    changes = (f"model.encoder=st:{folder}", f"data.sources.0.path={rows}", "schedule.steps=2", "optimizer.rate=1e-4")
    run = Run(configure("st", *changes, "model.freeze=[embeddings]", "run.seed=3"))
    asked = [
        request for row in read_triples(rows) if isinstance(row, TrainingRow) for request in (row.query, *row.positives)
    ]
    run.trainable.eval()
    with torch.no_grad():
        seen = run.trainable.vectors([run.trainable.prepare(request) for request in asked]).numpy()
    np.testing.assert_allclose(seen, encoded(f"st:{folder}", asked), atol=1e-5)
    after = encoded(run.start().spec, asked)
    assert np.abs(after - seen).max() > 1e-4
    run.trainable.eval()
    with torch.no_grad():
        seen = run.trainable.vectors([run.trainable.prepare(request) for request in asked]).numpy()
    np.testing.assert_allclose(after, seen, atol=1e-5)


# A run that is killed right after its eighth step. One thread as here, for sums that are equal to the last bit.
KILLED = """
import os, signal, sys
from pathlib import Path
import torch
from mmseek.training.run import Run, load_config
torch.set_num_threads(1)
Run(load_config(Path(sys.argv[1]))).start(lambda now: now.step < 8 or os.kill(os.getpid(), signal.SIGKILL))
"""


def test_a_killed_run_goes_on_with_the_same_losses(configure: Configure, tmp_path: Path) -> None:
    # Dropout, so that the random state counts; chunks, so that it counts twice.
    changes = ("model.tune.method=lora", "model.tune.rank=2", "model.tune.dropout=0.3", "batch.chunk=3")
    config = configure(
        "uniir-clip-sf", *changes, "schedule.steps=12", "schedule.warmup=2", "run.save_every=5", "batch.sub_batch=2"
    )
    settings = to_mapping(config)
    for name in ("whole", "killed"):
        settings["run"]["output"] = str(tmp_path / name)
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(settings))
    command = [sys.executable, "-c", KILLED, str(tmp_path / "killed.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert len(losses(tmp_path / "killed")) == 8
    from mmseek.training.run import load_config

    whole = Run(load_config(tmp_path / "whole.yaml")).start()
    went_on = Run(load_config(tmp_path / "killed.yaml")).start()
    assert went_on.resumed_from == 5
    assert losses(tmp_path / "killed") == losses(tmp_path / "whole")
    weights = [(tmp_path / name / "model" / "model.safetensors").read_bytes() for name in ("killed", "whole")]
    assert weights[0] == weights[1]
    assert whole.steps == went_on.steps == 12


def test_a_folder_is_of_one_configuration(configure: Configure) -> None:
    Run(configure("clip", "run.save_every=1")).start()
    with pytest.raises(ConfigError, match=r"holds a run with another loss\.temperature"):
        Run(configure("clip", "loss.temperature=0.5")).start()
    again = Run(configure("clip", "run.workers=1", "run.keep=1")).start()
    assert again.resumed_from == again.steps == 3


def test_a_row_that_cannot_be_used_is_named(configure: Configure, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    good = '{"query": "a", "positives": ["b"]}\n{"query": "c", "positives": ["d"]}\n'
    rows.write_text(good + '{"query": "e", "positives": []}\n{"query": "f", "positives": [{"image": "gone.png"}]}\n')
    changes = (f"data.sources.0.path={rows}", "data.negatives=0", "batch.size=3")
    with pytest.raises(ConfigError, match=r"rows\.jsonl:3: the row has no positives"):
        Run(configure("clip", *changes)).start()
    rows.write_text(good + '{"query": "f", "positives": [{"image": "gone.png"}]}\n')
    with pytest.raises(DatasetError, match=r"row 2 of rows: .*gone\.png"):
        Run(configure("clip", *changes)).start()
    trained = Run(configure("clip", *changes, "data.skip_bad_rows=true")).start()
    assert len(trained.skipped) == 1


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        (("model.encoder=jina-v4:x",), SpecError, "jina-v4"),
        (("model.encoder=e5-v:x",), SpecError, "cannot be trained here"),
        (("model.freeze=['nothing like it']",), ConfigError, "model.freeze"),
        (("model.freeze=['.']",), ConfigError, "nothing to train"),
        (("model.tune.method=lora", "model.tune.targets=[nowhere]"), ConfigError, "model.tune.targets"),
        (("loss.matryoshka=[4096]",), ConfigError, "24 dimensions"),
        (("optimizer.rate=1e30", "schedule.warmup=0"), ModelError, "lower optimizer.rate"),
        (("run.device=cuda:3",), ConfigError, "CUDA_VISIBLE_DEVICES"),
        (("data.sources.0.path=/nowhere.jsonl",), InputError, "does not exist"),
        (("data.sources.0.format=parchment",), ConfigError, "triples"),
    ],
)
def test_what_cannot_be_trained_is_said_in_one_sentence(
    configure: Configure, changes: tuple[str, ...], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        Run(configure("clip", *changes)).start()


def test_bf16_and_checkpointing_train(configure: Configure) -> None:
    plain = Run(configure("vlm2vec")).start()
    other = configure("vlm2vec", "model.gradient_checkpointing=true", "run.output=" + plain.spec.split(":")[1] + "-2")
    again = Run(other).start()
    assert again.loss == pytest.approx(plain.loss, rel=1e-4)
    rough = Run(configure("vlm2vec", "run.precision=bf16", "run.output=" + plain.spec.split(":")[1] + "-3")).start()
    assert rough.loss == pytest.approx(plain.loss, rel=0.2)


def test_st_learns_from_pictures(
    configure: Configure, checkpoints: Callable[[str], Path], triples: Path, tmp_path: Path
) -> None:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Transformer
    from transformers import CLIPImageProcessorPil, CLIPProcessor, CLIPTokenizer

    side, parts, folder = {"height": 16, "width": 16}, tmp_path / "parts", tmp_path / "st"
    copytree(checkpoints("clip"), parts)
    pictures = CLIPImageProcessorPil(size={"shortest_edge": 16}, crop_size=side)
    CLIPProcessor(pictures, CLIPTokenizer.from_pretrained(parts)).save_pretrained(parts)
    SentenceTransformer(modules=[Transformer(str(parts))], device="cpu").save_pretrained(str(folder))
    run = Run(configure("st", f"model.encoder=st:{folder}", "schedule.steps=2"))
    asked = requests(triples)
    before = encoded(f"st:{folder}", asked)
    run.trainable.eval()
    with torch.no_grad():
        seen = run.trainable.vectors([run.trainable.prepare(request) for request in asked]).numpy()
    np.testing.assert_allclose(seen, before, atol=1e-5)
    assert np.abs(encoded(run.start().spec, asked) - before).max() > 1e-3
