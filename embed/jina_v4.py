"""`jina-v4`: jina-embeddings-v4 (Guenther et al. 2025, arXiv:2506.18902), one vector a content.

A Qwen2.5-VL with true M-RoPE. Its LoRA adapters, one a task, lie beside it in the folder `adapters`; that of the task
is added to the weights when the model is loaded. What is read, and over what the states are averaged (in brackets):

    [Query: what is in it?]
    [Passage: a cat and a dog]
    <|im_start|>user\\n[<|vision_start|><|image_pad|><|vision_end|>]Describe the image.<|im_end|>\\n
    <|im_start|>user\\n[Query: <|vision_start|><|image_pad|><|vision_end|>what is in it?]<|im_end|>\\n

A document has `Passage: `, but `Query: ` if the task is text-matching. The original takes a text or a picture; the last
line, both in one sequence and in their order, is this project's. Vectors may be cut to 128, 256, 512 or 1024 numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mmseek._types import EncodeRequest, Image, Text
from mmseek.embed.engine import EngineOptions
from mmseek.embed.qwen_vl import (
    IMAGE_TOKEN,
    Checkpoint,
    QwenVLEncoder,
    engine_options,
    load_checkpoint,
    picture_settings,
)
from mmseek.errors import InputError, ModelError, SpecError
from mmseek.media import MediaLimits
from mmseek.models.adapters import CONFIG, WEIGHTS
from mmseek.models.checkpoints import files_sha256, find_checkpoint, json_object
from mmseek.models.lora import add_pair, read_adapter
from mmseek.models.qwen_vl_inputs import PixelRange, grid_positions, resized
from mmseek.models.spec import Spec, absolute, with_visual_tokens

if TYPE_CHECKING:
    import PIL.Image
    from numpy.typing import NDArray

__all__ = [
    "DEFAULT_TASK",
    "PIXELS",
    "RECIPE_VERSION",
    "TASKS",
    "JinaV4Encoder",
    "has_adapters",
    "load",
    "task_of",
]

# To be raised by any change that gives other vectors from the same weights.
RECIPE_VERSION: Final = 1
TASKS: Final = ("retrieval", "text-matching", "code")
DEFAULT_TASK: Final = "retrieval"
# Where preprocessor_config.json says nothing else.
PIXELS: Final = PixelRange(28 * 28 * 4, 28 * 28 * 768)
MAX_TOKENS: Final = 32768
_USER: Final = "<|im_start|>user\n"
_END: Final = "<|im_end|>"
_MODELS: Final = {"qwen2_5_vl": "Qwen2_5_VLForConditionalGeneration"}
# The head of multi-vector output, which one vector does not need.
_UNUSED: Final = "multi_vector_projector"


class JinaV4Encoder(QwenVLEncoder):
    """jina-embeddings-v4 with one vector. Instructions are not used. Thread-safe.

    Args:
        checkpoint: the loaded model, the task's adapter added.
        task: of `TASKS`.
        pixels: of a resized picture.
        spec: the spec that it names itself with.
        limits: of pictures.
        options: of the engine.
    """

    max_tokens = MAX_TOKENS

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        task: str,
        pixels: PixelRange = PIXELS,
        spec: str,
        limits: MediaLimits | None = None,
        options: EngineOptions | None = None,
    ) -> None:
        super().__init__(checkpoint, spec=spec, limits=limits, options=options)
        self._task = task
        self._pixels = pixels
        number = checkpoint.tokenizer.token_to_id
        self._marks = {mark: number(mark) for mark in ("<|vision_start|>", "<|vision_end|>", _END)}

    def prompt(self, request: EncodeRequest) -> str:
        """See the head of this file.

        Raises:
            InputError: there is nothing to encode.
        """
        content = request.content
        if content.is_empty:
            raise InputError("an item has neither text nor image: give at least one")
        prefix = "Query: " if request.role == "query" or self._task == "text-matching" else "Passage: "
        if content.modality == "text":
            return prefix + content.text
        parts = [part for part in content.parts if not isinstance(part, Text) or part.text]
        picture = f"<|vision_start|>{IMAGE_TOKEN}<|vision_end|>"
        body = "".join(part.text if isinstance(part, Text) else picture for part in parts)
        body = f"{body}Describe the image." if content.modality == "image" else prefix + body
        return f"{_USER}{body}{_END}\n"

    def resize(self, picture: PIL.Image.Image, image: Image) -> PIL.Image.Image:
        """Within the pixels that the checkpoint allows, sides multiples of 28."""
        return resized(picture, self._checkpoint.factor, self._pixels, image)

    def positions(self, is_picture: NDArray[np.bool_], grids: Sequence[tuple[int, int]]) -> NDArray[np.int64]:
        """M-RoPE."""
        return grid_positions(is_picture, grids)

    def pooled(self, request: EncodeRequest, tokens: NDArray[np.int64]) -> tuple[int, int]:
        """A text with its prefix; pictures with their marks; of both together, all that stands in the turn."""
        modality = request.content.modality
        if modality == "text":
            return 0, len(tokens)
        if modality == "image":
            start, end = self._marks["<|vision_start|>"], self._marks["<|vision_end|>"]
            return int(np.flatnonzero(tokens == start)[0]), int(np.flatnonzero(tokens == end)[-1]) + 1
        ends = np.flatnonzero(tokens == self._marks[_END])
        begins = len(self._checkpoint.tokenizer.encode(_USER, add_special_tokens=False).ids)
        return begins, int(ends[-1]) if len(ends) else len(tokens)


def load(spec: Spec, *, device: str | None, limits: MediaLimits, options: EngineOptions) -> JinaV4Encoder:
    """Load `jina-v4:FOLDER`, `jina-v4:HUB_ID[@REVISION]`, either with `#TASK` after it; without, `#retrieval`.

    Raises:
        SpecError: the spec names no model, or a task that there is not.
        ModelError: the checkpoint is missing, of another kind or not whole.
    """
    plain, task = task_of(spec)
    recipe = f"jina-v4 {RECIPE_VERSION} {MAX_TOKENS} {task}"
    checkpoint = load_checkpoint(plain, device=device, models=_MODELS, recipe=recipe, max_tokens=MAX_TOKENS)
    folder = find_checkpoint(plain)
    adapters = folder / "adapters"
    if has_adapters(folder):
        add_adapter(checkpoint.model, adapters, task)
        files = [adapters / WEIGHTS, adapters / CONFIG]
        checkpoint = replace(checkpoint, fingerprint=files_sha256(files, recipe=checkpoint.fingerprint))
    elif "JinaEmbeddingsV4Model" in (json_object(folder / "config.json").get("architectures") or ()):
        raise ModelError(f"{folder} has no adapters/{WEIGHTS}, without which it was not trained: get it again")
    return JinaV4Encoder(
        checkpoint,
        task=task,
        pixels=_pixels(folder),
        spec=named(plain, task),
        limits=limits,
        options=engine_options(options),
    )


def named(plain: Spec, task: str) -> str:
    """The spec that an encoder of a task names itself with."""
    visual = None if plain.visual_tokens is None else str(plain.visual_tokens)
    return with_visual_tokens(f"{absolute(replace(plain, visual_tokens=None))}#{task}", visual)


def add_adapter(model: Any, folder: Path, task: str) -> None:
    """Add a task's LoRA adapter to a model's weights: `W + scale * B @ A`, in float32.

    Args:
        model: transformers' `Qwen2_5_VLModel`.
        folder: of the adapters.
        task: whose.

    Raises:
        ModelError: the adapters cannot be read, or are none of this model's.
    """
    weights, scale = read_adapter(folder)
    modules = dict(model.named_modules())
    ending = f".lora_A.{task}.weight"
    found = [name for name in weights if name.endswith(ending) and _UNUSED not in name]
    if not found:
        raise ModelError(f"{folder / WEIGHTS} has no adapter named {task!r}: name another task")
    for name in found:
        inner, outer = weights[name], weights.get(name.replace(ending, f".lora_B.{task}.weight"))
        module = modules.get(_module_name(name.removesuffix(ending)))
        if module is None or not add_pair(module.weight, inner, outer, scale):
            raise ModelError(f"{folder / WEIGHTS} does not fit the model ({name}): get the checkpoint again")


def has_adapters(folder: Path) -> bool:
    """Whether the adapters lie beside a checkpoint, and not in its weights."""
    return (folder / "adapters" / WEIGHTS).is_file()


def _module_name(name: str) -> str:
    """A module's name in the adapter file -> in the model without a head, in every version's naming."""
    name = name.removeprefix("base_model.model.").removeprefix("model.")
    return f"language_model.{name}" if name.startswith(("layers.", "embed_tokens")) else name


def task_of(spec: Spec) -> tuple[Spec, str]:
    """The spec without its task, and the task."""
    plain, task = replace(spec, adapter=None), spec.adapter or DEFAULT_TASK
    if task not in TASKS:
        raise SpecError(
            f"{spec.family} has no task {task!r}: write {spec.family}:MODEL#TASK, one of {', '.join(TASKS)}"
        )
    return plain, task


def _pixels(folder: Path) -> PixelRange:
    _, settings = picture_settings(folder)
    given = settings.get("size")
    size = given if isinstance(given, Mapping) else {}
    least = settings.get("min_pixels") or size.get("shortest_edge") or PIXELS.least
    most = settings.get("max_pixels") or size.get("longest_edge") or PIXELS.most
    return PixelRange(int(least), int(most))
