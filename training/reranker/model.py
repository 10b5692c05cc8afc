"""A Yes/No reranker with gradients: its adapter, its loss, and the folder that its family loads."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own convention

from mmseek._types import Pair
from mmseek.errors import ModelError, SpecError
from mmseek.models.adapters import is_adapter
from mmseek.models.checkpoints import find_folder
from mmseek.models.spec import Spec, parse_spec
from mmseek.rerank.base import Prepared
from mmseek.rerank.mllm.backbone import answer_rows
from mmseek.rerank.mllm.engine import MllmReranker
from mmseek.rerank.registry import FAMILIES, load_reranker
from mmseek.training.adapters import tune
from mmseek.training.reranker.settings import AdapterConfig
from mmseek.training.settings import ModelConfig, TuneConfig

__all__ = ["TRAINABLE", "TrainableReranker", "answer_loss", "load_trainable_reranker"]

TRAINABLE: Final = ("qwen3-vl-reranker", "ragllava", "lamra", "monoqwen")
"""The families that can be trained: two answers, and an adapter beside the base model."""


def answer_loss(logits: Tensor, relevant: Tensor) -> Tensor:
    """Cross entropy over the two answers, the mean over pairs.

    Args:
        logits: (n, 2), of the answer that means yes and of the other.
        relevant: (n,) bool.
    """
    return F.cross_entropy(logits.float(), (~relevant).long())


class TrainableReranker:
    """A loaded reranker whose language model carries a LoRA adapter; nothing else of it is trained.

    Args:
        reranker: a loaded family of two answers.
        base: what the adapter's configuration names as its base model.
        config: of the adapter.
    """

    def __init__(self, reranker: MllmReranker, base: str, config: AdapterConfig) -> None:
        self.reranker = reranker
        self._base, self._config = base, config
        self._rows = answer_rows(reranker.backbone, reranker.answers)
        reranker.backbone.model.requires_grad_(requires_grad=False)
        settings = TuneConfig(
            "lora", config.rank, config.alpha, config.dropout, init="default", targets=tuple(config.targets)
        )
        tune(self.module, ModelConfig(reranker.identity.spec, settings))

    @property
    def module(self) -> nn.Module:
        """The language model, where the adapter is."""
        language: nn.Module = self.reranker.backbone.language
        return language

    def prepare(self, pair: Pair) -> Prepared:
        """The CPU's part, the reranker's own.

        Raises:
            MmseekError: the pair cannot be scored.
        """
        return self.reranker.prepare(pair)

    def logits(self, pairs: Sequence[Prepared]) -> Tensor:
        """Logits (n, 2), float32, of the two answers, with a graph where gradients are enabled."""
        states = self.reranker.states([pair.payload for pair in pairs])
        return states.float() @ self._rows.to(states.device).T

    def export(self, folder: Path) -> None:
        """Write the adapter as PEFT does, for `family:FOLDER`.

        Args:
            folder: exists and is empty.
        """
        path = next(name for name, module in self.reranker.backbone.model.named_modules() if module is self.module)
        tensors = {
            f"base_model.model.{path}.{name.replace('.default.', '.')}": value.detach().cpu().contiguous()
            for name, value in self.module.state_dict().items()
            if ".lora_" in name
        }
        save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
        config: dict[str, Any] = {
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "base_model_name_or_path": self._base,
            "r": self._config.rank,
            "lora_alpha": self._config.alpha,
            "lora_dropout": self._config.dropout,
            "target_modules": sorted({name.split(".lora_")[0].rpartition(".")[2] for name in tensors}),
            "bias": "none",
            "inference_mode": True,
        }
        (folder / "adapter_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def load_trainable_reranker(spec: str, config: AdapterConfig, *, device: str | None = None) -> TrainableReranker:
    """Load a reranker and put an adapter on it.

    Raises:
        SpecError: no family answers to the spec, or the family cannot be trained here.
        ModelError: the weights are missing or unusable, or the spec names an adapter already.
        ConfigError: no layer has a name of `config.targets`.
    """
    parsed = parse_spec(spec, FAMILIES, "reranker")
    if parsed.family not in TRAINABLE:
        raise SpecError(
            f"the family {parsed.family!r} cannot be trained here: model.reranker is one of {', '.join(TRAINABLE)}"
        )
    folder = find_folder(parsed)
    if is_adapter(folder):
        raise ModelError(f"{folder} is an adapter already: merge it into its base model, or begin with that")
    reranker = load_reranker(spec, device=device)
    if not isinstance(reranker, MllmReranker) or len(reranker.answers) != 2:
        raise SpecError(f"{spec} does not answer in one of two words, and only such rerankers are trained")
    return TrainableReranker(reranker, _base(parsed, folder), config)


def _base(spec: Spec, folder: Path) -> str:
    """A hub's name as it is, a folder (or one revision's) by its whole path."""
    local = spec.revision is not None or Path(str(spec.model)).expanduser().is_dir()
    return str(folder.resolve()) if local else str(replace(spec, family="", adapter=None)).removeprefix(":")
