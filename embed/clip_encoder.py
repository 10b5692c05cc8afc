"""What the families on top of a CLIP share: a text unit, picture units, and where the checkpoint comes from."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, Protocol

import numpy as np

from mmseek._types import EncodeRequest, EncoderIdentity
from mmseek.embed.base import EngineEncoder
from mmseek.embed.batching import Budget
from mmseek.embed.clip_openvino import openvino_tower
from mmseek.embed.clip_tower import ClipTower, checkpoint_files
from mmseek.embed.engine import EngineOptions, Unit
from mmseek.errors import InputError
from mmseek.media import MediaLimits
from mmseek.models.checkpoints import files_sha256, find_checkpoint
from mmseek.models.device import pick_backend, pick_device
from mmseek.models.openvino import check_openvino
from mmseek.models.spec import Spec, absolute

if TYPE_CHECKING:
    from typing import Self

    from mmseek._types import FloatArray, Image

__all__ = ["IMAGE", "TEXT", "ClipTowerEncoder", "Tower", "raw_sum"]

TEXT: Final = "text"
IMAGE: Final = "image"
# Texts by tokens, padded to the longest of a batch; pictures, all of one size, by number.
_CPU_BUDGETS: Final = {TEXT: Budget(1024), IMAGE: Budget(8)}
_GPU_BUDGETS: Final = {TEXT: Budget(16384), IMAGE: Budget(128)}


class Tower(Protocol):
    """What is asked of a CLIP: `ClipTower`, or another with the same methods."""

    dim: int

    def tokenize(self, text: str) -> list[int]: ...

    def prepare(self, image: Image, limits: MediaLimits) -> Any: ...

    def texts(self, texts: Sequence[Sequence[int]]) -> FloatArray: ...

    def images(self, pictures: Sequence[Any]) -> FloatArray: ...


class ClipTowerEncoder(EngineEncoder):
    """Encodes at most one text and any number of pictures of a content with a CLIP. Safe to use from several threads.

    Args:
        tower: the CLIP.
        spec: the spec that it names itself with.
        fingerprint: see `EncoderIdentity`.
        limits: of pictures.
        options: of the engine.
        budgets: how many tokens and pictures make a batch.
    """

    recipe: ClassVar[str]
    """Name and version of what a family does; part of the fingerprint."""
    openai_crop: ClassVar[bool] = False
    """See `ClipPictures.round_offset`."""

    def __init__(
        self,
        tower: Tower,
        *,
        spec: str,
        fingerprint: str,
        limits: MediaLimits | None = None,
        options: EngineOptions | None = None,
        budgets: Mapping[str, Budget] = _CPU_BUDGETS,
    ) -> None:
        self._batch_budgets = budgets
        super().__init__(options)
        self._tower = tower
        self._limits = limits or MediaLimits()
        self._identity = EncoderIdentity(spec=spec, fingerprint=fingerprint, dim=tower.dim)

    @classmethod
    def load(cls, spec: Spec, *, device: str | None, limits: MediaLimits, options: EngineOptions) -> Self:
        """From the folder or the hub id that the spec names.

        Raises:
            SpecError: it names none.
            ModelError: a file is missing, is no safetensors file or is of another model.
        MissingExtra: OpenVINO is asked for and not installed.
        """
        folder = find_checkpoint(spec)
        chosen = pick_device(device)
        on_cpu = chosen == "cpu"
        by_openvino = pick_backend() == "openvino"
        if by_openvino:
            check_openvino(chosen)
        fingerprint = files_sha256(checkpoint_files(folder), recipe=cls.recipe)
        tower = cls.load_tower(folder, device=chosen)
        return cls(
            openvino_tower(tower, fingerprint=fingerprint, lanes=options.workers) if by_openvino else tower,
            spec=absolute(spec),
            fingerprint=fingerprint,
            limits=limits,
            options=replace(options, lanes=options.workers if on_cpu else 1),
            budgets=_CPU_BUDGETS if on_cpu else _GPU_BUDGETS,
        )

    @classmethod
    def load_tower(cls, folder: Path, *, device: str) -> Tower:
        """The model of a folder; errors as in `load`."""
        return ClipTower.load(folder, device=device, openai_crop=cls.openai_crop)

    @property
    def identity(self) -> EncoderIdentity:
        return self._identity

    @property
    def tower(self) -> Tower:
        """The CLIP."""
        return self._tower

    @property
    def budgets(self) -> Mapping[str, Budget]:
        """Texts by tokens, pictures by number."""
        return self._batch_budgets

    @abstractmethod
    def render(self, request: EncodeRequest) -> str:
        """The text that is encoded; empty for none."""

    def prepare(self, request: EncodeRequest) -> Sequence[Unit]:
        """The rendered text, if there is any, then one unit a picture.

        Raises:
            MediaError: a picture cannot be used.
            InputError: there is nothing to encode.
        """
        if request.content.is_empty:
            raise InputError("an item has neither text nor image: give at least one")
        units = []
        text = self.render(request)
        if text:
            numbers = self._tower.tokenize(text)
            units.append(Unit(TEXT, numbers, cost=len(numbers), key=np.asarray(numbers, dtype=np.int32).tobytes()))
        for image in request.content.images:
            pixels = self._tower.prepare(image, self._limits)
            units.append(Unit(IMAGE, pixels, cost=1, key=hashlib.sha256(pixels.tobytes()).digest()))
        if not units:
            raise InputError("an item has no text but quotation marks and no image: give at least one")
        return units

    def forward(self, kind: str, payloads: Sequence[Any]) -> FloatArray:
        """Projected, not normalised vectors (n, dim)."""
        return self._tower.texts(payloads) if kind == TEXT else self._tower.images(payloads)


def raw_sum(units: Sequence[Unit], vectors: Sequence[FloatArray]) -> FloatArray:
    """The text's vector and the mean of the pictures', added as they are."""
    kinds = [
        [vector for unit, vector in zip(units, vectors, strict=True) if unit.kind == kind] for kind in (TEXT, IMAGE)
    ]
    total = sum(np.mean(chosen, axis=0, dtype=np.float64) for chosen in kinds if chosen)
    return np.asarray(total, dtype=np.float32)
