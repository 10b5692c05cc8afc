"""Run by test_kill_copies.py as a program of its own, to be killed before its STEP-th write, sync, rename or removal.

copying_program.py snapshot SOURCE TARGET STEP     also export, import, repair; TARGET of a repair is not used
"""

from __future__ import annotations

import importlib.util
import sys
from contextlib import closing
from pathlib import Path

from mmseek.index import open_collection, repair_collection, take_snapshot
from mmseek.index.exchange import export_collection, import_collection, read_export

spec = importlib.util.spec_from_file_location("writer_program", Path(__file__).with_name("writer_program.py"))
writer_program = importlib.util.module_from_spec(spec)
spec.loader.exec_module(writer_program)


def main(what: str, source: Path, target: Path, step: int) -> None:
    writer_program.die_at(step)
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


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]))
