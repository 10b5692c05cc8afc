"""The image tower of the `mini` encoder: a picture -> a 384-d vector among all-MiniLM-L6-v2's text embeddings.

A small residual network (He et al. 2015, arXiv:1512.03385; plain 3x3 convolutions, which run at a CPU's full speed)
ends in two guesses of what a text about the picture would embed to:

- *named*: class probabilities times the MiniLM embeddings of 1,000 class names, the convex combination of ConSE
  (Norouzi et al. 2013, arXiv:1312.5650);
- *projected*: a linear map of the features, which can say what no class name says (a colour, a chart).

A gate computed from the features weighs one against the other. A correction (`correction.py`), which also sees how
colours are spread, follows where the weights hold one. The class names' embeddings are MiniLM's output and travel in
the weights file; how the weights were trained is written in its header and in MODEL_CARD.md.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own convention
from torch.nn.utils.fusion import fuse_conv_bn_eval

from mmseek.embed.mini.colours import COLOURS, colours
from mmseek.embed.mini.correction import Correction, Fusion

FORMAT_VERSION = 2
_READ = ("1", "2")  # the first had neither correction nor fusion
WEIGHTS = Path(__file__).with_name("image_tower.safetensors")
IMAGE_SIZE = 112


@dataclass(frozen=True, slots=True)
class TowerConfig:
    """The shape of a tower: `widths[i]` channels in `depths[i]` residual blocks; all stages after the first halve."""

    size: int = IMAGE_SIZE
    stem: int = 32
    widths: tuple[int, ...] = (48, 96, 192, 320)
    depths: tuple[int, ...] = (1, 1, 2, 1)
    features: int = 640
    classes: int = 1000
    dim: int = 384
    temperature: float = 1.0
    fused: bool = False
    correction: int = 0  # hidden units of the correction, and of the fusion of picture and text; 0: there is none
    fusion: int = 0


class TowerOutput(NamedTuple):
    """All that a forward pass computes; the vectors are L2-normalised."""

    features: Tensor  # (n, features)
    logits: Tensor  # (n, classes)
    named: Tensor  # (n, dim)
    projected: Tensor  # (n, dim)
    plain: Tensor  # (n, dim), before the correction
    embedding: Tensor  # (n, dim)


class ConvNorm(nn.Module):
    """Convolution and batch norm, `(n, inputs, H, W) -> (n, outputs, H/stride, W/stride)`; fused, one convolution."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, *, fused: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=fused)
        self.norm: nn.Module = nn.Identity() if fused else nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.norm(self.conv(x))
        return out

    def fuse(self) -> None:
        """Fold the batch norm into the convolution (eval mode only)."""
        if isinstance(self.norm, nn.BatchNorm2d):
            self.conv = fuse_conv_bn_eval(self.conv, self.norm)
            self.norm = nn.Identity()


class Residual(nn.Module):
    """Two 3x3 convolutions beside a shortcut, `(n, inputs, H, W) -> (n, outputs, H/stride, W/stride)`."""

    def __init__(self, inputs: int, outputs: int, stride: int, *, fused: bool) -> None:
        super().__init__()
        self.first = ConvNorm(inputs, outputs, 3, stride, fused=fused)
        self.second = ConvNorm(outputs, outputs, 3, fused=fused)
        same = inputs == outputs and stride == 1
        self.shortcut = nn.Identity() if same else ConvNorm(inputs, outputs, 1, stride, fused=fused)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.second(F.relu(self.first(x), inplace=True))
        return F.relu(inner + self.shortcut(x), inplace=True)


