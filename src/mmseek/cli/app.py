"""The program: its verbs, and what happens when one of them fails.

Exit codes: 0 done; 1 done, but some items failed or a check found problems; 2 not done, one sentence says why;
70 a fault of mmseek itself; 130 stopped with Ctrl-C.
"""

from __future__ import annotations

import os
import sys
import traceback
from typing import Annotated, Any, NoReturn

import typer

from mmseek.cli import (
    alias,
    ask,
    calibrate,
    compact,
    copy,
    delete,
    demo,
    duplicates,
    embed,
    evaluate,
    exchange,
    index,
    info,
    keys,
    mcp,
    mine,
    models,
    reembed,
    rerank,
    search,
    serve,
    snapshot,
    synthesize,
    train,
    train_reranker,
    tune,
    verify,
)
from mmseek.cli.failures import Failure, describe
from mmseek.cli.noise import hush
from mmseek.cli.output import say, write_json

app = typer.Typer(
    name="mmseek",
    help="Search pictures, text and documents with one index.",
    epilog="Start with: mmseek demo. Every verb explains itself: mmseek index --help.",
    add_completion=False,
    rich_markup_mode=None,
    invoke_without_command=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
)
app.command("index")(index.index)
app.command("search")(search.search)
app.command("ask")(ask.ask)
app.command("embed")(embed.embed)
app.command("rerank")(rerank.rerank)
app.command("calibrate")(calibrate.calibrate)
app.command("info")(info.info)
app.command("delete")(delete.delete)
app.command("verify")(verify.verify)
app.command("compact")(compact.compact)
app.command("copy")(copy.copy)
app.command("tune")(tune.tune)
app.command("snapshot")(snapshot.snapshot)
app.command("restore")(snapshot.restore)
app.command("export")(exchange.export)
app.command("import")(exchange.import_)
app.command("alias")(alias.alias)
app.command("reembed")(reembed.reembed)
app.command("duplicates")(duplicates.duplicates)
app.command("eval")(evaluate.evaluate)
app.command("mine")(mine.mine)
app.command("synthesize")(synthesize.synthesize)
app.command("train")(train.train)
app.command("train-reranker")(train_reranker.train_reranker)
app.command("merge")(train.merge)
app.command("models")(models.models)
app.command("serve")(serve.serve)
app.command("mcp")(mcp.mcp)
app.command("keys")(keys.keys)
app.command("demo")(demo.demo)


def _version(asked: bool) -> None:
    if asked:
        from mmseek import __version__

        typer.echo(f"mmseek {__version__}")
        raise typer.Exit


@app.callback()
def _program(
    context: typer.Context,
    version: Annotated[  # noqa: ARG001  # the callback answers
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="On an error, print the traceback too; let libraries print their notes.")
    ] = False,
) -> None:
    if not debug:
        hush()
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def run(arguments: list[str]) -> int:
    """Run the program on these arguments and return its exit code; errors are told, not raised."""
    command = typer.main.get_command(app)
    if arguments[:2] == ["rerank", "calibrate"]:  # the verb's long name; pairs in a file of this name are ./calibrate
        arguments = arguments[1:]
    # `--debug` is taken anywhere, because our advice is to run the same line again with it.
    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    debug = "--debug" in options
    arguments = [*(a for a in options if a != "--debug"), *arguments[len(options) :]]
    try:
        # Below `command.main`, because that tells errors in a form of its own.
        with command.make_context("mmseek", [*(["--debug"] if debug else []), *arguments]) as context:
            command.invoke(context)
    except typer.Exit as leave:
        return int(leave.exit_code)
    except BrokenPipeError:
        return _reader_gone()
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001  # the last place where an error can be told
        if debug:
            traceback.print_exception(error)
        return _tell(describe(error, arguments), as_json="--json" in options)
    return 0


def _tell(failure: Failure, *, as_json: bool) -> int:
    say(f"error: {failure.message}")
    if as_json:
        write_json({"error": {"code": failure.code, "message": failure.message}}, sys.stdout)
    return failure.exit_code


def _reader_gone() -> int:
    """Whoever read our output (`| head`) has seen enough: stop quietly, as other programs do."""
    # What Python flushes at its exit must not raise a second time.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return 141


def main(arguments: list[str] | None = None) -> NoReturn:
    """The console script `mmseek`."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure: Any = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            # A file name or a text that the terminal's encoding lacks is shown escaped instead of ending the run.
            reconfigure(errors="backslashreplace")
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))
