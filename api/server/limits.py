"""What the service takes at most."""

from __future__ import annotations

from dataclasses import dataclass, field

from mmseek.errors import ConfigError
from mmseek.fetching import Fetcher
from mmseek.media import MediaLimits


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """Bounds of a request and of the work that may wait.

    Args:
        max_body_bytes: of a request's body, pictures as base64 included.
        max_held_bytes: of the bodies of all requests that are not answered yet; more are refused as busy.
        max_k: hits of a search.
        max_documents: documents of one request.
        max_ids: ids in `exclude`, `candidates` or a deletion.
        max_inputs: items of one request for embeddings or scores.
        max_waiting: requests that may wait for a model; more are refused as busy.
        batch_cost: of what goes to a model at once, in estimated tokens; a picture counts as 256.
        request_seconds: the longest that a request may wait for a model.
        stuck_seconds: without any outcome for so long, a model's worker is replaced.
        cache_bytes: of memory for vectors that were made before; 0 keeps none.
        header_seconds: a connection on which no request begins for so long, its headers whole, is closed.
        body_seconds: a request of whose body nothing comes for so long is refused.
        drain_seconds: how long a stopping server waits for the requests that it has begun.
        trim_seconds: between two times that a server of its own process gives free memory back; 0 never does.
        max_job_bytes: of the inputs of all bulk jobs together.
        media: of each picture.
        fetcher: fetches pictures that are named by http(s) URLs; without one they are refused.

    Raises:
        ConfigError: a bound is below 1.
    """

    max_body_bytes: int = 128 * 1024**2
    max_held_bytes: int = 1024**3
    max_k: int = 1000
    max_documents: int = 1000
    max_ids: int = 100_000
    max_inputs: int = 2048
    max_waiting: int = 256
    batch_cost: int = 8192
    request_seconds: int = 300
    stuck_seconds: int = 300
    cache_bytes: int = 64 * 1024**2
    header_seconds: int = 60
    body_seconds: int = 60
    drain_seconds: int = 30
    trim_seconds: int = 30
    max_job_bytes: int = 4 * 1024**3
    media: MediaLimits = field(default_factory=MediaLimits)
    fetcher: Fetcher | None = None

    def __post_init__(self) -> None:
        for name in self.__slots__:
            value = getattr(self, name)
            least = 0 if name in ("cache_bytes", "trim_seconds") else 1
            if isinstance(value, int) and value < least:
                raise ConfigError(f"{name} must be at least {least}, not {value}")
