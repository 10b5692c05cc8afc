"""`mmseek embed`: items to vectors in a `.npy` file, or in a `.npz` file where an item has many vectors."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mmseek.cli.failures import EXIT_PARTIAL
from mmseek.cli.lines import Lines, check_files, report_failures
from mmseek.cli.opening import DEFAULT_ENCODER, fewer_tokens, load, load_tokens, multi_vector
from mmseek.cli.options import (
    BackendOption,
    DeviceOption,
    EncoderOption,
    JsonOption,
    OutputType,
    PrecisionOption,
    VisualTokensOption,
)
from mmseek.cli.output import count, one_line, say, verb_output
from mmseek.cli.progress import Meter
from mmseek.cli.reports import show_failures
from mmseek.errors import InputError, ItemError

if TYPE_CHECKING:
    from mmseek._types import EncodeRequest, FloatArray
    from mmseek.cli.embed_tokens import ItemNames
    from mmseek.cli.output import Output
    from mmseek.protocols import Encoder


def embed(
    items: Annotated[Path, typer.Argument(metavar="ITEMS.jsonl", help="One item a line.", show_default=False)],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="OUT.npy",
            help="One row an item; .npz from an encoder of many vectors an item.",
            show_default=False,
        ),
    ],
    encoder: EncoderOption = DEFAULT_ENCODER,
    truncate_dim: Annotated[
        int | None, typer.Option("--truncate-dim", metavar="D", help="Keep the first D dimensions, of length 1 again.")
    ] = None,
    token_pooling: Annotated[
        int,
        typer.Option(
            "--token-pooling", metavar="F", min=1, help="Make one of F vectors of a document (colqwen2, colpali)."
        ),
    ] = 1,
    dtype: Annotated[
        OutputType, typer.Option("--dtype", help="Of the rows; int8 keeps the direction only, binary one bit a number.")
    ] = "float32",
    cache: Annotated[
        bool, typer.Option("--cache/--no-cache", help="Keep vectors on disk and take them from there.")
    ] = False,
    precision: PrecisionOption = "auto",
    backend: BackendOption = "auto",
    visual_tokens: VisualTokensOption = None,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Encode the items of a JSONL file into a .npy file.

    The rows are in input order, of length 1 unless --dtype says otherwise. An item may carry "role": "query" (default
    "document") and "instruction".

    An encoder of many vectors an item (colqwen2, colpali) writes OUT.npz instead: an array (tokens, dim) an item, named
    by its id, or "line N" where it has none.

    A line that cannot be used has no row: it is named with its reason on stderr and in OUT.npy.failures.jsonl, its
    number is in "failed_lines" of --json, the rest goes on, and the exit code is 1. If no line can be used, nothing is
    written. The file appears under its name only when it is whole.
    """
    with verb_output(as_json) as out:
        from rich.text import Text

        encoder = fewer_tokens(encoder, visual_tokens)
        many = multi_vector(encoder)
        check_files(items, output, "items", ".npz" if many else ".npy")
        began = time.monotonic()
        if many and (dtype, cache, precision, backend) != ("float32", False, "auto", "auto"):
            unfit = "--dtype, --cache, --precision and --backend"
            raise InputError(f"{encoder} gives many vectors an item: leave out {unfit}")
        if many:
            _embed_tokens(out, items, output, encoder, (truncate_dim, token_pooling), device)
            return
        if token_pooling != 1:
            raise InputError(f"--token-pooling is for many vectors an item, and {encoder} gives one: leave it out")
        asked = {"precision": precision, "backend": backend, "cache": cache}
        model = load(encoder, device, **{name: value for name, value in asked.items() if value not in ("auto", False)})
        dim = _kept(model, truncate_dim)
        source = _Source(items)
        rows = _write_rows(source, model, output, dim, dtype)
        report = report_failures(source.failures, output)
        out.json(
            {
                "output": str(output),
                "rows": rows,
                "dim": dim,
                "dtype": dtype,
                **_from_cache(model),
                "encoder": model.identity.spec,
                "fingerprint": model.identity.fingerprint,
                "failed": len(source.failures),
                "failed_lines": [failure.line for failure in source.failures],
                "report": None if report is None else str(report),
                "seconds": round(time.monotonic() - began, 3),
            }
        )
        out.show(Text(f"wrote {count(rows, 'row')} of {dim} dimensions to {one_line(str(output))}"))
        show_failures(source.failures, report)
        if source.failures:
            say("the lines that failed have no row; the others are in input order")
            raise typer.Exit(EXIT_PARTIAL)


