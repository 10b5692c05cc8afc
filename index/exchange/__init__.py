"""A collection as files that other programs read: Parquet tables, the kept pictures, and a manifest with checksums."""

from __future__ import annotations

from importlib.util import find_spec

from mmseek.errors import MissingExtra

if find_spec("pyarrow") is None:
    raise MissingExtra("the exchange of collections", "parquet")

from mmseek.index.exchange.layout import ExportManifest, read_export
from mmseek.index.exchange.reading import ImportReport, import_collection
from mmseek.index.exchange.writing import export_collection

__all__ = ["ExportManifest", "ImportReport", "export_collection", "import_collection", "read_export"]
