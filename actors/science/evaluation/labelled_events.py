"""Labelled events of recordings, true or detected, as metrics compare them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from actors.science.types import Event


class LabelledEvent(NamedTuple):
    """An interval of one label, ``[start_s, end_s)``."""

    start_s: float
    end_s: float
    label: str

    @classmethod
    def of(cls, event: Event) -> LabelledEvent:
        """Make a labelled event from a detection."""
        return cls(event.start_s, event.end_s, event.noise_type)


#: The events of recordings by name. The reference names every recording, including those without
#: events; an estimate may omit recordings without detections.
Recordings = Mapping[str, Sequence[LabelledEvent]]


def refuse_strangers(estimated: Recordings, known: Mapping[str, object]) -> None:
    """Raise ValueError if a recording of ``estimated`` is not ``known``.

    Otherwise a misspelt file name would only lower the score.
    """
    strangers = sorted(estimated.keys() - known.keys())
    if strangers:
        raise ValueError(f"recordings without a reference: {strangers}")


def refuse_nonsense(events: Iterable[LabelledEvent]) -> None:
    """Raise ValueError unless each event starts at 0 or later and does not end before it starts."""
    if not all(0 <= event.start_s <= event.end_s < math.inf for event in events):
        raise ValueError("an event starts at 0 or later and ends no earlier than it starts")
