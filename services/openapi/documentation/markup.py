"""HTML that is made here: whatever is no markup is escaped, wherever it comes from."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable
from typing import Any

_CODE = re.compile(r"`([^`]+)`")


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


#: What can stand in an element.
Content = str | Markup | None

#: Elements that have no content, and no end.
_VOID = frozenset({"meta", "link", "br", "hr"})


def element(tag: str, /, *content: Content, **attributes: str) -> Markup:
    """An element; attributes are written as ``class_`` and ``aria_label``."""
    given = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{html.escape(value)}"'
        for name, value in attributes.items()
    )
    if tag in _VOID:
        return Markup(f"<{tag}{given}>")
    return Markup(f"<{tag}{given}>{joined(content)}</{tag}>")


def joined(content: Iterable[Content]) -> Markup:
    """Some content, one behind the other."""
    return Markup("".join(map(_escaped, content)))


def prose(text: str) -> Markup:
    """Paragraphs with ``code`` in backticks, as docstrings have them."""
    return joined(element("p", inline(part)) for part in text.split("\n\n") if part.strip())


def inline(text: str) -> Markup:
    """A line with code in backticks."""
    parts = _CODE.split(text)
    return joined(element("code", part) if index % 2 else part for index, part in enumerate(parts))


def block(text: str, *, label: str) -> Markup:
    """Code in lines of its own; it can be scrolled by keyboard, and so has a name."""
    return element("pre", element("code", text), tabindex="0", role="group", aria_label=label)


def shown_json(value: Any) -> str:
    """JSON as people read it."""
    return json.dumps(value, indent=2, ensure_ascii=False)


def _escaped(content: Content) -> str:
    if content is None:
        return ""
    return content if isinstance(content, Markup) else html.escape(content)