class ImageTower(nn.Module):
    """Pictures -> vectors `(n, dim)`, float32, L2-normalised, comparable with all-MiniLM-L6-v2's by dot product."""

    label_vectors: Tensor

    def __init__(self, config: TowerConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or TowerConfig()
        fused = config.fused
        self.stem = ConvNorm(3, config.stem, 7, 4, fused=fused)
        blocks, width = [], config.stem
        for stage, (outputs, depth) in enumerate(zip(config.widths, config.depths, strict=True)):
            for block in range(depth):
                blocks.append(Residual(width, outputs, 2 if stage > 0 and block == 0 else 1, fused=fused))
                width = outputs
        self.blocks = nn.Sequential(*blocks)
        self.head = ConvNorm(width, config.features, 1, fused=fused)
        self.classifier = nn.Linear(config.features, config.classes)
        self.projection = nn.Linear(config.features, config.dim)
        self.gate = nn.Linear(config.features, 1)
        # Class names' text embeddings (classes, dim), not trained.
        self.register_buffer("label_vectors", torch.zeros(config.classes, config.dim))
        seen = config.features + COLOURS
        self.correction = Correction(seen, config.correction, config.dim) if config.correction else None
        self.fusion = Fusion(config.dim, config.fusion) if config.fusion else None

    def forward(self, pictures: Tensor) -> Tensor:
        """uint8 or float `(n, S, S, 3)` of 0..255 -> float32 `(n, dim)`, L2-normalised."""
        return self.outputs(pictures).embedding

    def outputs(self, pictures: Tensor) -> TowerOutput:
        """The embedding and what it is made of, from pictures as `forward` takes them."""
        out = self._uncorrected(pictures)
        if self.correction is None:
            return out
        return out._replace(embedding=self.correction(out.plain, _seen(out.features, pictures)))

    def _uncorrected(self, pictures: Tensor) -> TowerOutput:
        x = pictures.permute(0, 3, 1, 2).float() / 127.5 - 1
        x = F.relu(self.stem(x.contiguous(memory_format=torch.channels_last)), inplace=True)
        features = F.relu(self.head(self.blocks(x)), inplace=True).mean((2, 3))
        logits = self.classifier(features)
        named = F.normalize((logits / self.config.temperature).softmax(-1) @ self.label_vectors, dim=-1)
        projected = F.normalize(self.projection(features), dim=-1)
        plain = F.normalize(torch.lerp(projected, named, self.gate(features).sigmoid()), dim=-1)
        return TowerOutput(features, logits, named, projected, plain, plain)

    def look(self, pictures: Tensor) -> Tensor:
        """What `finish` needs to know of pictures, as `forward` takes them: all that comes before the correction."""
        out = self._uncorrected(pictures)
        return out.plain if self.correction is None else torch.cat([out.plain, _seen(out.features, pictures)], dim=1)

    def finish(self, looks: Tensor) -> Tensor:
        """The vectors of pictures `(n, dim)`: `finish(look(x))` is `forward(x)`."""
        if self.correction is None:
            return looks
        corrected: Tensor = self.correction(looks[:, : self.config.dim], looks[:, self.config.dim :])
        return corrected

    def compose(self, pictures: Tensor, texts: Tensor) -> Tensor:
        """Vectors to search with: unit vectors of pictures and of texts beside them, `(n, dim)` each -> `(n, dim)`."""
        if self.fusion is None:
            return F.normalize(pictures + texts, dim=-1)
        composed: Tensor = self.fusion(pictures, texts)
        return composed

    def fuse(self) -> None:
        """Fold every batch norm into its convolution, in place; the tower must be in eval mode."""
        for module in list(self.modules()):
            if isinstance(module, ConvNorm):
                module.fuse()


def _seen(features: Tensor, pictures: Tensor) -> Tensor:
    """What the correction sees: the tower's features and how colours are spread."""
    return torch.cat([features, colours(pictures)], dim=1)


def preprocess(image: Image.Image, size: int = IMAGE_SIZE) -> np.ndarray:
    """RGB picture -> uint8 `(size, size, 3)`: the whole picture, squashed to a square.

    Nothing is cut off, so that a wide chart or a tall page is seen to its edges; the tower was trained on squashed
    pictures too. `draft` lets JPEG decode at a fraction of its size (no other format does); `reducing_gap` shrinks
    large pictures in two cheap steps. Both give the same result every time.
    """
    image.draft("RGB", (2 * size, 2 * size))
    rgb = image if image.mode == "RGB" else image.convert("RGB")
    return np.asarray(rgb.resize((size, size), Image.Resampling.BICUBIC, reducing_gap=2.0), dtype=np.uint8)


def preprocess_batch(images: Sequence[Image.Image], size: int = IMAGE_SIZE) -> np.ndarray:
    """RGB pictures -> uint8 `(n, size, size, 3)`, ready for the tower."""
    if not images:
        return np.zeros((0, size, size, 3), dtype=np.uint8)
    return np.stack([preprocess(image, size) for image in images])


def save_tower(tower: ImageTower, path: Path, about: dict[str, str] | None = None) -> None:
    """Write a fused tower as float16 safetensors, its configuration and `about` in the header."""
    if not tower.config.fused:
        raise ValueError("only a fused tower is saved: build it with TowerConfig(fused=True)")
    header = {"version": str(FORMAT_VERSION), "config": json.dumps(asdict(tower.config)), **(about or {})}
    state = {name: value.detach().half().contiguous() for name, value in tower.state_dict().items()}
    save_file(state, path, metadata=header)
    path.chmod(0o644)  # safetensors writes for the owner alone


def read_header(path: Path | None = None) -> dict[str, str]:
    """The header of a weights file: version, configuration, and how it was trained."""
    with safe_open(path or WEIGHTS, framework="pt") as file:
        return dict(file.metadata() or {})


def load_tower(path: Path | None = None) -> ImageTower:
    """The trained tower in eval mode and float32, from `path` or from the weights shipped beside this module."""
    path = path or WEIGHTS
    with safe_open(path, framework="pt") as file:
        header = file.metadata() or {}
        if header.get("version") not in _READ:
            read = " and ".join(_READ)
            raise ValueError(f"{path}: image tower version {header.get('version')}, this mmseek reads {read}")
        state = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118 - not a dict
    settings = json.loads(header["config"])
    settings |= {name: tuple(settings[name]) for name in ("widths", "depths")}
    tower = ImageTower(TowerConfig(**settings))
    tower.load_state_dict(state)
    return tower.to(memory_format=torch.channels_last).eval()
