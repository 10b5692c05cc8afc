"""`mini`, the default encoder: 384-d, small enough for any machine, with texts and pictures in one space.

Every text part goes through all-MiniLM-L6-v2 and every picture part through our own image tower. A content's vector is

    normalise(TEXT_WEIGHT * t + IMAGE_WEIGHT * i)

where `t` is the mean of its texts' vectors, each counted by its number of word pieces (at most 256), and `i` the mean
of its pictures' vectors, both normalised. So a text alone has exactly MiniLM's vector, a caption of three words does
not weigh as much as a page, and no number of paragraphs drowns a picture. Query and document are encoded alike but for
one thing: in a query of picture and text, the text may ask for a change ("the same in orange"), so that the sum goes
through a small network that was trained on such requests (`correction.Fusion`). An instruction changes nothing: MiniLM
was not trained with any.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np

from mmseek._types import EncodeRequest, EncoderIdentity, Image, Text
from mmseek.embed.base import EngineEncoder
from mmseek.embed.batching import Budget
from mmseek.embed.engine import EngineOptions, Unit
from mmseek.embed.mini.pictures import TOWER_FILE, PictureTower
from mmseek.embed.mini.text import DIM, TextTower
from mmseek.embed.mini.weights import VOCABULARY_SHA256, WEIGHTS, WEIGHTS_SHA256, file_sha256
from mmseek.errors import InputError
from mmseek.media import MediaLimits
from mmseek.models.device import pick_backend, pick_device
from mmseek.models.openvino import check_openvino
from mmseek.models.spec import Spec, absolute

if TYPE_CHECKING:
    from mmseek._types import FloatArray

__all__ = ["IMAGE_WEIGHT", "RECIPE_VERSION", "TEXT_WEIGHT", "MiniEncoder", "load"]

TEXT_WEIGHT: Final = 1.0
IMAGE_WEIGHT: Final = 1.0
# To be raised by any change that gives other vectors from the same weights.
RECIPE_VERSION: Final = 2

_TEXT, _IMAGE = "text", "image"
# A batch whose activations (1,024 tokens of 1,536 floats: 6 MB) stay in a CPU's caches; larger ones are slower there.
_CPU_BUDGETS: Final = {_TEXT: Budget(1024, packed=True), _IMAGE: Budget(16)}
_OPENVINO_BUDGETS: Final = {_TEXT: Budget(1024), _IMAGE: Budget(16)}
_GPU_BUDGETS: Final = {_TEXT: Budget(32768, packed=True), _IMAGE: Budget(256)}


class TextSide(Protocol):
    """What is asked of the text tower."""

    def tokenize(self, text: str) -> list[int]: ...

    def __call__(self, texts: Sequence[Sequence[int]]) -> FloatArray: ...


class MiniEncoder(EngineEncoder):
    """384-d vectors of texts, pictures and both. Safe to use from several threads.

    Args:
        text: the text tower.
        pictures: gives the picture tower; called when the first picture comes.
        fingerprint: see `EncoderIdentity`.
        spec: the spec that it names itself with.
        limits: of pictures.
        options: of the engine.
        budgets: how many word pieces and pictures make a batch.
    """

    def __init__(
        self,
        text: TextSide,
        pictures: Callable[[], PictureTower],
        *,
        fingerprint: str,
        spec: str = "mini",
        limits: MediaLimits | None = None,
        options: EngineOptions | None = None,
        budgets: Mapping[str, Budget] = _CPU_BUDGETS,
    ) -> None:
        self._batch_budgets = budgets
        super().__init__(options)
        self._text = text
        self._load_pictures = pictures
        self._pictures: PictureTower | None = None
        self._lock = threading.Lock()
        self._limits = limits or MediaLimits()
        self._identity = EncoderIdentity(spec=spec, fingerprint=fingerprint, dim=DIM)

    @property
    def identity(self) -> EncoderIdentity:
        return self._identity

    def text_vectors(self, texts: Sequence[list[int]]) -> FloatArray:
        """Vectors (n, 384) of tokenised texts."""
        return self._text(texts)

    @property
    def pictures(self) -> PictureTower:
        """The picture tower, loaded if it was not."""
        return self._tower()

    @property
    def budgets(self) -> Mapping[str, Budget]:
        """Texts by word pieces, laid end to end; pictures, all of one size, by number."""
        return self._batch_budgets

    def prepare(self, request: EncodeRequest) -> Sequence[Unit]:
        """One unit a part. Blank text beside other parts is left out.

        Raises:
            MediaError: a picture cannot be used.
            InputError: there is no part at all.
        """
        content = request.content
        parts = [part for part in content.parts if not isinstance(part, Text) or part.text.strip()]
        parts = parts or list(content.parts[:1])
        if not parts:
            raise InputError("an item has neither text nor image: give at least one")
        return [self._text_unit(part.text) if isinstance(part, Text) else self._image_unit(part) for part in parts]

    def forward(self, kind: str, payloads: Sequence[Any]) -> FloatArray:
        """Vectors (n, 384), L2-normalised."""
        return self._text(payloads) if kind == _TEXT else self._tower()(payloads)

    def combine(self, request: EncodeRequest, units: Sequence[Unit], vectors: Sequence[FloatArray]) -> FloatArray:
        """The weighted sum that the module describes, or a query's composition; not normalised."""
        if len(units) == 1:
            return vectors[0]
        means: dict[str, Any] = {}
        for kind in (_TEXT, _IMAGE):
            chosen = [(unit.cost, vector) for unit, vector in zip(units, vectors, strict=True) if unit.kind == kind]
            if chosen:
                mean = sum(cost * vector.astype(np.float64) for cost, vector in chosen)
                means[kind] = mean / (np.linalg.norm(mean) or 1.0)
        if request.role == "query" and len(means) == len((_TEXT, _IMAGE)):
            composed = self._tower().compose(means[_IMAGE], means[_TEXT])
            if composed is not None:
                return composed
        weights = {_TEXT: TEXT_WEIGHT, _IMAGE: IMAGE_WEIGHT}
        total: FloatArray = sum(weights[kind] * mean for kind, mean in means.items()).astype(np.float32)
        return total

    def _text_unit(self, text: str) -> Unit:
        numbers = self._text.tokenize(text)
        return Unit(_TEXT, numbers, cost=len(numbers), key=np.asarray(numbers, dtype=np.int32).tobytes())

    def _image_unit(self, image: Image) -> Unit:
        pixels = self._tower().prepare(image, self._limits)
        return Unit(_IMAGE, pixels, cost=1, key=hashlib.sha256(pixels.tobytes()).digest())

    def _tower(self) -> PictureTower:
        with self._lock:
            if self._pictures is None:
                self._pictures = self._load_pictures()
            return self._pictures


