"""Lines of Markdown, for the generated references."""

from __future__ import annotations

import re


def header(*names: str) -> list[str]:
    """Return the first two lines of a table."""
    return [row(*names), "|" + "---|" * len(names)]


def row(*cells: str) -> str:
    """Return a line of a table."""
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def linked(text: str) -> str:
    """Return the text of a comment or of a help as Markdown, with links to documents."""
    text = re.sub(r"\bdocs/([\w-]+\.md)((?:#[\w-]+)?)", r"[\1](\1\2)", text)
    return text.replace("``", "`")


def sentence(text: str) -> str:
    """Return a line of help as a sentence."""
    return linked(text[:1].upper() + text[1:].rstrip(".") + ".")
