"""Run in a process of its own, to be killed before its STEP-th write, sync, rename or removal.

snapshot SOURCE TARGET STEP     also export, import, repair; TARGET of a repair is not used
"""

from __future__ import annotations

import importlib.util
from contextlib import closing
from pathlib import Path

from mmseek.index import open_collection, repair_collection, take_snapshot
from mmseek.index.exchange import export_collection, import_collection, read_export

spec = importlib.util.spec_from_file_location("writer_program", Path(__file__).with_name("writer_program.py"))
writer_program = importlib.util.module_from_spec(spec)
spec.loader.exec_module(writer_program)


def run(arguments: list[str]) -> None:
    what, source, target = arguments[0], Path(arguments[1]), Path(arguments[2])
    writer_program.die_at(int(arguments[3]))
    if what == "snapshot":
        take_snapshot(source, target)
    elif what == "export":
        with closing(open_collection(source)) as collection:
            export_collection(collection, target, rows=16)
    elif what == "import":
        with closing(open_collection(target, mode="write", encoder=read_export(source).encoder)) as collection:
            import_collection(source, collection)
    else:
        repair_collection(source)
