"""What the site adds to the pages of this folder: files of the repository, links to its source, the program's help."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

import typer.cli
import typer.main
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from mmseek.cli.app import app

ROOT = Path(__file__).resolve().parent.parent
LINK = re.compile(r"(\]\()([^)#\s:]+)((?:#[^)]*)?\))")
# Pages that are kept where their subject is, not in docs/.
BORROWED = {
    "benchmarks.md": "benchmarks/README.md",
    "benchmarks-log.md": "benchmarks/LOG.md",
    "changelog.md": "CHANGELOG.md",
    "contributing.md": "CONTRIBUTING.md",
    "mini.md": "embed/mini/MODEL_CARD.md",
    "mini-reranker.md": "rerank/mini/MODEL_CARD.md",
}
HOMES = {source: page for page, source in BORROWED.items()}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """List the decisions: each page of docs/adr, by its number."""
    project = next(part["Project"] for part in config.nav or [] if "Project" in part)
    decisions = next(part for part in project if "Decisions" in part)
    decisions["Decisions"] = [f"adr/{page.name}" for page in sorted((ROOT / "docs/adr").glob("*.md"))]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the borrowed pages and the reference of the command line."""
    for page, source in BORROWED.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text(encoding="utf-8")))
    files.append(File.generated(config, "reference/cli.md", content=_cli_reference()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, **_: object) -> str:
    """Lead links out of docs/ to the page of the site that shows the file, or else to the repository."""
    uri = page.file.src_uri
    here = posixpath.dirname(BORROWED.get(uri, posixpath.join("docs", uri)))

    def moved(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(here, match[2]))
        return f"{match[1]}{_address(target, uri, config)}{match[3]}"

    return markdown if uri == "reference/cli.md" else LINK.sub(moved, markdown)


def _address(target: str, uri: str, config: MkDocsConfig) -> str:
    """Where the site shows a file of the repository, as seen from the page `uri`."""
    start = posixpath.dirname(uri) or "."
    if target in HOMES:
        return posixpath.relpath(HOMES[target], start)
    if target.startswith("docs/"):
        return posixpath.relpath(target.removeprefix("docs/"), start)
    return f"{config.repo_url}/blob/main/{target}"


def _cli_reference() -> str:
    command = typer.main.get_command(app)
    return typer.cli.get_docs_for_click(obj=command, ctx=typer.Context(command), name="mmseek", title="Command line")
