"""What can be set of a reranker's training; what it shares with an encoder's is `mmseek.training.settings`."""

from __future__ import annotations

from dataclasses import dataclass, field

from mmseek.errors import ConfigError
from mmseek.training.settings import BatchConfig, DataConfig, OptimizerConfig, RunConfig, ScheduleConfig

__all__ = ["AdapterConfig", "RerankerConfig", "RerankerModelConfig"]

_TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True, slots=True)
class AdapterConfig:
    """The LoRA adapter (Hu et al. 2021, arXiv:2106.09685) on the language model; the vision tower stays as it is.

    Args:
        rank, alpha, dropout: of the adapter. RagVL has 128 and 256 on LLaVA-13B.
        targets: names of the layers that get one, compared with the last part of a layer's path.
    """

    rank: int = 16
    alpha: int = 32
    dropout: float = 0.05
    targets: tuple[str, ...] = _TARGETS

    def __post_init__(self) -> None:
        if self.rank < 1 or not 0 <= self.dropout < 1 or not self.targets:
            raise ConfigError("rank must be at least 1, dropout from 0 to below 1, and targets must name a layer")


@dataclass(frozen=True, slots=True)
class RerankerModelConfig:
    """What is trained.

    Args:
        reranker: a spec, as for `mmseek rerank`, of a family that answers in one of two words.
        tune: the adapter.
    """

    reranker: str
    tune: AdapterConfig = field(default_factory=AdapterConfig)


@dataclass(frozen=True, slots=True)
class RerankerConfig:
    """A whole run: a row of data gives a pair of its query and a positive, and one with each hard negative drawn.

    `batch.size` counts rows, `batch.chunk` and `batch.chunk_tokens` pairs and their tokens. `notes` are for people.
    """

    model: RerankerModelConfig
    data: DataConfig
    batch: BatchConfig = field(default_factory=lambda: BatchConfig(size=16, chunk=4))
    optimizer: OptimizerConfig = field(default_factory=lambda: OptimizerConfig(rate=1e-4))
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    run: RunConfig = field(default_factory=RunConfig)
    notes: str = ""

    def __post_init__(self) -> None:
        if self.data.negatives < 1:
            raise ConfigError("data.negatives must be at least 1: without a negative there is nothing to say No to")
        if self.run.export_every:
            raise ConfigError("run.export_every is for encoders: a reranker's adapter is written at the end")
