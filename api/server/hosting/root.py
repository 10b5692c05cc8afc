"""A folder of collections as the operator gives it to a server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mmseek.errors import ConfigError

if TYPE_CHECKING:
    from mmseek.pipeline.encoders import AnyEncoder
    from mmseek.pipeline.reranking import Stage


@dataclass(frozen=True, slots=True)
class CollectionRoot:
    """What `create_app` needs to serve many collections.

    Args:
        folder: each collection is a folder in it, each alias a small file; made if it is not there.
        encoders: those that collections here may be of; a new one is of the first unless it asks for another.
        stages: the rerankers of every collection.
        max_open: collections that are open at a time; what was not asked for longest is closed.

    Raises:
        ConfigError: there is no encoder, or the bound is below 1.
    """

    folder: Path
    encoders: Sequence[AnyEncoder]
    stages: Sequence[Stage] = ()
    max_open: int = 16

    def __post_init__(self) -> None:
        if not self.encoders:
            raise ConfigError("a folder of collections needs an encoder: give one with --encoder SPEC")
        if self.max_open < 1:
            raise ConfigError(f"max_open must be at least 1, not {self.max_open}")
