"""The database roles: an owner that migrates, an application that works, and a reader.

``clamor migrate --grant`` prints the SQL, and ``--apply`` runs it. Running it again changes
nothing. LOGIN and passwords are the administrator's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import LiteralString

import psycopg
import sqlalchemy
from psycopg import sql

from db.connection_options import ConnectionOptions
from db.engine import make_engine
from db.migrate import CONNECTION, connect
from db.migration.errors import MigrationError
from db.tables.base import Base
from db.tables.routines import FUNCTIONS
from db.unreachable import first_line

#: Postgres cuts longer names.
MOST_NAME_BYTES = 63


@dataclass(frozen=True, kw_only=True)
class Roles:
    """The names of the roles, and of the schema of the tables."""

    owner: str = "clamor_owner"
    app: str = "clamor_app"
    reader: str = "clamor_read"
    schema: str = "public"

    def __post_init__(self) -> None:
        names = (self.owner, self.app, self.reader)
        for name in (*names, self.schema):
            # The SQL quotes everything else; a dollar sign could end the body of a DO statement.
            if not 0 < len(name.encode()) <= MOST_NAME_BYTES or {"\0", "$"} & set(name):
                raise MigrationError(
                    f"{name!r} must be a name of 1 to {MOST_NAME_BYTES} bytes without a $"
                )
        # Postgres would grant the tables of its catalog like any others.
        system = [name for name in names if name.startswith("pg_") or name in ("public", "none")]
        if self.schema.startswith("pg_") or self.schema == "information_schema":
            system.append(self.schema)
        if system:
            raise MigrationError(f"{', '.join(system)}: reserved by Postgres; choose another name")
        if len(set(names)) < len(names):
            raise MigrationError("owner, application and reader must be three different roles")


#: The part in each pair of braces is quoted as an identifier, or as a literal where its name ends
#: in ``_text``.
_CREATE: LiteralString = """
-- Roles without LOGIN. Give it to them, with a password: ALTER ROLE ... LOGIN PASSWORD ...
DO $$
DECLARE role text;
BEGIN
    FOREACH role IN ARRAY ARRAY[{owner_text}, {app_text}, {reader_text}] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role) THEN
            EXECUTE format('CREATE ROLE %I', role);
        END IF;
        EXECUTE format('GRANT CONNECT ON DATABASE %I TO %I', current_database(), role);
    END LOOP;
    -- For clamor migrate --check, which creates the tables of the code and rolls them back.
    EXECUTE format('GRANT TEMPORARY ON DATABASE %I TO %I', current_database(), {owner_text});
    IF NOT EXISTS (SELECT FROM pg_namespace WHERE nspname = {schema_text}) THEN
        EXECUTE format('CREATE SCHEMA %I AUTHORIZATION %I', {schema_text}, {owner_text});
    END IF;
END $$;

-- Only the owner creates tables.
REVOKE CREATE ON SCHEMA {schema} FROM PUBLIC, {app}, {reader};
GRANT USAGE, CREATE ON SCHEMA {schema} TO {owner};
GRANT USAGE ON SCHEMA {schema} TO {app}, {reader};
"""
_OWN: LiteralString = """
-- The owner takes over the tables and functions of an earlier installation. What runs as the owner
-- is for the application alone.
DO $$
DECLARE statement text;
BEGIN
    FOR statement IN
        WITH ours AS (
            SELECT oid, relowner FROM pg_class
            WHERE relnamespace = quote_ident({schema_text})::regnamespace AND relkind IN ('r', 'p')
              AND (relname = ANY (ARRAY[{tables}]) OR oid IN (
                  SELECT inhrelid FROM pg_inherits JOIN pg_class parent ON parent.oid = inhparent
                  WHERE parent.relname = ANY (ARRAY[{tables}])
                    AND parent.relnamespace = quote_ident({schema_text})::regnamespace))
        ),
        functions AS (
            SELECT oid::regprocedure AS signature, proowner, prosecdef FROM pg_proc
            WHERE pronamespace = quote_ident({schema_text})::regnamespace
              AND proname = ANY (ARRAY[{functions}])
        )
        SELECT format('ALTER TABLE %s OWNER TO %I', oid::regclass, {owner_text})
        FROM ours WHERE relowner <> quote_ident({owner_text})::regrole
        UNION ALL
        SELECT format('ALTER FUNCTION %s OWNER TO %I', signature, {owner_text})
        FROM functions WHERE proowner <> quote_ident({owner_text})::regrole
        UNION ALL
        SELECT format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', signature)
        FROM functions WHERE prosecdef
    LOOP
        EXECUTE statement;
    END LOOP;
