"""The table of noise types, which is independent of any model.

``table.csv`` is a tree: the four groups of ISO/TS 12913-2 (traffic, human, nature and other
sounds), the types in each, and subtypes of some types. A model may have classes that are not in
the table; such a type has no group.
"""

from __future__ import annotations

import csv
import difflib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

#: The class of audio without a sound event.
BACKGROUND = "background"

#: The type of loud sounds that no class explains.
UNCLASSIFIED = "unclassified"

#: Changes whenever the names in the table or their order in the tree change.
TABLE_VERSION = "1"

#: The languages in which each type has a name, by IETF tag.
LANGUAGES = ("en", "de", "fr", "es", "zh")


@dataclass(frozen=True, slots=True)
class TypeEntry:
    """A row of the table.

    Attributes
    ----------
    name
        The identifier used by detections, filters and exports.
    parent
        The type or group above it; None for a group.
    group
        The group it belongs to; its own name for a group.
    audioset_ids
        The AudioSet classes that it covers.
    audioset_outputs
        Their indices among the 527 outputs of a network trained on AudioSet.
    urban_sound_taxonomy, noise_directive
        Its class in the urban sound taxonomy (Salamon, Jacoby and Bello, 2014) and its source in
        the Environmental Noise Directive 2002/49/EC (road, rail, air, industry); may be empty.
    names
        The display name, by language.
    """

    name: str
    parent: str | None
    group: str
    audioset_ids: tuple[str, ...]
    audioset_outputs: tuple[int, ...]
    urban_sound_taxonomy: str
    noise_directive: str
    names: Mapping[str, str]


@cache
def table() -> Mapping[str, TypeEntry]:
    """Read the table: every type and group by its name, parents before their children."""
    text = (resources.files(__package__) / "table.csv").read_text(encoding="utf-8")
    found: dict[str, TypeEntry] = {}
    for row in csv.DictReader(text.splitlines()):
        name, parent = row["name"], row["parent"] or None
        found[name] = TypeEntry(
            name=name,
            parent=parent,
            group=name if parent is None else found[parent].group,
            audioset_ids=tuple(row["audioset_ids"].split()),
            audioset_outputs=tuple(int(each) for each in row["audioset_outputs"].split()),
            urban_sound_taxonomy=row["urban_sound_taxonomy"],
            noise_directive=row["noise_directive"],
            names={language: row[language] for language in LANGUAGES},
        )
    return found


def groups() -> tuple[str, ...]:
    """Return the names of all groups, in the order of the table."""
    return tuple(name for name, row in table().items() if row.parent is None)


def group_of(name: str) -> str | None:
    """Return the group of a type; None for a type that is not in the table."""
    row = table().get(name)
    return None if row is None else row.group


def audioset_id_of(name: str) -> str | None:
    """Return the first AudioSet class of a type; None where the table has none for it."""
    row = table().get(name)
    return row.audioset_ids[0] if row is not None and row.audioset_ids else None


def below(name: str) -> frozenset[str]:
    """Return a type and all types below it: ``traffic`` gives every kind of traffic."""
    found = {name}
    for row in table().values():
        if row.parent in found:
            found.add(row.name)
    return frozenset(found)


def above(name: str) -> tuple[str, ...]:
    """Return the types above a type, from its parent to its group."""
    row = table().get(name)
    if row is None or row.parent is None:
        return ()
    return (row.parent, *above(row.parent))


def with_below(names: Collection[str]) -> tuple[str, ...]:
    """Return some types and all types below them, sorted, without duplicates.

    Every filter by noise type is expanded here; queries compare plain names.
    """
    return tuple(sorted(frozenset().union(*map(below, names))))


def of_model(header: Mapping[str, Any]) -> list[str]:
    """Return the classes of a model and the types it was trained on beside the base types."""
    return [*header.get("classes", ()), *header.get("trained_types", ())]


def reported(classes: Iterable[str]) -> set[str]:
    """Return the noise types that detections of a model with these classes may have."""
    return {*classes, UNCLASSIFIED} - {BACKGROUND}


def unknown(names: Iterable[str], classes: Iterable[str]) -> str | None:
    """Describe the names that are neither in the table nor reported by a model with these classes.

    The description suggests similar known names. Return None if all names are known.
    """
    known = sorted({*table(), *reported(classes)})
    strange = sorted({*names}.difference(known))
    if not strange:
        return None
    return "unknown noise type " + ", ".join(_with_similar(name, known) for name in strange)


def _with_similar(name: str, known: Collection[str]) -> str:
    similar = " or ".join(map(repr, difflib.get_close_matches(name, known)))
    return f"{name!r} (did you mean {similar}?)" if similar else repr(name)
