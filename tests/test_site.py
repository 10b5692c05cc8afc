"""The documentation site builds without a warning: no dead link, no page left out, every documented name there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def test_the_site_builds_strictly(tmp_path: Path) -> None:
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert built.returncode == 0, built.stderr[-4000:]
    reference = (tmp_path / "site/reference/cli/index.html").read_text(encoding="utf-8")
    assert "mmseek search" in reference
    assert "EncoderMismatch" in (tmp_path / "site/reference/errors/index.html").read_text(encoding="utf-8")
    assert (tmp_path / "site/benchmarks/index.html").exists()
