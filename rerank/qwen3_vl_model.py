"""Loads a Qwen3-VL checkpoint for scoring: its body, two rows of its head, its tokenizer and how it reads pictures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mmseek.errors import ModelError
from mmseek.models.checkpoints import checkpoint_files, files_sha256, find_checkpoint, json_object
from mmseek.models.device import pick_device
from mmseek.models.spec import Spec

if TYPE_CHECKING:
    import torch
    from tokenizers import Tokenizer

__all__ = ["IMAGE_TOKEN", "QwenModel", "load_model"]

IMAGE_TOKEN: Final = "<|image_pad|>"  # noqa: S105 - a token of text
_KIND: Final = "qwen3_vl"
_PICTURES: Final = "preprocessor_config.json"


@dataclass(frozen=True, slots=True)
class QwenModel:
    """A loaded checkpoint.

    Args:
        body: the transformers model without its head, on `device`.
        direction: the head's row of `yes` minus that of `no`, float32 (dim,), on `device`.
        tokenizer: without padding and truncation.
        device: where the model is.
        image_token: the number of `IMAGE_TOKEN`.
        special: the numbers of the special tokens, which truncation keeps.
        patch, merge, frames: side of a patch in pixels; patches a visual token along each side; frames a patch.
        mean, std: of each colour, for values from 0 to 1.
    """

    body: Any
    direction: torch.Tensor
    tokenizer: Tokenizer
    device: str
    image_token: int
    special: frozenset[int]
    patch: int
    merge: int
    frames: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


def load_model(spec: Spec, *, device: str | None, recipe: str) -> tuple[QwenModel, str]:
    """The model, float32, on CUDA bfloat16 with the head in float32; and the fingerprint of its files.

    Raises:
        ModelError: the checkpoint is missing, of another kind or not whole.
    """
    chosen = pick_device(device)
    folder = find_checkpoint(spec)
    kind = json_object(folder / "config.json").get("model_type")
    if kind != _KIND:
        raise ModelError(f"{folder} is a {kind} model, and {spec.family} runs {_KIND}: use another family")
    pictures = json_object(folder / _PICTURES)
    mean, std = _colours(pictures, "image_mean", folder), _colours(pictures, "image_std", folder)
    tokenizer = _load_tokenizer(folder)
    yes, no = _single(tokenizer, "yes", folder), _single(tokenizer, "no", folder)
    model = _load_weights(folder, chosen)
    image_token = tokenizer.token_to_id(IMAGE_TOKEN)
    if image_token is None or image_token != model.config.image_token_id:
        raise ModelError(f"the tokenizer of {folder} does not know {IMAGE_TOKEN} as the model does: get it again")
    vision = model.config.vision_config
    # A head of its own, or the matrix of the input tokens where the two are tied.
    head = model.get_output_embeddings().weight.detach()
    loaded = QwenModel(
        body=model.model,
        direction=head[yes].float() - head[no].float(),
        tokenizer=tokenizer,
        device=chosen,
        image_token=image_token,
        special=frozenset(number for number, token in tokenizer.get_added_tokens_decoder().items() if token.special),
        patch=vision.patch_size,
        merge=vision.spatial_merge_size,
        frames=vision.temporal_patch_size,
        mean=mean,
        std=std,
    )
    return loaded, files_sha256(checkpoint_files(folder), recipe=recipe, root=folder)


def _load_weights(folder: Path, device: str) -> Any:
    import torch
    import transformers

    dtype = torch.bfloat16 if device.startswith("cuda") else torch.float32
    try:
        model, report = transformers.Qwen3VLForConditionalGeneration.from_pretrained(
            folder,
            dtype=dtype,
            attn_implementation="sdpa",
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ModelError(f"{folder} cannot be loaded ({type(error).__name__}: {reason}): get it again") from error
    lacking = sorted([*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"])])
    if lacking:
        raise ModelError(f"{folder} lacks {len(lacking)} of the weights, {lacking[0]} among them: get it again")
    return model.to(device).eval()


def _load_tokenizer(folder: Path) -> Tokenizer:
    from tokenizers import Tokenizer

    path = folder / "tokenizer.json"
    json_object(path)
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare Exception
        raise ModelError(f"{path} is not a tokenizer that can be read: get the checkpoint again") from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def _single(tokenizer: Tokenizer, word: str, folder: Path) -> int:
    """The number of a word that is one token.

    Raises:
        ModelError: it is several.
    """
    numbers = tokenizer.encode(word, add_special_tokens=False).ids
    if len(numbers) != 1:
        raise ModelError(f"the tokenizer of {folder} cuts {word!r} into {len(numbers)} tokens: it is another model's")
    return int(numbers[0])


def _colours(settings: Mapping[str, Any], key: str, folder: Path) -> tuple[float, ...]:
    values = settings.get(key)
    if not isinstance(values, list) or len(values) != 3 or not all(isinstance(value, int | float) for value in values):
        raise ModelError(f"{folder / _PICTURES} has no {key} of three numbers: get the checkpoint again")
    return tuple(float(value) for value in values)
