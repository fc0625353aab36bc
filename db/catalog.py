"""Compare the schema of a database with the tables of the code.

The expected schema is created from :mod:`db.tables` as temporary tables, which are rolled back, and
both are read from the catalog in the same way. So Postgres itself normalises every expression, and
nothing that it stores of a check, a default or an index is left out. (Alembic's autogenerate sees
neither checks nor triggers, functions and comments.)
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from sqlalchemy import Connection, TextClause, text

import db.tables  # noqa: F401  (registers every table)
from db import catalog_queries
from db.tables.base import Base
from db.tables.routines import FUNCTIONS, TRIGGERS, Function, Trigger

#: What is known of each object, by kind and name: definitions, comments and so on.
Objects = Mapping[tuple[str, str], Mapping[str, str]]

#: The name of the fact that is itself the difference: "is invalid".
_STATE = "state"
#: Qualifies the functions of triggers in the expected schema.
_TEMPORARY = re.compile(r"\bpg_temp(_\d+)?\.")


def differences(connection: Connection) -> list[str]:
    """Return what differs in a database from the tables of the code, a readable line for each.

    The connection must be in a transaction or able to begin one, and its user may create temporary
    tables. Nothing is changed.
    """
    found = _read(connection, "quote_ident(current_schema())::regnamespace")
    expected = _expected(connection)
    lines = [
        line
        for key in sorted(expected.keys() | found.keys())
        for line in _compare(key, found.get(key), expected.get(key))
    ]
    names = {"names": sorted(Base.metadata.tables)}
    of_roles = connection.scalars(text(catalog_queries.PRIVILEGES), names)
    return [*lines, *(f"{line}: run the SQL of clamor migrate --grant" for line in of_roles)]


def _compare(
    key: tuple[str, str], found: Mapping[str, str] | None, expected: Mapping[str, str] | None
) -> Iterator[str]:
    name = " ".join(key)
    if found is None:
        yield f"{name} is missing"
    elif expected is None:
        yield f"{name} is not in the models"
    else:
        for fact, value in expected.items():
            if found[fact] == value:
                continue
            if fact == _STATE:
                yield f"{name} is {found[fact]}"
            else:
                yield (
                    f"{name}: its {fact} is {_on_a_line(found[fact])},"
                    f" and that of the models {_on_a_line(value)}"
                )


def _on_a_line(value: str) -> str:
    """Return a value, such as the body of a function, on one line."""
    return " ".join(value.split()) or "empty"


def _expected(connection: Connection) -> Objects:
    """Create the schema of the code as temporary objects, read it, and roll it back."""
    nested = connection.begin_nested()
    try:
        schema = connection.execute(text("SELECT quote_ident(current_schema())")).scalar_one()
        # The one that functions keep, and then one whose first schema gets the new tables.
        _set_path(connection, f"{schema}, pg_temp")
        for function in FUNCTIONS:
            connection.execute(_plain(_function_sql(function)))
        _set_path(connection, f"pg_temp, {schema}")
        Base.metadata.create_all(connection, checkfirst=False)
        for trigger in TRIGGERS:
            connection.execute(_plain(_trigger_sql(trigger)))
        return _read(connection, "pg_my_temp_schema()")
    finally:
        nested.rollback()


def _set_path(connection: Connection, schemas: str) -> None:
    connection.execute(
        text("SELECT set_config('search_path', :schemas, true)"), {"schemas": schemas}
    )


def _function_sql(function: Function) -> str:
    name = f"pg_temp.{function.name}({function.arguments})"
    return (
        f"CREATE FUNCTION {name} RETURNS {function.returns} LANGUAGE {function.language}"
        f" {function.options} AS $${function.body}$$;"
        f" REVOKE EXECUTE ON FUNCTION {name} FROM PUBLIC;"
        f" COMMENT ON FUNCTION {name} IS {_quoted(function.comment)}"
    )


def _trigger_sql(trigger: Trigger) -> str:
    # Functions in the temporary schema are found only by their qualified name.
    return (
        f"CREATE TRIGGER {trigger.name} {trigger.event} ON {trigger.table} FOR EACH ROW"
        f" WHEN ({trigger.when}) EXECUTE FUNCTION pg_temp.{trigger.function}();"
        f" COMMENT ON TRIGGER {trigger.name} ON {trigger.table} IS {_quoted(trigger.comment)}"
    )


def _quoted(comment: str) -> str:
    return "'" + comment.replace("'", "''") + "'"


def _plain(sql: str) -> TextClause:
    """Return a statement without parameters, which a colon would begin."""
    return text(sql.replace(":", r"\:"))


def _read(connection: Connection, schema: str) -> Objects:
    """Return the objects of a schema, which is given as an expression."""
    objects: dict[tuple[str, str], dict[str, str]] = {}
    for query in catalog_queries.QUERIES:
        for row in connection.execute(_plain(query.replace("{schema}", schema))).mappings():
            facts = {fact: _TEMPORARY.sub("", value or "") for fact, value in row.items()}
            objects[facts.pop("kind"), facts.pop("name")] = facts
    return objects
