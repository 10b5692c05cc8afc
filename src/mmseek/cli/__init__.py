"""The command line: one file a verb, `app.main` turns every error into one sentence and an exit code."""

from mmseek.cli.app import main, run

__all__ = ["main", "run"]
