"""A CLIP (Radford et al. 2021, arXiv:2103.00020) as the families that build on it use it: its two towers, projected
and not normalised, in float32."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from mmseek.embed.clip_forward import ClipForward, may_run, weights_of
from mmseek.embed.clip_layout import config_of, converted, is_original
from mmseek.embed.clip_pictures import ClipPictures
from mmseek.errors import ModelError
from mmseek.media import MediaLimits, open_image
from mmseek.models.checkpoints import json_object, weight_files
from mmseek.models.packed_linear import may_pack

if TYPE_CHECKING:
    from mmseek._types import FloatArray, Image
    from mmseek.embed.clip_pictures import Pixels

__all__ = ["ClipTower", "checkpoint_files", "load_tokenizer"]

# Beside the weights, what changes vectors.
_FILES: Final = (
    "config.json",
    "preprocessor_config.json",
    "open_clip_config.json",
    "tokenizer.json",
    "vocab.json",
    "merges.txt",
)
_PADDING: Final = 0  # the text tower looks back only, so what follows the end of a text changes nothing


class ClipTower:
    """Both towers of a CLIP. Safe to use from several threads.

    Args:
        model: transformers' `CLIPModel`.
        tokenizer: a `tokenizers.Tokenizer` that adds the marks of start and end.
        pictures: the preprocessing.
        device: where the model runs.

    Raises:
        ModelError: tokenizer and model do not belong together.
    """

    def __init__(self, model: Any, tokenizer: Any, pictures: ClipPictures, *, device: str = "cpu") -> None:
        self._model = model.eval().requires_grad_(requires_grad=False).to(device)
        self._tokenizer = tokenizer
        self._pictures = pictures
        self._device = device
        self._forward: ClipForward | None = None
        self._plain = device != "cpu" or not may_run(model)
        self._lock = threading.Lock()
        text = model.config.text_config
        self._length: int = text.max_position_embeddings
        self.dim: int = model.config.projection_dim
        marks = tokenizer.encode("").ids
        ends_right = len(marks) == 2 and marks[1] == text.eos_token_id
        # Old configurations say 2, and the model then takes the largest number of the text for its end.
        ends_right |= len(marks) == 2 and text.eos_token_id == 2 and marks[1] == text.vocab_size - 1
        if not ends_right or tokenizer.get_vocab_size() > text.vocab_size:
            raise ModelError("the tokenizer does not belong to the CLIP weights beside it: give the model's own files")
        self._end: int = marks[1]
        shape = (1, 3, 1, 1)
        self._mean = torch.tensor(pictures.mean, device=device).view(shape)
        self._std = torch.tensor(pictures.std, device=device).view(shape)

    @classmethod
    def load(cls, folder: Path, *, device: str = "cpu", openai_crop: bool = False) -> ClipTower:
        """From a folder in the layout of transformers, or of OpenAI's code or open_clip with a tokenizer beside it.

        Args:
            folder: with safetensors weights and a tokenizer.
            device: a torch device.
            openai_crop: see `ClipPictures.round_offset`.

        Raises:
            ModelError: a file is missing, damaged or of another model.
        """
        try:
            names = [name for path in weight_files(folder) for name in _names(path)]
            original = is_original(names)
            open_clip = json_object(folder / "open_clip_config.json", missing_ok=True) if original else {}
            model = _original_model(folder, open_clip.get("model_cfg")) if original else _transformers_model(folder)
            pictures = ClipPictures.from_config(
                json_object(folder / "preprocessor_config.json", missing_ok=True)
                | _colours(open_clip.get("preprocess_cfg", {})),
                size=model.config.vision_config.image_size,
                round_offset=openai_crop or bool(open_clip),
            )
            return cls(model, load_tokenizer(folder), pictures, device=device)
        except ModelError as error:
            raise ModelError(f"{folder} cannot be loaded as a CLIP: {error}") from error
        except Exception as error:  # safetensors, transformers and torch each raise their own
            reason = " ".join(str(error).split())[:300]
            raise ModelError(
                f"{folder} cannot be loaded as a CLIP ({type(error).__name__}: {reason}): check or fetch its files anew"
            ) from error

    def tokenize(self, text: str) -> list[int]:
        """Numbers of the text's pieces between the marks; a text too long loses its end, never the mark of it."""
        numbers: list[int] = self._tokenizer.encode(text).ids
        return numbers if len(numbers) <= self._length else [*numbers[: self._length - 1], self._end]

    def prepare(self, image: Image, limits: MediaLimits) -> Pixels:
        """Decode a picture, on white where it is transparent: uint8 (S, S, 3).

        Raises:
            MediaError: the picture cannot be used.
        """
        return self._pictures(open_image(image, limits=limits))

    @property
    def model(self) -> Any:
        """Transformers' `CLIPModel`. Whoever takes it may change its weights, so from now on it is run as it is."""
        with self._lock:
            self._plain, self._forward = True, None
        return self._model

    @property
    def colours(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and standard deviation of the colours, each (1, 3, 1, 1), for values from 0 to 1."""
        return self._mean, self._std

    @torch.inference_mode()
    def texts(self, texts: Sequence[Sequence[int]]) -> FloatArray:
        """Projected, not normalised vectors (n, dim) of tokenised texts."""
        fast = self._fast()
        vectors: FloatArray = (self.text_rows(texts) if fast is None else fast.texts(texts)).cpu().numpy()
        return vectors

    @torch.inference_mode()
    def images(self, pictures: Sequence[Pixels]) -> FloatArray:
        """Projected, not normalised vectors (n, dim) of prepared pictures."""
        fast = self._fast()
        rows = self.image_rows(pictures) if fast is None else fast.images(torch.from_numpy(np.stack(pictures)))
        vectors: FloatArray = rows.cpu().numpy()
        return vectors

    def text_rows(self, texts: Sequence[Sequence[int]]) -> torch.Tensor:
        """As `texts`, on the model's device, with a graph where gradients are enabled."""
        return self.projected_texts(self.pooled_texts(texts))

    def image_rows(self, pictures: Sequence[Pixels]) -> torch.Tensor:
        """As `images`, on the model's device, with a graph where gradients are enabled."""
        return self.projected_images(self.pooled_images(pictures))

    def pooled_texts(self, texts: Sequence[Sequence[int]]) -> torch.Tensor:
        """What the text tower gives of tokenised texts, (n, width), before the projection."""
        longest = max(map(len, texts))
        padded = torch.tensor([[*text, *[_PADDING] * (longest - len(text))] for text in texts], device=self._device)
        pooled: torch.Tensor = self._model.text_model(input_ids=padded).pooler_output
        return pooled

    def pooled_images(self, pictures: Sequence[Pixels]) -> torch.Tensor:
        """What the picture tower gives of prepared pictures, (n, width), before the projection."""
        pixels = torch.from_numpy(np.stack(pictures)).to(self._device).permute(0, 3, 1, 2).float() / 255
        pooled: torch.Tensor = self._model.vision_model(pixel_values=(pixels - self._mean) / self._std).pooler_output
        return pooled

    def projected_texts(self, pooled: torch.Tensor) -> torch.Tensor:
        """(n, width) -> (n, dim)."""
        rows: torch.Tensor = self._model.text_projection(pooled)
        return rows

    def projected_images(self, pooled: torch.Tensor) -> torch.Tensor:
        """(n, width) -> (n, dim)."""
        rows: torch.Tensor = self._model.visual_projection(pooled)
        return rows

    def _fast(self) -> ClipForward | None:
        """The towers as a CPU runs them fastest; None where that is not known to be right."""
        with self._lock:
            if self._forward is None and not self._plain:
                packed = may_pack(self._device, weights_of(self._model))
                self._forward = ClipForward(self._model, self.colours, self._end, packed=packed)
            return self._forward

    def text_states(self, texts: Sequence[Sequence[int]]) -> torch.Tensor:
        """All states (n, length, width) of tokenised texts, those of the padding too, after the last norm."""
        padded = [[*text, *[_PADDING] * (self._length - len(text))] for text in texts]
        states: torch.Tensor = self._model.text_model(
            input_ids=torch.tensor(padded, device=self._device)
        ).last_hidden_state
        return states

    def image_states(self, pictures: Sequence[Pixels | None]) -> torch.Tensor:
        """All projected states (n, patches + 1, dim) of prepared pictures; None is one of zeros."""
        size = self._pictures.size
        pixels = torch.zeros(len(pictures), 3, size, size, device=self._device)
        for row, picture in enumerate(pictures):
            if picture is not None:
                values = torch.from_numpy(picture.copy()).to(self._device).permute(2, 0, 1).float() / 255
                pixels[row] = ((values - self._mean) / self._std)[0]
        vision = self._model.vision_model
        states: torch.Tensor = vision.post_layernorm(vision(pixel_values=pixels).last_hidden_state)
        projected: torch.Tensor = self._model.visual_projection(states)
        return projected


def checkpoint_files(folder: Path) -> list[Path]:
    """The files of a folder that its vectors depend on."""
    return [*weight_files(folder), *(path for name in _FILES if (path := folder / name).is_file())]


def _names(path: Path) -> list[str]:
    with safe_open(path, "pt") as file:
        return list(file.keys())


def _colours(preprocessing: dict[str, Any]) -> dict[str, Any]:
    """What open_clip's configuration says of the preprocessing, in transformers' words."""
    for name, known in (("interpolation", "bicubic"), ("resize_mode", "shortest")):
        found = preprocessing.get(name, known)
        if found != known:
            raise ModelError(f"its open_clip_config.json asks for {name} {found!r}, not {known!r}: use another model")
    return {f"image_{name}": preprocessing[name] for name in ("mean", "std") if name in preprocessing}


def _original_model(folder: Path, open_clip: dict[str, Any] | None) -> Any:
    from transformers import CLIPConfig, CLIPModel

    weights = {name: tensor for path in weight_files(folder) for name, tensor in load_file(path).items()}
    model = CLIPModel(CLIPConfig(**config_of(weights, open_clip))).float()
    model.load_state_dict(converted(weights))
    return model


def _transformers_model(folder: Path) -> Any:
    from transformers import CLIPModel

    kind = json_object(folder / "config.json", missing_ok=True).get("model_type")
    if kind != "clip":
        raise ModelError(f"its config.json is of a model of type {kind!r}, not 'clip'")
    model, report = CLIPModel.from_pretrained(
        folder, local_files_only=True, use_safetensors=True, dtype=torch.float32, output_loading_info=True
    )
    missing = sorted({*report["missing_keys"], *(str(entry) for entry in report["mismatched_keys"])})
    if missing:  # transformers fills them with random numbers and goes on
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise ModelError(f"its weights lack {missing[0]}{more}: fetch them anew")
    return model


def load_tokenizer(folder: Path) -> Any:
    """A `tokenizers.Tokenizer` that adds the marks of start and end.

    Raises:
        ModelError: there is none.
    """
    from transformers import CLIPTokenizer

    if not (folder / "tokenizer.json").is_file() and not (folder / "merges.txt").is_file():
        raise ModelError("it has no tokenizer: put vocab.json and merges.txt of an OpenAI CLIP beside the weights")
    tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True).backend_tokenizer
    # Set once: changing these while other threads encode is an error in the library.
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer
