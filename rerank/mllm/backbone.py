"""What the families need of a multimodal language model: its eyes, its tokenizer, its language model, its head."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mmseek.errors import ModelError
from mmseek.models.checkpoints import json_object
from mmseek.models.vlm import single_token

if TYPE_CHECKING:
    import PIL.Image
    import torch
    from numpy.typing import NDArray
    from tokenizers import Tokenizer

    from mmseek._types import Image

__all__ = ["Backbone", "Layers", "Picture", "Seen", "answer_rows", "check_kind"]

# Keys and values of each layer: (rows, heads, tokens, size).
Layers = list[tuple["torch.Tensor", "torch.Tensor"]]


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """What the vision tower made of a picture.

    Args:
        states: (tokens, dim), which take the place of its tokens.
        deeper: what the first layers of the language model add at the same places, each (tokens, dim).
        grid: visual tokens in height and width.
    """

    states: torch.Tensor
    deeper: tuple[torch.Tensor, ...]
    grid: tuple[int, int]

    @property
    def bytes(self) -> int:
        """Of memory."""
        return sum(each.numel() * each.element_size() for each in (self.states, *self.deeper))


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """A picture ready for the vision tower, or already seen.

    Args:
        key: equal for equal files.
        tokens: how many visual tokens it has.
        grid: in height and width, where positions need it.
        pixels: what `Backbone.see` reads; None once it has been seen.
        seen: what came of it.
    """

    key: bytes
    tokens: int
    grid: tuple[int, int]
    pixels: Any = None
    seen: Seen | None = None


class Backbone(ABC):
    """A loaded checkpoint. Subclasses say how pictures are prepared and seen, and where tokens stand.

    Args:
        model: a transformers model with its head, on `device`.
        tokenizer: without padding and truncation.
        device: where the model is.
        picture_mark: the token that stands for one visual token.
        marks: what stands before and after a picture's tokens.
        begins: whether the tokenizer's own post-processor is asked, which puts the mark of beginning first.
        folder: of the checkpoint.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Tokenizer,
        device: str,
        *,
        picture_mark: str,
        marks: tuple[str, str] = ("", ""),
        begins: bool = False,
        folder: Path,
    ) -> None:
        self.model = model
        self.body = model.model
        self.language = self.body.language_model
        self.tokenizer = tokenizer
        self.device = device
        self.picture_mark = picture_mark
        self.marks = marks
        self.begins = begins
        self.folder = folder
        self._last: tuple[str | None, NDArray[np.int64]] = (None, np.empty(0, dtype=np.int64))
        self.picture_token = picture_token(tokenizer, picture_mark, model.config.image_token_id, folder)
        self.special = frozenset(n for n, token in tokenizer.get_added_tokens_decoder().items() if token.special)
        self.max_tokens: int = model.config.get_text_config().max_position_embeddings

    @property
    def picture_text(self) -> str:
        """What stands for a picture in a prompt; the mark is repeated once for each visual token."""
        return f"{self.marks[0]}{self.picture_mark}{self.marks[1]}"

    def encode(self, text: str) -> NDArray[np.int64]:
        """Numbers of the tokens of a text, one for each picture's mark."""
        return np.asarray(self.tokenizer.encode(text, add_special_tokens=self.begins).ids, dtype=np.int64)

    def beginning(self, text: str) -> NDArray[np.int64]:
        """The same for a beginning, which the next pair is likely to have too."""
        last, numbers = self._last
        if last != text:
            numbers = self.encode(text)
            self._last = text, numbers
        return numbers

    @cached_property
    def may_share(self) -> bool:
        """Whether beginnings may be read apart from what follows: not where attention ends at a window."""
        config = self.model.config.get_text_config()
        return not (getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True))

    @abstractmethod
    def prepare(self, picture: PIL.Image.Image, image: Image, key: bytes) -> Picture:
        """An RGB picture in the size that the model sees.

        Raises:
            MediaError: it is too long and thin.
        """

    @abstractmethod
    def see(self, pictures: Sequence[Picture]) -> list[Seen]:
        """Run the vision tower over pictures that have pixels."""

    def positions(self, is_picture: NDArray[np.bool_], grids: Sequence[tuple[int, int]]) -> NDArray[np.int64]:
        """Rotary positions of a sequence's tokens, (axes, n); one axis unless a subclass says otherwise."""
        del grids
        return np.arange(len(is_picture), dtype=np.int64)[None]

    def read(self, *, cache: Any, **inputs: Any) -> torch.Tensor:
        """States (rows, tokens, dim) of the language model, after its last norm.

        Args:
            cache: keys and values of what was read before, which grows; or None.
            inputs: as the model's `forward` takes them.
        """
        # transformers 5.24 gave the argument another name, and warns of the old one.
        parameters = inspect.signature(type(self.language).forward).parameters
        name = "cache" if "cache" in parameters else "past_key_values"
        states: torch.Tensor = self.language(**{name: cache}, **inputs).last_hidden_state
        return states

    def deeper(self, masks: torch.Tensor, seen: Sequence[Seen]) -> dict[str, Any]:
        """Further inputs of the language model that come from pictures."""
        del masks, seen
        return {}


def answer_rows(backbone: Backbone, answers: Sequence[str]) -> torch.Tensor:
    """The head's rows for some answers, float32 (answers, dim): the whole vocabulary is never computed.

    Raises:
        ModelError: an answer is not one token.
    """
    head = backbone.model.get_output_embeddings()
    if head is None or getattr(head, "bias", None) is not None:
        raise ModelError(f"{backbone.folder} has no plain head to read answers from: use another checkpoint")
    rows: torch.Tensor = head.weight.detach()
    return rows[[single_token(backbone.tokenizer, word, backbone.folder) for word in answers]].float()


def picture_token(tokenizer: Tokenizer, mark: str, expected: int, folder: Path) -> int:
    """The number of the mark of a picture, which tokenizer and model must agree on.

    Raises:
        ModelError: they do not.
    """
    found = tokenizer.token_to_id(mark)
    if found is None or found != expected:
        raise ModelError(f"the tokenizer of {folder} does not know {mark} as the model does: get it again")
    return int(found)


def check_kind(folder: Path, family: str, kinds: Sequence[str]) -> str:
    """The `model_type` of a checkpoint that a family runs.

    Raises:
        ModelError: it is of another kind.
    """
    kind = str(json_object(folder / "config.json").get("model_type"))
    if kind not in kinds:
        raise ModelError(f"{folder} is a {kind} model, and {family} runs {' and '.join(kinds)}: use another family")
    return kind
