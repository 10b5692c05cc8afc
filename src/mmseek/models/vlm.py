"""Loads vision-language models of transformers, their tokenizers, and what their folders say of pictures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mmseek.errors import ModelError
from mmseek.models.adapters import merged
from mmseek.models.checkpoints import json_object
from mmseek.models.device import pick_dtype

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["colours", "load_model", "load_tokenizer", "load_with_head", "picture_settings", "single_token"]

_PICTURES: Final = "preprocessor_config.json"
_PROCESSOR: Final = "processor_config.json"


def load_model(folder: Path, class_name: str, device: str, adapter: Path | None = None) -> Any:
    """A model of transformers without its head, in the precision that `pick_dtype` gives.

    Args:
        folder: of the checkpoint.
        class_name: of the class in transformers, with the head.
        device: a torch device.
        adapter: of a LoRA adapter, which is merged into the weights.

    Raises:
        MissingExtra: there is an adapter, and PEFT is not installed.
        ModelError: it cannot be read or is not whole, or the adapter is of another model.
    """
    # The class with the head reads every naming of the weights that was ever published; the one without does not.
    return load_with_head(folder, class_name, device, needed=False, adapter=adapter).model


def load_with_head(
    folder: Path, class_name: str, device: str, *, needed: bool = True, adapter: Path | None = None
) -> Any:
    """The same with its head, which must be there, if it is needed, unless it is the matrix of the input tokens.

    Raises:
        ModelError: as in `load_model`.
    """
    model, missing = _load(folder, class_name, device)
    _check_whole(folder, {key for key in missing if needed or not key.startswith("lm_head.")})
    return merged(model, adapter).to(device).eval()


def _load(folder: Path, class_name: str, device: str) -> tuple[Any, set[str]]:
    """The model on the CPU, and the names of the weights that the files lack or have in another shape."""
    import transformers
    from safetensors import SafetensorError

    try:
        model, report = getattr(transformers, class_name).from_pretrained(
            folder,
            dtype=pick_dtype(device),
            attn_implementation="sdpa",
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ModelError(f"{folder} cannot be loaded ({type(error).__name__}: {reason}): get it again") from error
    return model, {*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"])}


def _check_whole(folder: Path, missing: set[str]) -> None:
    if missing:
        raise ModelError(f"{folder} lacks {len(missing)} of the weights, {min(missing)} among them: get it again")


def load_tokenizer(folder: Path, max_tokens: int | None) -> Tokenizer:
    """`tokenizer.json` with its own post-processor, cutting after `max_tokens` if that is given.

    Raises:
        ModelError: the file is missing or cannot be read.
    """
    # Read as it is: transformers builds its own and would leave out a post-processor that appends a token.
    from tokenizers import Tokenizer

    path = folder / "tokenizer.json"
    json_object(path)
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare Exception
        raise ModelError(f"{path} is not a tokenizer that can be read: get the checkpoint again") from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    if max_tokens is not None:
        tokenizer.enable_truncation(max_tokens)
    return tokenizer


def single_token(tokenizer: Tokenizer, word: str, folder: Path) -> int:
    """The number of a word that is one token, encoded without special tokens.

    Raises:
        ModelError: it is several.
    """
    numbers = tokenizer.encode(word, add_special_tokens=False).ids
    if len(numbers) != 1:
        raise ModelError(f"the tokenizer of {folder} cuts {word!r} into {len(numbers)} tokens: it is another model's")
    return int(numbers[0])


def picture_settings(folder: Path) -> tuple[Path, dict[str, Any]]:
    """Which file describes the pictures, and how; transformers 5 saves it as a part of a larger one."""
    inner = json_object(folder / _PROCESSOR).get("image_processor") if (folder / _PROCESSOR).is_file() else None
    if isinstance(inner, dict):
        return folder / _PROCESSOR, inner
    return folder / _PICTURES, json_object(folder / _PICTURES)


def colours(settings: Mapping[str, Any], key: str, path: Path) -> tuple[float, ...]:
    """Three numbers, one a colour, of the picture settings that `path` holds.

    Raises:
        ModelError: they are not there.
    """
    values = settings.get(key)
    if not isinstance(values, list) or len(values) != 3 or not all(isinstance(value, int | float) for value in values):
        raise ModelError(f"{path} has no {key} of three numbers: get the checkpoint again")
    return tuple(float(value) for value in values)
