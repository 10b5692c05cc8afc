"""Pictures of a sentence-transformers model prepared one by one, ahead of the model, where that gives the same numbers.

`SentenceTransformer.encode` prepares a batch and then runs the model on it, so one waits for the other. A processor
that looks at each picture by itself can be run in the engine's threads. Whether it does is found out by trying, with
pictures of two sizes: prepared one by one and put together, they must be what they are together, bit for bit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    import PIL.Image
    import torch

__all__ = ["Features", "embedded", "joined", "may_prepare_ahead", "prepared"]

Features: TypeAlias = "Mapping[str, Any]"


def prepared(model: Any, picture: PIL.Image.Image) -> Features:
    """What the model reads of one RGB picture."""
    features: Features = model.preprocess([picture])
    return features


def embedded(model: Any, rows: Sequence[Features], device: str) -> torch.Tensor:
    """Vectors (n, dim), on the device, of prepared pictures, as `SentenceTransformer.encode` would give them."""
    import torch

    with torch.inference_mode():
        vectors: torch.Tensor = model(joined(rows, device))["sentence_embedding"]
    return vectors


def joined(rows: Sequence[Features], device: str | torch.device) -> dict[str, Any]:
    """The features of a batch, on the device."""
    import torch

    return {
        name: value.to(device) if isinstance(value, torch.Tensor) else value for name, value in _joined(rows).items()
    }


def may_prepare_ahead(model: Any) -> bool:
    """Whether the model takes lone pictures, and prepares each by itself; not if its modules differ by task."""
    modalities = set(model.modalities)
    if "image" not in modalities or "message" in modalities or any(type(each).__name__ == "Router" for each in model):
        return False
    import PIL.Image
    import torch

    random = np.random.default_rng(0)
    pictures = [
        PIL.Image.fromarray(random.integers(0, 255, (*size, 3), dtype=np.uint8)) for size in ((40, 64), (90, 30))
    ]
    try:
        together = model.preprocess(pictures)
        apart = _joined([prepared(model, picture) for picture in pictures])
    except (ValueError, TypeError, KeyError, RuntimeError):  # of a processor that wants more than a picture
        return False
    return set(apart) == set(together) and all(
        torch.equal(value, together[name]) if isinstance(value, torch.Tensor) else value == together[name]
        for name, value in apart.items()
    )


def _joined(rows: Sequence[Features]) -> dict[str, Any]:
    """The features of a batch: tensors one after the other, the rest from the first."""
    import torch

    return {
        name: torch.cat([row[name] for row in rows]) if isinstance(value, torch.Tensor) else value
        for name, value in rows[0].items()
    }
