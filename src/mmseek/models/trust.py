"""Whose code may run: by default nobody's; the setting MMSEEK_TRUST_REMOTE_CODE names models one by one."""

from __future__ import annotations

from pathlib import Path

from mmseek.config import settings
from mmseek.errors import ModelError
from mmseek.models.spec import Spec

__all__ = ["code_refused", "is_trusted"]


def is_trusted(spec: Spec) -> bool:
    """Whether the setting names this model: its hub id, with or without the revision it is asked for in, or its folder.

    A hub id without a revision trusts whatever its owner publishes next.
    """
    if spec.model is None:
        return False
    names = [name for name in (entry.strip() for entry in settings().trust_remote_code.split(",")) if name]
    if spec.model in names or (spec.revision is not None and f"{spec.model}@{spec.revision}" in names):
        return True
    folder = Path(spec.model).expanduser()
    return folder.is_dir() and any(_same(folder, name) for name in names)


def code_refused(spec: Spec, what: str) -> ModelError:
    """The error that says what would run, and how to allow it.

    Args:
        spec: the model.
        what: a clause: `its modules name own.Module`.
    """
    return ModelError(
        f"{spec.model} needs code of its own ({what}), which would run with all your rights and is not run: read that "
        f"code and then set MMSEEK_TRUST_REMOTE_CODE={spec.model}, or use another model"
    )


def _same(folder: Path, name: str) -> bool:
    place = Path(name).expanduser()
    return place.is_dir() and place.resolve() == folder.resolve()
