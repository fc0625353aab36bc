"""The holes of a recording, in bounded number."""

from __future__ import annotations

from itertools import pairwise

from actors.science.types import Hole, HoleKind

#: Maximum number of holes of a kind. They are part of the answer, and a file can have millions.
MOST_HOLES = 1_000


class Holes:
    """The holes of a recording, at most `MOST_HOLES` of each kind.

    Beyond that, those that are closest to each other become one, so that as little audio as
    possible counts as missing.
    """

    def __init__(self) -> None:
        self._by_kind: dict[HoleKind, list[Hole]] = {}
        #: The result of `in_order` since the latest change.
        self._in_order: list[Hole] | None = []

    def add(self, hole: Hole, *, n_apart: int = 1) -> None:
        """Add a hole, which is not before others of its kind.

        One that begins less than ``n_apart`` frames after the last one of its kind extends it.
        """
        same = self._by_kind.setdefault(hole.kind, [])
        if same and hole.start - same[-1].stop < n_apart:
            last = same.pop()
            hole = Hole(last.start, max(last.stop, hole.stop), hole.kind)
        same.append(hole)
        if len(same) > MOST_HOLES:
            self._by_kind[hole.kind] = _thinned(same)
        self._in_order = None

    def in_order(self) -> list[Hole]:
        """Return the holes in order; they do not overlap."""
        if self._in_order is None:
            self._in_order = []
            covered_until = 0
            every = [hole for same in self._by_kind.values() for hole in same]
            for hole in sorted(every, key=lambda each: each.start):
                if hole.stop > covered_until:
                    start = max(hole.start, covered_until)
                    self._in_order.append(Hole(start, hole.stop, hole.kind))
                    covered_until = hole.stop
        return self._in_order


def _thinned(holes: list[Hole]) -> list[Hole]:
    """Return holes of which the half that are closest to the next one are joined with it."""
    gaps = [after.start - before.stop for before, after in pairwise(holes)]
    by_length = sorted(range(len(gaps)), key=gaps.__getitem__)
    closed = set(by_length[: len(gaps) // 2])
    found = holes[:1]
    for index, hole in enumerate(holes[1:]):
        if index in closed:
            found[-1] = Hole(found[-1].start, hole.stop, hole.kind)
        else:
            found.append(hole)
    return found
