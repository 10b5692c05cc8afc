"""Free memory is given back while the server runs, and by no thread afterwards."""

import threading

from mmseek.api.server.trimming import trimming


def names():
    return [thread.name for thread in threading.enumerate()]


def test_gives_back_again_and_again_until_the_end():
    again = threading.Semaphore(0)
    with trimming(0.001, again.release):
        assert "mmseek-trimming" in names()
        for _ in range(3):
            assert again.acquire(timeout=30)
    assert "mmseek-trimming" not in names()


def test_never_if_told_so():
    with trimming(0):
        assert "mmseek-trimming" not in names()
