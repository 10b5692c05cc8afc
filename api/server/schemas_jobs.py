"""Bodies about bulk jobs."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from mmseek.api.server.schemas import Answer, Body, ErrorDetail


class JobFileBody(Body):
    """A file or a folder of the server: JSONL is read by lines, all else as `mmseek index` reads it."""

    path: str = Field(min_length=1, max_length=4096, description="below the folder of --import-root")


class JobAnswer(Answer):
    """A job and how far it is: documents that are counted are durable. Times are ISO 8601 in UTC."""

    id: str
    state: Literal["waiting", "running", "done", "failed", "cancelled"]
    progress: float = Field(description="of the bytes of the input, from 0 to 1; of a folder 0 until it is done")
    bytes: int
    lines: int = Field(description="that are done")
    indexed: int
    unchanged: int
    failed: int
    error: ErrorDetail | None = Field(description="why it failed")
    created_at: str
    updated_at: str


class JobsAnswer(Answer):
    """Jobs, the newest first; `next` is the cursor of older ones, null at the end."""

    jobs: list[JobAnswer]
    next: str | None


class LineFailureAnswer(Answer):
    """A line that was not stored, counted from 1, and why. Of files without lines, the file of that number; of a
    folder or document, only the number of the failure."""

    line: int
    id: str | None
    code: str
    message: str


class JobFailuresAnswer(Answer):
    """Lines that were not stored, in order; at most 10,000 are kept of a job."""

    failures: list[LineFailureAnswer]
    next: str | None


class DeletedJobAnswer(Answer):
    """The job that is forgotten."""

    deleted: str
