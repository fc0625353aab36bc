"""Every table and column says what it holds, for those who read the catalog."""

from __future__ import annotations

import pytest
from sqlalchemy import Table

from db.tables.base import Base
from db.tables.routines import FUNCTIONS, TRIGGERS


@pytest.mark.parametrize("table", Base.metadata.tables.values(), ids=str)
def test_a_table_and_its_columns_have_sentences_as_comments(table: Table) -> None:
    comments = {table.name: table.comment} | {column.name: column.comment for column in table.c}
    assert [name for name, comment in comments.items() if not (comment or "").endswith(".")] == []
    # The catalog shows no markup.
    assert [name for name, comment in comments.items() if "`" in (comment or "")] == []


def test_functions_and_triggers_have_comments() -> None:
    assert all(each.comment.endswith(".") for each in (*FUNCTIONS, *TRIGGERS))
