"""Content -> vectors. Importing this package loads no model and no torch."""

from __future__ import annotations

from mmseek.embed.registry import FAMILIES, Family, load_encoder, load_multi_vector_encoder
from mmseek.models.spec import Spec, parse_spec

__all__ = ["FAMILIES", "Family", "Spec", "load_encoder", "load_multi_vector_encoder", "parse_spec"]
