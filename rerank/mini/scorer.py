"""The trained part of the `mini` reranker: two small heads on frozen features of `mini`, and weights of word pieces.

Both heads give a query and a picture a vector each, and the score is their cosine. `words` is for queries of text
alone; `composed` for queries of a picture and text ("the same in orange"). Both also see how colours are spread, which
the first stage's vector hardly holds.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own convention

from mmseek.errors import ModelError

__all__ = ["FORMAT_VERSION", "WEIGHTS", "ComposedHead", "PairScorer", "ScorerConfig", "WordsHead", "load_scorer"]

FORMAT_VERSION: Final = 1
WEIGHTS: Final = Path(__file__).with_name("scorer.safetensors")


@dataclass(frozen=True, slots=True)
class ScorerConfig:
    """Sizes: of a text's vector, of what is seen of a picture, of the heads' hidden layers, of their space."""

    text: int = 384
    picture: int = 1240
    words_hidden: int = 256
    composed_hidden: int = 128
    space: int = 128
    vocabulary: int = 30522
    dropout: float = 0.0


class _Pictures(nn.Module):
    """What is seen of a picture (n, picture) -> unit vectors (n, space)."""

    def __init__(self, config: ScorerConfig, hidden: int) -> None:
        super().__init__()
        self.drop = nn.Dropout(config.dropout)
        self.inner = nn.Linear(config.picture, hidden)
        self.outer = nn.Linear(hidden, config.space)
        self.straight = nn.Linear(config.picture, config.space)

    def forward(self, pictures: Tensor) -> Tensor:
        hidden = self.drop(F.gelu(self.inner(self.drop(pictures))))
        return F.normalize(self.outer(hidden) + self.straight(pictures), dim=-1)


class WordsHead(nn.Module):
    """Texts against pictures."""

    def __init__(self, config: ScorerConfig) -> None:
        super().__init__()
        self.drop = nn.Dropout(config.dropout)
        self.inner = nn.Linear(config.text, config.words_hidden)
        self.outer = nn.Linear(config.words_hidden, config.space)
        self.straight = nn.Linear(config.text, config.space)
        self.pictures = _Pictures(config, config.words_hidden)

    def queries(self, texts: Tensor) -> Tensor:
        """Vectors of texts (n, text) -> (n, space), L2-normalised."""
        hidden = self.drop(F.gelu(self.inner(texts)))
        return F.normalize(self.outer(hidden) + self.straight(texts), dim=-1)


class ComposedHead(nn.Module):
    """A picture and text against pictures."""

    def __init__(self, config: ScorerConfig) -> None:
        super().__init__()
        hidden = config.composed_hidden
        self.drop = nn.Dropout(config.dropout)
        self.text = nn.Linear(config.text, hidden)
        self.picture = nn.Linear(config.picture, hidden)
        self.inner = nn.Linear(2 * hidden, hidden)
        self.outer = nn.Linear(hidden, config.space)
        self.straight = nn.Linear(config.text, config.space)
        self.pictures = _Pictures(config, hidden)

    def queries(self, texts: Tensor, pictures: Tensor) -> Tensor:
        """Texts (n, text) and what is seen of pictures (n, picture) -> (n, space), L2-normalised."""
        parts = torch.cat([self.text(texts), self.picture(self.drop(pictures))], dim=-1)
        hidden = self.drop(F.gelu(self.inner(self.drop(F.gelu(parts)))))
        return F.normalize(self.outer(hidden) + self.straight(texts), dim=-1)


class PairScorer(nn.Module):
    """Both heads, the scale of what is seen of pictures, and the weights of word pieces."""

    mean: Tensor
    deviation: Tensor
    piece_weights: Tensor

    def __init__(self, config: ScorerConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or ScorerConfig()
        self.words = WordsHead(config)
        self.composed = ComposedHead(config)
        self.register_buffer("mean", torch.zeros(config.picture))
        self.register_buffer("deviation", torch.ones(config.picture))
        self.register_buffer("piece_weights", torch.ones(config.vocabulary))

    def scaled(self, looks: Tensor) -> Tensor:
        """What is seen of pictures (n, picture), every number brought to about the same size."""
        return (looks - self.mean) / self.deviation

    def save(self, path: Path, about: dict[str, str] | None = None) -> None:
        """Write float16 safetensors; the configuration and `about` go into the header."""
        settings = asdict(self.config) | {"dropout": 0.0}
        header = {"version": str(FORMAT_VERSION), "config": json.dumps(settings), **(about or {})}
        state = {name: value.detach().half().contiguous() for name, value in self.state_dict().items()}
        save_file(state, path, metadata=header)
        path.chmod(0o644)  # safetensors writes for the owner alone


def load_scorer(path: Path = WEIGHTS) -> PairScorer:
    """The trained scorer, in eval mode and float32.

    Raises:
        ModelError: the weights are missing, damaged, or of a version that this mmseek does not read.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            state = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118 - not a dict
        if header.get("version") != str(FORMAT_VERSION):
            raise ValueError(f"version {header.get('version')}, and version {FORMAT_VERSION} is read")
        scorer = PairScorer(ScorerConfig(**json.loads(header["config"])))
        scorer.load_state_dict(state)
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelError(
            f"the weights of the mini reranker, {path}, cannot be loaded ({reason}): install mmseek anew"
        ) from error
    return scorer.eval()
