import subprocess
import sys

import pytest

from mmseek.models import device

CALMED = """
import os, sys
from mmseek.models.device import calm_openmp
import mmseek.cli.serve, mmseek.api.server
assert "torch" not in sys.modules, "the command has loaded torch before it could be calmed"
assert calm_openmp(os.environ)
import torch
assert not calm_openmp(os.environ)
print(os.environ["GOMP_SPINCOUNT"])
"""


@pytest.fixture
def without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torch", raising=False)


@pytest.mark.usefixtures("without_torch")
@pytest.mark.parametrize("name", ["OMP_WAIT_POLICY", "GOMP_SPINCOUNT"])
def test_what_the_user_says_about_waiting_threads_wins(name: str) -> None:
    environment = {name: "as told"}
    assert not device.calm_openmp(environment)
    assert environment == {name: "as told"}


def test_a_server_calms_waiting_threads_before_torch_is_loaded() -> None:
    done = subprocess.run([sys.executable, "-c", CALMED], check=True, capture_output=True, text=True)
    assert done.stdout == "2000\n"
