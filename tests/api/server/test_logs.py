"""The log of the server, as a person and as a machine reads it."""

import io
import json
import sys

import pytest
import structlog

from mmseek.api.server.logs import configure_logs


class Screen(io.StringIO):
    """Something that a person looks at, or not."""

    def __init__(self, looked_at):
        super().__init__()
        self._looked_at = looked_at

    def isatty(self):
        return self._looked_at


@pytest.fixture
def log_to(monkeypatch):
    before = structlog.get_config()

    def start(looked_at):
        monkeypatch.setattr(sys, "stderr", Screen(looked_at))
        configure_logs()
        return sys.stderr

    yield start
    structlog.configure(**before)


@pytest.mark.parametrize("looked_at", [True, False])
def test_a_traceback_shows_where_and_never_what_variables_hold(log_to, looked_at):
    screen = log_to(looked_at)
    held = "words of a " + "request"
    try:
        raise ValueError(len(held))
    except ValueError as error:
        structlog.get_logger("mmseek.api").error("broke", exc_info=error)
    told = screen.getvalue()
    assert "ValueError: 18" in told
    assert "test_logs.py" in told
    assert "words of a request" not in told
    if not looked_at:
        assert json.loads(told)["event"] == "broke"
