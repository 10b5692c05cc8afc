"""`mm-embed`: MM-Embed (Lin et al. 2024, arXiv:2411.02571), LLaVA-NeXT on the language model of NV-Embed-v1.

The prompt is plain, without a chat template:

    Instruct: {instruction}\\nQuery: <image>\\n{text}      a query with an instruction
    Query: <image>\\n{text}                               a query without one
    <image>\\n{text}                                      a document

The language model looks both ways. What stands before the query is read, and then left out of the pooling.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import torch

from mmseek._types import EncodeRequest, Image, Text
from mmseek.embed.clip_pictures import ClipPictures
from mmseek.embed.engine import EngineOptions, Unit
from mmseek.embed.mm_embed_model import CONFIG, Batch, MmEmbedModel, read_config, read_model
from mmseek.embed.qwen_vl import colours, engine_options, load_tokenizer, picture_settings
from mmseek.embed.sequence import SEQUENCE, Parts, SequenceEncoder
from mmseek.errors import InputError, ModelError
from mmseek.media import MediaLimits, open_image
from mmseek.models.checkpoints import files_sha256, find_checkpoint, weight_files
from mmseek.models.device import pick_device
from mmseek.models.spec import Spec, absolute

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from tokenizers import Tokenizer

    from mmseek._types import Content, FloatArray
    from mmseek.embed.clip_pictures import Pixels

__all__ = ["IMAGE_TOKEN", "RECIPE_VERSION", "MmEmbedEncoder", "Reader", "load", "render"]

# To be raised by any change that gives other vectors from the same weights.
RECIPE_VERSION: Final = 2
IMAGE_TOKEN: Final = "<image>"  # noqa: S105 - a token of text
PAD_TOKEN: Final = "<pad>"  # noqa: S105 - a token of text
# As the tokenizer counts, with one token a picture.
MAX_TOKENS: Final = 512
_QUERY: Final = "Query: "


@dataclass(frozen=True, slots=True)
class _Sequence:
    """One content: tokens to look up, whether a picture's state takes their place, and how many are not pooled."""

    tokens: NDArray[np.int64]
    is_picture: NDArray[np.bool_]
    left_out: int
    pictures: tuple[Pixels, ...]


@dataclass(frozen=True, slots=True)
class Reader:
    """Prompts to tokens.

    Args:
        tokenizer: without truncation; what its own post-processor adds is not used.
        begin, end: numbers of the marks of beginning and end.
        picture: number of `IMAGE_TOKEN`.
        pad: number of `PAD_TOKEN`, None if the tokenizer has none.
        vocabulary: how many tokens the model has.
        patches: states of a picture that come from its patches.
    """

    tokenizer: Tokenizer
    begin: int
    end: int
    picture: int
    pad: int | None
    vocabulary: int
    patches: int

    def __call__(self, prompt: str, pictures: int) -> tuple[NDArray[np.int64], NDArray[np.bool_], int]:
        """Tokens to look up (n,), which of them are pictures' (n,), and how many of the first are not pooled.

        Raises:
            InputError: the text holds marks of pictures, or leaves nothing to pool.
        """
        if prompt.count(IMAGE_TOKEN) != pictures:
            raise InputError(f"the text holds {IMAGE_TOKEN}, which is the model's mark for a picture: take it out")
        tokens = self._marked(prompt)
        if len(tokens) > MAX_TOKENS:
            tokens = [*tokens[: MAX_TOKENS - 1], self.end]
        if tokens.count(self.picture) != pictures:
            raise InputError(f"the text before the pictures leaves them no room in {MAX_TOKENS} tokens: shorten it")
        # Each picture has its patches and the mark of a line's end.
        numbers = np.asarray(tokens, dtype=np.int64)
        numbers = np.repeat(numbers, np.where(numbers == self.picture, self.patches + 1, 1))
        is_picture = numbers == self.picture
        # The two have no rows of their own in the model: they were added to the tokenizer later.
        numbers[is_picture] = 0
        if self.pad is not None:
            numbers[numbers == self.pad] = self.end
        if numbers.max() >= self.vocabulary:
            raise InputError("the text holds a mark that the model has no token for: take it out")
        left_out = self.left_out(prompt)
        if left_out >= len(numbers):
            raise InputError(f"the instruction leaves nothing of the query in {MAX_TOKENS} tokens: shorten it")
        return numbers, is_picture, left_out

    def left_out(self, prompt: str) -> int:
        """How many tokens from the first are not pooled: as many as what stands before the query has by itself.

        The original counts both marks, of which the second does not stand there; so the line break is left out too.
        It counts a picture there as its patches, without the line's end.
        """
        before, found, _ = prompt.partition(f"\n{_QUERY}")
        if not found:
            return 0
        return len(self._marked(before)) + (self.patches - 1 if IMAGE_TOKEN in before else 0)

    def _marked(self, text: str) -> list[int]:
        return [self.begin, *self.tokenizer.encode(text, add_special_tokens=False).ids, self.end]


