"""Text and pictures in the order in which a reader meets them."""

from __future__ import annotations

import re

from mmseek._types import Content, Image, Part, Text

__all__ = ["Interleaved"]


class Interleaved:
    """Collects parts: text until a picture comes, then the picture."""

    def __init__(self) -> None:
        self._parts: list[Part] = []
        self._words: list[str] = []

    def say(self, words: str) -> None:
        """Add text."""
        self._words.append(words)

    def show(self, image: Image, alt: str = "") -> None:
        """Add a picture, and the text that stands for it unless that is no more than the file's name."""
        self._end_text()
        self._parts.append(image)
        file = image.path
        if alt and (file is None or alt not in (file.name, file.stem)):
            self._words += [alt, "\n\n"]

    def _end_text(self) -> None:
        text = re.sub(r"[ \t]+$", "", "".join(self._words), flags=re.MULTILINE)
        text = re.sub(r"\n{3,}", "\n\n", text).strip()
        if text:
            self._parts.append(Text(text))
        self._words = []

    def content(self) -> Content:
        """What was collected."""
        self._end_text()
        return Content(tuple(self._parts))
