"""The rooms at the root install under one name, and nothing of them is left behind."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("embed", "index", "rerank", "api", "training", "evaluation")
LEFT_OUT = shutil.ignore_patterns(".venv", ".git", "build", "dist", "*.egg-info", "__pycache__", ".*_cache", "runs")


def packages_found() -> set[str]:
    """Dotted names of every folder that holds an `__init__.py`, read through the links of `src/mmseek`."""
    source = ROOT / "src"
    # Path.rglob does not follow links, and the rooms are links.
    folders = (Path(top) for top, _, files in os.walk(source / "mmseek", followlinks=True) if "__init__.py" in files)
    return {".".join(folder.relative_to(source).parts) for folder in folders}


def test_every_package_is_listed() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    listed = settings["tool"]["setuptools"]["packages"]
    assert sorted(listed) == listed, "keep the list sorted"
    assert set(listed) == packages_found()


def test_each_room_is_a_folder_at_the_root_and_a_link_in_the_package() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    mapped = settings["tool"]["setuptools"]["package-dir"]
    for room in ROOMS:
        assert (ROOT / room).is_dir()
        assert not (ROOT / room).is_symlink()
        assert (ROOT / "src" / "mmseek" / room).resolve() == ROOT / room
        assert mapped[f"mmseek.{room}"] == room


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy so that the checkout stays clean."""
    copy = tmp_path_factory.mktemp("source") / "mmseek"
    shutil.copytree(ROOT, copy, symlinks=True, ignore=LEFT_OUT)
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(copy)]
    subprocess.run(command, check=True, capture_output=True, text=True)
    (built,) = out.glob("mmseek-*.whl")
    return built


def test_the_wheel_holds_the_rooms_and_their_data(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    modules = {
        name.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for name in names if name[-3:] == ".py"
    }
    assert packages_found() <= modules
    assert {"mmseek/py.typed", "mmseek/embed/mini/image_tower.safetensors"} <= names
    assert not [name for name in names if name.split("/")[0] in ROOMS], "a room must not install as a top-level name"


def test_every_module_imports_from_a_clean_install(wheel: Path, tmp_path: Path) -> None:
    """A clean environment with the wheel; the libraries it needs are borrowed from this one through a path file."""
    venv.create(tmp_path / "venv", with_pip=False, symlinks=True)
    python = tmp_path / "venv" / "bin" / "python"
    paths = {"base": str(tmp_path / "venv"), "platbase": str(tmp_path / "venv")}
    site = Path(sysconfig.get_path("purelib", vars=paths))
    # Lines of a path file are only appended to sys.path: this environment's own editable mmseek stays out.
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "--no-deps", "--no-index", str(wheel)]
    subprocess.run(install, check=True, capture_output=True, text=True)
    script = (
        "import importlib, pkgutil, mmseek\n"
        f"assert mmseek.__file__.startswith({str(site)!r}), mmseek.__file__\n"
        "found = pkgutil.walk_packages(mmseek.__path__, 'mmseek.')\n"
        "names = [module.name for module in found if not module.name.endswith('__main__')]\n"
        "[importlib.import_module(name) for name in names]\n"
        "print(len(names))\n"
    )
    done = subprocess.run(
        [python, "-W", "error::DeprecationWarning:mmseek", "-c", script], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= len(packages_found()) - 1