END $$;
"""
_GRANT: LiteralString = """
-- The application works on rows: no DDL, no TRUNCATE. The reader reads.
REVOKE ALL ON ALL TABLES IN SCHEMA {schema} FROM {app}, {reader};
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {app};
GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO {reader};
GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA {schema} TO {app};
GRANT SELECT ON ALL SEQUENCES IN SCHEMA {schema} TO {reader};
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA {schema} TO {app};

-- The revision is written by migrations, which the owner runs.
DO $$
BEGIN
    IF to_regclass(format('%I.alembic_version', {schema_text})) IS NOT NULL THEN
        REVOKE INSERT, UPDATE, DELETE ON {schema}.alembic_version FROM {app};
    END IF;
END $$;

-- The same for the tables of later migrations.
ALTER DEFAULT PRIVILEGES FOR ROLE {owner} IN SCHEMA {schema}
    GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO {app};
ALTER DEFAULT PRIVILEGES FOR ROLE {owner} IN SCHEMA {schema} GRANT SELECT ON TABLES TO {reader};
ALTER DEFAULT PRIVILEGES FOR ROLE {owner} IN SCHEMA {schema}
    GRANT USAGE, SELECT ON SEQUENCES TO {app};
ALTER DEFAULT PRIVILEGES FOR ROLE {owner} IN SCHEMA {schema} GRANT SELECT ON SEQUENCES TO {reader};
ALTER DEFAULT PRIVILEGES FOR ROLE {owner} IN SCHEMA {schema} GRANT EXECUTE ON FUNCTIONS TO {app};

-- VACUUM by the application. Before Postgres 17 only the owner can be allowed to.
DO $$
BEGIN
    IF current_setting('server_version_num')::int >= 170000 THEN
        EXECUTE format('GRANT MAINTAIN ON ALL TABLES IN SCHEMA %I TO %I',
                       {schema_text}, {app_text});
        EXECUTE format('ALTER DEFAULT PRIVILEGES FOR ROLE %I IN SCHEMA %I '
                       'GRANT MAINTAIN ON TABLES TO %I',
                       {owner_text}, {schema_text}, {app_text});
    END IF;
END $$;

-- Sessions find the tables. The reader cannot write, even with a grant.
ALTER ROLE {owner} SET search_path = {schema};
ALTER ROLE {app} SET search_path = {schema};
ALTER ROLE {reader} SET search_path = {schema};
ALTER ROLE {reader} SET default_transaction_read_only = 'on';

-- What each session of the application needs; a pooler in transaction mode cannot send it.
"""
_SET: LiteralString = "ALTER ROLE {app} SET {name} = {value};\n"


def statements(roles: Roles, options: ConnectionOptions) -> str:
    """Return the SQL: one transaction, for a superuser or for a member of the owner's role."""
    tables = sorted({*Base.metadata.tables, "alembic_version"})
    parts: dict[str, sql.Composable] = {
        "tables": sql.SQL(", ").join(map(sql.Literal, tables)),
        "functions": sql.SQL(", ").join(sql.Literal(each.name) for each in FUNCTIONS),
        **{name: sql.Identifier(value) for name, value in vars(roles).items()},
        **{f"{name}_text": sql.Literal(value) for name, value in vars(roles).items()},
    }
    composed = [sql.SQL(part).format(**parts) for part in (_CREATE, _OWN, _GRANT)]
    composed += _parameters(roles, options)
    body = sql.Composed(composed).as_string()
    return f"BEGIN;\nSET LOCAL lock_timeout = '5s';\n{body}COMMIT;\n"


def _parameters(roles: Roles, options: ConnectionOptions) -> Iterator[sql.Composed]:
    for name, value in options.session_parameters().items():
        yield sql.SQL(_SET).format(
            app=sql.Identifier(roles.app), name=sql.Identifier(name), value=sql.Literal(value)
        )


def apply(url: str, roles: Roles, options: ConnectionOptions) -> None:
    """Run the SQL on a database.

    Raises
    ------
    MigrationError
        If the user in the URL may not run it. Nothing is changed then.
    """
    engine = make_engine(url, CONNECTION)
    try:
        with connect(engine) as connection:
            driver = connection.connection.driver_connection
            assert isinstance(driver, psycopg.Connection)
            driver.autocommit = True
            try:
                driver.execute(statements(roles, options).encode())
            finally:
                driver.rollback()
                driver.autocommit = False
    except (psycopg.Error, sqlalchemy.exc.DBAPIError) as error:
        reason = first_line(getattr(error, "orig", error))
        raise MigrationError(
            f"the roles are not changed: {reason}. Run clamor migrate --grant --apply with a "
            "superuser in CLAMOR_MIGRATION_URL, or with a role that has CREATEROLE and CREATE on "
            "the database, owns the tables, and is a member of the owner's role"
        ) from error
    finally:
        engine.dispose()
