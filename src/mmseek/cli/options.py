"""Options that several verbs share, in one wording."""

from __future__ import annotations

import os
import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import typer

from mmseek.errors import ConfigError, InputError, SpecError

__all__ = [
    "BackendOption",
    "CollectionOption",
    "DeviceOption",
    "EncoderOption",
    "JsonOption",
    "ModeChoice",
    "OutputType",
    "PrecisionOption",
    "VisualTokensOption",
    "beside",
    "beside_place",
    "collection_path",
    "folder_of",
    "writable_file",
    "write_text",
]

CollectionOption: TypeAlias = Annotated[
    str,
    typer.Option(
        "--collection",
        "-c",
        metavar="PLACE",
        help="Folder, qdrant-edge:DIR or qdrant://HOST:PORT/NAME.",
        show_default=False,
    ),
]
JsonOption: TypeAlias = Annotated[
    bool, typer.Option("--json", help="Print one JSON document on stdout; all else goes to stderr.")
]
EncoderOption: TypeAlias = Annotated[
    str,
    typer.Option(
        "--encoder", "-e", metavar="SPEC", help="family or family:model[@revision]; `mmseek models` lists them."
    ),
]
DeviceOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--device",
        metavar="NAME",
        help="cpu, cuda, cuda:1, mps ... or several, cuda:0,cuda:1. [default: the best there is]",
    ),
]
# The words of `mmseek.embed.output.OutputType`, and of PRECISIONS and BACKENDS in `mmseek.models.device`: the modules
# themselves are heavy.
OutputType: TypeAlias = Literal["float32", "float16", "int8", "binary"]
PrecisionOption: TypeAlias = Annotated[
    Literal["auto", "float32", "bfloat16", "float16"],
    typer.Option("--precision", help="Of the model: auto is bfloat16 on CUDA where the family can, else float32."),
]

BackendOption: TypeAlias = Annotated[
    Literal["auto", "torch", "openvino"],
    typer.Option("--backend", help="What runs the model; openvino: mini, clip and st on a CPU. auto: MMSEEK_BACKEND."),
]
VisualTokensOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--visual-tokens",
        metavar="N",
        help="Of a picture's tokens read a share, 0.5, or a number; 0.5:rank, :rows pick how. Other vectors, faster.",
        show_default=False,
    ),
]


def collection_path(location: str) -> Path | str:
    """What `--collection` names: a folder, or a place in Qdrant as it was written.

    Raises:
        SpecError: it names another kind of server, or nothing.
    """
    from mmseek.index.qdrant import is_qdrant

    if is_qdrant(location):
        return location
    if "://" in location:
        raise SpecError(
            f"{location!r} names a server that nothing here speaks with: "
            "give --collection a folder, or qdrant://HOST:PORT/NAME"
        )
    if not location.strip():
        raise SpecError("--collection is empty: give it a folder")
    # The shell leaves the ~ of `--collection=~/x` as it is.
    return Path(location).expanduser()


def folder_of(place: Path | str) -> Path | None:
    """The folder of a collection, or None where it is on a server or in memory."""
    from mmseek.index.qdrant.location import parse_location

    if isinstance(place, Path):
        return place
    found = parse_location(place)
    return Path(found.where) if found.kind == "edge" else None


def beside(folder: Path, ending: str) -> Path:
    """The absolute path of a file beside a folder, named for it."""
    absolute = Path(os.path.abspath(folder))  # noqa: PTH100  # Path.absolute keeps "..", resolve follows links
    return absolute.with_name(absolute.name + ending)


class ModeChoice(StrEnum):
    """How a collection is searched."""

    DENSE = "dense"
    LEXICAL = "lexical"
    HYBRID = "hybrid"


def beside_place(place: Path | str, ending: str) -> Path:
    """The absolute path of a file beside a collection; for one on a server, in the folder where the program runs."""
    return beside(folder_of(place) or Path(_last_name(str(place))), ending)


def _last_name(location: str) -> str:
    name = location.partition("?")[0].rpartition("/")[2].rpartition(":")[2]
    return re.sub(r"[^A-Za-z0-9._-]", "_", name)


def writable_file(path: Path, option: str) -> Path:
    """Check before the work starts that a result can be written here afterwards.

    Raises:
        InputError: a folder is in the way or the parent folder does not exist.
    """
    if path.is_dir():
        raise InputError(f"{option} {path} is a folder: give the name of a file")
    if not path.parent.is_dir():
        raise InputError(f"{option} {path} cannot be written: there is no folder {path.parent}; make it first")
    return path


def write_text(path: Path, text: str) -> None:
    """Write a result file.

    Raises:
        ConfigError: the disk refuses it.
    """
    try:
        path.write_text(text, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise ConfigError(f"{path} cannot be written ({error.strerror}): choose another place") from error
