"""No table can be forgotten when a user is erased."""

from __future__ import annotations

from db import tables
from db.queries.erasure_queries import ERASED, STAYS
from db.tables.base import Base


def test_every_table_is_erased_or_has_nothing_of_a_user() -> None:
    assert tables.__doc__
    assert ERASED.keys() & STAYS.keys() == set()
    assert ERASED.keys() | STAYS.keys() == Base.metadata.tables.keys()


def test_no_table_that_names_a_user_or_a_session_stays() -> None:
    named = {
        table.name
        for table in Base.metadata.tables.values()
        if {"user_id", "session_id", "key_id", "file_name"} & set(table.columns.keys())
    }
    assert named <= ERASED.keys()
