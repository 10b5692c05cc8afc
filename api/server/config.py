"""The settings of `mmseek serve`: flags win over the environment, the environment over a file, a file over defaults."""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import ByteSize, Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from mmseek.api.server.answering import Answering
from mmseek.api.server.limits import ServerLimits
from mmseek.config import settings
from mmseek.errors import ConfigError
from mmseek.fetching import Fetcher, FetchRules
from mmseek.media import MediaLimits
from mmseek.pipeline.chat import Chat, read_key
from mmseek.pipeline.context import Budget

_PREFIX: Final = "MMSEEK_SERVE_"
_DEFAULTS: Final = ServerLimits()


class ServeSettings(BaseSettings):
    """What a server is told. Each field is read from `MMSEEK_SERVE_` + its name in capitals too.

    The descriptions complete the sentence "must be ...".
    """

    model_config = SettingsConfigDict(env_prefix=_PREFIX, env_ignore_empty=True, frozen=True, extra="forbid")

    collection: str | None = Field(None, description="a folder, qdrant-edge:DIR or qdrant://HOST:PORT/NAME")
    collections: Path | None = Field(None, description="the path of a folder of collections")
    encoder: str | None = Field(None, description="the spec of an encoder")
    allow_encoders: tuple[str, ...] = Field((), description="a list of specs of encoders, beside the usual one")
    max_open: int = Field(16, ge=1, description="a whole number of at least 1")
    device: str | None = Field(None, description="auto, cpu, cuda, cuda:N or mps")
    rerank: tuple[str, ...] = Field(
        (), description="a list of specs of rerankers, each orders the best of the one before"
    )
    rerank_depth: tuple[int, ...] = Field((), description="a list of numbers, one for each reranker")
    names: tuple[str, ...] = Field((), description="a list of names that clients may call the encoder")
    host: str = Field("127.0.0.1", min_length=1, description="an address to listen on")
    port: int = Field(8000, ge=0, le=65535, description="a port from 0 (any free one) to 65535")
    allow_remote: bool = Field(False, description="true or false")
    api_key_file: Path | None = Field(None, description="the path of a file made by `mmseek keys`")
    cors_origins: tuple[str, ...] = Field((), description='a list of origins such as ["https://example.org"]')
    otlp_endpoint: str | None = Field(None, description="an address such as http://127.0.0.1:4318/v1/traces")
    trace_share: float = Field(1.0, ge=0, le=1, description="a number from 0 to 1")
    allow_urls: bool = Field(False, description="true or false")
    url_hosts: tuple[str, ...] = Field((), description='a list of hosts such as ["example.org", ".example.net"]')
    max_body_bytes: ByteSize = Field(ByteSize(_DEFAULTS.max_body_bytes), ge=1, description="a size such as 128MiB")
    max_held_bytes: ByteSize = Field(ByteSize(_DEFAULTS.max_held_bytes), ge=1, description="a size such as 1GiB")
    max_k: int = Field(_DEFAULTS.max_k, ge=1, description="a whole number of at least 1")
    max_documents: int = Field(_DEFAULTS.max_documents, ge=1, description="a whole number of at least 1")
    max_ids: int = Field(_DEFAULTS.max_ids, ge=1, description="a whole number of at least 1")
    max_inputs: int = Field(_DEFAULTS.max_inputs, ge=1, description="a whole number of at least 1")
    max_waiting: int = Field(_DEFAULTS.max_waiting, ge=1, description="a whole number of at least 1")
    batch_cost: int = Field(_DEFAULTS.batch_cost, ge=1, description="a whole number of at least 1")
    request_seconds: int = Field(_DEFAULTS.request_seconds, ge=1, description="a whole number of seconds")
    stuck_seconds: int = Field(_DEFAULTS.stuck_seconds, ge=1, description="a whole number of seconds")
    header_seconds: int = Field(_DEFAULTS.header_seconds, ge=1, description="a whole number of seconds")
    body_seconds: int = Field(_DEFAULTS.body_seconds, ge=1, description="a whole number of seconds")
    drain_seconds: int = Field(_DEFAULTS.drain_seconds, ge=1, description="a whole number of seconds")
    trim_seconds: int = Field(_DEFAULTS.trim_seconds, ge=0, description="a whole number of seconds, or 0")
    cache_bytes: ByteSize = Field(ByteSize(_DEFAULTS.cache_bytes), ge=0, description="a size such as 64MiB, or 0")

    max_job_bytes: ByteSize = Field(ByteSize(_DEFAULTS.max_job_bytes), ge=1, description="a size such as 4GiB")
    data_dir: Path | None = Field(None, description="the path of a folder for this server's jobs")
    import_root: Path | None = Field(None, description="the path of a folder whose files jobs may read")

    llm_url: str | None = Field(None, description="a chat API as OpenAI's, such as http://localhost:8001/v1")
    llm_model: str | None = Field(None, description="the name of a model that the chat API knows")
    llm_api_key_file: Path | None = Field(None, description="the path of a file with a key")
    llm_max_tokens: int = Field(1024, ge=1, description="a whole number of at least 1")
    llm_context_chars: int = Field(12_000, ge=0, description="a whole number of at least 0")
    llm_pictures: int = Field(6, ge=0, description="a whole number of at least 0")
    llm_at_once: int = Field(8, ge=1, description="a whole number of at least 1")
    llm_timeout: float = Field(120.0, gt=0, description="a number of seconds above 0")

    @field_validator("collection", "encoder", "device", "otlp_endpoint", "llm_url", "llm_model")
    @classmethod
    def _not_blank(cls, value: str | None) -> str | None:
        return value or None

    def limits(self) -> ServerLimits:
        """The limits among the settings; those of pictures are the whole machine's, see `mmseek.config`."""
        names = [name for name in ServerLimits.__slots__ if name not in ("media", "fetcher")]
        given = {name: int(getattr(self, name)) for name in names}
        media = MediaLimits.from_settings(settings())
        return ServerLimits(**given, media=media, fetcher=self._fetcher(media))

    def _fetcher(self, media: MediaLimits) -> Fetcher | None:
        if not self.allow_urls:
            if self.url_hosts:
                raise ConfigError("url_hosts (--url-host) only narrows allow_urls (--allow-urls): set both, or neither")
            return None
        return Fetcher(FetchRules(hosts=self.url_hosts, max_bytes=media.max_bytes, seconds=20, tries=2))

    def answering(self) -> Answering | None:
        """The chat endpoint that answers questions, if there is one.

        Raises:
            ConfigError: it has no model, or its key cannot be used.
        """
        if self.llm_url is None:
            return None
        if self.llm_model is None:
            raise ConfigError(f"the chat endpoint {self.llm_url} needs the name of its model: give --llm-model NAME")
        key = read_key(None if self.llm_api_key_file is None else self.llm_api_key_file.expanduser())
        chat = Chat(self.llm_url, self.llm_model, key, max_tokens=self.llm_max_tokens, timeout=self.llm_timeout)
        return Answering(chat, Budget(self.llm_context_chars, self.llm_pictures), self.llm_at_once)

    def to_json(self) -> dict[str, Any]:
        """Every setting, as JSON has it."""
        return {name: str(value) if isinstance(value, Path) else value for name, value in self.model_dump().items()}

    def to_toml(self) -> str:
        """A file that gives these settings again; what is not set stands in comments."""
        lines = [
            f"# {name} must be {type(self).model_fields[name].description}"
            if value is None
            else f"{name} = {json.dumps(value, ensure_ascii=False)}"
            for name, value in self.to_json().items()
        ]
        return "\n".join(lines) + "\n"


