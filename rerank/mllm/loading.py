"""Loads a family's model: the backbone of its kind, the head of its two answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from mmseek._types import RerankerIdentity
from mmseek.config import settings
from mmseek.media import MediaLimits
from mmseek.models.adapters import base_spec, is_adapter, split_adapter
from mmseek.models.checkpoints import checkpoint_files, files_sha256, find_checkpoint, find_folder
from mmseek.models.device import pick_device
from mmseek.models.lora import merge
from mmseek.models.spec import absolute
from mmseek.models.vlm import load_tokenizer, load_with_head
from mmseek.rerank.mllm import llava, qwen
from mmseek.rerank.mllm.backbone import Backbone, answer_rows, check_kind
from mmseek.rerank.mllm.engine import Head, MllmReranker
from mmseek.rerank.mllm.llava import InternVLBackbone, LlavaBackbone, LlavaNextBackbone
from mmseek.rerank.mllm.qwen import QwenBackbone

if TYPE_CHECKING:
    import torch

    from mmseek.models.qwen_vl_inputs import PixelRange
    from mmseek.models.spec import Spec

__all__ = ["CLASSES", "answers_head", "load_backbone", "load_family"]

CLASSES: Final = {**qwen.CLASSES, **llava.CLASSES}
_FIXED: Final[dict[str, Callable[..., Backbone]]] = {
    "llava": LlavaBackbone,
    "llava_next": LlavaNextBackbone,
    "internvl": InternVLBackbone,
}

Family = TypeVar("Family", bound=MllmReranker)


def load_family(
    family: type[Family],
    spec: Spec,
    device: str | None,
    *,
    kinds: Sequence[str],
    answers: Sequence[str],
    recipe: str,
    pixels: PixelRange | None = None,
    document_first: bool = False,
    adapter: bool = False,
) -> Family:
    """A family whose score comes from the logits of a few answers, P(the first) of two.

    Args:
        family: its class.
        spec: which model.
        device: see `load_reranker`.
        kinds: the `model_type`s that it runs.
        answers: words of one token each; see `answers_head`.
        recipe: what besides the files decides the scores, for the fingerprint.
        pixels: how many a picture may have, where the model takes any size; None for the checkpoint's own range.
        document_first: see `MllmReranker`.
        adapter: whether the spec may name a LoRA adapter, which is merged into its base model.

    Raises:
        SpecError: the spec names no model.
        ModelError: the checkpoint is missing, of another kind or not whole.
    """
    plain, lora = _taken_apart(spec) if adapter else (spec, None)
    folder = find_checkpoint(plain) if lora is None else find_folder(plain)
    backbone = load_backbone(folder, spec.family, device, kinds=kinds, pixels=pixels)
    fingerprint = files_sha256(checkpoint_files(folder), recipe=recipe, root=folder)
    if lora is not None:
        merge(backbone.model, lora)
        fingerprint = files_sha256(checkpoint_files(lora), recipe=f"{recipe} on {fingerprint}", root=lora)
    made = family(
        backbone,
        answers_head(backbone, *answers),
        identity=RerankerIdentity(absolute(spec), fingerprint),
        limits=MediaLimits.from_settings(settings()),
        document_first=document_first,
    )
    made.answers = tuple(answers)
    return made


def _taken_apart(spec: Spec) -> tuple[Spec, Path | None]:
    """As `split_adapter`, and of an adapter on the hub as well."""
    if spec.adapter is None and is_adapter(named := find_folder(spec)):
        return base_spec(spec, named), named
    return split_adapter(spec)


def load_backbone(
    folder: Path,
    family: str,
    device: str | None,
    *,
    kinds: Sequence[str],
    pixels: PixelRange | None = None,
    headless: bool = False,
) -> Backbone:
    """The model of a folder, of one of some kinds; `headless` is one whose scores do not come from its head.

    Raises:
        ModelError: the checkpoint is of another kind or not whole.
    """
    chosen = pick_device(device)
    kind = check_kind(folder, family, kinds)
    tokenizer = load_tokenizer(folder, None)
    model: Any = load_with_head(folder, CLASSES[kind], chosen, needed=not headless)
    if kind in _FIXED:
        return _FIXED[kind](model, tokenizer, chosen, folder)
    return QwenBackbone(model, tokenizer, chosen, folder, pixels=pixels)


def answers_head(backbone: Backbone, *answers: str) -> Head:
    """Of two answers the sigmoid of the difference of their logits, which is the first entry of their softmax; of more
    the logits (n, answers).

    Raises:
        ModelError: an answer is not one token.
    """
    rows = answer_rows(backbone, answers)

    def first_of_two(states: torch.Tensor) -> torch.Tensor:
        return (states @ (rows[0] - rows[1])).sigmoid()

    def logits(states: torch.Tensor) -> torch.Tensor:
        return states @ rows.T

    return first_of_two if len(answers) == 2 else logits
