"""`colqwen2` and `colpali`: a vector for each token (Faysse et al. 2024, arXiv:2407.01449)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from mmseek.embed.colpali import ColPaliRecipe
from mmseek.embed.colqwen2 import ColQwen2Recipe
from mmseek.embed.multi_vector import EngineTokenEncoder
from mmseek.embed.projection import Projection
from mmseek.training.families.base import Prepared, Trainable, copy_beside, write_weights

__all__ = ["TrainableTokens"]

_LAYER = "custom_text_proj"


class TrainableTokens(Trainable):
    """Projected states of all tokens, with gradients. Names of weights begin with `model.` or `custom_text_proj.`."""

    late: ClassVar[bool] = True

    def __init__(self, encoder: EngineTokenEncoder) -> None:
        recipe = encoder.recipe
        if not isinstance(recipe, ColPaliRecipe | ColQwen2Recipe):
            raise TypeError(f"{type(recipe).__name__} is neither ColPali nor ColQwen2")
        super().__init__(encoder, nn.ModuleDict({"model": recipe.model, _LAYER: recipe.projection.layer}))
        self._recipe = recipe

    def vectors(self, items: Sequence[Prepared]) -> Tensor:
        """(n, tokens, dim), rows after an item's last token zero."""
        # Taken from where an adapter may have come into its place.
        projection = Projection(self.inner.get_submodule(_LAYER))
        payloads: list[Any] = [unit.payload for (unit,) in items]
        found = [projection(states) for states in self._recipe.states(payloads)]
        padded: Tensor = pad_sequence(found, batch_first=True)
        return padded

    def export(self, folder: Path, state: Mapping[str, Tensor]) -> None:
        """The names of `model` as transformers' class without a head has them, and the projection's."""
        write_weights(folder, {name.removeprefix("model."): value for name, value in state.items()})
        copy_beside(self.source, folder)
