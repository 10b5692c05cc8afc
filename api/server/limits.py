"""What the service takes at most."""

from __future__ import annotations

from dataclasses import dataclass, field

from mmseek.errors import ConfigError
from mmseek.media import MediaLimits


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """Bounds of a request and of the work that may wait.

    Args:
        max_body_bytes: of a request's body, pictures as base64 included.
        max_k: hits of a search.
        max_documents: documents of one request.
        max_ids: ids in `exclude`, `candidates` or a deletion.
        max_waiting: requests that may wait for the encoder; more are refused as busy.
        drain_seconds: how long a stopping server waits for the requests that it has begun.
        media: of each picture.

    Raises:
        ConfigError: a bound is below 1.
    """

    max_body_bytes: int = 128 * 1024**2
    max_k: int = 1000
    max_documents: int = 1000
    max_ids: int = 100_000
    max_waiting: int = 64
    drain_seconds: int = 30
    media: MediaLimits = field(default_factory=MediaLimits)

    def __post_init__(self) -> None:
        for name in ("max_body_bytes", "max_k", "max_documents", "max_ids", "max_waiting", "drain_seconds"):
            value: int = getattr(self, name)
            if value < 1:
                raise ConfigError(f"{name} must be at least 1, not {value}")
