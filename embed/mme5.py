"""`mme5`: mmE5 (Chen et al. 2025, arXiv:2502.08468), a Llama 3.2 Vision (Mllama); the vector is its last token's state.

    <|image|><|begin_of_text|>Represent the given image with the following question: What is in the image\\n
    Find me an everyday image that matches the given caption: A cat and a dog.\\n
    A cat and a dog

Three of the original's ways matter to the vectors:

- The mark of the beginning stands twice, once from the processor and once from the tokenizer: before a text both at
  once, before a picture and after the pictures that come first.
- A picture is no token of the sequence but is looked at from it: a text looks at the last picture before it, and texts
  without any picture pass over the layers that look. In a batch with pictures they would not, and their vectors would
  change; the two are batched apart here.
- The states of the vision tower are those that go into a layer, as its version of transformers counted them; newer ones
  take what comes out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mmseek._types import EncodeRequest, Image, Text
from mmseek.embed.engine import EngineOptions, Unit
from mmseek.embed.qwen_vl import colours, engine_options, load_model, load_tokenizer, picture_settings
from mmseek.embed.sequence import Parts, SequenceEncoder, last_token_states, padded
from mmseek.embed.vlm2vec import DEFAULT_INSTRUCTIONS
from mmseek.errors import InputError, ModelError
from mmseek.media import MediaLimits, open_image
from mmseek.models.checkpoints import files_sha256, find_checkpoint, json_object, weight_files
from mmseek.models.device import pick_device
from mmseek.models.spec import Spec, absolute

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from mmseek._types import FloatArray

__all__ = ["RECIPE_VERSION", "MmE5Encoder", "load", "render"]

# To be raised by any change that gives other vectors from the same weights.
RECIPE_VERSION: Final = 1
IMAGE_TOKEN: Final = "<|image|>"  # noqa: S105 - a token of text
BEGIN_TOKEN: Final = "<|begin_of_text|>"  # noqa: S105 - a token of text
_TEXT: Final = "text"
_PICTURES: Final = "pictures"
# A prepared picture is up to 15 MB, and three windows are held at once.
_WINDOW: Final = 24


@dataclass(frozen=True, slots=True)
class _Tiles:
    """A picture cut up: tiles (t, 3, side, side), standardised, the number of their arrangement, and which are used."""

    pixels: NDArray[np.float32]
    shape: int
    mask: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class _Inputs:
    """Tokens (n,), pictures, and which tiles each token looks at (n, pictures, tiles)."""

    tokens: NDArray[np.int64]
    pictures: tuple[_Tiles, ...]
    looks: NDArray[np.int64] | None


class MmE5Encoder(SequenceEncoder[Parts]):
    """mmE5. Queries and documents differ by their instructions, and by the line break that ends a query. Thread-safe.

    The parts are transformers' `MllamaModel`, the tokenizer with the checkpoint's own post-processor, which adds the
    mark of the beginning, and transformers' `MllamaImageProcessorPil`.
    """

    kinds = (_TEXT, _PICTURES)

    def prompt(self, request: EncodeRequest) -> str:
        """See `render`."""
        return render(request)

    def prepare(self, request: EncodeRequest) -> Sequence[Unit]:
        """One unit: the whole content.

        Raises:
            MediaError: a picture cannot be used.
            InputError: there is nothing to encode, or the text is too long or holds marks of the model.
        """
        images = request.content.images
        tokens = self._tokens(self.prompt(request), len(images))
        pictures = tuple(self._tiles(image) for image in images)
        looks = self._looks(tokens, pictures) if pictures else None
        key = hashlib.sha256(tokens.tobytes())
        for picture in pictures:
            key.update(f"{picture.shape}".encode() + picture.pixels.tobytes())
        # A tile costs the vision tower about as much as its patches would cost as tokens.
        vision = self._checkpoint.model.config.vision_config
        tiles = sum(len(picture.pixels) for picture in pictures)
        cost = len(tokens) + tiles * (vision.image_size // vision.patch_size) ** 2
        kind = _PICTURES if pictures else _TEXT
        return [Unit(kind, _Inputs(tokens, pictures, looks), cost=cost, key=key.digest())]

    def forward(self, kind: str, payloads: Sequence[_Inputs]) -> FloatArray:
        """Vectors (n, dim), float32, L2-normalised."""
        import torch

        with torch.inference_mode():
            rows: FloatArray = self.embedded(kind, payloads).cpu().numpy()
        return rows

    @property
    def model(self) -> Any:
        """Transformers' `MllamaModel`."""
        return self._checkpoint.model

    def embedded(self, kind: str, payloads: Sequence[_Inputs]) -> torch.Tensor:
        """As `forward`, on the model's device, with a graph where gradients are enabled."""
        import torch

        if kind == _TEXT:
            return last_token_states(self._checkpoint.model, [payload.tokens for payload in payloads], self._device)
        # What stands before the first picture looks at all there is, so none may be added to fill a batch up.
        numbers = np.asarray([len(payload.pictures) for payload in payloads])
        groups = [np.flatnonzero(numbers == number).tolist() for number in np.unique(numbers)]
        rows = torch.cat([self._with_pictures([payloads[place] for place in places]) for places in groups])
        return rows[torch.tensor(np.argsort(np.concatenate(groups)), device=rows.device)]

    def _with_pictures(self, payloads: Sequence[_Inputs]) -> torch.Tensor:
        import torch

        def moved(arrays: Sequence[Any]) -> torch.Tensor:
            return torch.from_numpy(np.stack(arrays)).to(self._device)

        looks, _, _ = padded([payload.looks for payload in payloads if payload.looks is not None])
        rows = [payload.pictures for payload in payloads]
        most = self._checkpoint.pictures.max_image_tiles
        pixels = moved([[_filled(picture.pixels, most) for picture in row] for row in rows])
        return last_token_states(
            self._checkpoint.model,
            [payload.tokens for payload in payloads],
            self._device,
            pixel_values=pixels.to(self._checkpoint.model.dtype),
            aspect_ratio_ids=moved([[picture.shape for picture in row] for row in rows]),
            aspect_ratio_mask=moved([[picture.mask for picture in row] for row in rows]),
            cross_attention_mask=torch.from_numpy(looks).to(self._device),
        )

    def _tokens(self, prompt: str, pictures: int) -> NDArray[np.int64]:
        tokens = np.asarray(self._checkpoint.reader.encode(prompt, add_special_tokens=True).ids, dtype=np.int64)
        if (
            prompt.count(BEGIN_TOKEN) != 1
            or np.count_nonzero(tokens == self._checkpoint.model.config.image_token_index) != pictures
        ):
            raise InputError(f"the text holds {IMAGE_TOKEN} or {BEGIN_TOKEN}, which are the model's marks: take it out")
        most = self._checkpoint.model.config.text_config.max_position_embeddings
        if len(tokens) > most:
            raise InputError(f"the text has {len(tokens)} tokens and the model takes {most}: shorten it")
        return tokens

    def _tiles(self, image: Image) -> _Tiles:
        given = self._checkpoint.pictures(images=[open_image(image, limits=self._limits)], return_tensors="np")
        return _Tiles(
            pixels=given["pixel_values"][0, 0, : int(given["num_tiles"][0][0])].astype(np.float32),
            shape=int(given["aspect_ratio_ids"][0, 0]),
            mask=given["aspect_ratio_mask"][0, 0].astype(np.int64),
        )

    def _looks(self, tokens: NDArray[np.int64], pictures: Sequence[_Tiles]) -> NDArray[np.int64]:
        """A token looks at the picture before it; pictures without text between them are looked at together."""
        looks = np.zeros((len(tokens), len(pictures), self._checkpoint.pictures.max_image_tiles), dtype=np.int64)
        places = np.flatnonzero(tokens == self._checkpoint.model.config.image_token_index)
        end = len(tokens)
        for number in reversed(range(len(places))):
            following = places[number + 1] if number + 1 < len(places) else len(tokens)
            if following != places[number] + 1:
                end = following
            looks[places[number] : end, number, : len(pictures[number].pixels)] = 1
        return looks


