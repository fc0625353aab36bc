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
    return [
        line
        for key in sorted(expected.keys() | found.keys())
        for line in _compare(key, found.get(key), expected.get(key))
    ]


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
                    f"{name}: its {fact} is {found[fact] or 'empty'},"
                    f" and that of the models {value or 'empty'}"
                )


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
    for query in _QUERIES:
        for row in connection.execute(_plain(query.replace("{schema}", schema))).mappings():
            facts = {fact: _TEMPORARY.sub("", value or "") for fact, value in row.items()}
            objects[facts.pop("kind"), facts.pop("name")] = facts
    return objects


# How often a table is vacuumed is for its administrator to set (docs/dba.md). Partitions are left
# out: which there are depends on the time, and they have what their table has.
_TABLES = """
    SELECT 'table' AS kind, relname AS name,
           pg_get_partkeydef(oid) AS "partition key",
           (
               SELECT string_agg(option, ', ' ORDER BY option) FROM unnest(reloptions) AS option
               WHERE NOT starts_with(option, 'autovacuum_')
           ) AS storage,
           obj_description(oid, 'pg_class') AS comment
    FROM pg_class
    WHERE relnamespace = {schema} AND relkind IN ('r', 'p') AND NOT relispartition
      AND relname <> 'alembic_version'
"""

_COLUMNS = """
    SELECT 'column' AS kind, relname || '.' || attname AS name,
           format_type(atttypid, atttypmod) AS type,
           CASE WHEN attnotnull THEN 'not null' ELSE 'null' END AS nullability,
           pg_get_expr(adbin, adrelid) AS default,
           CASE attidentity WHEN 'a' THEN 'always' WHEN 'd' THEN 'by default' END AS identity,
           CASE WHEN attgenerated <> '' THEN 'generated' END AS generation,
           collname AS collation,
           col_description(pg_class.oid, attnum) AS comment
    FROM pg_class
    JOIN pg_attribute ON attrelid = pg_class.oid AND attnum > 0 AND NOT attisdropped
    LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
    LEFT JOIN pg_collation ON pg_collation.oid = attcollation AND collname <> 'default'
    WHERE relnamespace = {schema} AND relkind IN ('r', 'p') AND NOT relispartition
      AND relname <> 'alembic_version'
"""

# Postgres 18 also lists NOT NULL here, which is compared with the columns.
_CONSTRAINTS = """
    SELECT CASE contype
               WHEN 'c' THEN 'check' WHEN 'f' THEN 'foreign key' WHEN 'p' THEN 'primary key'
               WHEN 'u' THEN 'unique constraint' ELSE 'constraint'
           END AS kind,
           conname AS name,
           relname AS table,
           regexp_replace(pg_get_constraintdef(pg_constraint.oid, true), ' NOT VALID$', '')
               AS definition,
           CASE WHEN convalidated THEN 'valid' ELSE 'not validated' END AS state
    FROM pg_constraint
    JOIN pg_class ON pg_class.oid = conrelid
    WHERE relnamespace = {schema} AND contype IN ('c', 'f', 'p', 'u', 'x')
      AND NOT relispartition AND relname <> 'alembic_version'
"""

_INDEXES = """
    SELECT 'index' AS kind, indexed.relname AS name,
           pg_get_indexdef(indexrelid, 0, true) AS definition,
           CASE WHEN indisvalid THEN 'valid' ELSE 'invalid' END AS state
    FROM pg_index
    JOIN pg_class AS indexed ON indexed.oid = indexrelid
    JOIN pg_class AS tables ON tables.oid = indrelid
    WHERE indexed.relnamespace = {schema} AND NOT tables.relispartition
      AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid AND contype <> 'f')
"""

_TRIGGERS = """
    SELECT 'trigger' AS kind, tgname || ' on ' || relname AS name,
           pg_get_triggerdef(pg_trigger.oid, true) AS definition,
           CASE WHEN tgenabled = 'O' THEN 'enabled' ELSE 'disabled' END AS state,
           obj_description(pg_trigger.oid, 'pg_trigger') AS comment
    FROM pg_trigger
    JOIN pg_class ON pg_class.oid = tgrelid
    WHERE relnamespace = {schema} AND NOT tgisinternal AND NOT relispartition
"""

_FUNCTIONS = """
    SELECT 'function' AS kind, proname AS name,
           pg_get_function_arguments(pg_proc.oid) AS arguments,
           pg_get_function_result(pg_proc.oid) AS result,
           lanname AS language,
           provolatile::text AS volatility,
           CASE WHEN prosecdef THEN 'definer' ELSE 'invoker' END AS security,
           (
               SELECT string_agg(setting, ', ' ORDER BY setting COLLATE "C")
               FROM unnest(proconfig) AS setting
           ) AS configuration,
           prosrc AS body,
           obj_description(pg_proc.oid, 'pg_proc') AS comment
    FROM pg_proc
    JOIN pg_language ON pg_language.oid = prolang
    WHERE pronamespace = {schema}
      AND NOT EXISTS (
          SELECT FROM pg_depend
          WHERE classid = 'pg_proc'::regclass AND objid = pg_proc.oid AND deptype = 'e'
      )
"""

_QUERIES = (_TABLES, _COLUMNS, _CONSTRAINTS, _INDEXES, _TRIGGERS, _FUNCTIONS)
