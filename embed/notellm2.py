"""`notellm2`: NoteLLM-2 (Zhang et al. 2024, arXiv:2405.16789): notes of a picture and texts, for recommendation.

The prompt is the authors' code's (multimodal in-context learning: the picture is compressed before the texts are read):

    笔记：{"图片":"<IMG>"}，压缩为一个词：“<IMG_EMB>”。笔记：{"标题":"title","话题":"topics","内容":"content"}，压缩为一个词：“

The state of the last token, and with a picture also the picture's own state (late fusion), make the vector. A picture
alone has the vector that training compares pictures with, from the state before `<IMG_EMB>`. A text alone has the
second half of the prompt and nothing to fuse. The first of several texts is the title; topics stand in the content as
`#topic#`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import torch

from mmseek._types import EncodeRequest
from mmseek.embed.clip_pictures import ClipPictures
from mmseek.embed.engine import EngineOptions, Unit
from mmseek.embed.notellm2_model import CONFIG, Note, NoteModel, read_model
from mmseek.embed.qwen_vl import engine_options, load_tokenizer
from mmseek.embed.sequence import SEQUENCE, Parts, SequenceEncoder
from mmseek.errors import InputError, ModelError
from mmseek.media import MediaLimits, open_image
from mmseek.models.checkpoints import files_sha256, find_checkpoint, weight_files
from mmseek.models.device import pick_device
from mmseek.models.spec import Spec, absolute

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmseek._types import Content, FloatArray, Image

__all__ = ["RECIPE_VERSION", "NoteLlm2Encoder", "load", "render"]

# To be raised by any change that gives other vectors from the same weights.
RECIPE_VERSION: Final = 1
IMAGE_TOKEN: Final = "<IMG>"  # noqa: S105 - a token of text
EMBEDDING_TOKEN: Final = "<IMG_EMB>"  # noqa: S105 - a token of text
_COMPRESS: Final = "，压缩为一个词：“"
# In characters, as the authors' code cuts.
_TITLE: Final = 20
_CONTENT: Final = 80
_TOPIC: Final = 16
_TOPICS: Final = 10
_HASHTAG: Final = re.compile(r"#\w+#")
_LINE_BREAK: Final = "。"


class NoteLlm2Encoder(SequenceEncoder[Parts]):
    """NoteLLM-2. Instructions are not used; queries and documents are encoded alike. Thread-safe.

    The parts are a `NoteModel`, the tokenizer with the checkpoint's own post-processor, and `ClipPictures`.
    """

    def prepare(self, request: EncodeRequest) -> Sequence[Unit]:
        """One unit: the whole content.

        Raises:
            MediaError: a picture cannot be used.
            InputError: there is nothing to encode, or the text holds marks of the model.
        """
        images = request.content.images
        tokens = self._tokens(request.content)
        pictures = tuple(self._pixels(image) for image in images)
        is_picture = tokens == self._mark(IMAGE_TOKEN)
        counts = np.where(is_picture, self._checkpoint.model.tokens_a_picture, 1)
        tokens, is_picture = np.repeat(tokens, counts), np.repeat(is_picture, counts)
        # The mark may have no row in the model: it was added to the tokenizer, and a state takes its place.
        tokens = np.where(is_picture, 0, tokens)
        if tokens.max() >= self._checkpoint.model.vocabulary or len(tokens) > self._checkpoint.model.longest:
            raise InputError("the item has more tokens, or others, than the model knows: shorten it")
        compressed = int(np.flatnonzero(tokens == self._mark(EMBEDDING_TOKEN))[0]) - 1 if pictures else None
        last = compressed if compressed is not None and request.content.modality == "image" else len(tokens) - 1
        key = hashlib.sha256(f"{last}\n".encode() + tokens.tobytes() + is_picture.tobytes())
        for picture in pictures:
            key.update(picture.tobytes())
        note = Note(tokens, is_picture, pictures, last, compressed)
        return [Unit(SEQUENCE, note, cost=len(tokens), key=key.digest())]

    def forward(self, kind: str, payloads: Sequence[Note]) -> FloatArray:
        """Vectors (n, dim), float32, L2-normalised."""
        del kind
        with torch.inference_mode():
            vectors: FloatArray = self.model(payloads).cpu().numpy()
        return vectors

    @property
    def model(self) -> NoteModel:
        """All of it."""
        model: NoteModel = self._checkpoint.model
        return model

    def _tokens(self, content: Content) -> NDArray[np.int64]:
        """The note with what the post-processor adds, and the closing request, which was tokenised by itself."""
        note = self._checkpoint.reader.encode(render(content), add_special_tokens=True).ids
        ending = self._checkpoint.reader.encode(_COMPRESS, add_special_tokens=False).ids
        tokens = np.asarray([*note, *ending], dtype=np.int64)
        pictures = len(content.images)
        seen, compressed = (
            int(np.count_nonzero(tokens == mark)) for mark in map(self._mark, (IMAGE_TOKEN, EMBEDDING_TOKEN))
        )
        if (seen, compressed) != (pictures, 1 if pictures else 0):
            raise InputError(
                f"the text holds {IMAGE_TOKEN} or {EMBEDDING_TOKEN}, which are the model's marks: take it out"
            )
        return tokens

    def _mark(self, mark: str) -> int:
        number: int = self._checkpoint.reader.token_to_id(mark)
        return number

    def _pixels(self, image: Image) -> NDArray[np.float32]:
        pictures: ClipPictures = self._checkpoint.pictures
        pixels = pictures(open_image(image, limits=self._limits)).astype(np.float32) / 255
        standard = (pixels - np.asarray(pictures.mean, np.float32)) / np.asarray(pictures.std, np.float32)
        planes: NDArray[np.float32] = np.ascontiguousarray(standard.transpose(2, 0, 1))
        return planes


@dataclass(frozen=True, slots=True)
class _Fields:
    title: str
    topics: str
    content: str


def render(content: Content) -> str:
    """The note as the model reads it, without the closing request.

    Raises:
        InputError: there is nothing to encode.
    """
    if content.is_empty:
        raise InputError("an item has neither text nor image: give at least one")
    fields = _fields(content.texts)
    texts = f'笔记：{{"标题":"{fields.title}","话题":"{fields.topics}","内容":"{fields.content}"}}'
    if not content.images:
        return texts
    return f'笔记：{{"图片":"{IMAGE_TOKEN * len(content.images)}"}}{_COMPRESS}{EMBEDDING_TOKEN}”。{texts}'


def _fields(texts: Sequence[str]) -> _Fields:
    """Title, topics and content, cut as the authors' code cuts them."""
    title = texts[0] if len(texts) > 1 else ""
    content = "\n".join(texts[1:] if len(texts) > 1 else texts).replace("[话题]", "")
    topics = []
    for tag in _HASHTAG.findall(content):
        if len(tag) <= _TOPIC:
            topics.append(tag.replace("#", ""))
            content = content.replace(tag, "")
    content = content.replace("\n", _LINE_BREAK)[:_CONTENT].strip()
    return _Fields(title[:_TITLE].strip(), "，".join(topics[:_TOPICS]).strip(), content)


def load(spec: Spec, *, device: str | None, limits: MediaLimits, options: EngineOptions) -> NoteLlm2Encoder:
    """Load `notellm2:FOLDER` or `notellm2:HUB_ID[@REVISION]`.

    Raises:
        SpecError: the spec names no model.
        ModelError: the checkpoint is missing, of another kind or not whole.
    """
    chosen = pick_device(device)
    folder = find_checkpoint(spec)
    model = read_model(folder, chosen)
    tokenizer = load_tokenizer(folder, None)
    for mark in (IMAGE_TOKEN, EMBEDDING_TOKEN):
        if tokenizer.token_to_id(mark) is None:
            raise ModelError(
                f"the tokenizer of {folder} has no token {mark}: give the one that the model was trained with"
            )
    files = [*weight_files(folder), folder / CONFIG, folder / "tokenizer.json"]
    fingerprint = files_sha256(files, recipe=f"notellm2 {RECIPE_VERSION}")
    pictures = ClipPictures(size=model.picture_side, round_offset=True)
    parts = Parts(model, tokenizer, pictures, chosen, fingerprint, model.dim)
    return NoteLlm2Encoder(parts, spec=absolute(spec), limits=limits, options=engine_options(options))
