"""What the authors publish of their models, and what that asks of a machine. Nothing here was measured by us.

Memory is that of the weights alone, by the number of parameters: 2 bytes each in bfloat16, 4 in float32. A batch comes
on top; `ROOM` is set aside for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

__all__ = ["MATRYOSHKA", "PUBLISHED", "RECOMMENDED", "ROOM", "Published", "Recommendation", "fits"]

GIB: Final = 1024**3
# Of a device's memory, the share that the weights may take.
ROOM: Final = 0.75


@dataclass(frozen=True, slots=True)
class Published:
    """A model as its authors publish it.

    Args:
        model: its name on the model hub.
        billions: of parameters.
        dim: length of its vectors; None where the authors' sources at hand do not say.
        licence: as on its page; the page decides.
    """

    model: str
    billions: float
    dim: int | None
    licence: str

    def gib(self, bytes_each: int) -> float:
        """GiB of the weights with this many bytes a parameter."""
        return self.billions * 1e9 * bytes_each / GIB


@dataclass(frozen=True, slots=True)
class Recommendation:
    """An encoder for a kind of machine, and the published reason."""

    machine: str
    spec: str
    why: str


_OWN: Final = "see its page"

# Family -> its published models, the smallest first.
PUBLISHED: Final[Mapping[str, tuple[Published, ...]]] = MappingProxyType(
    {
        "mini": (Published("sentence-transformers/all-MiniLM-L6-v2 and our image tower", 0.03, 384, "Apache-2.0"),),
        "clip": (
            Published("openai/clip-vit-base-patch32", 0.15, 512, "MIT (of the code)"),
            Published("openai/clip-vit-large-patch14", 0.43, 768, "MIT (of the code)"),
        ),
        "uniir-clip-sf": (Published("TIGER-Lab/UniIR (clip_sf_large)", 0.43, 768, "MIT"),),
        "uniir-clip-ff": (Published("TIGER-Lab/UniIR (clip_ff_large)", 0.45, 768, "MIT"),),
        "vlm2vec": (
            Published("VLM2Vec/VLM2Vec-V2.0", 2.2, 1536, "Apache-2.0"),
            Published("TIGER-Lab/VLM2Vec-Qwen2VL-7B", 8.3, 3584, "Apache-2.0"),
        ),
        "qwen3-vl": (
            Published("Qwen/Qwen3-VL-Embedding-2B", 2.1, 2048, "Apache-2.0"),
            Published("Qwen/Qwen3-VL-Embedding-8B", 8.1, 4096, "Apache-2.0"),
        ),
        "gme": (
            Published("Alibaba-NLP/gme-Qwen2-VL-2B-Instruct", 2.2, 1536, "Apache-2.0"),
            Published("Alibaba-NLP/gme-Qwen2-VL-7B-Instruct", 8.3, 3584, "Apache-2.0"),
        ),
        "mm-embed": (Published("nvidia/MM-Embed", 8.2, 4096, "CC-BY-NC-4.0"),),
        "mme5": (Published("intfloat/mmE5-mllama-11b-instruct", 10.7, 4096, _OWN),),
        "e5-v": (Published("royokong/e5-v", 8.4, 4096, _OWN),),
        "bge-vl": (
            Published("BAAI/BGE-VL-base", 0.15, 512, "MIT"),
            Published("BAAI/BGE-VL-MLLM-S1", 7.6, 4096, "MIT"),
        ),
        "jina-v4": (Published("jinaai/jina-embeddings-v4", 3.8, 2048, _OWN),),
        "colpali": (Published("vidore/colpali-v1.3", 2.9, 128, _OWN),),
        "colqwen2": (Published("vidore/colqwen2-v1.0", 2.2, 128, "Apache-2.0"),),
    }
)

# Families trained to be cut (Matryoshka) -> the fewest dimensions that their authors name.
MATRYOSHKA: Final[Mapping[str, int]] = MappingProxyType({"qwen3-vl": 64, "jina-v4": 128})

RECOMMENDED: Final = (
    Recommendation("a laptop without a GPU", "mini", "measured here: runs on two cores, nothing to download"),
    Recommendation(
        "a GPU of 8 GB", "qwen3-vl:Qwen/Qwen3-VL-Embedding-2B", "published: MMEB-V2 73.2, the best of the 2B models"
    ),
    Recommendation("a GPU of 24 GB", "qwen3-vl:Qwen/Qwen3-VL-Embedding-8B", "published: MMEB-V2 77.8"),
    Recommendation(
        "a GPU of 80 GB", "qwen3-vl:Qwen/Qwen3-VL-Embedding-8B", "published: MMEB-V2 77.8; larger batches fit"
    ),
)


def fits(model: Published, memory: int, *, bytes_each: int) -> bool:
    """Whether the weights leave room for a batch in this many bytes of memory."""
    return model.gib(bytes_each) * GIB <= memory * ROOM
