"""A text model of sentence-transformers whose transformer OpenVINO runs; its tokenizer and other modules stay."""

from __future__ import annotations

import inspect
from typing import Any, Final

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - torch's own convention

from mmseek.errors import ModelError
from mmseek.models.openvino import BUCKET, Compiled, compiled

__all__ = ["run_by_openvino"]

# To be raised by any change of the module below: what was converted before is then converted anew.
_VERSION: Final = 1
_INPUTS: Final = ("input_ids", "attention_mask", "token_type_ids")


class _States(nn.Module):
    """Token numbers, mask and, where the model reads them, types, each (n, length), to the last states."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        named = dict(zip(_INPUTS, inputs, strict=False))
        states: torch.Tensor = self.model(**named, return_dict=True).last_hidden_state
        return states


class _Transformer(nn.Module):
    """Stands where the transformer was: the same names of inputs and output."""

    def __init__(self, config: Any, model: Compiled, names: tuple[str, ...], longest: int) -> None:
        super().__init__()
        self.config = config
        self._compiled, self._names, self._longest = model, names, longest
        # sentence-transformers asks the model's parameters for its device and type.
        self.register_parameter("place", nn.Parameter(torch.zeros(1), requires_grad=False))

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        token_type_ids: torch.Tensor | None = None,
        **_: Any,
    ) -> Any:
        from transformers.modeling_outputs import BaseModelOutput

        given = {
            "input_ids": input_ids,
            "attention_mask": attention_mask,
            "token_type_ids": torch.zeros_like(input_ids) if token_type_ids is None else token_type_ids,
        }
        length = input_ids.shape[1]
        # With zeros, which the mask leaves out, to a length that OpenVINO has seen; the pooling gets the true length.
        more = max(min(-(-length // BUCKET) * BUCKET, self._longest) - length, 0)
        states = self._compiled(*(np.asarray(F.pad(given[name], (0, more))) for name in self._names))
        return BaseModelOutput(last_hidden_state=torch.from_numpy(states[:, :length]))


def run_by_openvino(model: Any, *, fingerprint: str, lanes: int) -> None:
    """Put OpenVINO in the place of a `SentenceTransformer`'s transformer.

    Raises:
        ModelError: it does not begin with a transformer that reads text only, or OpenVINO cannot run that.
    """
    from sentence_transformers.base.modules import Transformer

    first = model[0]
    if not isinstance(first, Transformer) or set(model.modalities) != {"text"}:
        raise ModelError(
            "the backend openvino runs models of sentence-transformers that begin with a transformer and read text "
            "only: leave it out for this one"
        )
    inner: Any = first.model
    known = inspect.signature(inner.forward).parameters
    names = tuple(name for name in _INPUTS if name in known)
    # Numbers of the vocabulary's beginning, in a mask of two lengths.
    numbers, mask = torch.arange(2 * BUCKET).view(2, BUCKET) % 5, torch.ones(2, BUCKET, dtype=torch.long)
    mask[1, BUCKET // 2 :] = 0
    example = [numbers, mask, torch.zeros_like(numbers)][: len(names)]
    converted = compiled(
        lambda: _States(inner).eval(),
        lambda: example,
        [(-1, -1)] * len(names),
        fingerprint=fingerprint,
        part=f"st states {_VERSION}",
        lanes=lanes,
    )
    longest = model.max_seq_length or getattr(inner.config, "max_position_embeddings", 512)
    first.model = _Transformer(inner.config, converted, names, int(longest))
