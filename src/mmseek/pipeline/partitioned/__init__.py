"""Indexing by partitions, in the workers of a Ray cluster. Needs `mmseek[ray]`."""

from __future__ import annotations

from importlib.util import find_spec

from mmseek.errors import MissingExtra

if any(find_spec(name) is None for name in ("ray", "pyarrow")):
    raise MissingExtra("the engine ray", "ray")

from mmseek.pipeline.partitioned.run import RayOptions, index_on_ray, takes_many_writers

__all__ = ["RayOptions", "index_on_ray", "takes_many_writers"]
