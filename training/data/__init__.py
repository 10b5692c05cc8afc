"""Training rows and where they come from: one reader a format, each a file of this folder.

A new format is one entry of `FORMATS` and one function `open_source(config) -> Source`.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from mmseek.errors import ConfigError

if TYPE_CHECKING:
    from mmseek.training.data.rows import Source
    from mmseek.training.settings import SourceConfig

__all__ = ["FORMATS", "open_source"]

FORMATS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "triples": "mmseek.training.data.triples:open_source",
        "dataset": "mmseek.training.data.benchmark:open_source",
    }
)
"""The name in `data.sources.N.format` -> `module:function`."""


def open_source(config: SourceConfig) -> Source:
    """Open a source of training rows. Every row is looked at once; pictures are not opened.

    Raises:
        ConfigError: no such format.
        InputError: the file or folder cannot be read, or holds no usable row.
    """
    if config.format not in FORMATS:
        raise ConfigError(f"no training data has the format {config.format!r}: it is one of {', '.join(FORMATS)}")
    module, _, function = FORMATS[config.format].partition(":")
    source: Source = getattr(import_module(module), function)(config)
    return source
