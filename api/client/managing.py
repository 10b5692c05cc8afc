"""Calls about collections, aliases and jobs."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

from mmseek._types import Document
from mmseek.api.client.answers import (
    CollectionNames,
    CollectionStatus,
    JobStatus,
    LineFailed,
    read_job,
    read_status,
)
from mmseek.api.client.calls import Call, Target, once
from mmseek.api.client.requests import Picture, as_image, bytes_of, item_json
from mmseek.errors import InputError


def collections(at: Target) -> Call[CollectionNames]:
    """The names of the server's collections, their aliases, and the encoders of new ones."""
    del at

    def read(answer: httpx.Response) -> CollectionNames:
        told = answer.json()
        return CollectionNames(tuple(told["collections"]), dict(told["aliases"]), tuple(told["encoders"]))

    return Call("GET", "v1/collections", read)


def create_collection(at: Target, name: str, encoder: str | None = None) -> Call[CollectionStatus]:
    """Make an empty collection.

    Args:
        name: 1 to 64 of letters, digits, '.', '_' and '-'.
        encoder: the spec of one that the server runs; by default its usual one.
    """
    del at
    body = {"name": name} | ({} if encoder is None else {"encoder": encoder})
    return Call(
        "POST",
        "v1/collections",
        lambda answer: read_status(answer.json()),
        json=body,
        headers=once(),
        accepts=frozenset({201}),
    )


def delete_collection(at: Target, name: str) -> Call[None]:
    """Remove a collection with all that it holds.

    Raises:
        NotFound: there is none.
    """
    del at
    return Call("DELETE", f"v1/collections/{quote(name, safe='')}", lambda _: None, headers=once())


def set_alias(at: Target, alias: str, collection: str) -> Call[str | None]:
    """Let an alias stand for a collection from now on; what it stood for before, if anything."""
    del at
    body = {"collection": collection}
    return Call("PUT", f"v1/aliases/{quote(alias, safe='')}", lambda answer: _before(answer.json()), json=body)


def remove_alias(at: Target, alias: str) -> Call[None]:
    """Take an alias away, not its collection."""
    del at
    return Call("DELETE", f"v1/aliases/{quote(alias, safe='')}", lambda _: None, headers=once())


def compact(at: Target) -> Call[int]:
    """Give the space of replaced and deleted documents back to the server's disk; how many vectors were dropped."""
    path, waiting = f"{at.base}/compact", httpx.Timeout(3600.0, connect=10.0)  # all vectors are written once more
    return Call("POST", path, lambda answer: int(answer.json()["dropped"]), headers=once(), timeout=waiting)


def start_job(
    at: Target,
    items: Path | Iterable[Document | Mapping[str, Any]] | None = None,
    *,
    files: Mapping[str, Picture] | None = None,
    server_path: str | None = None,
) -> Call[JobStatus]:
    """Let the server store many documents in the background.

    Args:
        items: a JSONL file, or documents; they are sent in one request, held in memory.
        files: pictures by the names that the items give them; without items, each becomes a document of its name.
        server_path: instead, a JSONL file of the server, below the folder that its operator opened.
    """
    given = {"json": {"path": server_path}} if server_path is not None else _sent(items, files)
    if server_path is not None and (items is not None or files):
        raise InputError("a job reads a file of the server or what is sent: give one of them")
    headers = {**once(), **given.pop("headers", {})}
    return Call("POST", f"{at.base}/jobs", _read_job, headers=headers, accepts=frozenset({202}), **given)


def job(at: Target, job_id: str) -> Call[JobStatus]:
    """How far a job is."""
    return Call("GET", _path(at, job_id), _read_job)


def jobs(at: Target, *, limit: int = 100) -> Call[tuple[JobStatus, ...]]:
    """The newest jobs of the collection."""

    def read(answer: httpx.Response) -> tuple[JobStatus, ...]:
        return tuple(map(read_job, answer.json()["jobs"]))

    return Call("GET", f"{at.base}/jobs", read, params={"limit": limit})


def job_failures(at: Target, job_id: str, *, limit: int = 1000) -> Call[tuple[LineFailed, ...]]:
    """The first lines of a job that were not stored, and why."""

    def read(answer: httpx.Response) -> tuple[LineFailed, ...]:
        rows = answer.json()["failures"]
        return tuple(LineFailed(row["line"], row["id"], row["code"], row["message"]) for row in rows)

    return Call("GET", f"{_path(at, job_id)}/failures", read, params={"limit": limit})


def cancel_job(at: Target, job_id: str) -> Call[JobStatus]:
    """Stop a job; what is stored stays."""
    return Call("POST", f"{_path(at, job_id)}/cancel", _read_job)


def resume_job(at: Target, job_id: str) -> Call[JobStatus]:
    """Let a job that failed or was cancelled go on from where it stopped."""
    return Call("POST", f"{_path(at, job_id)}/resume", _read_job, headers=once())


def forget_job(at: Target, job_id: str) -> Call[None]:
    """Forget a job that has ended; its documents stay."""
    return Call("DELETE", _path(at, job_id), lambda _: None, headers=once())


def named(at: Target, name: str) -> Target:
    """The same server, and one of its collections."""
    return replace(at, base=f"v1/collections/{quote(name, safe='')}")


def _sent(
    items: Path | Iterable[Document | Mapping[str, Any]] | None, files: Mapping[str, Picture] | None
) -> dict[str, Any]:
    lines = None if items is None else _lines(items)
    if not files:
        if lines is None:
            raise InputError("there is nothing to store: give items, files or server_path")
        return {"content": lines, "headers": {"Content-Type": "application/x-ndjson"}}
    form: list[tuple[str, tuple[str, bytes]]] = [] if lines is None else [("items", ("items.jsonl", lines))]
    form += [("files", (name, bytes_of(as_image(picture)))) for name, picture in files.items()]
    # The same boundary each time that it is sent, by which the server knows it again.
    return {"files": form, "headers": {"Content-Type": f"multipart/form-data; boundary={uuid.uuid4().hex}"}}


def _lines(items: Path | Iterable[Document | Mapping[str, Any]]) -> bytes:
    if isinstance(items, Path):
        try:
            return items.read_bytes()
        except OSError as error:
            raise InputError(f"{items} cannot be read ({error.strerror}): give the path of a JSONL file") from error
    return "".join(json.dumps(item_json(item)) + "\n" for item in items).encode()


def _read_job(answer: httpx.Response) -> JobStatus:
    return read_job(answer.json())


def _before(told: Mapping[str, Any]) -> str | None:
    before = told["before"]
    return None if before is None else str(before)


def _path(at: Target, job_id: str) -> str:
    return f"{at.base}/jobs/{quote(job_id, safe='')}"
