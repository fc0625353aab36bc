"""The names of roles and of the schema, and the SQL that quotes them."""

from __future__ import annotations

import pytest

from db import roles
from db.connection_options import ConnectionOptions
from db.migration.errors import MigrationError
from db.roles import Roles


@pytest.mark.parametrize("name", ["", "x" * 64, "\u00e9" * 32, "a$b", "a\0b"])
def test_another_name_is_refused(name: str) -> None:
    for field in ("owner", "app", "reader", "schema"):
        with pytest.raises(MigrationError, match="name of 1 to 63 bytes"):
            Roles(**{field: name})


@pytest.mark.parametrize(
    "names",
    [
        {"schema": "pg_catalog"},
        {"schema": "information_schema"},
        {"owner": "pg_write_all_data"},
        {"app": "public"},
        {"reader": "none"},
    ],
)
def test_names_of_postgres_are_refused(names: dict[str, str]) -> None:
    with pytest.raises(MigrationError, match="reserved by Postgres"):
        Roles(**names)


def test_the_roles_are_three() -> None:
    with pytest.raises(MigrationError, match="three different roles"):
        Roles(owner="a", app="a")


def test_names_are_quoted_and_timeouts_are_those_of_the_settings() -> None:
    names = Roles(owner="o'\"", app='a"; DROP TABLE users; --', schema="S")
    made = roles.statements(names, ConnectionOptions(statement_timeout_s=7))
    assert made.startswith("BEGIN;\n")
    assert made.endswith("COMMIT;\n")
    assert 'TO "a""; DROP TABLE users; --"' in made
    assert 'a"; DROP' not in made.replace('"a""; DROP', "").replace("'a\"; DROP", "")
    assert "'o''\"'" in made
    assert "\"statement_timeout\" = '7000';" in made
