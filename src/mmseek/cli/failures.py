"""From an exception to what the user reads and what the shell gets."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from mmseek.errors import MmseekError

__all__ = ["EXIT_INTERNAL", "EXIT_PARTIAL", "EXIT_REFUSED", "EXIT_STOPPED", "Failure", "Stopped", "describe"]

EXIT_PARTIAL = 1
EXIT_REFUSED = 2
EXIT_INTERNAL = 70
EXIT_STOPPED = 130
# What people meant by the wrong usage that is met most often.
_ADVICE = {
    "unexpected extra argument": "put quotes around words that belong together",
    "No such option: --encoder": "a collection remembers its encoder",
}


class Stopped(Exception):
    """Ctrl-C in a verb that can say what is kept. The message is one sentence."""


@dataclass(frozen=True, slots=True)
class Failure:
    """One sentence, the stable code of `--json`, and the exit code."""

    message: str
    code: str
    exit_code: int


def describe(error: BaseException, arguments: list[str]) -> Failure:
    """Say in one sentence what happened. `arguments` are those of the command line, for advice."""
    if isinstance(error, MmseekError):
        return Failure(str(error), error.code, EXIT_REFUSED)
    if isinstance(error, Stopped):
        return Failure(str(error), "stopped", EXIT_STOPPED)
    if isinstance(error, KeyboardInterrupt):
        return Failure("stopped before it was done; nothing was changed", "stopped", EXIT_STOPPED)
    # Wrong usage, whichever library typer stands on in this version: it formats its own message.
    formatted = getattr(error, "format_message", None)
    if formatted is not None:
        return Failure(_usage(str(formatted()), arguments), "usage", EXIT_REFUSED)
    if isinstance(error, MemoryError):
        return Failure(
            "there is not enough memory for this; close other programs or use a smaller --batch-size",
            "out_of_memory",
            EXIT_REFUSED,
        )
    if isinstance(error, OSError) and error.strerror:
        where = "" if error.filename is None else f" for {error.filename}"
        return Failure(
            f"the system says {error.strerror!r}{where}: see to that and run it again", "system", EXIT_REFUSED
        )
    reason = f"{type(error).__name__}: {error}".rstrip(": ")
    again = shlex.join(["mmseek", "--debug", *arguments])
    return Failure(
        f"mmseek met a fault of its own ({reason}); for the traceback run: {again}", "internal", EXIT_INTERNAL
    )


def _usage(message: str, arguments: list[str]) -> str:
    verb = next((argument for argument in arguments if not argument.startswith("-")), None)
    help_of = "mmseek --help" if verb is None or "No such command" in message else f"mmseek {verb} --help"
    sentence = message.replace("Value error, ", "").strip().rstrip(".")
    hint = "".join(f": {advice}" for words, advice in _ADVICE.items() if words in sentence)
    return f"{sentence[:1].lower()}{sentence[1:]}{hint}; see {help_of}"