def _embed_tokens(
    out: Output, items: Path, output: Path, spec: str, cut: tuple[int | None, int], device: str | None
) -> None:
    """`embed` where an item has many vectors; `cut` is what --truncate-dim and --token-pooling say."""
    from rich.text import Text

    from mmseek.cli.embed_tokens import ItemNames, write_arrays

    truncate_dim, factor = cut
    if truncate_dim is not None:
        raise InputError("--truncate-dim is for one vector an item: use --token-pooling for fewer vectors")
    began = time.monotonic()
    model = load_tokens(spec, device)
    names = ItemNames()
    source = _Source(items, names=names)
    arrays, vectors = write_arrays(source, names, source.requests(), model, output, factor)
    report = report_failures(source.failures, output)
    out.json(
        {
            "output": str(output),
            "arrays": arrays,
            "vectors": vectors,
            "dim": model.identity.dim,
            "token_pooling": factor,
            "encoder": model.identity.spec,
            "fingerprint": model.identity.fingerprint,
            "failed": len(source.failures),
            "failed_lines": [failure.line for failure in source.failures],
            "report": None if report is None else str(report),
            "seconds": round(time.monotonic() - began, 3),
        }
    )
    out.show(
        Text(
            f"wrote {count(arrays, 'array')} of {count(vectors, 'vector')} of {model.identity.dim} dimensions "
            f"to {one_line(str(output))}"
        )
    )
    show_failures(source.failures, report)
    if source.failures:
        say("the lines that failed have no array")
        raise typer.Exit(EXIT_PARTIAL)


@dataclass
class _Source(Lines):
    """The lines of the file as requests; where arrays are named, a line whose name is taken fails."""

    names: ItemNames | None = None

    def requests(self) -> Iterator[EncodeRequest]:
        """What the encoder is asked, in the order of the file."""
        from mmseek._types import EncodeRequest
        from mmseek.items import parse_item
        from mmseek.jsonl import read_json_lines

        for row in read_json_lines(self.path):
            if isinstance(row, ItemError):
                self.failures.append(row)
                continue
            try:
                item = parse_item(row.value, base=self.path.parent, source=self.path, line=row.line)
            except ItemError as error:
                self.failures.append(error)
                continue
            if self.names is not None and (taken := self.names.claim(row.line, item.id, item.role)):
                self.failures.append(ItemError(taken.reason, source=self.path, line=row.line, item_id=item.id))
                continue
            self.sent(row.line, item.id)
            yield EncodeRequest(item.content, role=item.role, instruction=item.instruction)


def _kept(model: Encoder, truncate_dim: int | None) -> int:
    """How many dimensions are written.

    Raises:
        InputError: it is not between 1 and what the encoder gives.
    """
    dim = model.identity.dim
    if truncate_dim is None:
        return dim
    if not 1 <= truncate_dim <= dim:
        raise InputError(f"--truncate-dim {truncate_dim} must be between 1 and {dim}, what {model.identity.spec} gives")
    if truncate_dim < dim:
        _warn_of_cutting(model.identity.spec.partition(":")[0], truncate_dim)
    return truncate_dim


def _warn_of_cutting(family: str, dim: int) -> None:
    from mmseek.embed.published import MATRYOSHKA

    least = MATRYOSHKA.get(family)
    if family == "st":
        say("note: cut vectors find less, unless the model was trained to be cut: its page says so")
    elif least is None:
        say(f"note: cut vectors find less: {family} was not trained to be cut")
    elif dim < least:
        say(f"note: cut vectors find less: {family} was trained to be cut down to {least} dimensions, not to {dim}")


def _from_cache(model: Encoder) -> dict[str, int]:
    """How many items were and were not in the cache, if there is one."""
    hits, misses = getattr(model, "hits", None), getattr(model, "misses", None)
    return {} if hits is None or misses is None else {"cached": hits, "encoded": misses}


def _write_rows(source: _Source, model: Encoder, output: Path, dim: int, dtype: OutputType) -> int:
    """Encode everything into the file and return how many rows it has.

    Raises:
        InputError: not one item could be used; nothing was written.
    """
    from mmseek.cli.rows import RowWriter
    from mmseek.embed.output import DTYPES, quantised, row_shape

    with RowWriter(output, *row_shape(dim, dtype), DTYPES[dtype]) as writer, Meter("encoding") as meter:
        for answer in model.stream(source.requests()):
            vector, error = _truncated(answer.vector, dim), answer.error
            if vector is None and error is None:
                error = ItemError("the encoder gave no usable vector")
            source.answered(error)
            if vector is not None and error is None:
                writer.add(quantised(vector, dtype))
            meter.update(writer.rows + len(source.failures), len(source.failures))
        source.settle()
        if writer.rows == 0:
            first = f"; the first reason: {source.failures[0]}" if source.failures else ""
            raise InputError(f"{source.path} holds no item that can be encoded, nothing was written{first}")
        writer.finish()
        return writer.rows


def _truncated(vector: FloatArray | None, dim: int) -> FloatArray | None:
    """The first `dim` values of a vector, of length 1 again; None if nothing is left of it."""
    import numpy as np

    if vector is None or vector.shape[0] == dim:
        return vector
    head = vector[:dim]
    length = float(np.linalg.norm(head))
    return None if length == 0.0 else np.asarray(head / length, dtype=np.float32)
