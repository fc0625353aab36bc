"""A database with a clock that can be set: functions that hide those of the system."""

from __future__ import annotations

import psycopg

_FUNCTIONS = """
    CREATE SCHEMA clock;
    CREATE TABLE clock.ahead (seconds int);
    INSERT INTO clock.ahead VALUES (0);
    CREATE FUNCTION clock.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE AS
        'SELECT pg_catalog.clock_timestamp() + seconds * interval ''1 s'' FROM clock.ahead';
    CREATE FUNCTION clock.now() RETURNS timestamptz LANGUAGE sql STABLE AS
        'SELECT pg_catalog.now() + seconds * interval ''1 s'' FROM clock.ahead';
"""


#: The columns whose default is the time.
_DEFAULTS = """
    SELECT c.oid::regclass::text, a.attname, pg_get_expr(d.adbin, d.adrelid)
    FROM pg_attrdef d JOIN pg_class c ON c.oid = d.adrelid
    JOIN pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum
    WHERE c.relnamespace = 'public'::regnamespace AND NOT c.relispartition
      AND pg_get_expr(d.adbin, d.adrelid) ~ '(now|clock_timestamp)\\('
"""


def install(url: str) -> None:
    """Create the functions in a database, and use them in the defaults of its columns."""
    with psycopg.connect(url) as connection:
        connection.execute(_FUNCTIONS)
        defaults = connection.execute(_DEFAULTS).fetchall()
        assert defaults
        # Names are bound when a default is set.
        connection.execute("SET LOCAL search_path = clock, pg_catalog, public")
        for table, column, default in defaults:
            statement = f"ALTER TABLE {table} ALTER COLUMN {column} SET DEFAULT {default}"
            connection.execute(statement.encode())


def seen(url: str) -> str:
    """Return the URL of the same database with the clock."""
    joint = "&" if "?" in url else "?"
    return f"{url}{joint}options=-csearch_path%3Dclock,pg_catalog,public"


def set_ahead(url: str, seconds: int) -> None:
    """Set the clock, relative to that of the machine."""
    with psycopg.connect(url) as connection:
        connection.execute("UPDATE clock.ahead SET seconds = %s", [seconds])
