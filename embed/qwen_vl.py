"""What the encoders on Qwen's vision-language models share: one sequence a content, the last token's state its vector.

A family writes the prompt and says how pictures are resized and which rotary positions the tokens get. Tokenising and
resizing happen once a content, ahead of the model. Pictures wait as 8-bit patches, an eighth of what the model reads,
and become floats on the model's device.
"""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from mmseek._types import EncodeRequest, Image
from mmseek.embed.batching import Budget
from mmseek.embed.engine import EngineOptions, Unit
from mmseek.embed.sequence import SEQUENCE, SequenceEncoder
from mmseek.errors import InputError, ModelError
from mmseek.media import MediaLimits, open_image
from mmseek.models.adapters import adapted_fingerprint, split_adapter
from mmseek.models.checkpoints import files_sha256, find_checkpoint, json_object, weight_files
from mmseek.models.device import pick_device
from mmseek.models.qwen_vl_inputs import Patches, patches_of
from mmseek.models.spec import Spec
from mmseek.models.visual_tokens import VisualTokens, with_fewer
from mmseek.models.vlm import colours, load_model, load_tokenizer, picture_settings

if TYPE_CHECKING:
    from typing import Self

    import PIL.Image
    import torch
    from numpy.typing import NDArray
    from tokenizers import Tokenizer

    from mmseek._types import FloatArray
    from mmseek.embed.qwen_vl_fewer import FewerTokens

__all__ = [
    "IMAGE_TOKEN",
    "Checkpoint",
    "PaddingSide",
    "QwenVLEncoder",
    "Sequence1D",
    "colours",
    "engine_options",
    "load_checkpoint",
    "load_model",
    "load_tokenizer",
    "picture_settings",
]

IMAGE_TOKEN: Final = "<|image_pad|>"  # noqa: S105 - a token of text
# A prepared picture is up to 5.5 MB, and three windows are held at once.
_WINDOW: Final = 64

_CONFIG: Final = "config.json"
_TOKENIZER: Final = "tokenizer.json"

