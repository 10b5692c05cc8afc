"""`qwen3-vl-reranker`: Qwen3-VL-Reranker (arXiv 2601.04720), which answers yes or no to a query and a document.

One forward pass and no generation: the score is the sigmoid of the last token's state times the difference of two rows
of the head, that of `yes` and that of `no`, in float32. Each side's pictures come before its text, and an empty side
is `NULL`, as in the published code.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from mmseek._types import Content, Image, Pair, RerankerIdentity
from mmseek.config import settings
from mmseek.errors import InputError
from mmseek.media import MediaLimits, open_image
from mmseek.models.qwen_vl_inputs import Patches, PixelRange, grid_positions, patches_of, resized
from mmseek.models.spec import Spec, absolute
from mmseek.rerank.base import BatchedReranker, Prepared
from mmseek.rerank.qwen3_vl_model import IMAGE_TOKEN, QwenModel, load_model

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from mmseek._types import FloatArray

__all__ = ["DEFAULT_INSTRUCTION", "Qwen3VLReranker", "load", "render", "truncated"]

# To be raised by any change that gives other scores from the same weights.
RECIPE_VERSION: Final = 1
DEFAULT_INSTRUCTION: Final = "Given a search query, retrieve relevant candidates that answer the query."
_SYSTEM: Final = (
    "Judge whether the Document meets the requirements based on the Query and the Instruct provided. "
    'Note that the answer can only be "yes" or "no".'
)
_NOTHING: Final = "NULL"
LEAST_PIXELS: Final = 4 * 32**2
MOST_PIXELS: Final = 1800 * 32**2
MAX_TOKENS: Final = 10240
# The end of the prompt, which is never cut: `<|im_end|>`, a new line, `<|im_start|>`, `assistant`, a new line.
_KEPT_AT_END: Final = 5
_CPU_BUDGET: Final = 1024
_GPU_BUDGET: Final = 16384


@dataclass(frozen=True, slots=True)
class _Sequence:
    """One pair, ready for the model: token numbers (n,), rotary positions (3, n) and its pictures' patches."""

    tokens: NDArray[np.int64]
    positions: NDArray[np.int64]
    pictures: tuple[Patches, ...]