def load(spec: Spec, *, device: str | None, limits: MediaLimits, options: EngineOptions) -> MiniEncoder:
    """Load `mini`; `spec.model`, if given, is a folder with all-MiniLM-L6-v2, a picture tower of one's own, or both.

    Raises:
        ModelError: the text model is not found, or a weights file is another one.
        MissingExtra: OpenVINO is asked for and not installed.
    """
    chosen = pick_device(device)
    on_cpu = chosen == "cpu"
    folder = None if spec.model is None else Path(spec.model).expanduser()
    trained = None if folder is None else folder / TOWER_FILE.name
    tower = trained if trained is not None and trained.is_file() else TOWER_FILE
    own_text = folder if tower is TOWER_FILE or (folder is not None and (folder / WEIGHTS).is_file()) else None
    texts, pictures, budgets = _towers(own_text, tower, chosen, options.workers)
    return MiniEncoder(
        texts,
        pictures,
        fingerprint=fingerprint(tower),
        spec="mini" if tower is TOWER_FILE else absolute(spec),
        limits=limits,
        options=replace(options, lanes=options.workers if on_cpu else 1),
        budgets=budgets,
    )


def _towers(
    own_text: Path | None, tower: Path, device: str, lanes: int
) -> tuple[TextSide, Callable[[], PictureTower], Mapping[str, Budget]]:
    """Run by torch, or by OpenVINO, which takes texts padded and not end to end."""
    if pick_backend() == "openvino":
        check_openvino(device)
        from mmseek.embed.mini.openvino_towers import OpenVinoTextTower, openvino_pictures

        texts = OpenVinoTextTower(own_text, lanes=lanes)
        return texts, lambda: openvino_pictures(tower, lanes=lanes), _OPENVINO_BUDGETS
    budgets = _CPU_BUDGETS if device == "cpu" else _GPU_BUDGETS
    return TextTower(own_text, device=device), lambda: PictureTower.load(tower, device=device), budgets


def fingerprint(tower: Path) -> str:
    """Of both towers' weights, the vocabulary and the recipe. Without an image tower there is still text to encode."""
    recipe = f"mini {RECIPE_VERSION} {TEXT_WEIGHT} {IMAGE_WEIGHT}"
    parts = (recipe, WEIGHTS_SHA256, VOCABULARY_SHA256, file_sha256(tower) if tower.exists() else "no image tower")
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
