"""`st`: any model of sentence-transformers, with the prompts that it encodes with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmseek.embed.base import EngineEncoder
from mmseek.embed.st import StEncoder
from mmseek.embed.st_ahead import joined
from mmseek.training.families.base import Sequences

__all__ = ["TrainableSt"]

_DOCUMENT_PROMPTS = ("document", "passage", "corpus")


class TrainableSt(Sequences):
    """A `SentenceTransformer`, with gradients."""

    def __init__(self, encoder: EngineEncoder) -> None:
        if not isinstance(encoder, StEncoder):
            raise TypeError(f"{type(encoder).__name__} is no model of sentence-transformers")
        super().__init__(encoder, encoder.model)
        self._model: Any = encoder.model

    def rows(self, kind: str, payloads: Sequence[Any]) -> Tensor:
        """(n, dim), as the model gives them."""
        del kind
        if payloads[0].ahead:  # all pictures of one kind are
            features = joined([payload.value for payload in payloads], self._model.device)
            pictures: Tensor = self._model(features)["sentence_embedding"]
            return pictures
        groups: dict[tuple[str, str | None], list[int]] = {}
        for place, payload in enumerate(payloads):
            groups.setdefault((payload.role, self._prompt(payload.role, payload.prompt)), []).append(place)
        rows: list[Tensor] = [torch.empty(0)] * len(payloads)
        for (role, prompt), places in groups.items():
            features = self._model.preprocess([payloads[place].value for place in places], prompt=prompt, task=role)
            device = self._model.device
            moved = {name: each.to(device) if isinstance(each, Tensor) else each for name, each in features.items()}
            found = self._model(moved, task=role)["sentence_embedding"]
            for place, row in zip(places, found, strict=True):
                rows[place] = row
        return torch.stack(rows)

    def export(self, folder: Path, state: Mapping[str, Tensor]) -> None:
        """In the layout of sentence-transformers."""
        own = self._model.state_dict()
        if own.keys() != state.keys():
            raise ValueError("adapters in a sentence-transformers model are merged before it is exported")
        self._model.save_pretrained(str(folder), create_model_card=False)

    def _prompt(self, role: str, prompt: str | None) -> str | None:
        """What `encode_query` and `encode_document` would put before the text."""
        prompts: Mapping[str, str] = self._model.prompts
        if prompt is not None:
            return prompt
        names = ("query",) if role == "query" else _DOCUMENT_PROMPTS
        name = next((each for each in names if each in prompts), self._model.default_prompt_name)
        return prompts.get(name) if name is not None else None
