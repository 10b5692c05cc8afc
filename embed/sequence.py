"""What encoders on vision-language models share: who they are, how much fits into a batch, and padding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final, Generic, Protocol, TypeVar

import numpy as np

from mmseek._types import EncodeRequest, EncoderIdentity
from mmseek.embed.base import EngineEncoder
from mmseek.embed.batching import Budget
from mmseek.embed.engine import EngineOptions, Unit
from mmseek.media import MediaLimits

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from mmseek._types import FloatArray

    Scalar = TypeVar("Scalar", bound=np.generic)

__all__ = ["SEQUENCE", "Loaded", "Parts", "SequenceEncoder", "last_token_states", "last_token_vectors", "padded"]

# The kind of a unit that is a whole content.
SEQUENCE: Final = "sequence"


class Loaded(Protocol):
    """A model that was loaded: where it is, a hash of its files and recipe, and the length of its vectors."""

    @property
    def device(self) -> str: ...

    @property
    def fingerprint(self) -> str: ...

    @property
    def dim(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Parts:
    """What most families load.

    Args:
        model: on `device`.
        reader: of prompts, a tokenizer mostly.
        pictures: the preprocessing.
        device: a torch device.
        fingerprint: see `EncoderIdentity`.
        dim: length of the vectors.
    """

    model: Any
    reader: Any
    pictures: Any
    device: str
    fingerprint: str
    dim: int


Checkpoint = TypeVar("Checkpoint", bound=Loaded)


class SequenceEncoder(EngineEncoder, Generic[Checkpoint]):
    """Runs a model over sequences of tokens, one a content. Thread-safe.

    Args:
        checkpoint: the loaded model.
        spec: the spec that it names itself with.
        limits: of pictures.
        options: of the engine.
    """

    kinds: ClassVar[tuple[str, ...]] = (SEQUENCE,)
    # Tokens, visual ones included; a batch of n costs n times its longest.
    cpu_budget: ClassVar[Budget] = Budget(2048)
    gpu_budget: ClassVar[Budget] = Budget(16384)

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        spec: str,
        limits: MediaLimits | None = None,
        options: EngineOptions | None = None,
    ) -> None:
        self._checkpoint = checkpoint
        self._device = checkpoint.device
        self._identity = EncoderIdentity(spec, checkpoint.fingerprint, checkpoint.dim)
        self._limits = limits or MediaLimits()
        super().__init__(options)

    @property
    def identity(self) -> EncoderIdentity:
        return self._identity

    @property
    def budgets(self) -> Mapping[str, Budget]:
        """By tokens, text and visual, padded to the longest."""
        budget = self.cpu_budget if self._device == "cpu" else self.gpu_budget
        return dict.fromkeys(self.kinds, budget)

    def combine(self, request: EncodeRequest, units: Sequence[Unit], vectors: Sequence[FloatArray]) -> FloatArray:
        """The only unit's vector."""
        del request, units
        return vectors[0]


def padded(rows: Sequence[NDArray[Scalar]]) -> tuple[NDArray[Scalar], NDArray[np.int64], NDArray[np.int64]]:
    """Rows (n_i, ...) padded with zeros on the right: (n, longest, ...), a mask (n, longest), each last place (n,)."""
    lengths = [len(row) for row in rows]
    whole = np.zeros((len(rows), max(lengths), *rows[0].shape[1:]), dtype=rows[0].dtype)
    mask = np.zeros((len(rows), max(lengths)), dtype=np.int64)
    for place, row in enumerate(rows):
        whole[place, : len(row)], mask[place, : len(row)] = row, 1
    return whole, mask, np.asarray(lengths) - 1


def last_token_vectors(model: Any, rows: Sequence[NDArray[np.int64]], device: str, **inputs: Any) -> FloatArray:
    """As `last_token_states`, without a graph, on the CPU."""
    import torch

    with torch.inference_mode():
        vectors: FloatArray = last_token_states(model, rows, device, **inputs).cpu().numpy()
    return vectors


def last_token_states(model: Any, rows: Sequence[NDArray[np.int64]], device: str, **inputs: Any) -> torch.Tensor:
    """L2-normalised states (n, dim), float32, of the last tokens of sequences, padded on the right.

    With a graph where gradients are enabled.

    Args:
        model: of transformers, without a head.
        rows: token numbers (n_i,).
        device: where the model is.
        inputs: what else the model reads, on the device.
    """
    import torch

    tokens, mask, last = padded(rows)
    states: torch.Tensor = model(
        input_ids=torch.from_numpy(tokens).to(device),
        attention_mask=torch.from_numpy(mask).to(device),
        use_cache=False,
        **inputs,
    ).last_hidden_state
    chosen = states[torch.arange(len(rows), device=device), torch.from_numpy(last).to(device)]
    return torch.nn.functional.normalize(chosen.float(), dim=1)
