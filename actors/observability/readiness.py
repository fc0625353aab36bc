"""Readiness: whether a process can do its work, by checks of what it depends on."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from actors.observability.cached_probe import CachedProbe
from db.blobs.errors import StorageFull
from db.migration.errors import MigrationError

Check = Callable[[], None]


class Readiness:
    """Checks dependencies side by side: ``needed`` ones decide, ``shown`` ones are only reported.

    A check returns if all is well, and raises otherwise. One that does not return in time is
    reported as ``away``, as is one that raises an error without a remedy.
    """

    def __init__(
        self, *, needed: Mapping[str, Check], shown: Mapping[str, Check] | None = None
    ) -> None:
        self._needed = frozenset(needed)
        checks = {**needed, **(shown or {})}
        self._probes = {name: _probe(name, check) for name, check in checks.items()}

    def look(self) -> tuple[bool, dict[str, str]]:
        """Return whether all needed checks pass, and ``ok`` or the fault of each check."""
        for probe in self._probes.values():
            # In parallel: a caller waits only for the slowest check, up to its timeout.
            probe.ask()
        found = {name: probe.get() or "away" for name, probe in self._probes.items()}
        return all(found[name] == "ok" for name in self._needed), found


def _probe(name: str, check: Check) -> CachedProbe[str]:
    """Return a check that runs for every probe."""

    def outcome() -> str:
        try:
            check()
        except (MigrationError, StorageFull) as error:
            return str(error)
        return "ok"

    return CachedProbe(name, outcome, fresh_s=0.0)
