"""The state of a database's schema: its revision, what is pending, and what differs."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Connection, text

from db import catalog
from db.migration.chain import RevisionChain

INVALID_INDEXES = text(
    "SELECT relname FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid"
    " WHERE NOT indisvalid AND relnamespace = quote_ident(current_schema())::regnamespace"
    " ORDER BY relname"
)


@dataclass(frozen=True)
class Pending:
    """A revision that a database lacks, and the first line of its docstring."""

    revision: str
    summary: str


@dataclass(frozen=True)
class Status:
    """The state of a database's schema.

    ``differences`` from the models are None unless the database is at the newest revision: before,
    whatever is pending would be one.
    """

    revision: str | None
    head: str
    #: Whether this release has the revision. A later release may have migrated the database.
    is_known: bool
    pending: list[Pending]
    invalid_indexes: list[str]
    differences: list[str] | None

    def json(self) -> dict[str, Any]:
        """Return it for a program."""
        return asdict(self)

    def lines(self) -> list[str]:
        """Return it for a person."""
        where = self.revision or "no revision; it is empty or was never migrated"
        lines = [f"at revision {where}", f"newest revision {self.head}"]
        if not self.is_known:
            lines.append("this release does not have the revision: a later release has migrated")
        lines += [f"pending: {each.revision}, {each.summary}" for each in self.pending]
        lines += self.faults()
        if self.differences is None:
            lines.append("not compared with the models: not at the newest revision")
        elif not self.differences:
            lines.append("no differences from the models")
        return lines

    def faults(self) -> list[str]:
        """Return a line for each invalid index and each difference, with the remedy."""
        invalid = [remedy(name) for name in self.invalid_indexes]
        differing = [
            f"differs from the models: {each}"
            for each in self.differences or []
            if not each.endswith(" is invalid")
        ]
        return invalid + differing

    def problems(self) -> list[str]:
        """Return the reasons for which this release should not be deployed on the database."""
        if not self.is_known:
            return [f"the database is at revision {self.revision}, which this release lacks"]
        if self.pending:
            n = len(self.pending)
            return [f"{n} revisions are pending: run clamor migrate", *self.faults()]
        return self.faults()


def of(connection: Connection, revision: str | None, chain: RevisionChain) -> Status:
    """Read the state of a database at a revision. The connection is in a transaction."""
    is_known = revision is None or chain.has(revision)
    pending = chain.after(revision) if is_known else []
    is_newest = is_known and not pending
    return Status(
        revision=revision,
        head=chain.head,
        is_known=is_known,
        pending=[Pending(script.revision, script.doc) for script in pending],
        invalid_indexes=invalid_indexes(connection),
        differences=catalog.differences(connection) if is_newest else None,
    )


def invalid_indexes(connection: Connection) -> list[str]:
    """Return the indexes that an interrupted build left behind, or that are being built."""
    return list(connection.scalars(INVALID_INDEXES))


def remedy(index: str) -> str:
    """Return a line about an invalid index."""
    return (
        f"index {index} is invalid: run REINDEX INDEX CONCURRENTLY {index}, or drop it if its name"
        " ends with _ccnew"
    )
