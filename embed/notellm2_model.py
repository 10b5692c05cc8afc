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

    from mmseek._types import FloatArray

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
    """

    tokens: NDArray[np.int64]
    is_picture: NDArray[np.bool_]
    pictures: tuple[NDArray[np.float32], ...]
    pooled: int


class NoteModel:
    """The model on its device. Thread-safe.

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
        self.device = device
        self._language, self._vision, self._qformer, self._projector = language, vision, qformer, projector
        self._queries, self._fusion, self._reduction = queries, fusion, reduction
        # In one type, as the original's `half()` puts all of it into one.
        self.to(pick_dtype(device))

    def to(self, dtype: torch.dtype) -> None:
        """Put everything on the device and into one type of numbers."""
        self.dtype = dtype
        self._language = self._ready(self._language)
        self._vision = self._ready(self._vision)
        self._qformer = self._ready(self._qformer)
        self._projector = self._ready(self._projector)
        self._queries = self._moved(self._queries)
        if self._fusion is not None:
            self._fusion = (self._moved(self._fusion[0]), self._moved(self._fusion[1]))
        self._reduction = None if self._reduction is None else self._moved(self._reduction)

    @property
    def tokens_a_picture(self) -> int:
        return int(self._queries.shape[1])

    @property
    def picture_side(self) -> int:
        return int(self._vision.config.image_size)

    @property
    def longest(self) -> int:
        return int(self._language.config.max_position_embeddings)

    @property
    def vocabulary(self) -> int:
        return int(self._language.embed_tokens.num_embeddings)

    @property
    def dim(self) -> int:
        if self._reduction is not None:
            return len(self._reduction)
        return int(self._language.config.hidden_size)

    def __call__(self, notes: Sequence[Note]) -> FloatArray:
        """L2-normalised vectors (n, dim), float32."""
        tokens, mask, _ = padded([note.tokens for note in notes])
        is_picture, _, _ = padded([note.is_picture for note in notes])
        device = self.device
        with torch.inference_mode():
            inputs = self._language.embed_tokens(torch.from_numpy(tokens).to(device))
            pictures = [picture for note in notes for picture in note.pictures]
            seen = torch.empty(0)
            if pictures:
                states, seen = self._look(torch.from_numpy(np.stack(pictures)))
                inputs = inputs.masked_scatter(torch.from_numpy(is_picture).to(device)[..., None], states)
            attended = torch.from_numpy(mask).to(device)
            found = self._language(inputs_embeds=inputs, attention_mask=attended, use_cache=False).last_hidden_state
            rows, place = [], 0
            for row, note in enumerate(notes):
                state = found[row, note.pooled]
                if note.pictures and self._fusion is not None:
                    state = self._fused(state, seen[place : place + len(note.pictures)].mean(dim=0))
                place += len(note.pictures)
                rows.append(state if self._reduction is None else self._reduction @ state)
            vectors: FloatArray = torch.nn.functional.normalize(torch.stack(rows).float(), dim=1).cpu().numpy()
        return vectors

    def _look(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """What the language model gets of pictures (p, q, d), and their own first states (p, d)."""
        states = self._vision(self._moved(pixels)).last_hidden_state
        queries = self._queries.expand(len(states), -1, -1)
        found = self._qformer(query_embeds=queries, encoder_hidden_states=states).last_hidden_state
        return self._projector(found.to(self.dtype)), states[:, 0]

    def _fused(self, state: torch.Tensor, first: torch.Tensor) -> torch.Tensor:
        """Shares, as the gate says, of the language model's state and the picture's own, and the former once more."""
        assert self._fusion is not None
        projection, gate = self._fusion
        own = projection @ first
        share = torch.sigmoid(gate @ torch.cat([state, own]))
        return share * state + (1 - share) * own + state

    def _ready(self, module: Any) -> Any:
        return module.to(self.device, self.dtype).eval().requires_grad_(requires_grad=False)

    def _moved(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.to(self.device, self.dtype)


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
