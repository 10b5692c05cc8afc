"""What can be set of a training run: the schema of the YAML files in `recipes/`."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from mmseek.errors import ConfigError

__all__ = [
    "BatchConfig",
    "DataConfig",
    "LossConfig",
    "ModelConfig",
    "OptimizerConfig",
    "RunConfig",
    "ScheduleConfig",
    "SourceConfig",
    "TrainConfig",
    "TuneConfig",
]

_LORA_TARGETS = (
    "qkv_proj", "o_proj", "gate_up_proj", "down_proj", "k_proj", "q_proj", "out_proj", "v_proj", "gate_proj", "up_proj",
)  # fmt: skip


def _check(holds: bool, sentence: str) -> None:
    if not holds:
        raise ConfigError(sentence)


def _check_patterns(name: str, patterns: tuple[str, ...]) -> None:
    for pattern in patterns:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ConfigError(f"{name} holds {pattern!r}, which is no regular expression ({error})") from error


@dataclass(frozen=True, slots=True)
class TuneConfig:
    """How the weights are tuned. LoRA: Hu et al. 2021, arXiv:2106.09685; DoRA: Liu et al. 2024, arXiv:2402.09353.

    Args:
        method: `full`, `lora` or `dora`.
        rank, alpha, dropout: of the adapters.
        init: how they begin: `gaussian` or `default`.
        targets: names of the layers that get one, compared with the last part of a layer's path.
        also: regular expressions of parameters that are trained in full besides.
    """

    method: str = "full"
    rank: int = 16
    alpha: int = 64
    dropout: float = 0.1
    init: str = "gaussian"
    targets: tuple[str, ...] = _LORA_TARGETS
    also: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check(self.method in ("full", "lora", "dora"), f"method must be full, lora or dora, not {self.method!r}")
        _check(self.init in ("gaussian", "default"), f"init must be gaussian or default, not {self.init!r}")
        _check(self.rank >= 1, f"rank must be at least 1, not {self.rank}")
        _check(0 <= self.dropout < 1, f"dropout must be from 0 to below 1, not {self.dropout}")
        _check_patterns("also", self.also)


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """What is trained.

    Args:
        encoder: a spec, as for `mmseek embed`.
        tune: how.
        freeze: regular expressions of parameters that stay as they are.
        gradient_checkpointing: compute activations again in the backward pass instead of keeping them.
    """

    encoder: str
    tune: TuneConfig = field(default_factory=TuneConfig)
    freeze: tuple[str, ...] = ()
    gradient_checkpointing: bool = False

    def __post_init__(self) -> None:
        _check_patterns("freeze", self.freeze)


@dataclass(frozen=True, slots=True)
class SourceConfig:
    """One source of training rows.

    Args:
        path: a file or folder, relative to where the command is run.
        format: how it is read; see `mmseek.training.data.FORMATS`.
        name: for messages and logs; without it, the path's last part.
        split: of a dataset's folder.
        weight: how often it is drawn, relative to the others; without it, in proportion to its rows.
        instruction: for queries that have none of their own.
        limit: only so many rows, the first.
    """

    path: str
    format: str = "triples"
    name: str = ""
    split: str = "train"
    weight: float | None = None
    instruction: str | None = None
    limit: int | None = None

    def __post_init__(self) -> None:
        _check(self.weight is None or self.weight > 0, f"weight must be above 0, not {self.weight}")
        _check(self.limit is None or self.limit >= 1, f"limit must be at least 1, not {self.limit}")


@dataclass(frozen=True, slots=True)
class DataConfig:
    """Where the rows come from.

    Args:
        sources: at least one.
        negatives: hard negatives a query, drawn from a row's own; rows with fewer use those they have.
        skip_bad_rows: go on without rows that cannot be read; they are reported either way.
    """

    sources: tuple[SourceConfig, ...]
    negatives: int = 0
    skip_bad_rows: bool = False

    def __post_init__(self) -> None:
        _check(bool(self.sources), "sources must name at least one source")
        weighted = sum(source.weight is not None for source in self.sources)
        _check(weighted in (0, len(self.sources)), "sources need a weight each, or none of them one")
        _check(self.negatives >= 0, f"negatives must be 0 or more, not {self.negatives}")


@dataclass(frozen=True, slots=True)
class BatchConfig:
    """What a batch is made of.

    Args:
        size: queries an optimiser step, over all processes.
        sub_batch: rows drawn from one source together (VLM2Vec-V2's interleaved sub-batches, arXiv:2507.04590); 0 draws
            every row alone, `size` makes every batch of one source alone.
        chunk: items that go through the model at once; 0 for all (GradCache, Gao et al. 2021, arXiv:2101.06983).
        chunk_tokens: cut chunks by tokens (or what else a family counts) instead, items sorted by length.
    """

    size: int = 64
    sub_batch: int = 0
    chunk: int = 0
    chunk_tokens: int = 0

    def __post_init__(self) -> None:
        _check(self.size >= 1, f"size must be at least 1, not {self.size}")
        _check(0 <= self.sub_batch <= self.size, f"sub_batch must be from 0 to size, not {self.sub_batch}")
        _check(self.chunk >= 0 and self.chunk_tokens >= 0, "chunk and chunk_tokens must be 0 or more")
        _check(not (self.chunk and self.chunk_tokens), "chunk and chunk_tokens exclude each other: give one")


@dataclass(frozen=True, slots=True)
class LossConfig:
    """InfoNCE over the batch's and the hard negatives, and what may be added to it. See `mmseek.training.loss`.

    Args:
        temperature: by which similarities are divided.
        learn_temperature: train it, from this value on.
        symmetric: also from documents to queries; the mean of both.
        others_negatives: other queries' hard negatives count as well; False leaves a query its own (mmE5).
        mask_duplicates: a document equal to a query's own positive is not its negative.
        false_negative_margin: a document that scores above the positive by more than this is not a negative
            (Qwen3-VL-Embedding has 0.1); None for no limit.
        matryoshka: lengths that vectors are cut to besides their own (Kusupati et al. 2022, arXiv:2205.13147).
        matryoshka_weights: one a length, the own one first; all 1 if not given.
        distill: weight, 0 to 1, of a cross entropy to the rows' `scores` (a reranker's) over 1 + k documents.
        distill_temperature: by which these scores are divided.
        visual: share, from 0 to below 1, of a second loss on the vectors of the pictures alone (`notellm2`).
    """

    temperature: float = 0.02
    learn_temperature: bool = False
    symmetric: bool = False
    others_negatives: bool = True
    mask_duplicates: bool = True
    false_negative_margin: float | None = None
    matryoshka: tuple[int, ...] = ()
    matryoshka_weights: tuple[float, ...] = ()
    distill: float = 0.0
    distill_temperature: float = 1.0
    visual: float = 0.0

    def __post_init__(self) -> None:
        _check(self.temperature > 0, f"temperature must be above 0, not {self.temperature}")
        _check(self.distill_temperature > 0, "distill_temperature must be above 0")
        _check(0 <= self.distill <= 1, f"distill must be from 0 to 1, not {self.distill}")
        _check(0 <= self.visual < 1, f"visual must be from 0 to below 1, not {self.visual}")
        weights = len(self.matryoshka_weights)
        _check(
            weights in (0, len(self.matryoshka) + 1), "matryoshka_weights must be one more than matryoshka's lengths"
        )


@dataclass(frozen=True, slots=True)
class OptimizerConfig:
    """AdamW (Loshchilov and Hutter 2017, arXiv:1711.05101); biases, norms and the temperature do not decay.

    Args:
        rate: the highest learning rate.
        betas, eps, weight_decay: as in AdamW.
        clip: the gradient's length is cut to this; 0 for no limit.
    """

    rate: float = 2e-5
    betas: tuple[float, ...] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    clip: float = 1.0

    def __post_init__(self) -> None:
        _check(self.rate > 0, f"rate must be above 0, not {self.rate}")
        _check(len(self.betas) == 2, "betas must be two numbers")


@dataclass(frozen=True, slots=True)
class ScheduleConfig:
    """How long, and how the learning rate changes.

    Args:
        steps: optimiser steps; 0 takes `epochs`.
        epochs: passes over as many rows as all sources have.
        warmup: steps in which the rate rises.
        kind: what follows: `linear`, `cosine` or `constant`.
    """

    steps: int = 0
    epochs: float = 1.0
    warmup: int = 0
    kind: str = "linear"

    def __post_init__(self) -> None:
        _check(
            self.kind in ("linear", "cosine", "constant"), f"kind must be linear, cosine or constant, not {self.kind!r}"
        )
        _check(
            self.steps >= 0 and self.warmup >= 0 and self.epochs > 0, "steps, warmup and epochs must not be negative"
        )


@dataclass(frozen=True, slots=True)
class RunConfig:
    """Where and how it runs.

    Args:
        output: folder of checkpoints, logs and the final `model/`.
        seed: of the order, the negatives drawn and the weights' dropout.
        precision: `fp32` or `bf16` (autocast; what is trained stays float32).
        device: as in `mmseek embed`; None for the best there is.
        save_every: steps between checkpoints; 0 for one at the end only.
        keep: checkpoints that are kept, the newest.
        export_every: also write a whole model into each checkpoint.
        workers: threads that read and prepare rows ahead.
        tensorboard: write curves for TensorBoard.
        features: file in which what frozen towers give is kept, computed once an item before the first step; runs may
            share it. Empty: computed anew at every step. See `mmseek.training.features`.
    """

    output: str = "run"
    seed: int = 0
    precision: str = "fp32"
    device: str | None = None
    save_every: int = 500
    keep: int = 2
    export_every: bool = False
    workers: int = 2
    tensorboard: bool = True
    features: str = ""

    def __post_init__(self) -> None:
        _check(self.precision in ("fp32", "bf16"), f"precision must be fp32 or bf16, not {self.precision!r}")
        _check(self.keep >= 1 and self.save_every >= 0 and self.workers >= 1, "keep and workers must be at least 1")


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """A whole run. `notes` are for people."""

    model: ModelConfig
    data: DataConfig
    batch: BatchConfig = field(default_factory=BatchConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    run: RunConfig = field(default_factory=RunConfig)
    notes: str = ""
