"""`vlm2vec` with a Phi-3.5-V backbone (VLM2Vec-Full, arXiv 2410.05160).

The prompt of `vlm2vec` with `<|image_1|>`, `<|image_2|>` ... for pictures, and the state of its last token:

    <|image_1|> Represent the given image with the following question: What is in the image

What stands between pictures is tokenised by itself, as the original does, so the mark of the beginning that
`tokenizer.json` adds stands before each of these texts, the empty ones included. The code of the published checkpoint
is not run: see `phi3_v`.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mmseek._types import EncodeRequest
from mmseek.embed.batching import Budget
from mmseek.embed.engine import EngineOptions, Unit
from mmseek.embed.phi3_v import CONFIG, Tiled, read_phi3_v, tiled
from mmseek.embed.qwen_vl import colours, engine_options, load_tokenizer, picture_settings
from mmseek.embed.sequence import Parts, SequenceEncoder, last_token_vectors, padded
from mmseek.embed.vlm2vec import prompt_of
from mmseek.errors import InputError, SpecError
from mmseek.media import MediaLimits, open_image
from mmseek.models.checkpoints import files_sha256, find_checkpoint, weight_files
from mmseek.models.device import pick_device
from mmseek.models.spec import Spec, absolute

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmseek._types import FloatArray, Image

__all__ = ["RECIPE_VERSION", "PhiPictures", "Vlm2VecPhiEncoder", "load"]

# To be raised by any change that gives other vectors from the same weights.
RECIPE_VERSION: Final = 1
# No text can hold it: items are checked for it.
_MARK: Final = "<|image_1|>"
# Above the length that it was first trained with, the model turns its positions by other factors, all in a batch.
_SHORT: Final = "short"
_LONG: Final = "long"
_MEAN: Final = (0.48145466, 0.4578275, 0.40821073)
_STD: Final = (0.26862954, 0.26130258, 0.27577711)
_CROPS: Final = 16


@dataclass(frozen=True, slots=True)
class PhiPictures:
    """Of pictures: the most tiles, and mean and std of the colours, from 0 to 1."""

    crops: int = _CROPS
    mean: tuple[float, ...] = _MEAN
    std: tuple[float, ...] = _STD


@dataclass(frozen=True, slots=True)
class _Inputs:
    tokens: NDArray[np.int64]
    is_picture: NDArray[np.bool_]
    pictures: tuple[Tiled, ...]


class Vlm2VecPhiEncoder(SequenceEncoder[Parts]):
    """VLM2Vec on Phi-3.5-V. Queries and documents differ by their instructions only. Thread-safe.

    The parts are a `Phi3V`, the tokenizer with the checkpoint's own post-processor, and `PhiPictures`.
    """

    kinds = (_SHORT, _LONG)
    # A picture is up to 2,509 tokens with the published sizes.
    cpu_budget = Budget(3072)

    def __init__(
        self, checkpoint: Parts, *, spec: str, limits: MediaLimits | None = None, options: EngineOptions | None = None
    ) -> None:
        super().__init__(checkpoint, spec=spec, limits=limits, options=options)
        # The language model keeps the factors that it turned positions by last.
        self._turn = threading.Lock()

    def prompt(self, request: EncodeRequest) -> str:
        """See `vlm2vec.prompt_of`; pictures are numbered from 1."""
        first, *others = prompt_of(request, _MARK).split(_MARK)
        return first + "".join(f"<|image_{number}|>{text}" for number, text in enumerate(others, 1))

    def prepare(self, request: EncodeRequest) -> Sequence[Unit]:
        """One unit: the whole content.

        Raises:
            MediaError: a picture cannot be used.
            InputError: there is nothing to encode, or more than the model takes.
        """
        texts = prompt_of(request, _MARK).split(_MARK)
        images = request.content.images
        if len(texts) != len(images) + 1:
            raise InputError(f"the text holds {_MARK}, which is the model's mark for a picture: take it out")
        pictures = tuple(self._tiled(image) for image in images)
        pieces = [self._checkpoint.reader.encode(text, add_special_tokens=True).ids for text in texts]
        tokens, places = [*pieces[0]], [False] * len(pieces[0])
        for picture, piece in zip(pictures, pieces[1:], strict=True):
            states = self._checkpoint.model.states_of(picture)
            tokens += [0] * states + piece
            places += [True] * states + [False] * len(piece)
        config = self._checkpoint.model.language.config
        if len(tokens) > config.max_position_embeddings:
            most = config.max_position_embeddings
            raise InputError(f"the item has {len(tokens)} tokens and the model takes {most}: shorten it")
        inputs = _Inputs(np.asarray(tokens, dtype=np.int64), np.asarray(places), pictures)
        key = hashlib.sha256(inputs.tokens.tobytes() + inputs.is_picture.tobytes())
        for picture in pictures:
            key.update(repr(picture.pixels.shape).encode() + picture.pixels.tobytes())
        kind = _LONG if len(tokens) > config.original_max_position_embeddings else _SHORT
        return [Unit(kind, inputs, cost=len(tokens), key=key.digest())]

    def forward(self, kind: str, payloads: Sequence[_Inputs]) -> FloatArray:
        """Vectors (n, dim), float32, L2-normalised."""
        del kind
        import torch

        extra: dict[str, Any] = {}
        pictures = [picture for payload in payloads for picture in payload.pictures]
        with self._turn:
            if pictures:
                places, _, _ = padded([payload.is_picture for payload in payloads])
                with torch.inference_mode():
                    extra["pictures"] = self._checkpoint.model.look(
                        pictures, self._checkpoint.pictures.mean, self._checkpoint.pictures.std
                    )
                extra["is_picture"] = torch.from_numpy(places).to(self._device)
            return last_token_vectors(
                self._checkpoint.model, [payload.tokens for payload in payloads], self._device, **extra
            )

    def _tiled(self, image: Image) -> Tiled:
        return tiled(
            open_image(image, limits=self._limits), self._checkpoint.model.side, self._checkpoint.pictures.crops
        )


def load(spec: Spec, *, device: str | None, limits: MediaLimits, options: EngineOptions) -> Vlm2VecPhiEncoder:
    """Load a checkpoint of the type `phi3_v`; `vlm2vec.load` calls this.

    Raises:
        SpecError: the spec names no model.
        ModelError: the checkpoint is missing, of another kind or not whole.
    """
    if spec.visual_tokens is not None:
        raise SpecError("Phi-3.5-V reads all visual tokens: leave the amount out, or use another backbone of vlm2vec")
    chosen = pick_device(device)
    folder = find_checkpoint(spec)
    model = read_phi3_v(folder, chosen)
    pictures_file, settings = picture_settings(folder)
    files = [*weight_files(folder), folder / CONFIG, folder / "tokenizer.json", pictures_file]
    fingerprint = files_sha256(files, recipe=f"vlm2vec phi3_v {RECIPE_VERSION}")
    pictures = PhiPictures(
        crops=int(settings.get("num_crops", _CROPS)),
        mean=_colours(settings, "image_mean", _MEAN, pictures_file),
        std=_colours(settings, "image_std", _STD, pictures_file),
    )
    tokenizer = load_tokenizer(folder, None)
    parts = Parts(model, tokenizer, pictures, chosen, fingerprint, model.language.config.hidden_size)
    return Vlm2VecPhiEncoder(parts, spec=absolute(spec), limits=limits, options=engine_options(options))


def _colours(settings: Mapping[str, Any], key: str, default: tuple[float, ...], path: Any) -> tuple[float, ...]:
    return colours(settings, key, path) if key in settings else default