class MmEmbedEncoder(SequenceEncoder[Parts]):
    """MM-Embed. Thread-safe. The parts are an `MmEmbedModel`, a `Reader` and `ClipPictures`."""

    def prepare(self, request: EncodeRequest) -> Sequence[Unit]:
        """One unit: the whole content.

        Raises:
            MediaError: a picture cannot be used.
            InputError: there is nothing to encode, or the instruction is too long.
        """
        prompt = render(request)
        images = request.content.images
        tokens, is_picture, left_out = self._checkpoint.reader(prompt, len(images))
        pictures = tuple(self._pixels(image) for image in images)
        key = hashlib.sha256(f"{left_out}\n".encode() + tokens.tobytes() + is_picture.tobytes())
        for picture in pictures:
            key.update(picture.tobytes())
        payload = _Sequence(tokens, is_picture, left_out, pictures)
        return [Unit(SEQUENCE, payload, cost=len(tokens), key=key.digest())]

    def forward(self, kind: str, payloads: Sequence[_Sequence]) -> FloatArray:
        """Vectors (n, dim), float32, L2-normalised."""
        del kind
        with torch.inference_mode():
            vectors: FloatArray = self.embedded(payloads).cpu().numpy()
        return vectors

    @property
    def model(self) -> MmEmbedModel:
        """All of it."""
        model: MmEmbedModel = self._checkpoint.model
        return model

    def embedded(self, payloads: Sequence[_Sequence]) -> torch.Tensor:
        """As `forward`, on the model's device, with a graph where gradients are enabled."""
        shape = (len(payloads), max(len(payload.tokens) for payload in payloads))
        tokens = np.full(shape, self._checkpoint.reader.end, dtype=np.int64)
        attended, pooled, picture = (np.zeros(shape, dtype=np.int64) for _ in range(3))
        for row, payload in enumerate(payloads):
            length = len(payload.tokens)
            tokens[row, :length], attended[row, :length] = payload.tokens, 1
            picture[row, :length], pooled[row, payload.left_out : length] = payload.is_picture, 1
        pixels = [pixels for payload in payloads for pixels in payload.pictures]
        batch = Batch(tokens, attended, pooled, picture, self._standardised(pixels) if pixels else None)
        vectors: torch.Tensor = self.model(batch)
        return vectors

    def _pixels(self, image: Image) -> Pixels:
        pixels: Pixels = self._checkpoint.pictures(open_image(image, limits=self._limits))
        return pixels

    def _standardised(self, pictures: Sequence[Pixels]) -> torch.Tensor:
        """(n, 3, side, side), float32."""
        device = self._checkpoint.model.device
        values = torch.from_numpy(np.stack(pictures)).to(device).permute(0, 3, 1, 2).float() * (1 / 255)
        mean = torch.tensor(self._checkpoint.pictures.mean, device=device).view(3, 1, 1)
        return (values - mean) / torch.tensor(self._checkpoint.pictures.std, device=device).view(3, 1, 1)


def render(request: EncodeRequest) -> str:
    """What the model reads: the parts in their order, a line break after each picture and between a text and the next.

    Raises:
        InputError: there is nothing to encode.
    """
    content: Content = request.content
    if content.is_empty:
        raise InputError("an item has neither text nor image: give at least one")
    parts = [part.text if isinstance(part, Text) else IMAGE_TOKEN for part in content.parts]
    body = "\n".join(part for part in parts if part)
    if isinstance(content.parts[-1], Image):
        body += "\n"
    if request.role == "document":
        return body
    if not request.instruction:
        return f"{_QUERY}{body}"
    return f"Instruct: {request.instruction}\n{_QUERY}{body}"


def load(spec: Spec, *, device: str | None, limits: MediaLimits, options: EngineOptions) -> MmEmbedEncoder:
    """Load `mm-embed:HUB_ID[@REVISION]` or `mm-embed:FOLDER`.

    Raises:
        SpecError: the spec names no model.
        ModelError: the checkpoint is missing, of another kind or not whole.
    """
    chosen = pick_device(device)
    folder = find_checkpoint(spec)
    config = read_config(folder)
    text, vision = config.llava.text_config, config.llava.vision_config
    patches = (vision.image_size // vision.patch_size) ** 2
    patches += config.llava.vision_feature_select_strategy == "full"
    tokenizer = load_tokenizer(folder, None)
    picture = tokenizer.token_to_id(IMAGE_TOKEN)
    if picture is None or picture != config.llava.image_token_id:
        raise ModelError(f"the tokenizer of {folder} does not know {IMAGE_TOKEN} as the model does: get it again")
    pictures_file, pictures = picture_settings(folder)
    # Without precision and device, so that a collection made on a GPU can be searched on a CPU.
    fingerprint = files_sha256(
        [*weight_files(folder), folder / CONFIG, folder / "tokenizer.json", pictures_file],
        recipe=f"mm-embed {RECIPE_VERSION} {MAX_TOKENS} {config.recipe}",
    )
    reader = Reader(
        tokenizer=tokenizer,
        begin=text.bos_token_id,
        end=text.eos_token_id,
        picture=picture,
        pad=tokenizer.token_to_id(PAD_TOKEN),
        vocabulary=text.vocab_size,
        patches=patches,
    )
    squares = ClipPictures(
        size=vision.image_size,
        mean=colours(pictures, "image_mean", pictures_file),
        std=colours(pictures, "image_std", pictures_file),
        resample=int(pictures.get("resample", 3)),
        squash=True,
    )
    parts = Parts(read_model(folder, config, chosen), reader, squares, chosen, fingerprint, text.hidden_size)
    return MmEmbedEncoder(parts, spec=absolute(spec), limits=limits, options=engine_options(options))
