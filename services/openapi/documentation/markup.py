"""Builds HTML. Every string that is not `Markup` is escaped, wherever it comes from."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable

_CODE = re.compile(r"`([^`]+)`")


class Markup(str):
    """Text that is already HTML."""

    __slots__ = ()


#: Content of an element.
Content = str | Markup | None

#: Elements without content and end tag.
_VOID = frozenset({"meta", "link", "br", "hr"})


def element(tag: str, /, *content: Content, **attributes: str) -> Markup:
    """Return an element; attributes are passed as ``class_`` and ``aria_label``."""
    given = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{html.escape(value)}"'
        for name, value in attributes.items()
    )
    if tag in _VOID:
        return Markup(f"<{tag}{given}>")
    return Markup(f"<{tag}{given}>{joined(content)}</{tag}>")


def joined(content: Iterable[Content]) -> Markup:
    """Concatenate content."""
    return Markup("".join(map(_escaped, content)))


def prose(text: str) -> Markup:
    """Convert text to paragraphs, with ``code`` in backticks."""
    return joined(element("p", inline(part)) for part in text.split("\n\n") if part.strip())


def inline(text: str) -> Markup:
    """Convert a line, with code in backticks."""
    parts = _CODE.split(text)
    return joined(element("code", part) if index % 2 else part for index, part in enumerate(parts))


def block(text: str, *, label: str) -> Markup:
    """Return a code block. It can be scrolled by keyboard and therefore needs a label."""
    return element("pre", element("code", text), tabindex="0", role="group", aria_label=label)


def shown_json(value: object) -> str:
    """Return indented JSON."""
    return json.dumps(value, indent=2, ensure_ascii=False)


def _escaped(content: Content) -> str:
    if content is None:
        return ""
    return content if isinstance(content, Markup) else html.escape(content)
