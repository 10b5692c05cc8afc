"""`e5-v`: E5-V (Jiang et al. 2024, arXiv:2407.12580), LLaVA-NeXT on Llama 3 asked to sum up its input in one word.

The vector is the state of the last token of the prompt, after the final norm. A text and a picture are encoded each by
itself; both together have the sum of their normalised vectors, which is this project's choice and not E5-V's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch

from mmseek._types import EncodeRequest, EncoderIdentity
from mmseek.embed.base import EngineEncoder
from mmseek.embed.batching import Budget
from mmseek.embed.engine import EngineOptions, Unit
from mmseek.embed.qwen_vl import (
    colours,
    engine_options,
    load_model,
    load_tokenizer,
    picture_settings,
)
from mmseek.errors import InputError, ModelError
from mmseek.media import MediaLimits, open_image
from mmseek.models.adapters import adapted_fingerprint, split_adapter
from mmseek.models.checkpoints import files_sha256, find_checkpoint, json_object, weight_files
from mmseek.models.device import pick_device
from mmseek.models.spec import Spec, absolute

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from tokenizers import Tokenizer

    from mmseek._types import FloatArray, Image

__all__ = ["IMAGE_PROMPT", "IMAGE_TOKEN", "RECIPE_VERSION", "E5VEncoder", "load", "text_prompt"]

# To be raised by any change that gives other vectors from the same weights.
RECIPE_VERSION: Final = 1
IMAGE_TOKEN: Final = "<image>"  # noqa: S105 - a token of text
_TURN: Final = (
    "<|start_header_id|>user<|end_header_id|>\n\n",
    "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n \n",
)
IMAGE_PROMPT: Final = f"{_TURN[0]}{IMAGE_TOKEN}\nSummary above image in one word: {_TURN[1]}"
_TEXT: Final = "text"
_PICTURE: Final = "picture"
# A picture is up to 2,928 tokens with the published sizes.
_CPU_BUDGET: Final = Budget(3072)
_GPU_BUDGET: Final = Budget(16384)


@dataclass(frozen=True, slots=True)
class _Sequence:
    """Tokens (n,), and of a picture its patches (p, 3, side, side), standardised, and its height and width."""

    tokens: NDArray[np.int64]
    pixels: NDArray[np.float32] | None = None
    size: tuple[int, int] = (0, 0)


class E5VEncoder(EngineEncoder):
    """E5-V. Instructions are not used; queries and documents are encoded alike. Thread-safe.

    Args:
        model: transformers' `LlavaNextModel`, on `device`.
        tokenizer: with the checkpoint's own post-processor.
        pictures: transformers' `LlavaNextImageProcessorPil`.
        identity: what the encoder names itself with.
        device: where the model is.
        limits: of pictures.
        options: of the engine.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Tokenizer,
        pictures: Any,
        *,
        identity: EncoderIdentity,
        device: str,
        limits: MediaLimits | None = None,
        options: EngineOptions | None = None,
    ) -> None:
        self._model = model
        self._device = device
        super().__init__(options)
        self._tokenizer = tokenizer
        self._pictures = pictures
        self._identity = identity
        self._limits = limits or MediaLimits()

    @property
    def identity(self) -> EncoderIdentity:
        return self._identity

    @property
    def budgets(self) -> Mapping[str, Budget]:
        """By tokens, padded to the longest."""
        budget = _CPU_BUDGET if self._device == "cpu" else _GPU_BUDGET
        return {_TEXT: budget, _PICTURE: budget}

    def prepare(self, request: EncodeRequest) -> Sequence[Unit]:
        """One unit for the text, if there is any, and one for each picture.

        Raises:
            MediaError: a picture cannot be used.
            InputError: there is nothing to encode, or the text is too long.
        """
        content = request.content
        if content.is_empty:
            raise InputError("an item has neither text nor image: give at least one")
        units = [self._picture(image) for image in content.images]
        if content.text.strip():
            if IMAGE_TOKEN in content.text:
                raise InputError(f"the text holds {IMAGE_TOKEN}, which is the model's mark for a picture: take it out")
            tokens = self._tokens(text_prompt(content.text))
            units.append(Unit(_TEXT, _Sequence(tokens), cost=len(tokens), key=tokens.tobytes()))
        return units

    def forward(self, kind: str, payloads: Sequence[_Sequence]) -> FloatArray:
        """Vectors (n, dim), float32, L2-normalised."""
        lengths = [len(payload.tokens) for payload in payloads]
        tokens = np.zeros((len(payloads), max(lengths)), dtype=np.int64)
        mask = np.zeros_like(tokens)
        for row, payload in enumerate(payloads):
            tokens[row, : lengths[row]], mask[row, : lengths[row]] = payload.tokens, 1
        with torch.inference_mode():
            states = self._model(
                input_ids=torch.from_numpy(tokens).to(self._device),
                attention_mask=torch.from_numpy(mask).to(self._device),
                use_cache=False,
                **(self._visual(payloads) if kind == _PICTURE else {}),
            ).last_hidden_state
            last = torch.tensor(lengths, device=self._device) - 1
            chosen = states[torch.arange(len(payloads), device=self._device), last]
            rows: FloatArray = torch.nn.functional.normalize(chosen.float(), dim=1).cpu().numpy()
        return rows

    def combine(self, request: EncodeRequest, units: Sequence[Unit], vectors: Sequence[FloatArray]) -> FloatArray:
        """The sum of the text's vector and the mean of the pictures', each normalised."""
        del request
        sides = []
        for kind in (_TEXT, _PICTURE):
            rows = [vector for unit, vector in zip(units, vectors, strict=True) if unit.kind == kind]
            if rows:
                mean = np.mean(rows, axis=0)
                sides.append(mean / np.linalg.norm(mean))
        total: FloatArray = np.sum(sides, axis=0).astype(np.float32)
        return total

    def _picture(self, image: Image) -> Unit:
        given = self._pictures(images=[open_image(image, limits=self._limits)], return_tensors="np")
        pixels: NDArray[np.float32] = given["pixel_values"][0].astype(np.float32)
        height, width = (int(side) for side in given["image_sizes"][0])
        tokens = self._tokens(IMAGE_PROMPT)
        is_picture = tokens == self._model.config.image_token_id
        tokens = np.repeat(tokens, np.where(is_picture, self._states(len(pixels), (height, width)), 1))
        key = hashlib.sha256(f"{height} {width}\n".encode() + pixels.tobytes()).digest()
        return Unit(_PICTURE, _Sequence(tokens, pixels, (height, width)), cost=len(tokens), key=key)

    def _states(self, patches: int, size: tuple[int, int]) -> int:
        """How many states a picture has: the model's own packing is asked, with empty states of one number."""
        config = self._model.config
        vision = config.vision_config
        each = (vision.image_size // vision.patch_size) ** 2 + (config.vision_feature_select_strategy == "full")
        _, lengths = self._model.pack_image_features(
            [torch.zeros(patches, each, 1)],
            torch.tensor([size]),
            vision_feature_select_strategy=config.vision_feature_select_strategy,
            image_newline=torch.zeros(1),
        )
        return int(lengths[0])

    def _tokens(self, prompt: str) -> NDArray[np.int64]:
        tokens = np.asarray(self._tokenizer.encode(prompt, add_special_tokens=True).ids, dtype=np.int64)
        most = self._model.config.text_config.max_position_embeddings
        if len(tokens) > most:
            raise InputError(f"the text has {len(tokens)} tokens and the model takes {most}: shorten it")
        return tokens

    def _visual(self, payloads: Sequence[_Sequence]) -> dict[str, torch.Tensor]:
        pictures = [payload.pixels for payload in payloads if payload.pixels is not None]
        first = pictures[0]
        pixels = np.zeros((len(pictures), max(map(len, pictures)), *first.shape[1:]), dtype=np.float32)
        for row, patches in enumerate(pictures):
            pixels[row, : len(patches)] = patches
        return {
            "pixel_values": torch.from_numpy(pixels).to(self._device, self._model.dtype),
            "image_sizes": torch.tensor([payload.size for payload in payloads], device=self._device),
        }


def text_prompt(text: str) -> str:
    """What the model reads of a text."""
    return f"{_TURN[0]}{text}\nSummary above sentence in one word: {_TURN[1]}"


def load(spec: Spec, *, device: str | None, limits: MediaLimits, options: EngineOptions) -> E5VEncoder:
    """Load `e5-v:HUB_ID[@REVISION]` or `e5-v:FOLDER`.

    Raises:
        SpecError: the spec names no model.
        ModelError: the checkpoint is missing, of another kind or not whole.
    """
    from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil

    chosen = pick_device(device)
    whole, adapter = split_adapter(spec)
    folder = find_checkpoint(whole)
    kind = json_object(folder / "config.json").get("model_type")
    if kind != "llava_next":
        raise ModelError(f"{folder} is a {kind} model, and e5-v runs llava_next: use another family")
    model = load_model(folder, "LlavaNextForConditionalGeneration", chosen, adapter)
    tokenizer = load_tokenizer(folder, None)
    if tokenizer.token_to_id(IMAGE_TOKEN) != model.config.image_token_id:
        raise ModelError(f"the tokenizer of {folder} does not know {IMAGE_TOKEN} as the model does: get it again")
    pictures_file, pictures = picture_settings(folder)
    side = model.config.vision_config.image_size
    files = [*weight_files(folder), folder / "config.json", folder / "tokenizer.json", pictures_file]
    fingerprint = adapted_fingerprint(files_sha256(files, recipe=f"e5-v {RECIPE_VERSION}"), adapter)
    processor = LlavaNextImageProcessorPil(
        size={"shortest_edge": side},
        crop_size={"height": side, "width": side},
        image_mean=list(colours(pictures, "image_mean", pictures_file)),
        image_std=list(colours(pictures, "image_std", pictures_file)),
        resample=int(pictures.get("resample", 3)),
        image_grid_pinpoints=[list(pair) for pair in model.config.image_grid_pinpoints],
    )
    return E5VEncoder(
        model,
        tokenizer,
        processor,
        identity=EncoderIdentity(absolute(spec), fingerprint, model.config.text_config.hidden_size),
        device=chosen,
        limits=limits,
        options=engine_options(options),
    )