class Qwen3VLReranker(BatchedReranker):
    """P(yes) of a pair of texts, pictures or both. Thread-safe.

    Args:
        model: the loaded checkpoint.
        identity: see `RerankerIdentity`.
        limits: of pictures.
        max_tokens: where the text of longer pairs is cut.
    """

    def __init__(
        self,
        model: QwenModel,
        *,
        identity: RerankerIdentity,
        limits: MediaLimits | None = None,
        max_tokens: int = MAX_TOKENS,
    ) -> None:
        self._model = model
        self._identity = identity
        self._limits = limits or MediaLimits()
        self._max_tokens = max_tokens

    @property
    def identity(self) -> RerankerIdentity:
        return self._identity

    @property
    def budget(self) -> int:
        """By tokens, text and visual."""
        return _CPU_BUDGET if self._model.device == "cpu" else _GPU_BUDGET

    def prepare(self, pair: Pair) -> Prepared:
        """Tokens, positions and patches.

        Raises:
            MediaError: a picture cannot be used.
            InputError: the pictures need more tokens than the model takes, or the text holds the mark of a picture.
        """
        pictures = tuple(self._patches(image) for image in (*pair.query.images, *pair.document.images))
        grids = [picture.grid for picture in pictures]
        tokens = self._tokenize(render(pair), [height * width for height, width in grids])
        positions = grid_positions(tokens == self._model.image_token, grids)
        return Prepared(_Sequence(tokens, positions, pictures), cost=len(tokens))

    def forward(self, payloads: Sequence[_Sequence]) -> FloatArray:
        """Scores (n,), float32, padded on the right: the model is causal, so padding is never seen."""
        import torch

        lengths = np.asarray([len(payload.tokens) for payload in payloads])
        longest = int(lengths.max())
        tokens = np.zeros((len(payloads), longest), dtype=np.int64)
        positions = np.zeros((3, len(payloads), longest), dtype=np.int64)
        for row, payload in enumerate(payloads):
            tokens[row, : lengths[row]] = payload.tokens
            positions[:, row, : lengths[row]] = payload.positions
        mask = (np.arange(longest) < lengths[:, None]).astype(np.int64)
        device = self._model.device
        pictures = [picture for payload in payloads for picture in payload.pictures]
        with torch.inference_mode():
            states = self._model.body(
                input_ids=torch.from_numpy(tokens).to(device),
                attention_mask=torch.from_numpy(mask).to(device),
                position_ids=torch.from_numpy(positions).to(device),
                use_cache=False,
                **(self._visual(pictures) if pictures else {}),
            ).last_hidden_state
            rows = torch.arange(len(payloads), device=device)
            last = states[rows, torch.from_numpy(lengths - 1).to(device)].float()
            scores: FloatArray = torch.sigmoid(last @ self._model.direction).cpu().numpy()
        return scores

    def _patches(self, image: Image) -> Patches:
        picture = resized(
            open_image(image, limits=self._limits),
            self._model.patch * self._model.merge,
            PixelRange(LEAST_PIXELS, MOST_PIXELS),
            image,
        )
        return patches_of(picture, self._model.patch, self._model.merge)

    def _tokenize(self, prompt: str, visual: Sequence[int]) -> NDArray[np.int64]:
        """Token numbers, with as many image tokens as each picture has visual tokens."""
        pieces = prompt.split(IMAGE_TOKEN)
        if len(pieces) != len(visual) + 1:
            raise InputError(f"the text holds {IMAGE_TOKEN}, which is the model's mark for a picture: take it out")
        expanded = pieces[0] + "".join(IMAGE_TOKEN * n + piece for n, piece in zip(visual, pieces[1:], strict=True))
        ids = self._model.tokenizer.encode(expanded, add_special_tokens=False).ids
        return np.asarray(truncated(ids, self._max_tokens, self._model.special), dtype=np.int64)

    def _visual(self, pictures: Sequence[Patches]) -> dict[str, torch.Tensor]:
        import torch

        model = self._model
        values = torch.from_numpy(np.concatenate([picture.values for picture in pictures])).to(model.device)
        mean = torch.tensor(model.mean, device=model.device).view(1, 3, 1)
        std = torch.tensor(model.std, device=model.device).view(1, 3, 1)
        pixels = (values.float() * (1 / 255) - mean) / std
        # A still picture is a film of equal frames.
        frames = pixels[:, :, None].expand(-1, -1, model.frames, -1).reshape(len(pixels), -1)
        grids = [(1, height * model.merge, width * model.merge) for height, width in (p.grid for p in pictures)]
        return {
            "pixel_values": frames.to(model.body.dtype),
            "image_grid_thw": torch.tensor(grids, device=model.device),
        }


def render(pair: Pair) -> str:
    """The chat as one string, with one `IMAGE_TOKEN` for each picture: those of the query first."""
    instruction = pair.instruction or DEFAULT_INSTRUCTION
    user = f"<Instruct>: {instruction}<Query>:{_side(pair.query)}\n<Document>:{_side(pair.document)}"
    return f"<|im_start|>system\n{_SYSTEM}<|im_end|>\n<|im_start|>user\n{user}<|im_end|>\n<|im_start|>assistant\n"


def _side(content: Content) -> str:
    pictures = f"<|vision_start|>{IMAGE_TOKEN}<|vision_end|>" * len(content.images)
    return pictures + "".join(content.texts) or _NOTHING


def truncated(tokens: Sequence[int], most: int, special: Iterable[int]) -> list[int]:
    """At most `most` tokens and the last five: the end of the text goes, the special tokens stay.

    Raises:
        InputError: the special tokens alone, those of pictures among them, are too many.
    """
    head, end = list(tokens[:-_KEPT_AT_END]), list(tokens[-_KEPT_AT_END:])
    if len(head) <= most:
        return head + end
    kept = frozenset(special)
    room = most - sum(token in kept for token in head)
    if room < 0:
        raise InputError(f"the pictures need {most - room} tokens and the model takes {most}: give fewer")
    result = []
    for token in head:
        if token not in kept:
            room -= 1
            if room < 0:
                continue
        result.append(token)
    return result + end


def load(spec: Spec, *, device: str | None) -> Qwen3VLReranker:
    """Load `qwen3-vl-reranker:HUB_ID[@REVISION]` or `qwen3-vl-reranker:FOLDER`.

    Raises:
        ModelError: the checkpoint is missing, of another kind or not whole.
    """
    recipe = f"qwen3-vl-reranker {RECIPE_VERSION} {LEAST_PIXELS} {MOST_PIXELS} {MAX_TOKENS}"
    model, fingerprint = load_model(spec, device=device, recipe=recipe)
    return Qwen3VLReranker(
        model,
        identity=RerankerIdentity(absolute(spec), fingerprint),
        limits=MediaLimits.from_settings(settings()),
    )
