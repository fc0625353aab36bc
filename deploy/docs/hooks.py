"""What MkDocs does for the site besides its own work: navigation, root documents, links.

The documents are written for a reader of the repository. Here their links to other files of the
repository are adapted to the site.
"""

from __future__ import annotations

import functools
import logging
import os
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

#: Warnings of this logger fail a strict build.
log = logging.getLogger("mkdocs.hooks.clamor")

ROOT = Path(__file__).resolve().parents[2]
#: Root documents that are pages of the site, under these names.
ROOT_PAGES = {
    f"{name}.md": f"{name.lower()}.md" for name in ("ARCHITECTURE", "CONTRIBUTING", "RELEASE")
}
LINK = re.compile(r"\[([^\]]*)\]\(([^()\s]+)\)")
ENTRY = re.compile(r"^- \[([^\]]*)\]\(([^()\s]+)\)", re.MULTILINE)
#: The words after the language of a block are for tests/support/documents.py.
FENCE = re.compile(r"^( *```\w+) .*$", re.MULTILINE)
#: A file or a folder of the code; documents may leave out the first folders.
CODE_PATH = re.compile(
    r"`((?:[\w.-]+/)*[\w.-]+\.(?:py|js|yaml)|(?:services|actors|db|tests|deploy|docs)/(?:[\w.-]+/)*)`"
)
#: What a browser would load from another host when it shows a page.
OUTSIDE = re.compile(
    r"""<(?:script|link|img|iframe|source|object|embed)\b[^>]*?\b(?:src|href|data)=["']?(?:https?:)?//"""
    r"""|(?:url\(|@import)\s*["']?(?:https?:)?//"""
)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Make the navigation from the headings and lists of docs/README.md."""
    _, *sections = re.split(r"^## (.*)$", (ROOT / "docs/README.md").read_text(), flags=re.MULTILINE)
    kinds = zip(sections[::2], sections[1::2], strict=True)
    config.nav = [{"Home": "README.md"}] + [
        {kind: [_entry(title, target, "docs") for title, target in ENTRY.findall(listed)]}
        for kind, listed in kinds
    ]
    return config


def _entry(title: str, target: str, folder: str) -> dict[str, Any]:
    """Return the entry of a page, or of the pages that a README.md lists."""
    path = posixpath.normpath(f"{folder}/{target}")
    if not path.endswith("/README.md"):
        return {title: _page(path)}
    listed = ENTRY.findall((ROOT / path).read_text())
    pages = [_entry(name, link, posixpath.dirname(path)) for name, link in listed]
    return {title: [_page(path), *pages]}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the root documents."""
    for source, name in ROOT_PAGES.items():
        files.append(File.generated(config, name, abs_src_path=str(ROOT / source)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Adapt the links and code blocks of a page."""
    source = Path(str(page.file.abs_src_path)).relative_to(ROOT).as_posix()
    for path in CODE_PATH.findall(markdown):
        if not any(known.endswith(f"/{path}") for known in code()):
            log.warning("%s names %s, which does not exist", source, path)

    def adapted(link: re.Match[str]) -> str:
        text, target = link.groups()
        path, mark, anchor = target.partition("#")
        if "://" in path or not path:
            return link[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
        if there := _page(path):
            here = posixpath.dirname(page.file.src_uri) or "."
            return f"[{text}]({posixpath.relpath(there, here)}{mark}{anchor})"
        if not os.path.exists(ROOT / path):
            log.warning("%s links to %s, which does not exist", source, target)
        # The site has no page for it: name the file.
        return f"`{path}`" if text.strip("`/") == path else f"{text} (`{path}`)"

    return LINK.sub(adapted, FENCE.sub(r"\1", markdown))


@functools.cache
def code() -> list[str]:
    """Return every file and folder of the code, folders with a slash at the end."""
    return [
        f"/{path.relative_to(ROOT).as_posix()}{'/' * path.is_dir()}"
        for folder in ("services", "actors", "db", "tests", "deploy", "docs")
        for path in ((ROOT / folder), *(ROOT / folder).rglob("*"))
    ]


def on_post_build(config: MkDocsConfig) -> None:
    """Check that the pages load scripts, styles, fonts and pictures from the site alone."""
    for file in sorted(Path(config.site_dir).rglob("*")):
        if file.suffix in (".html", ".css", ".svg"):
            for found in OUTSIDE.finditer(file.read_text(encoding="utf-8")):
                log.warning("%s loads from another host: %s", file.name, found[0])


def _page(path: str) -> str | None:
    """Return the name in the site of a file of the repository, or None if it is not there."""
    if path.startswith("docs/changelog.d/"):
        return None
    return path.removeprefix("docs/") if path.startswith("docs/") else ROOT_PAGES.get(path)