PaddingSide = Literal["left", "right"]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A loaded model and what its folder says of the inputs.

    Args:
        model: the transformers model without its head, on `device`.
        tokenizer: with the checkpoint's own post-processor, which may append tokens.
        device: where the model is.
        image_token: the number of `IMAGE_TOKEN`.
        patch, merge, frames: side of a patch in pixels; patches a visual token along each side; frames a patch.
        mean, std: of each colour, for values from 0 to 1.
        fingerprint: see `EncoderIdentity`.
        dim: length of the vectors.
        fewer: how many of a picture's visual tokens are read; None for all.
    """

    model: Any
    tokenizer: Tokenizer
    device: str
    image_token: int
    patch: int
    merge: int
    frames: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    fingerprint: str
    dim: int
    fewer: VisualTokens | None = None

    @property
    def factor(self) -> int:
        """What both sides of a resized picture are multiples of, in pixels."""
        return self.patch * self.merge


@dataclass(frozen=True, slots=True)
class Sequence1D:
    """One content, ready for the model.

    Args:
        tokens: (n,).
        positions: rotary, (3, n).
        pictures: their patches.
        pooled: the first of the tokens whose states' mean is the vector, and the one after the last, counted among
            those that the language model reads.
    """

    tokens: NDArray[np.int64]
    positions: NDArray[np.int64]
    pictures: tuple[Patches, ...]
    pooled: tuple[int, int]


class QwenVLEncoder(SequenceEncoder[Checkpoint]):
    """Vectors of texts, pictures and any sequence of both, L2-normalised; by default the last state. Thread-safe.

    Args:
        checkpoint: the loaded model.
        spec: the spec that it names itself with.
        limits: of pictures.
        options: of the engine.
        padding: the side on which batches are padded; it does not change the vectors.
    """

    max_tokens: int
    cpu_budget = Budget(1024)

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        spec: str,
        limits: MediaLimits | None = None,
        options: EngineOptions | None = None,
        padding: PaddingSide = "right",
    ) -> None:
        super().__init__(checkpoint, spec=spec, limits=limits, options=options)
        self._options = options
        self._padding = padding
        self._fewer = None if checkpoint.fewer is None else _fewer_tokens(checkpoint, self._visual)

    @property
    def model(self) -> Any:
        """The transformers model without its head."""
        return self._checkpoint.model

    def with_model(self, model: Any, *, spec: str, fingerprint: str) -> Self:
        """An encoder that differs in its model only."""
        checkpoint = replace(self._checkpoint, model=model, fingerprint=fingerprint)
        return type(self)(checkpoint, spec=spec, limits=self._limits, options=self._options, padding=self._padding)

    @abstractmethod
    def prompt(self, request: EncodeRequest) -> str:
        """What the model reads, with one `IMAGE_TOKEN` for each picture.

        Raises:
            InputError: there is nothing to encode.
        """

    @abstractmethod
    def resize(self, picture: PIL.Image.Image, image: Image) -> PIL.Image.Image:
        """An RGB picture in the size that the model sees, both sides multiples of the checkpoint's factor.

        Raises:
            MediaError: it is too long and thin.
        """

    @abstractmethod
    def positions(self, is_picture: NDArray[np.bool_], grids: Sequence[tuple[int, int]]) -> NDArray[np.int64]:
        """Rotary positions (3, n): time, height and width.

        Args:
            is_picture: (n,), whether a token is a visual one.
            grids: visual tokens of each picture, in height and width.
        """

    def pooled(self, request: EncodeRequest, tokens: NDArray[np.int64]) -> tuple[int, int]:
        """The tokens whose states' mean is the vector: the first, and the one after the last. By default the last."""
        del request
        return len(tokens) - 1, len(tokens)

    def prepare(self, request: EncodeRequest) -> Sequence[Unit]:
        """One unit: the whole content.

        Raises:
            MediaError: a picture cannot be used.
            InputError: there is nothing to encode, or the pictures need more tokens than the model takes.
        """
        prompt = self.prompt(request)
        pictures = tuple(self._patches(image) for image in request.content.images)
        grids = [picture.grid for picture in pictures]
        tokens = self._tokenize(prompt, [height * width for height, width in grids])
        is_picture = tokens == self._checkpoint.image_token
        positions = self.positions(is_picture, grids)
        pooled = self._read(is_picture, grids, self.pooled(request, tokens))
        length = self._read(is_picture, grids, (0, len(tokens)))[1]
        key = hashlib.sha256(repr(pooled).encode() + tokens.tobytes())
        for picture in pictures:
            key.update(repr(picture.grid).encode() + picture.values.tobytes())
        return [Unit(SEQUENCE, Sequence1D(tokens, positions, pictures, pooled), cost=length, key=key.digest())]

    def _read(
        self, is_picture: NDArray[np.bool_], grids: Sequence[tuple[int, int]], span: tuple[int, int]
    ) -> tuple[int, int]:
        """A span of tokens, no end of which is inside a picture, counted among those that are read."""
        fewer = self._checkpoint.fewer
        if fewer is None or not grids:
            return span
        sizes = np.array([height * width for height, width in grids])
        starts = np.flatnonzero(is_picture)[np.cumsum(sizes) - sizes]
        gone = sizes - [fewer.kept(int(size)) for size in sizes]
        first, end = (place - int(gone[starts < place].sum()) for place in span)
        return first, end

    @property
    def checkpoint(self) -> Checkpoint:
        """The model and what belongs to it."""
        return self._checkpoint

    def forward(self, kind: str, payloads: Sequence[Sequence1D]) -> FloatArray:
        """Vectors (n, dim), float32, L2-normalised."""
        del kind
        import torch

        with torch.inference_mode():
            rows: FloatArray = self.embedded(payloads).cpu().numpy()
        return rows

    def embedded(self, payloads: Sequence[Sequence1D]) -> torch.Tensor:
        """As `forward`, on the model's device, with a graph where gradients are enabled."""
        import torch

        means = [
            states[slice(*payload.pooled)].float().mean(dim=0)
            for states, payload in zip(self.states(payloads), payloads, strict=True)
        ]
        return torch.nn.functional.normalize(torch.stack(means), dim=1)

    def states(self, payloads: Sequence[Sequence1D]) -> list[torch.Tensor]:
        """The last layer's states of the tokens that are read of each sequence, each (tokens, d), on the device."""
        import torch

        if self._fewer is not None and any(payload.pictures for payload in payloads):
            return self._fewer.states(payloads, self._padding)
        lengths = [len(payload.tokens) for payload in payloads]
        longest = max(lengths)
        tokens = np.zeros((len(payloads), longest), dtype=np.int64)
        mask = np.zeros((len(payloads), longest), dtype=np.int64)
        positions = np.zeros((3, len(payloads), longest), dtype=np.int64)
        places = []
        for row, (payload, length) in enumerate(zip(payloads, lengths, strict=True)):
            start = longest - length if self._padding == "left" else 0
            place = slice(start, start + length)
            tokens[row, place], mask[row, place], positions[:, row, place] = payload.tokens, 1, payload.positions
            places.append(place)
        device = self._checkpoint.device
        pictures = [picture for payload in payloads for picture in payload.pictures]
        states = self._checkpoint.model(
            input_ids=torch.from_numpy(tokens).to(device),
            attention_mask=torch.from_numpy(mask).to(device),
            position_ids=torch.from_numpy(positions).to(device),
            use_cache=False,
            **(self._visual(pictures) if pictures else {}),
        ).last_hidden_state
        return [states[row, place] for row, place in enumerate(places)]

    def _patches(self, image: Image) -> Patches:
        picture = self.resize(open_image(image, limits=self._limits), image)
        return patches_of(picture, self._checkpoint.patch, self._checkpoint.merge)

    def _tokenize(self, prompt: str, visual: Sequence[int]) -> NDArray[np.int64]:
        """Token numbers, at most `max_tokens`, with as many image tokens as each picture has visual tokens."""
        pieces = prompt.split(IMAGE_TOKEN)
        if len(pieces) != len(visual) + 1:
            raise InputError(f"the text holds {IMAGE_TOKEN}, which is the model's mark for a picture: take it out")
        if sum(visual) >= self.max_tokens:
            raise InputError(
                f"the pictures need {sum(visual)} tokens and the model takes {self.max_tokens}: give fewer"
            )
        expanded = pieces[0] + "".join(IMAGE_TOKEN * n + piece for n, piece in zip(visual, pieces[1:], strict=True))
        tokens = np.asarray(self._checkpoint.tokenizer.encode(expanded, add_special_tokens=True).ids, dtype=np.int64)
        if np.count_nonzero(tokens == self._checkpoint.image_token) != sum(visual):
            raise InputError(
                f"the text before the pictures leaves them no room in {self.max_tokens} tokens: shorten it"
            )
        return tokens

    def _visual(self, pictures: Sequence[Patches]) -> dict[str, torch.Tensor]:
        import torch

        checkpoint = self._checkpoint
        values = torch.from_numpy(np.concatenate([picture.values for picture in pictures])).to(checkpoint.device)
        mean = torch.tensor(checkpoint.mean, device=checkpoint.device).view(1, 3, 1)
        std = torch.tensor(checkpoint.std, device=checkpoint.device).view(1, 3, 1)
        pixels = (values.float() * (1 / 255) - mean) / std
        # A still picture is a film of equal frames.
        frames = pixels[:, :, None].expand(-1, -1, checkpoint.frames, -1).reshape(len(pixels), -1)
        grids = [
            (1, height * checkpoint.merge, width * checkpoint.merge) for height, width in (p.grid for p in pictures)
        ]
        return {
            "pixel_values": frames.to(checkpoint.model.dtype),
            "image_grid_thw": torch.tensor(grids, device=checkpoint.device),
        }


