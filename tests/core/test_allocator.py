"""The C library's allocator: what is asked of it, and where nothing is."""

import json
import subprocess
import sys

import pytest

from mmseek.models.allocator import give_back_free_memory, use_few_arenas

SCRIPT = """
import json, os, sys, threading
import numpy as np
from mmseek.models.allocator import give_back_free_memory, use_few_arenas
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
told = use_few_arenas({}, 1)
kept = [np.ones(1000, np.uint8) for _ in range(1)]
pieces = [np.ones(60_000, np.uint8) for _ in range(2000)]  # below the size that is mapped alone
del pieces[:-1]  # what is left lies at the end, so nothing before it is given back
before = resident()
gave = give_back_free_memory()
print(json.dumps([told, gave, before - resident()]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="asks GNU's C library")
def test_free_memory_between_what_is_used_is_given_back():
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True, timeout=120)
    told, gave, less = json.loads(done.stdout)
    assert (told, gave) == (True, True)
    assert less > 50 * 1024**2


@pytest.mark.parametrize(
    "environment", [{"MALLOC_ARENA_MAX": "4"}, {"GLIBC_TUNABLES": "glibc.malloc.arena_max=3:glibc.malloc.check=1"}]
)
def test_what_the_user_has_set_wins(environment):
    assert not use_few_arenas(environment, 2)


def test_elsewhere_nothing_is_asked(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not use_few_arenas({}, 2)
    assert not give_back_free_memory()
