"""Programs that are run again and again, to be killed: imported once, then forked for each run.

As a script it is the process that forks: `forking.py PROGRAM DESCRIPTOR` imports the file, and for each order that
comes over the socket calls its `run(arguments)` in a process of its own.
"""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import NamedTuple, TextIO


def load(program: Path) -> ModuleType:
    """The module of a file."""
    spec = importlib.util.spec_from_file_location(program.stem, program)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Ended(NamedTuple):
    """How a run ended; the status is minus the number of the signal that killed it."""

    status: int
    output: str
    complaint: str


class Run:
    """A run that was started. It stays a process, be it a dead one, until `end` is called."""

    def __init__(self, link: socket.socket, pid: int, stdout: TextIO, stderr: TextIO) -> None:
        self._link, self._pid, self.stdout, self._stderr = link, pid, stdout, stderr

    def kill(self) -> None:
        os.kill(self._pid, signal.SIGKILL)

    def end(self) -> Ended:
        """Wait for its end; what it said since it was last listened to."""
        with self.stdout, self._stderr:
            output, complaint = self.stdout.read(), self._stderr.read()
        self._link.sendall(b"end")
        return Ended(json.loads(self._link.recv(100)), output, complaint)


class Forks:
    """The process that forks the runs of a program, one at a time."""

    def __init__(self, program: Path) -> None:
        self._link, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, __file__, str(program), str(theirs.fileno())]
            self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()])

    def start(self, *arguments: object) -> Run:
        (out, stdout), (err, stderr) = os.pipe(), os.pipe()
        socket.send_fds(self._link, [json.dumps([str(each) for each in arguments]).encode()], [stdout, stderr])
        os.close(stdout)
        os.close(stderr)
        return Run(self._link, int(self._link.recv(100)), open(out), open(err))  # noqa: PTH123 - descriptors

    def close(self) -> None:
        self._link.close()
        self._process.wait()


def main(program: Path, link: socket.socket) -> None:
    module = load(program)
    while order := socket.recv_fds(link, 65536, 2):
        arguments, descriptors = order[:2]
        if not arguments:
            return
        pid = os.fork()
        if pid == 0:
            for number, descriptor in enumerate(descriptors, start=1):
                os.dup2(descriptor, number)
                os.close(descriptor)
            link.close()
            try:
                module.run(json.loads(arguments))
            except BaseException:  # noqa: BLE001 - told as the interpreter would
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        for descriptor in descriptors:
            os.close(descriptor)
        link.sendall(str(pid).encode())
        link.recv(100)  # a run that has ended keeps its number until somebody wants to know how it ended
        link.sendall(str(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])).encode())


if __name__ == "__main__":
    main(Path(sys.argv[1]), socket.socket(fileno=int(sys.argv[2])))
