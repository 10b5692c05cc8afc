"""NoteLLM-2's model: a language model, a CLIP that looks, a Q-Former between them, and a gate that fuses at the end.

The modules are those of transformers. There is no published checkpoint: what is read here is the folder that the
authors' training code saves (`model.*`, `vision_tower.*`, `query_tokens`, `qformer.*`, `mm_projector.*`,
`mm_projector_latefusion.weight`, `gate.trans_all.weight`, `linear.weight`), with `config.json` of the language model.
The sizes of CLIP and Q-Former follow from their weights, with heads of 64 numbers, unless `config.json` has a
`vision_config` and a `qformer_config`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from mmseek.embed.parts import HEAD, Weights, clip_vision_sizes, fill, layers_of, under
from mmseek.embed.sequence import padded
from mmseek.errors import ModelError
from mmseek.models.checkpoints import json_object, weight_files
from mmseek.models.device import pick_dtype

if TYPE_CHECKING:
    from numpy.typing import NDArray


__all__ = ["Note", "NoteModel", "read_model"]

CONFIG: Final = "config.json"
# The parts in the checkpoint, and the beginnings of their names there.
_VISION: Final = ("vision_tower.vision_tower.vision_model.", "vision_tower.vision_tower.", "vision_tower.")


@dataclass(frozen=True, slots=True)
class Note:
    """What the model reads.

    Args:
        tokens: (n,); where pictures' states are put in, anything.
        is_picture: (n,), whether a picture's state takes a token's place.
        pictures: standardised, (p, 3, side, side).
        pooled: the token whose state is the vector.
        compressed: the token whose state is the pictures' own vector; None without pictures.
    """

    tokens: NDArray[np.int64]
    is_picture: NDArray[np.bool_]
    pictures: tuple[NDArray[np.float32], ...]
    pooled: int
    compressed: int | None = None


class NoteModel(torch.nn.Module):
    """The model on its device. Thread-safe. Its parts have the names of the checkpoint.

    Args:
        language: a causal language model of transformers, without its head.
        vision: transformers' `CLIPVisionModel`.
        qformer: transformers' `Blip2QFormerModel`.
        queries: the Q-Former's learned queries, (1, q, d).
        projector: from the Q-Former's states to the language model's.
        fusion: from the CLIP's first state to the language model's, and the gate's weights; None without late fusion.
        reduction: to the vector's length, None without.
        device: where all of them are put.
    """

    def __init__(
        self,
        language: Any,
        vision: Any,
        qformer: Any,
        queries: torch.Tensor,
        projector: Any,
        *,
        fusion: tuple[torch.Tensor, torch.Tensor] | None,
        reduction: torch.Tensor | None,
        device: str,
    ) -> None:
        super().__init__()
        self.model, self.vision_tower, self.qformer, self.mm_projector = language, vision, qformer, projector
        self.query_tokens = torch.nn.Parameter(queries)
        self.mm_projector_latefusion = None if fusion is None else _weighted(fusion[0])
        self.gate = None if fusion is None else torch.nn.ModuleDict({"trans_all": _weighted(fusion[1])})
        self.linear = None if reduction is None else _weighted(reduction)
        # In one type, as the original's `half()` puts all of it into one.
        self.to(device, pick_dtype(device)).eval().requires_grad_(requires_grad=False)

    @property
    def device(self) -> torch.device:
        return self.query_tokens.device

    @property
    def dtype(self) -> torch.dtype:
        return self.query_tokens.dtype

    @property
    def tokens_a_picture(self) -> int:
        return int(self.query_tokens.shape[1])

    @property
    def picture_side(self) -> int:
        return int(self.vision_tower.config.image_size)

    @property
    def longest(self) -> int:
        return int(self.model.config.max_position_embeddings)

    @property
    def vocabulary(self) -> int:
        return int(self.model.embed_tokens.num_embeddings)

    @property
    def dim(self) -> int:
        if self.linear is not None:
            return self.linear.out_features
        return int(self.model.config.hidden_size)

    def forward(self, notes: Sequence[Note]) -> torch.Tensor:
        """L2-normalised vectors (n, dim), float32, on the device, with a graph where gradients are enabled."""
        found, seen = self._read(notes)
        return torch.nn.functional.normalize(self._pooled(notes, found, seen, [note.pooled for note in notes]), dim=1)

    def both(self, notes: Sequence[Note]) -> tuple[torch.Tensor, torch.Tensor]:
        """The same, and the pictures' own vectors, which training compares too; zeros without pictures."""
        found, seen = self._read(notes)
        whole = self._pooled(notes, found, seen, [note.pooled for note in notes])
        own = self._pooled(notes, found, seen, [note.compressed or 0 for note in notes])
        there = torch.tensor([note.compressed is not None for note in notes], device=own.device)
        own = torch.nn.functional.normalize(own, dim=1) * there.unsqueeze(1)
        return torch.nn.functional.normalize(whole, dim=1), own

    def _read(self, notes: Sequence[Note]) -> tuple[torch.Tensor, torch.Tensor]:
        """The language model's states (n, length, d), and the first states of all pictures (p, d)."""
        tokens, mask, _ = padded([note.tokens for note in notes])
        is_picture, _, _ = padded([note.is_picture for note in notes])
        inputs = self.model.embed_tokens(torch.from_numpy(tokens).to(self.device))
        pictures = [picture for note in notes for picture in note.pictures]
        seen = torch.empty(0, device=self.device)
        if pictures:
            states, seen = self._look(torch.from_numpy(np.stack(pictures)))
            places = torch.from_numpy(is_picture).to(self.device)[..., None]
            inputs = inputs.masked_scatter(places, states.to(inputs.dtype))
        attended = torch.from_numpy(mask).to(self.device)
        states = self.model(inputs_embeds=inputs, attention_mask=attended, use_cache=False).last_hidden_state
        return states, seen

    def _pooled(
        self, notes: Sequence[Note], found: torch.Tensor, seen: torch.Tensor, places: Sequence[int]
    ) -> torch.Tensor:
        """(n, dim), float32, of the states at these places, fused."""
        rows, start = [], 0
        for row, (note, place) in enumerate(zip(notes, places, strict=True)):
            state = found[row, place]
            if note.pictures and self.gate is not None:
                state = self._fused(state, seen[start : start + len(note.pictures)].mean(dim=0))
            start += len(note.pictures)
            rows.append(state if self.linear is None else self.linear(state))
        return torch.stack(rows).float()

    def _look(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """What the language model gets of pictures (p, q, d), and their own first states (p, d)."""
        states = self.vision_tower(pixels.to(self.device, self.dtype)).last_hidden_state
        queries = self.query_tokens.expand(len(states), -1, -1)
        found = self.qformer(query_embeds=queries, encoder_hidden_states=states).last_hidden_state
        found = found.to(self.dtype)
        seen: torch.Tensor = self.mm_projector(found)
        return seen, states[:, 0]

    def _fused(self, state: torch.Tensor, first: torch.Tensor) -> torch.Tensor:
        """Shares, as the gate says, of the language model's state and the picture's own, and the former once more."""
        assert self.mm_projector_latefusion is not None
        assert self.gate is not None
        own = self.mm_projector_latefusion(first)
        share = torch.sigmoid(self.gate["trans_all"](torch.cat([state, own])))
        fused: torch.Tensor = share * state + (1 - share) * own + state
        return fused


def _weighted(weight: torch.Tensor) -> torch.nn.Linear:
    """A linear map without a bias."""
    made = torch.nn.Linear(weight.shape[1], len(weight), bias=False)
    made.weight = torch.nn.Parameter(weight)
    return made


def read_model(folder: Path, device: str) -> NoteModel:
    """The weights in their modules: float32, on CUDA bfloat16.

    Raises:
        ModelError: weights are missing, of other sizes, or of another model.
    """
    from transformers import AutoModel, Blip2QFormerConfig, Blip2QFormerModel, CLIPVisionConfig, CLIPVisionModel
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    config = json_object(folder / CONFIG)
    try:
        weights = {name: value for path in weight_files(folder) for name, value in load_file(path).items()}
        if "query_tokens" not in weights:
            raise ModelError(
                f"{folder} has no query_tokens among its weights and so is no NoteLLM-2: use another family"
            )
        own = {key: value for key, value in config.items() if key not in ("vision_config", "qformer_config")}
        language_config = CONFIG_MAPPING[str(config.get("model_type"))](**own)
        language = AutoModel.from_config(language_config, attn_implementation="sdpa")
        vision_weights = under(weights, *_VISION)
        vision_config = config.get("vision_config") or clip_vision_sizes(vision_weights)
        vision = CLIPVisionModel(CLIPVisionConfig(**vision_config))
        qformer_weights = under(weights, "qformer.")
        hidden = weights["query_tokens"].shape[-1]
        qformer_config = config.get("qformer_config") or _qformer_sizes(qformer_weights, hidden)
        qformer = Blip2QFormerModel(
            Blip2QFormerConfig(**{**qformer_config, "encoder_hidden_size": vision.config.hidden_size})
        )
        projector, projector_weights = _projector(under(weights, "mm_projector."))
        for module, part, name in (
            (language, under(weights, "model."), "model."),
            (vision, vision_weights, "vision_tower."),
            (qformer, qformer_weights, "qformer."),
            (projector, projector_weights, "mm_projector."),
        ):
            fill(module, part, name, folder)
        fusion = (weights.get("mm_projector_latefusion.weight"), weights.get("gate.trans_all.weight"))
    except ModelError:
        raise
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ModelError(f"{folder} cannot be loaded ({type(error).__name__}: {reason}): get it again") from error
    whole = None if fusion[0] is None or fusion[1] is None else (fusion[0], fusion[1])
    return NoteModel(
        language,
        vision,
        qformer,
        weights["query_tokens"],
        projector,
        fusion=whole,
        reduction=weights.get("linear.weight"),
        device=device,
    )


def _qformer_sizes(weights: Weights, hidden: int) -> dict[str, Any]:
    return {
        "hidden_size": hidden,
        "num_hidden_layers": layers_of(weights, "encoder.layer"),
        "num_attention_heads": hidden // HEAD,
        "intermediate_size": len(weights["encoder.layer.0.intermediate_query.dense.weight"]),
    }


def _projector(weights: Weights) -> tuple[torch.nn.Module, Weights]:
    """One linear map, or several with GELU between them, as their numbers say."""
    if "weight" in weights:
        return _linear(weights["weight"]), weights
    layers: list[torch.nn.Module] = []
    for number in sorted(int(name.split(".")[0]) for name in weights if name.endswith(".weight")):
        layers += [torch.nn.GELU()] if layers else []
        layers.append(_linear(weights[f"{number}.weight"]))
    return torch.nn.Sequential(*layers), weights


def _linear(weight: torch.Tensor) -> torch.nn.Linear:
    return torch.nn.Linear(weight.shape[1], len(weight))
