"""Pictures that come without items: each becomes a document under the name of its file."""

from __future__ import annotations

import json
from collections.abc import Sequence


def lines_of_files(names: Sequence[str]) -> bytes:
    """An item a file, its name being its id and its picture."""
    return "".join(json.dumps({"id": name, "image": name}) + "\n" for name in names).encode()
