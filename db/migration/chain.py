"""The chain of revisions: which there are, their order, and which a database lacks."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any, TextIO

from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.script import Script, ScriptDirectory

from db.migration.errors import MigrationError

#: The folder of the revisions of this release.
VERSIONS = Path(str(resources.files("db"))) / "migrations" / "versions"
#: The name of the state before the first revision.
BASE = "base"


@dataclass(frozen=True)
class RevisionChain:
    """The revisions in some folders; by default those of this release."""

    folders: tuple[Path, ...] = (VERSIONS,)

    @cached_property
    def scripts(self) -> ScriptDirectory:
        """Alembic's view of the folders."""
        return ScriptDirectory.from_config(self.config())

    def config(self, output: TextIO | None = None, **attributes: Any) -> Config:
        """Return Alembic's configuration. ``env.py`` and the steps read the attributes."""
        config = Config(output_buffer=output)
        config.set_main_option("script_location", "db:migrations")
        locations = "\n".join(str(folder) for folder in self.folders)
        config.set_main_option("path_separator", "newline")
        config.set_main_option("version_locations", locations.replace("%", "%%"))
        config.attributes.update(attributes)
        return config

    @cached_property
    def revisions(self) -> tuple[Script, ...]:
        """Every revision, oldest first."""
        self.head  # noqa: B018  (a chain with two heads has no order)
        return tuple(reversed(list(self.scripts.walk_revisions())))

    @cached_property
    def head(self) -> str:
        """The newest revision.

        Raises
        ------
        MigrationError
            If there is not exactly one: two branches were merged without a merge revision.
        """
        heads = self.scripts.get_heads()
        if len(heads) != 1:
            raise MigrationError(f"expected one migration head, found {len(heads)}: {heads}")
        return heads[0]

    def has(self, revision: str) -> bool:
        """Whether a revision is in the chain."""
        return any(script.revision == revision for script in self.revisions)

    def after(self, current: str | None, to: str | None = None) -> list[Script]:
        """Return the revisions after one up to another (default: the newest), oldest first."""
        start = self._n_until(current)
        end = self._n_until(to or self.head)
        if end < start:
            raise MigrationError(
                f"the database is at {current}, which is after {to}: clamor migrate --down {to}"
                " goes back"
            )
        return list(self.revisions[start:end])

    def back_to(self, current: str | None, to: str) -> list[Script]:
        """Return the revisions to revert so that a database is at an older one, newest first."""
        start, end = self._n_until(current), 0 if to == BASE else self._n_until(to)
        if end > start:
            raise MigrationError(
                f"the database is at {current or BASE}, which is before {to}: clamor migrate --to"
                f" {to} goes there"
            )
        return list(reversed(self.revisions[end:start]))

    def run(
        self, config: Config, *, up_to: str | None = None, down_to: str = BASE, **how: Any
    ) -> None:
        """Run the revisions up to one, or revert those after one."""

        def revisions(current: Any, _context: object) -> Any:
            if up_to is not None:
                return self.scripts._upgrade_revs(up_to, current)
            return self.scripts._downgrade_revs(down_to, current)

        with EnvironmentContext(
            config, self.scripts, fn=revisions, destination_rev=up_to or down_to, **how
        ):
            self.scripts.run_env()

    def _n_until(self, revision: str | None) -> int:
        if revision is None:
            return 0
        for number, script in enumerate(self.revisions, 1):
            if script.revision == revision:
                return number
        raise MigrationError(
            f"this release has no revision {revision}: use the release that has it, or one of"
            f" {', '.join(script.revision for script in self.revisions[-3:])}"
        )


#: The revisions of this release.
SHIPPED = RevisionChain()


def losses(script: Script) -> str:
    """Return what is lost when a revision is reverted, as the revision states it.

    That is its constant ``LOSES``, or the docstring of its ``downgrade``.
    """
    stated = getattr(script.module, "LOSES", None) or inspect.getdoc(script.module.downgrade)
    return " ".join(stated.split()) if stated else "not stated; everything that it added"