def _fewer_tokens(checkpoint: Checkpoint, visual: Callable[[Sequence[Patches]], dict[str, Any]]) -> FewerTokens:
    """Imported here: most models read all tokens."""
    from mmseek.embed.qwen_vl_fewer import FewerTokens

    return FewerTokens(checkpoint, visual)


def load_checkpoint(
    spec: Spec, *, device: str | None, models: Mapping[str, str], recipe: str, max_tokens: int
) -> Checkpoint:
    """Load a model from its folder or the hub: scaled dot product attention, no remote code, see `pick_dtype`.

    Args:
        spec: which model.
        device: see `load_encoder`.
        models: the `model_type` of the checkpoint -> the name of its class in transformers, with the head.
        recipe: what besides the files decides the vectors, for the fingerprint.
        max_tokens: where longer inputs are cut.

    Raises:
        SpecError: the spec names no model.
        ModelError: the checkpoint is missing, of another kind or not whole.
    """
    chosen = pick_device(device)
    whole, adapter = split_adapter(spec)
    folder = find_checkpoint(whole)
    kind = json_object(folder / _CONFIG).get("model_type")
    class_name = models.get(str(kind))
    if class_name is None:
        raise ModelError(
            f"{folder} is a {kind} model, and {spec.family} runs {' and '.join(models)}: use another family"
        )
    pictures_file, pictures = picture_settings(folder)
    model = load_model(folder, class_name, chosen, adapter)
    tokenizer = load_tokenizer(folder, max_tokens)
    vision = model.config.vision_config
    image_token = tokenizer.token_to_id(IMAGE_TOKEN)
    if image_token is None or image_token != model.config.image_token_id:
        raise ModelError(f"the tokenizer of {folder} does not know {IMAGE_TOKEN} as the model does: get it again")
    files = [*weight_files(folder), folder / _CONFIG, folder / _TOKENIZER, pictures_file]
    return Checkpoint(
        model=model,
        tokenizer=tokenizer,
        device=chosen,
        image_token=image_token,
        patch=vision.patch_size,
        merge=vision.spatial_merge_size,
        frames=vision.temporal_patch_size,
        mean=colours(pictures, "image_mean", pictures_file),
        std=colours(pictures, "image_std", pictures_file),
        # Without precision and device, so that a collection made on a GPU can be searched on a CPU.
        fingerprint=adapted_fingerprint(files_sha256(files, recipe=with_fewer(recipe, spec)), adapter),
        dim=model.config.get_text_config().hidden_size,
        fewer=spec.visual_tokens,
    )


def engine_options(options: EngineOptions) -> EngineOptions:
    """The engine's options for prepared pictures of megabytes; the model runs in one lane, on all cores."""
    return replace(options, window=min(options.window, _WINDOW), lanes=1)