def serve_settings(path: Path | None = None, flags: Mapping[str, Any] | None = None) -> ServeSettings:
    """Read the settings of a server now.

    Args:
        path: a TOML file with some of the fields.
        flags: fields that win over everything; None counts as not given.

    Raises:
        ConfigError: the file or a value cannot be used; says where it stands.
    """
    given = {name: value for name, value in (flags or {}).items() if value is not None}
    filed = {} if path is None else _read(path)
    below = {
        name: value for name, value in filed.items() if name not in given and not os.environ.get(_PREFIX + name.upper())
    }
    try:
        return ServeSettings(**below, **given)
    except ValidationError as error:
        raise ConfigError(_sentence(error, path, below, given)) from error
    except ValueError as error:  # a list in the environment that is no JSON
        raise ConfigError(f'a list among the variables {_PREFIX}... is no JSON: write it as ["a", "b"]') from error


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error.strerror}): check the path") from error
    except ValueError as error:
        raise ConfigError(f"{path} is no TOML ({error}): compare it with `mmseek serve --print-config`") from error


def _sentence(error: ValidationError, path: Path | None, below: Mapping[str, Any], given: Mapping[str, Any]) -> str:
    first = error.errors(include_url=False, include_context=False)[0]
    name = str(first["loc"][0])
    fields = ServeSettings.model_fields
    if name not in fields:
        return f"{path} has the unknown setting {name!r}: the settings are {', '.join(fields)}"
    label = name if name in given else f"{path}: {name}" if name in below else f"the variable {_PREFIX}{name.upper()}"
    return f"{label} is {first['input']!r} but must be {fields[name].description}"
