"""Runs a model of torch on the CPU with OpenVINO: converted once, kept on disk, and asked from any number of threads.

The extra `[openvino]`. A converted model lies in MMSEEK_CACHE_DIR under a hash of the checkpoint's fingerprint, of what
of it was converted and of the versions of OpenVINO and transformers, so that another checkpoint or another version is
converted anew. Float32 stays float32: OpenVINO would otherwise compute in bfloat16 where the processor can.
"""

from __future__ import annotations

import hashlib
import logging
import os
import threading
import uuid
import warnings
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mmseek.config import settings
from mmseek.errors import ConfigError, MissingExtra, ModelError
from mmseek.models.device import pick_dtype

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from mmseek._types import FloatArray

__all__ = ["BUCKET", "Compiled", "bucketed", "check_openvino", "compiled"]

# Tokens by which rows grow: OpenVINO prepares itself for each new shape, so few shapes are better than exact ones.
BUCKET: Final = 16
_FOLDER: Final = "openvino"
_HINTS: Final = {"torch.float32": "f32", "torch.bfloat16": "bf16", "torch.float16": "f16"}


def check_openvino(device: str) -> None:
    """Whether models can be run by OpenVINO at all, asked before a checkpoint is read.

    Raises:
        MissingExtra: the package is not installed.
        ConfigError: the device is not the CPU.
    """
    if find_spec("openvino") is None:
        raise MissingExtra("the backend openvino", "openvino")
    if device != "cpu":
        raise ConfigError(
            f"the backend openvino runs on the CPU and not on {device}: add --device cpu, or leave it out"
        )


class Compiled:
    """A model that takes arrays and gives one array. Safe to use from several threads at once.

    Args:
        model: OpenVINO's, compiled.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self._mine = threading.local()

    def __call__(self, *inputs: NDArray[Any]) -> FloatArray:
        """The first output, float32."""
        request = getattr(self._mine, "request", None)
        if request is None:
            request = self._mine.request = self._model.create_infer_request()
        outputs = request.infer(list(inputs))
        rows: FloatArray = np.array(outputs[0], dtype=np.float32)  # a copy: the request keeps its own for the next call
        return rows


def compiled(
    module: Callable[[], Any],
    example: Callable[[], Sequence[Any]],
    shapes: Sequence[Sequence[int]],
    *,
    fingerprint: str,
    part: str,
    lanes: int,
) -> Compiled:
    """Compile a module of torch for the CPU, converted now or before.

    Args:
        module: gives the module, in evaluation mode, whose output is one tensor; not called if it was converted before.
        example: gives inputs to trace it with.
        shapes: of each input; -1 is any length.
        fingerprint: of the checkpoint.
        part: of the checkpoint, and a version of how it is cut out.
        lanes: batches that run at once, each on its share of the cores.

    Raises:
        ModelError: OpenVINO cannot convert or compile it.
    """
    import openvino

    versions = f"{openvino.__version__} {version('torch')} {version('transformers')}"
    key = hashlib.sha256(f"{fingerprint}\n{part}\n{versions}".encode()).hexdigest()
    place = settings().cache_dir / _FOLDER / f"{key}.xml"
    core = openvino.Core()
    options = {"INFERENCE_PRECISION_HINT": _HINTS[str(pick_dtype("cpu"))], "NUM_STREAMS": str(lanes)}
    try:
        found = _kept(core, place)
        if found is None:
            found = _converted(module(), example(), shapes)
            _keep(found, place)
        return Compiled(core.compile_model(found, "CPU", options))
    except Exception as error:  # the converter raises what torch, transformers or OpenVINO raise
        reason = " ".join(str(error).split())[:300]
        raise ModelError(
            f"OpenVINO cannot run {part} ({type(error).__name__}: {reason}): leave out the backend openvino"
        ) from error


def bucketed(
    rows: Sequence[Sequence[int]], *, padding: int, longest: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Token numbers (n, length) padded on the right, and a mask of the same shape; length is a multiple of `BUCKET`.

    Args:
        rows: token numbers.
        padding: the number of the padding.
        longest: the most tokens that the model takes.
    """
    length = min(-(-max(map(len, rows)) // BUCKET) * BUCKET, longest)
    numbers = np.full((len(rows), length), padding, dtype=np.int64)
    mask = np.zeros_like(numbers)
    for place, row in enumerate(rows):
        numbers[place, : len(row)], mask[place, : len(row)] = row, 1
    return numbers, mask


def _kept(core: Any, place: Path) -> Any:
    """The model of an earlier conversion; None if there is none, or none that is whole."""
    if not place.is_file() or not place.with_suffix(".bin").is_file():
        return None
    try:
        return core.read_model(place)
    except RuntimeError:  # cut short or damaged: converted anew, and written over
        return None


def _converted(module: Any, example: Sequence[Any], shapes: Sequence[Sequence[int]]) -> Any:
    import openvino
    import torch

    with torch.inference_mode(mode=False), torch.no_grad(), _quietly():
        return openvino.convert_model(
            module, example_input=tuple(example), input=[openvino.PartialShape(list(shape)) for shape in shapes]
        )


@contextmanager
def _quietly() -> Iterator[None]:
    """Tracing warns of every Python number that it makes a constant of; what that costs is tested by the vectors."""
    logger = logging.getLogger("nncf")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)


def _keep(model: Any, place: Path) -> None:
    """Write a converted model for the next time; a disk that refuses it only costs that time."""
    import openvino

    unfinished = place.with_name(f".{uuid.uuid4().hex}.xml")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        openvino.save_model(model, unfinished, compress_to_fp16=False)
        # The weights first: a description without them is not taken for whole.
        os.replace(unfinished.with_suffix(".bin"), place.with_suffix(".bin"))  # noqa: PTH105 - as the next line
        os.replace(unfinished, place)  # noqa: PTH105 - overwrites on every system
    except (OSError, RuntimeError):
        for left in (unfinished, unfinished.with_suffix(".bin")):
            left.unlink(missing_ok=True)
