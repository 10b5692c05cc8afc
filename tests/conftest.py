from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest


@pytest.fixture
def make_pdf() -> Callable[..., bytes]:
    """A PDF with a page for each text."""

    def make(texts: Sequence[str], *, encrypted: bool = False) -> bytes:
        pages = " ".join(f"{number} 0 R" for number in range(4, 4 + 2 * len(texts), 2))
        objects = [
            "<</Type/Catalog/Pages 2 0 R>>",
            f"<</Type/Pages/Count {len(texts)}/Kids[{pages}]>>",
            "<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
        ]
        for text in texts:
            stream = f"BT /F1 12 Tf 20 100 Td ({text}) Tj ET"
            contents = len(objects) + 2
            objects += [
                f"<</Type/Page/Parent 2 0 R/MediaBox[0 0 200 200]/Resources<</Font<</F1 3 0 R>>>>/Contents {contents} 0 R>>",
                f"<</Length {len(stream)}>>stream\n{stream}\nendstream",
            ]
        if encrypted:
            key = "00" * 32
            objects.append(f"<</Filter/Standard/V 1/R 2/O<{key}>/U<{key}>/P -4>>")
        body, places = "%PDF-1.4\n", []
        for number, each in enumerate(objects, start=1):
            places.append(len(body))
            body += f"{number} 0 obj\n{each}\nendobj\n"
        lock = f"/Encrypt {len(objects)} 0 R/ID[<00><00>]" if encrypted else ""
        table = "".join(f"{place:010} 00000 n \n" for place in places)
        start = len(body)
        body += f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{table}"
        body += f"trailer<</Size {len(objects) + 1}/Root 1 0 R{lock}>>\nstartxref\n{start}\n%%EOF"
        return body.encode("latin-1")

    return make
