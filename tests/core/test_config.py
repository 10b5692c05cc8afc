from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from mmseek.config import Settings, settings
from mmseek.errors import ConfigError


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    for name in Settings.model_fields:
        monkeypatch.delenv(f"MMSEEK_{name.upper()}", raising=False)


def test_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    found = settings()
    assert found.cache_dir == Path("/home/me/.cache/mmseek")
    assert found.offline is False
    assert found.max_image_bytes == 64 * 1024**2
    assert found.max_image_pixels == 64_000_000
    assert found.threads == 0
    assert found.device == "auto"


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("offline", "1", True),
        ("offline", "true", True),
        ("offline", "no", False),
        ("max_image_bytes", "1000", 1000),
        ("max_image_bytes", "2MiB", 2 * 1024**2),
        ("max_image_bytes", "2 MB", 2_000_000),
        ("max_image_pixels", "1", 1),
        ("threads", "4", 4),
        ("device", "cuda:1", "cuda:1"),
        ("device", "cpu", "cpu"),
        ("cache_dir", "/tmp/cache", Path("/tmp/cache")),
        ("threads", "", 0),
    ],
)
def test_from_the_environment_at_call(monkeypatch: pytest.MonkeyPatch, name: str, value: str, expected: object) -> None:
    before = settings()
    monkeypatch.setenv(f"MMSEEK_{name.upper()}", value)
    assert getattr(settings(), name) == expected
    monkeypatch.delenv(f"MMSEEK_{name.upper()}")
    assert settings() == before


def test_cache_dir_is_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")
    for value, expected in (("here", tmp_path / "here"), ("~/there", Path("/home/me/there"))):
        monkeypatch.setenv("MMSEEK_CACHE_DIR", value)
        assert settings().cache_dir == expected


def test_xdg_cache_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert settings().cache_dir == Path("/caches/mmseek")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert settings().cache_dir == Path("/home/me/.cache/mmseek")


@pytest.mark.parametrize(
    ("name", "value", "must"),
    [
        ("OFFLINE", "perhaps", "true or false"),
        ("MAX_IMAGE_BYTES", "lots", "a size such as 64MiB or 67108864"),
        ("MAX_IMAGE_BYTES", "0", "a size such as 64MiB or 67108864"),
        ("MAX_IMAGE_PIXELS", "-1", "a whole number of at least 1"),
        ("THREADS", "many", "a whole number from 0 (all cores) to 1024"),
        ("THREADS", "2000", "a whole number from 0 (all cores) to 1024"),
        ("DEVICE", "tpu", "auto, cpu, mps, cuda or cuda:NUMBER"),
    ],
)
def test_bad_value_names_the_variable(monkeypatch: pytest.MonkeyPatch, name: str, value: str, must: str) -> None:
    monkeypatch.setenv(f"MMSEEK_{name}", value)
    with pytest.raises(ConfigError) as error:
        settings()
    assert str(error.value) == f"the environment variable MMSEEK_{name} is {value!r} but must be {must}"


def test_overrides_win(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMSEEK_THREADS", "4")
    assert settings(threads=2).threads == 2
    with pytest.raises(ConfigError, match=r"^threads is -1 but must be a whole number from 0"):
        settings(threads=-1)
    with pytest.raises(ConfigError, match="there is no setting named 'thread': the settings are cache_dir, offline"):
        settings(thread=1)


def test_every_setting_completes_its_sentence_and_is_fixed() -> None:
    assert all(field.description for field in Settings.model_fields.values())
    found = settings()
    with pytest.raises(ValidationError):
        found.threads = 3  # type: ignore[misc]


def test_variables_of_others_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMSEEK_SOMETHING_ELSE", "1")
    assert settings() == settings()
