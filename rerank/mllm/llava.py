"""LLaVA, LLaVA-NeXT and InternVL as backbones: one-dimensional positions, pictures as transformers prepares them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mmseek.models.vlm import colours, picture_settings
from mmseek.rerank.mllm.backbone import Backbone, Picture, Seen

if TYPE_CHECKING:
    import PIL.Image
    import torch
    from numpy.typing import NDArray
    from tokenizers import Tokenizer

    from mmseek._types import Image

__all__ = ["CLASSES", "InternVLBackbone", "LlavaBackbone", "LlavaNextBackbone"]

CLASSES: Final = {
    "llava": "LlavaForConditionalGeneration",
    "llava_next": "LlavaNextForConditionalGeneration",
    "internvl": "InternVLForConditionalGeneration",
}


class _FixedSize(Backbone):
    """Pictures cut into squares of the vision tower's size."""

    def __init__(
        self,
        model: Any,
        tokenizer: Tokenizer,
        device: str,
        folder: Path,
        *,
        mark: str,
        marks: tuple[str, str] = ("", ""),
        begins: bool,
    ) -> None:
        super().__init__(model, tokenizer, device, picture_mark=mark, marks=marks, begins=begins, folder=folder)
        file, settings = picture_settings(folder)
        side = model.config.vision_config.image_size
        # InternVL's configuration gives both sides.
        self._side = int(side[0] if isinstance(side, list | tuple) else side)
        self._colours = {
            "image_mean": list(colours(settings, "image_mean", file)),
            "image_std": list(colours(settings, "image_std", file)),
        }
        self._processor = self._make_processor(settings)

    @abstractmethod
    def _make_processor(self, settings: dict[str, Any]) -> Any:
        """transformers' own preparation of pictures, with Pillow."""

    def _squares(self, picture: PIL.Image.Image) -> tuple[NDArray[np.float32], tuple[int, int]]:
        """Standardised squares (n, 3, side, side), and the picture's height and width."""
        made = self._processor(images=[picture], return_tensors="np")
        pixels = np.asarray(made["pixel_values"], dtype=np.float32)
        return (pixels[0] if pixels.ndim == 5 else pixels), (picture.height, picture.width)

    def _tensor(self, pictures: Sequence[Picture]) -> torch.Tensor:
        """The squares of all pictures, one after the other."""
        import torch

        squares = np.concatenate([picture.pixels[0] for picture in pictures])
        return torch.from_numpy(squares).to(self.device, self.model.dtype)

    @staticmethod
    def _seen(states: torch.Tensor) -> Seen:
        return Seen(states.clone(), (), (1, len(states)))


class LlavaBackbone(_FixedSize):
    """LLaVA 1.5: a picture padded to a square, and one state a patch."""

    def __init__(self, model: Any, tokenizer: Tokenizer, device: str, folder: Path) -> None:
        super().__init__(model, tokenizer, device, folder, mark="<image>", begins=True)

    def _make_processor(self, settings: dict[str, Any]) -> Any:
        from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil

        return LlavaImageProcessorPil(
            size={"shortest_edge": self._side},
            crop_size={"height": self._side, "width": self._side},
            do_pad=bool(settings.get("do_pad", True)),  # as LLaVA 1.5 was trained
            resample=int(settings.get("resample", 3)),
            **self._colours,
        )

    def prepare(self, picture: PIL.Image.Image, image: Image, key: bytes) -> Picture:
        """One square."""
        del image
        vision = self.model.config.vision_config
        tokens = (self._side // vision.patch_size) ** 2
        tokens += self.model.config.vision_feature_select_strategy == "full"
        return Picture(key, tokens, (1, tokens), self._squares(picture))

    def see(self, pictures: Sequence[Picture]) -> list[Seen]:
        """All pictures in one pass."""
        out = self.body.get_image_features(self._tensor(pictures), return_dict=True)
        return [self._seen(states) for states in out.pooler_output]


class LlavaNextBackbone(_FixedSize):
    """LLaVA-NeXT: a small picture of the whole and squares of it in a grid, padding cut away, rows ended by a mark."""

    def __init__(self, model: Any, tokenizer: Tokenizer, device: str, folder: Path) -> None:
        super().__init__(model, tokenizer, device, folder, mark="<image>", begins=True)

    def _make_processor(self, settings: dict[str, Any]) -> Any:
        from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil

        return LlavaNextImageProcessorPil(
            size={"shortest_edge": self._side},
            crop_size={"height": self._side, "width": self._side},
            resample=int(settings.get("resample", 3)),
            image_grid_pinpoints=[list(pair) for pair in self.model.config.image_grid_pinpoints],
            **self._colours,
        )

    def prepare(self, picture: PIL.Image.Image, image: Image, key: bytes) -> Picture:
        """The squares; how many states they give, the model's own packing is asked with empty ones."""
        del image
        import torch

        config = self.model.config
        squares, size = self._squares(picture)
        each = (self._side // config.vision_config.patch_size) ** 2
        each += config.vision_feature_select_strategy == "full"
        _, lengths = self.body.pack_image_features(
            [torch.zeros(len(squares), each, 1)],
            torch.tensor([size]),
            vision_feature_select_strategy=config.vision_feature_select_strategy,
            image_newline=torch.zeros(1),
        )
        tokens = int(lengths[0])
        return Picture(key, tokens, (1, tokens), (squares, size))

    def see(self, pictures: Sequence[Picture]) -> list[Seen]:
        """All pictures in one pass."""
        import torch

        sizes = torch.tensor([picture.pixels[1] for picture in pictures], device=self.device)
        out = self.body.get_image_features(self._tensor(pictures), sizes, return_dict=True)
        return [self._seen(states) for states in out.pooler_output]


class InternVLBackbone(_FixedSize):
    """InternVL as transformers has it: up to 12 squares of a picture and the whole of it, small."""

    def __init__(self, model: Any, tokenizer: Tokenizer, device: str, folder: Path) -> None:
        super().__init__(
            model,
            tokenizer,
            device,
            folder,
            mark="<IMG_CONTEXT>",
            marks=("<img>", "</img>"),
            begins=False,
        )

    def _make_processor(self, settings: dict[str, Any]) -> Any:
        from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil

        return GotOcr2ImageProcessorPil(
            size={"height": self._side, "width": self._side},
            crop_to_patches=True,
            min_patches=int(settings.get("min_patches", 1)),
            max_patches=int(settings.get("max_patches", 12)),
            resample=int(settings.get("resample", 3)),
            **self._colours,
        )

    def prepare(self, picture: PIL.Image.Image, image: Image, key: bytes) -> Picture:
        """The squares, each of `image_seq_length` tokens."""
        del image
        squares, size = self._squares(picture)
        tokens = len(squares) * int(self.model.config.image_seq_length)
        return Picture(key, tokens, (1, tokens), (squares, size))

    def see(self, pictures: Sequence[Picture]) -> list[Seen]:
        """All squares in one pass."""
        config = self.model.config
        states = self.body.get_image_features(
            self._tensor(pictures),
            vision_feature_layer=config.vision_feature_layer,
            vision_feature_select_strategy=config.vision_feature_select_strategy,
            return_dict=True,
        ).pooler_output
        flat = states.reshape(-1, states.shape[-1])
        return [self._seen(each) for each in flat.split([picture.tokens for picture in pictures])]
