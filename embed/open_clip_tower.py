"""The CLIPs that only open_clip's own code runs, by the package `open_clip_torch` (extra `[clip]`); and its names.

A plain CLIP does not come here: `ClipTower` runs it faster. What does: other picture towers (ConvNeXt, SigLIP), other
text towers of open_clip, and other preprocessing. Weights are read here, from safetensors, and never by the package.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mmseek.embed.clip_layout import is_plain
from mmseek.errors import MissingExtra, ModelError, SpecError
from mmseek.media import MediaLimits, open_image
from mmseek.models.checkpoints import json_object, weight_files
from mmseek.models.spec import Spec

if TYPE_CHECKING:
    from mmseek._types import FloatArray, Image

__all__ = ["OpenClipTower", "by_name", "needs_open_clip"]

_CONFIG: Final = "open_clip_config.json"
_PACKAGE: Final = "open_clip"
# Names of open_clip's models as people know them, for the sentence where the package is not there to ask.
_LIKE_A_NAME: Final = re.compile(r"(ViT|RN\d|EVA0|coca_|convnext_|MobileCLIP|roberta-ViT|xlm-roberta)[\w.-]*/[\w.-]+")


def by_name(spec: Spec) -> Spec:
    """The hub id that open_clip keeps `MODEL/PRETRAINED` under; any other spec as it is.

    Raises:
        MissingExtra: it looks like a name of open_clip's, and the package is not installed.
        SpecError: the model has no such weights, or none on the hub.
    """
    if spec.model is None or spec.model.count("/") != 1 or Path(spec.model).expanduser().is_dir():
        return spec
    name, _, tag = spec.model.partition("/")
    package = find_spec(_PACKAGE)
    if package is None:
        if _LIKE_A_NAME.fullmatch(spec.model):
            raise MissingExtra(f"{spec}, a name of open_clip's,", "clip")
        return spec
    if not any((Path(place) / "model_configs" / f"{name}.json").is_file() for place in _places(package)):
        return spec
    import open_clip

    found = open_clip.get_pretrained_cfg(name, tag)
    if not found:
        known = ", ".join(open_clip.list_pretrained_tags_by_model(name)) or "none"
        raise SpecError(f"open_clip has no weights {tag!r} of {name}: it has {known}")
    hub = "/".join(str(found.get("hf_hub") or "").split("/")[:2])
    if "/" not in hub:
        raise SpecError(
            f"open_clip has the weights {tag!r} of {name} as a pickle only, which is never opened: use others"
        )
    return replace(spec, model=hub)


def needs_open_clip(folder: Path) -> bool:
    """Whether a folder holds a model of open_clip's that is no plain CLIP, or asks for other steps of preprocessing.

    Raises:
        ModelError: its configuration cannot be read, or its text tower is another model on the hub.
    """
    if not (folder / _CONFIG).is_file():
        return False
    config = json_object(folder / _CONFIG)
    model, steps = config.get("model_cfg", {}), config.get("preprocess_cfg", {})
    text = model.get("text_cfg", {}).get("hf_model_name")
    if text is not None:
        raise ModelError(
            f"{folder} takes its text tower from {text} (hf_model_name), which is not followed: use another"
        )
    usual = steps.get("interpolation", "bicubic") == "bicubic" and steps.get("resize_mode", "shortest") == "shortest"
    return not (usual and is_plain(model))


class OpenClipTower:
    """Both towers of a model of open_clip's, as `ClipTower` has them. Safe to use from several threads.

    Args:
        model: open_clip's.
        tokenizer: open_clip's, a callable of a list of texts.
        preprocess: picture -> tensor (3, S, S).
        device: where the model runs.
    """

    def __init__(self, model: Any, tokenizer: Any, preprocess: Any, *, device: str = "cpu") -> None:
        self._model = model.eval().requires_grad_(requires_grad=False).to(device)
        self._tokenizer = tokenizer
        self._preprocess = preprocess
        self._device = device
        import torch

        with torch.inference_mode():
            self.dim = int(self._model.encode_text(tokenizer(["a"]).to(device)).shape[1])

    @classmethod
    def load(cls, folder: Path, *, device: str = "cpu") -> OpenClipTower:
        """From a folder with `open_clip_config.json` and safetensors weights, in float32.

        Raises:
            MissingExtra: the package is not installed.
            ModelError: a file is missing, damaged or of another model.
        """
        if find_spec(_PACKAGE) is None:
            raise MissingExtra(f"{folder}, a CLIP that only open_clip runs,", "clip")
        (weights, *more) = weight_files(folder)
        if more:
            raise ModelError(f"{folder} has its weights in several files, which open_clip does not read: join them")
        import open_clip
        from open_clip.transform import PreprocessCfg, image_transform_v2

        source = f"local-dir:{folder}"
        try:
            with _silent():  # it would say that the weights are random, which they are for a moment
                model = open_clip.create_model(source, load_weights=False, pretrained_text=False)
            open_clip.load_checkpoint(model, str(weights))
            steps = image_transform_v2(PreprocessCfg(**open_clip.get_model_preprocess_cfg(model)), is_train=False)
            return cls(model, open_clip.get_tokenizer(source), steps, device=device)
        except Exception as error:  # open_clip, safetensors and torch each raise their own
            reason = " ".join(str(error).split())[:300]
            raise ModelError(
                f"{folder} cannot be loaded by open_clip ({type(error).__name__}: {reason}): check or fetch its files"
            ) from error

    def tokenize(self, text: str) -> list[int]:
        """Numbers of the text's pieces, padded as the model takes them."""
        numbers: list[int] = self._tokenizer([text])[0].tolist()
        return numbers

    def prepare(self, image: Image, limits: MediaLimits) -> Any:
        """Decode a picture, on white where it is transparent: float32 (3, S, S).

        Raises:
            MediaError: the picture cannot be used.
        """
        return self._preprocess(open_image(image, limits=limits)).numpy()

    def texts(self, texts: Sequence[Sequence[int]]) -> FloatArray:
        """Projected, not normalised vectors (n, dim) of tokenised texts."""
        import torch

        with torch.inference_mode():
            vectors: FloatArray = self._model.encode_text(torch.tensor(texts, device=self._device)).cpu().numpy()
        return vectors

    def images(self, pictures: Sequence[Any]) -> FloatArray:
        """Projected, not normalised vectors (n, dim) of prepared pictures."""
        import torch

        with torch.inference_mode():
            pixels = torch.from_numpy(np.stack(pictures)).to(self._device)
            vectors: FloatArray = self._model.encode_image(pixels).cpu().numpy()
        return vectors


@contextmanager
def _silent() -> Iterator[None]:
    """The package writes to the root of all loggers, which has no name to be hushed by."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def _places(package: Any) -> Sequence[str]:
    return list(package.submodule_search_locations or ())
