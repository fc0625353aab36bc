"""The noise types that mean something to all parts of the program, whatever a model knows."""

from __future__ import annotations

from collections.abc import Iterable

#: The class of everything that is no event.
BACKGROUND = "background"

#: What is loud and explained by no class.
UNCLASSIFIED = "unclassified"


def reported(classes: Iterable[str]) -> set[str]:
    """The noise types that the events of a model of some classes may have."""
    return {*classes, UNCLASSIFIED} - {BACKGROUND}
