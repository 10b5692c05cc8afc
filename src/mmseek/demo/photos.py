"""The photographs that are shipped: small copies of pictures that anyone may use. CREDITS.md says whose they are."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from typing import Final


@dataclass(frozen=True, slots=True)
class Photo:
    """A shipped photograph.

    Args:
        name: of the file without `.jpg`, and of the item.
        credit: who made it, and why it may be used.
        caption: our own words; without them only the picture itself can be found.
    """

    name: str
    credit: str
    caption: str | None = None

    def read(self) -> bytes:
        """The JPEG file."""
        return (files("mmseek.demo") / "photos" / f"{self.name}.jpg").read_bytes()


PHOTOS: Final = (
    Photo(
        "astronaut",
        "NASA, public domain",
        "Portrait of an astronaut in an orange space suit, a flag and a model of the space shuttle behind her",
    ),
    Photo("cat", "Stefan van der Walt, CC0"),
    Photo("coffee", "Rachel Michetti, Pikolo Espresso Bar, CC0"),
    Photo("rocket", "SpaceX, released into the public domain"),
    Photo("horse", "Andreas Preuss, CC0"),
    Photo("brick", "CC0Textures, CC0"),
    Photo("gravel", "CC0Textures, CC0"),
    Photo("grass", "CC0Textures, CC0"),
    Photo("cameraman", "Lav Varshney, CC0", "A man in a dark coat looks through a camera on a tripod"),
    Photo(
        "coins",
        "Brooklyn Museum Collection, no known copyright restrictions",
        "Four rows of ancient Greek coins found in Pompeii",
    ),
    Photo(
        "galaxies",
        "NASA, ESA, Hubble eXtreme Deep Field, public domain",
        "Thousands of distant galaxies, seen by a space telescope",
    ),
    Photo("retina", "Mikael Häggström, CC0", "Photograph of the back of a healthy eye: optic nerve and blood vessels"),
    Photo("chalk", "Wikipedia file Corner.png, public domain", "Handwritten formulas of a maths lesson"),
)
