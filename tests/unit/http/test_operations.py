"""Parsing of parameters."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Annotated, Literal

import msgspec
import pytest
from falcon import testing

from services.http.operations import Parameters, operation, query_of
from services.http.request_errors import InvalidParameter


class Query(msgspec.Struct, kw_only=True):
    limit: Annotated[int, msgspec.Meta(ge=1)] | None = None
    level_db: float | None = None
    name: str | None = None
    user_id: uuid.UUID | None = None
    since: Annotated[datetime, msgspec.Meta(tz=True)] | None = None
    times: list[datetime] = []
    states: list[Literal["old", "new"]] = []


class Resource:
    @operation(scope=None, query=Query)
    def on_get(self) -> None: ...


def read(query: str) -> Query:
    req = testing.create_req(query_string=query)
    Parameters().process_resource(req, None, Resource(), {})  # type: ignore[arg-type]
    return query_of(req, Query)


def test_texts_become_what_is_wanted() -> None:
    asked = read("limit=3&level_db=-1.5&name=7&since=2026-03-01T00:00:00Z&states=old")
    assert (asked.limit, asked.level_db, asked.name) == (3, -1.5, "7")
    assert asked.since == datetime(2026, 3, 1, tzinfo=UTC)
    assert asked.states == ["old"]
    assert read("states=old&states=new").states == ["old", "new"]


def test_null_is_a_text_and_no_absence() -> None:
    assert read("name=null").name == "null"
    for parameter in ("limit", "user_id", "level_db", "since"):
        with pytest.raises(InvalidParameter, match=parameter):
            read(f"{parameter}=null")


@pytest.mark.parametrize("query", ["since=0.5", "since=1700000000", "times=1", "times=1&times=2"])
def test_a_number_is_no_time(query: str) -> None:
    with pytest.raises(InvalidParameter):
        read(query)


@pytest.mark.parametrize("query", ["limit=1&limit=2", "limit=0", "limit=a", "more=1", "states=odd"])
def test_what_is_not_promised_is_refused(query: str) -> None:
    with pytest.raises(InvalidParameter):
        read(query)


def test_parameters_that_are_for_a_page_are_left_alone() -> None:
    class Page:
        @operation(scope=None, any_query=True)
        def on_get(self) -> None: ...

    class Plain:
        @operation(scope=None)
        def on_get(self) -> None: ...

    req = testing.create_req(query_string="state=odd&more=1")
    Parameters().process_resource(req, None, Page(), {})  # type: ignore[arg-type]
    with pytest.raises(InvalidParameter, match="more"):
        Parameters().process_resource(req, None, Plain(), {})  # type: ignore[arg-type]
