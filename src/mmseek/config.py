"""Settings from the environment, read when asked for and never at import."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

from pydantic import ByteSize, Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from mmseek.errors import ConfigError

__all__ = ["MAX_IMAGE_BYTES", "MAX_IMAGE_PIXELS", "MAX_VIDEO_BYTES", "MAX_VIDEO_SECONDS", "Settings", "settings"]

MAX_IMAGE_BYTES: Final = 64 * 1024**2
MAX_IMAGE_PIXELS: Final = 64_000_000
MAX_VIDEO_BYTES: Final = 1024**3
MAX_VIDEO_SECONDS: Final = 4 * 3600


def _default_cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG specification says that a relative value is to be ignored.
    root = Path(base) if base and Path(base).is_absolute() else Path("~/.cache").expanduser()
    return root / "mmseek"


class Settings(BaseSettings):
    """What can be set for a whole machine or process.

    Each field is read from the variable `MMSEEK_` + its name in capitals; an empty variable counts as not set.
    The descriptions complete the sentence "must be ...".
    """

    model_config = SettingsConfigDict(env_prefix="MMSEEK_", env_ignore_empty=True, frozen=True, extra="forbid")

    cache_dir: Path = Field(default_factory=_default_cache, description="the path of a folder")
    offline: bool = Field(False, description="true or false")
    max_image_bytes: ByteSize = Field(ByteSize(MAX_IMAGE_BYTES), ge=1, description="a size such as 64MiB or 67108864")
    max_image_pixels: int = Field(MAX_IMAGE_PIXELS, ge=1, description="a whole number of at least 1")
    max_video_bytes: ByteSize = Field(ByteSize(MAX_VIDEO_BYTES), ge=1, description="a size such as 1GiB")
    max_video_seconds: float = Field(MAX_VIDEO_SECONDS, gt=0, description="a number of seconds above 0")
    embedding_cache_bytes: ByteSize = Field(
        ByteSize(1024**3), ge=1024**2, description="a size of at least 1MiB, such as 4GiB"
    )
    threads: int = Field(0, ge=0, le=1024, description="a whole number from 0 (all cores) to 1024")
    trust_remote_code: str = Field("", description="hub ids or folders of models, separated by commas")
    device: str = Field(
        "auto", pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$", description="auto, cpu, mps, cuda or cuda:NUMBER"
    )

    backend: str = Field("torch", pattern=r"^(torch|openvino)$", description="torch or openvino")

    qdrant_api_key_file: Path | None = Field(None, description="the path of a file with a key")
    llm_api_key_file: Path | None = Field(None, description="the path of a file with a key")

    @field_validator("cache_dir")
    @classmethod
    def _absolute(cls, path: Path) -> Path:
        return path.expanduser().absolute()


def settings(**overrides: Any) -> Settings:
    """Read the environment now. `overrides` are fields that win over it.

    Raises:
        ConfigError: a value cannot be used; the message names the variable.
    """
    try:
        return Settings(**overrides)
    except ValidationError as error:
        raise ConfigError(_sentence(error, overrides)) from error


def _sentence(error: ValidationError, overrides: dict[str, Any]) -> str:
    first = error.errors(include_url=False, include_context=False)[0]
    name = str(first["loc"][0])
    fields = Settings.model_fields
    if name not in fields:
        return f"there is no setting named {name!r}: the settings are {', '.join(fields)}"
    label = name if name in overrides else f"the environment variable MMSEEK_{name.upper()}"
    return f"{label} is {first['input']!r} but must be {fields[name].description}"
