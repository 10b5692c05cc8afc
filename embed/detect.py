"""`auto:MODEL`: looks at a model's files and says which family runs it, and why.

Names are hints only where the files leave a choice: a Qwen2-VL may be a VLM2Vec or a GME, and OpenAI's layout a plain
CLIP or UniIR's. Where nothing decides, the choices are named instead of one being guessed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mmseek.embed.engine import EngineOptions
from mmseek.errors import ModelError, SpecError
from mmseek.media import MediaLimits
from mmseek.models.checkpoints import find_folder, json_object, weight_files
from mmseek.models.spec import Spec

if TYPE_CHECKING:
    from mmseek.protocols import Encoder

__all__ = ["Detection", "detect", "load", "resolve"]

# No family: what some backbones are as well, which `auto` does not run.
_RERANKER: Final = "reranker"
_BACKBONES: Final[Mapping[str, tuple[str, ...]]] = {
    "qwen2_vl": ("vlm2vec", "gme", "biqwen2"),
    "qwen2_5_vl": ("vlm2vec",),
    "qwen3_vl": ("qwen3-vl",),
    "llava_next": ("mm-embed", "e5-v", "vlm2vec", "bge-vl"),
    "mllama": ("mme5",),
    "phi3_v": ("vlm2vec",),
}
# A layer that makes a vector of each token, as the authors' code names it: the backbone -> the family.
_PROJECTION: Final = "custom_text_proj.weight"
_MULTI_VECTOR: Final[Mapping[str, str]] = {"qwen2_vl": "colqwen2", "paligemma": "colpali"}
# Read in names of folders and files, in lower case.
_HINTS: Final[Mapping[str, re.Pattern[str]]] = {
    "vlm2vec": re.compile(r"vlm2vec"),
    "gme": re.compile(r"(?<![a-z])gme(?![a-z])"),
    "qwen3-vl": re.compile(r"qwen3-?vl-embedding"),
    "mm-embed": re.compile(r"mm-?embed"),
    "e5-v": re.compile(r"e5-?v(?![a-z0-9])"),
    "biqwen2": re.compile(r"biqwen2"),
    "bge-vl": re.compile(r"bge-?vl"),
    "uniir-clip-sf": re.compile(r"uniir|clip[_-]sf"),
    "mme5": re.compile(r"mme5"),
    _RERANKER: re.compile(r"rerank"),
}
# What config.json says of models whose weights are those of a plain backbone.
_ARCHITECTURES: Final[Mapping[str, str]] = {"JinaEmbeddingsV4Model": "jina-v4", "MLlama": "notellm2"}
_MODULES: Final = "modules.json"
# A copy of the hub's lies in models--OWNER--NAME/snapshots/COMMIT, and many lie in NAME/checkpoint.
_NAMES: Final = 3


@dataclass(frozen=True, slots=True)
class Detection:
    """A family of `FAMILIES` and the reason, a clause: `its config.json says clip`."""

    family: str
    reason: str


def detect(path: str | Path, *, name: str | None = None) -> Detection:
    """Which family runs the model in a folder. Loads nothing but the names of weights.

    Args:
        path: the folder.
        name: what the model is called, where that is not the folder's name; a hub id.

    Raises:
        SpecError: no family does, or several do.
        ModelError: the folder is missing, or a file of it cannot be read.
    """
    folder = Path(path).expanduser()
    if not folder.is_dir():
        raise ModelError(f"the folder {folder} does not exist: check the path")
    config = folder / "config.json"
    said = json_object(config, missing_ok=True)
    kind = said.get("model_type")
    _refuse_reranker(folder, name, kind)
    for architecture in said.get("architectures") or ():
        if architecture in _ARCHITECTURES:
            return Detection(_ARCHITECTURES[architecture], f"its config.json says {architecture}")
    if kind in _MULTI_VECTOR and _projects(folder):
        return Detection(_MULTI_VECTOR[str(kind)], f"its config.json says {kind} and its weights have custom_text_proj")
    if kind in _BACKBONES:
        return _backbone(folder, str(kind), name)
    if (folder / _MODULES).is_file():
        return Detection("st", f"it has a {_MODULES}")
    if kind == "clip" or (kind is None and any(folder.glob("*.safetensors"))):
        return _clip(folder, name, "clip" if kind == "clip" else None)
    raise SpecError(
        f"{folder} has no {_MODULES} and its config.json says {kind}, which no family runs: write a family yourself, "
        "as FAMILY:MODEL (`mmseek models` lists them)"
        if kind is not None
        else f"{folder} has neither {_MODULES} nor a config.json with a model_type nor weights: check the path"
    )


def resolve(spec: Spec) -> tuple[Spec, Detection]:
    """The spec that an `auto` spec stands for; the model's files are fetched if they are not here.

    Raises:
        SpecError: the spec names no model, or no one family runs it.
        ModelError: the model is not there or cannot be read.
    """
    folder = find_folder(spec)
    # A hub's copy lies in a folder whose name is a commit's.
    local = spec.model is not None and Path(spec.model).expanduser().is_dir()
    detection = detect(folder, name=None if local else spec.model)
    return replace(spec, family=detection.family), detection


def load(spec: Spec, *, device: str | None, limits: MediaLimits, options: EngineOptions) -> Encoder:
    """Load `auto:MODEL` as the family that runs it; the encoder names itself with that family.

    Raises:
        SpecError: the spec names no model, or no one family runs it.
        ModelError: as the family raises it.
    """
    from mmseek.embed.registry import FAMILIES

    found, _ = resolve(spec)
    module, _, function = FAMILIES[found.family].loader.partition(":")
    encoder: Encoder = getattr(import_module(module), function)(found, device=device, limits=limits, options=options)
    return encoder


def _backbone(folder: Path, kind: str, name: str | None) -> Detection:
    says = f"its config.json says {kind}"
    choices = _BACKBONES[kind]
    hinted = _hinted(folder, name, choices)
    if len(hinted) == 1:
        return Detection(hinted[0], f"{says} and its names {hinted[0]}")
    if (folder / _MODULES).is_file():
        choices = (*choices, "st")
    if len(choices) == 1:
        return Detection(choices[0], says)
    raise _ambiguous(folder, says, choices)


def _refuse_reranker(folder: Path, name: str | None, kind: object) -> None:
    """A reranker has an embedder's files.

    Raises:
        SpecError: the list of modules or the names say that it is one.
    """
    written = json_object(folder / "config_sentence_transformers.json", missing_ok=True).get("model_type")
    if written == "CrossEncoder":
        raise SpecError(f"{folder} is a CrossEncoder and gives no vectors: use it as --rerank cross-encoder:{folder}")
    if kind == "qwen3_vl" and _hinted(folder, name, (*_BACKBONES["qwen3_vl"], _RERANKER)) == [_RERANKER]:
        raise SpecError(
            f"{folder} is a reranker by its names and gives no vectors: use it as --rerank qwen3-vl-reranker:{folder}"
        )


def _projects(folder: Path) -> bool:
    """Whether there are weights, and one is the projection of late interaction."""
    return any(folder.glob("*.safetensors")) and any(name.endswith(_PROJECTION) for name in _weight_names(folder))


def _clip(folder: Path, name: str | None, kind: str | None) -> Detection:
    names = _weight_names(folder)
    if any(weight.startswith("t5_layers.") for weight in names):
        return Detection("uniir-clip-ff", "its weights have t5_layers. as UniIR's feature fusion has")
    if any(weight.startswith("clip_model.") for weight in names):
        return Detection("uniir-clip-sf", "its weights are named clip_model. as UniIR's are")
    if _hinted(folder, name, ("uniir-clip-sf",)):
        return Detection("uniir-clip-sf", "it is a CLIP and its names say UniIR's")
    if _hinted(folder, name, ("bge-vl",)):
        return Detection("bge-vl", "it is a CLIP and its names say bge-vl")
    if kind == "clip":
        return Detection("clip", "its config.json says clip")
    original = "visual.conv1.weight" in names
    if (folder / "open_clip_config.json").is_file():
        return Detection("clip", "it has open_clip's configuration")
    if original:
        raise _ambiguous(folder, "its weights are in OpenAI's layout", ("clip", "uniir-clip-sf"))
    raise SpecError(f"{folder} has no config.json and its weights are no CLIP's: write the family, as FAMILY:MODEL")


def _hinted(folder: Path, name: str | None, families: Iterable[str]) -> list[str]:
    """Those families that the model's name speaks for; else the folders around it, else its files' names."""
    inside = " ".join(path.name for path in folder.iterdir())
    around = folder.resolve().parts[: -_NAMES - 1 : -1]
    for words in (*((name,) if name else around), inside):
        found = [family for family in families if _HINTS[family].search(words.lower())]
        if found:
            return found
    return []


def _weight_names(folder: Path) -> set[str]:
    from safetensors import SafetensorError, safe_open

    names: set[str] = set()
    for path in weight_files(folder):
        try:
            with safe_open(path, framework="np") as weights:
                names.update(weights.keys())
        except (OSError, SafetensorError) as error:
            raise ModelError(f"{path} is not a safetensors file that can be read: get the checkpoint again") from error
    return names


def _ambiguous(folder: Path, says: str, choices: Iterable[str]) -> SpecError:
    written = " or ".join(f"{family}:{folder}" for family in choices)
    return SpecError(f"{folder} may be of several families ({says}): write {written}")
