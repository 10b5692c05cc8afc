"""Python clients of a running `mmseek serve`; see `mmseek.api.client`."""

from mmseek.api.client import (
    Added,
    AsyncClient,
    BadAnswer,
    Busy,
    Client,
    CollectionStatus,
    Explained,
    Failed,
    KeyRefused,
    NotFound,
    Retry,
    SearchAnswer,
    StageOutcome,
    Unreachable,
)

__all__ = [
    "Added",
    "AsyncClient",
    "BadAnswer",
    "Busy",
    "Client",
    "CollectionStatus",
    "Explained",
    "Failed",
    "KeyRefused",
    "NotFound",
    "Retry",
    "SearchAnswer",
    "StageOutcome",
    "Unreachable",
]