def _filled(tiles: NDArray[np.float32], most: int) -> NDArray[np.float32]:
    return np.concatenate([tiles, np.zeros((most - len(tiles), *tiles.shape[1:]), dtype=np.float32)])


def render(request: EncodeRequest) -> str:
    """The prompt: pictures that come first, the mark of the beginning, and the parts in their order.

    The instruction stands before the first text, or after all pictures. A line break ends it, but for a document that
    is a text without an instruction.

    Raises:
        InputError: there is nothing to encode.
    """
    content, role = request.content, request.role
    if content.is_empty:
        raise InputError("an item has neither text nor image: give at least one")
    instruction = request.instruction
    if instruction is None:
        instruction = DEFAULT_INSTRUCTIONS.get((role, content.modality), "")
    parts = [part for part in content.parts if not isinstance(part, Text) or part.text]
    first = next((place for place, part in enumerate(parts) if isinstance(part, Text)), len(parts))
    pieces = [part.text if isinstance(part, Text) else IMAGE_TOKEN for part in parts[first:]]
    if instruction:
        pieces.insert(0, instruction.removesuffix(" ") if pieces else instruction)
    text = " ".join(pieces)
    raw = role == "document" and not content.images and not instruction
    ending = "" if raw or text.endswith("\n") else "\n"
    return IMAGE_TOKEN * first + BEGIN_TOKEN + text + ending


