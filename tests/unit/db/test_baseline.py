"""The SQL of the baseline names the queries of each index, and each of them exists."""

from __future__ import annotations

import re
from importlib import import_module, resources
from pathlib import Path

import pytest

from db.tables.base import Base
from db.tables.routines import FUNCTIONS, TRIGGERS

FILES = {
    file.name: file.read_text(encoding="utf-8")
    for file in (resources.files("db") / "migrations" / "baseline").iterdir()
}
SQL = "\n".join(FILES.values())
#: The lines of a comment, and the index below it.
INDEXES = {
    name: comment
    for comment, name in re.findall(
        r"((?:^--.*\n)+)CREATE (?:UNIQUE )?INDEX (\w+)", SQL, re.MULTILINE
    )
}
ROOT = Path(__file__).resolve().parents[3]
DOCUMENTS = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
#: A module of queries, a function of it, and further functions after commas.
QUERIES = re.compile(r"\b(\w+_queries|fair_order)\.(\w+(?:, \w+\b(?!\.))*)")


def test_every_index_is_below_a_comment_that_names_its_queries() -> None:
    of_models = {
        str(index.name) for table in Base.metadata.sorted_tables for index in table.indexes
    }
    assert set(INDEXES) == of_models
    # That of daily figures names a module, each query of which reads the sessions of a day.
    without = {name for name, comment in INDEXES.items() if not QUERIES.search(comment)}
    # Postgres itself reads these.
    assert {INDEXES[name].split(":")[0] for name in without} == {"-- The foreign key"}


@pytest.mark.parametrize("index", INDEXES)
def test_the_queries_of_an_index_exist(index: str) -> None:
    for module, functions in QUERIES.findall(INDEXES[index]):
        package = "queue" if module == "fair_order" else "queries"
        found = import_module(f"db.{package}.{module}")
        first, *others = functions.split(", ")
        assert hasattr(found, first), f"{module}.{first}"
        for name in others:
            assert hasattr(found, name), f"{module}.{name}"


def test_documents_name_indexes_and_constraints_that_exist() -> None:
    named = {
        name
        for file in DOCUMENTS
        for name in re.findall(r"\b(?:ix|uq|pk|fk|ck)_\w+", file.read_text(encoding="utf-8"))
    }
    assert "ix_unfinished_sessions_turn" in named
    assert {name for name in named if not re.search(rf"\b{name}\b", SQL)} == set()


def test_functions_and_triggers_are_those_of_the_code() -> None:
    for function in FUNCTIONS:
        assert f"AS $${function.body}$$;" in SQL
    for trigger in TRIGGERS:
        assert f"CREATE TRIGGER {trigger.name} {trigger.event} ON {trigger.table}" in SQL


@pytest.mark.parametrize("file", FILES)
def test_a_file_can_be_read_at_one_sitting(file: str) -> None:
    lines = FILES[file].splitlines()
    assert len(lines) <= 350
    assert [line for line in lines if len(line) > 108] == []
