"""Python clients of a running `mmseek serve`. Importing them loads no model and no array library."""

from mmseek.api.client.answers import (
    Added,
    CollectionNames,
    CollectionStatus,
    Counted,
    DocumentsPage,
    Explained,
    Failed,
    JobStatus,
    LineFailed,
    SearchAnswer,
    StageOutcome,
)
from mmseek.api.client.asking import AnswerText, AskAnswer, AskedSources, AskEvent, CitedSource
from mmseek.api.client.asynchronous import AsyncClient
from mmseek.api.client.failures import BadAnswer, Busy, KeyRefused, NotFound, Unreachable
from mmseek.api.client.retrying import Retry
from mmseek.api.client.synchronous import Client

__all__ = [
    "Added",
    "AnswerText",
    "AskAnswer",
    "AskEvent",
    "AskedSources",
    "AsyncClient",
    "BadAnswer",
    "Busy",
    "CitedSource",
    "Client",
    "CollectionNames",
    "CollectionStatus",
    "Counted",
    "DocumentsPage",
    "Explained",
    "Failed",
    "JobStatus",
    "KeyRefused",
    "LineFailed",
    "NotFound",
    "Retry",
    "SearchAnswer",
    "StageOutcome",
    "Unreachable",
]