def load(spec: Spec, *, device: str | None, limits: MediaLimits, options: EngineOptions) -> MmE5Encoder:
    """Load `mme5:HUB_ID[@REVISION]` or `mme5:FOLDER`.

    Raises:
        SpecError: the spec names no model.
        ModelError: the checkpoint is missing, of another kind or not whole.
    """
    from transformers.models.mllama.image_processing_pil_mllama import MllamaImageProcessorPil

    chosen = pick_device(device)
    options = replace(engine_options(options), window=min(options.window, _WINDOW))
    folder = find_checkpoint(spec)
    kind = json_object(folder / "config.json").get("model_type")
    if kind != "mllama":
        raise ModelError(f"{folder} is a {kind} model, and mme5 runs mllama: use another family")
    model = load_model(folder, "MllamaForConditionalGeneration", chosen)
    vision = model.config.vision_config
    # See the head of this file.
    if 0 in vision.intermediate_layers_indices:
        raise ModelError(f"{folder} asks for what goes into the first layer of its vision tower: use another model")
    model.vision_model.intermediate_layers_indices = [index - 1 for index in vision.intermediate_layers_indices]
    tokenizer = load_tokenizer(folder, None)
    marks = {IMAGE_TOKEN: model.config.image_token_index, BEGIN_TOKEN: model.config.text_config.bos_token_id}
    for mark, number in marks.items():
        if tokenizer.token_to_id(mark) != number:
            raise ModelError(f"the tokenizer of {folder} does not know {mark} as the model does: get it again")
    pictures_file, pictures = picture_settings(folder)
    processor = MllamaImageProcessorPil(
        size={"height": vision.image_size, "width": vision.image_size},
        max_image_tiles=vision.max_num_tiles,
        image_mean=list(colours(pictures, "image_mean", pictures_file)),
        image_std=list(colours(pictures, "image_std", pictures_file)),
        resample=int(pictures.get("resample", 2)),
    )
    files = [*weight_files(folder), folder / "config.json", folder / "tokenizer.json", pictures_file]
    fingerprint = files_sha256(files, recipe=f"mme5 {RECIPE_VERSION}")
    parts = Parts(model, tokenizer, processor, chosen, fingerprint, model.config.text_config.hidden_size)
    return MmE5Encoder(parts, spec=absolute(spec), limits=limits, options=options)
