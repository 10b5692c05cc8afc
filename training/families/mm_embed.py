"""`mm-embed`: LLaVA-NeXT on NV-Embed's language model, and the latent attention that pools."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from mmseek.embed.base import EngineEncoder
from mmseek.embed.mm_embed import MmEmbedEncoder
from mmseek.models.checkpoints import json_object
from mmseek.training.families.base import Sequences, copy_beside, write_weights

__all__ = ["TrainableMmEmbed"]


class TrainableMmEmbed(Sequences):
    """MM-Embed's vectors, with gradients. Names of weights begin with `llava.` or `latent_attention_model.`."""

    def __init__(self, encoder: EngineEncoder) -> None:
        if not isinstance(encoder, MmEmbedEncoder):
            raise TypeError(f"{type(encoder).__name__} is no MM-Embed")
        super().__init__(encoder, encoder.model)
        self._mm_embed = encoder

    def rows(self, kind: str, payloads: Sequence[Any]) -> Tensor:
        """(n, dim), L2-normalised."""
        del kind
        return self._mm_embed.embedded(payloads)

    def export(self, folder: Path, state: Mapping[str, Tensor]) -> None:
        """In the published layout, with the configuration of the NV-Embed that the checkpoint has beside it."""
        write_weights(folder, {name.removeprefix("llava."): value for name, value in state.items()})
        copy_beside(self.source, folder)
        beside = str(json_object(self.source / "config.json").get("retriever", ""))
        if beside and (self.source / beside).is_dir():
            (folder / beside).mkdir(parents=True)
            copy_beside(self.source / beside, folder / beside)
