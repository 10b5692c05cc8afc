"""`mmseek keys`: the file of API keys that `mmseek serve` lets in."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from mmseek.cli.options import JsonOption, writable_file
from mmseek.cli.output import one_line, say, verb_output
from mmseek.errors import InputError


def keys(
    file: Annotated[Path, typer.Option("--file", "-f", metavar="FILE", help="The file; made if it is not there.")],
    add: Annotated[str | None, typer.Option("--add", metavar="NAME", help="Make a key and print it, once.")] = None,
    remove: Annotated[
        str | None, typer.Option("--remove", metavar="NAME", help="Take a key out; servers see it when they start.")
    ] = None,
    scope: Annotated[
        Literal["read", "write", "admin"],
        typer.Option(
            "--scope", help="read: search and embed; write: change documents too; admin: collections and metrics too."
        ),
    ] = "read",
    per_minute: Annotated[
        int, typer.Option("--per-minute", metavar="N", min=0, help="Requests a minute; 0: any number.")
    ] = 0,
    max_body_bytes: Annotated[
        int, typer.Option("--max-body-bytes", metavar="N", min=0, help="Of a request; 0: what the server takes.")
    ] = 0,
    as_json: JsonOption = False,
) -> None:
    """Make, remove and list API keys for `mmseek serve --api-key-file`.

    The file holds hashes; a key itself is printed when it is made and never again.
    """
    with verb_output(as_json) as out:
        from mmseek.api.server.security import new_key, read_keys, write_keys
        from mmseek.api.server.security.keys import check_name

        if add is not None and remove is not None:
            raise InputError("give --add or --remove, not both")
        file = writable_file(file.expanduser(), "--file")
        known = read_keys(file) if file.exists() else []
        if add is not None:
            if any(key.name == check_name(add) for key in known):
                raise InputError(f"there is a key named {add!r} already: remove it first, or give another name")
            secret, key = new_key(add, scope=scope, per_minute=per_minute, max_body_bytes=max_body_bytes)
            write_keys(file, [*known, key])
            out.json({"name": key.name, "scope": key.scope, "key": secret})
            say(f"added {one_line(add)} to {file}; this is the only time that its key is shown")
            out.show(secret)
            return
        if remove is not None:
            left = [key for key in known if key.name != remove]
            if len(left) == len(known):
                raise InputError(f"{file} has no key named {remove!r}: `mmseek keys --file {file}` lists them")
            write_keys(file, left)
            known = left
        listed = [{"name": key.name, "scope": key.scope, "per_minute": key.per_minute} for key in known]
        out.json({"keys": listed})
        out.show(*(f"{one_line(key.name)}\t{key.scope}" for key in known))
