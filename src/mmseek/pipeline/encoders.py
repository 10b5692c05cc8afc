"""Which encoders a collection can be made with."""

from __future__ import annotations

from mmseek.errors import InputError
from mmseek.protocols import Encoder, MultiVectorEncoder

__all__ = ["check_one_vector"]


def check_one_vector(encoder: object) -> None:
    """A collection holds one vector a document.

    Raises:
        InputError: the encoder gives many vectors an item and no single one.
    """
    if isinstance(encoder, MultiVectorEncoder) and not isinstance(encoder, Encoder):
        raise InputError(
            f"{encoder.identity} gives a vector for each token and a collection holds one a document: "
            "use it as a reranker, late-interaction, and a single-vector encoder here"
        )
