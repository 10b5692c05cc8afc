"""The network the tower is distilled from, loaded from a folder outside the project.

The folder holds `teacher.py` with `load() -> nn.Module` (a network with `embed(x)`: float `(n, 3, H, W)` in [-1, 1] ->
features `(n, 1280)`, and `classifier`: features -> class logits) and `labels() -> list[str]`, class 0 being
'background'. It is imported by its path; none of its code or weights enters the project.
"""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, cast

import numpy as np
import torch
from torch import Tensor, nn

# Measured on 256 photos of 64 px: the teacher names 24 % of them rightly at 160 px and 16 % at its native 224 px (the
# blur of enlarging confuses it), and 160 px costs half.
TEACHER_SIZE = 160
# On two cores small batches are the fastest: activations stay in the cache.
TEACHER_BATCH = 8


class TeacherModule(Protocol):
    """What the teacher folder's `teacher.py` offers."""

    def load(self) -> nn.Module:
        """The network in eval mode."""

    def labels(self) -> list[str]:
        """Class names in the order of the logits."""


def load_module(folder: Path) -> TeacherModule:
    """Import `folder/teacher.py` by its path."""
    path = folder / "teacher.py"
    if not path.is_file():
        raise FileNotFoundError(f"no teacher.py in {folder}: give the teacher's folder with --teacher")
    spec = importlib.util.spec_from_file_location("mmseek_mini_teacher", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"cannot import {path}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return cast("TeacherModule", module)


class Teacher:
    """The frozen teacher in bfloat16: cosine of its features to float32's is 0.995 on average, at twice the speed."""

    def __init__(self, folder: Path) -> None:
        module = load_module(folder)
        net = module.load().eval()
        classifier = net.get_submodule("classifier")
        if not isinstance(classifier, nn.Linear):
            raise TypeError(f"{folder}: the teacher's classifier must be linear, got {type(classifier).__name__}")
        # Class 0 is 'background', which no photo is.
        self.labels = module.labels()[1:]
        self.weight = classifier.weight.detach().float()[1:].clone()
        self.bias = classifier.bias.detach().float()[1:].clone()
        net = net.to(torch.bfloat16).to(memory_format=torch.channels_last)
        self._embed = cast("Callable[[Tensor], Tensor]", net.embed)

    @torch.inference_mode()
    def features(self, pictures: np.ndarray) -> np.ndarray:
        """uint8 `(n, H, W, 3)` -> float16 `(n, features)`."""
        out = []
        for start in range(0, len(pictures), TEACHER_BATCH):
            x = torch.from_numpy(pictures[start : start + TEACHER_BATCH]).permute(0, 3, 1, 2)
            x = (x.float() / 127.5 - 1).to(torch.bfloat16, memory_format=torch.channels_last)
            out.append(self._embed(x).half())
        return torch.cat(out).numpy()
