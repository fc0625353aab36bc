"""Options of a posted recording, as far as the parameters alone can be checked."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any, get_args
from urllib.parse import urlencode

import falcon
import falcon.testing
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import CheckConstraint, DefaultClause, Table

from actors.facts.channel_rules import ENERGY_MEAN, LOUDEST, ChannelRule
from db.tables.sessions import (
    BANDS,
    CALIBRATION_TONES_DB,
    METADATA_BYTES,
    METADATA_KEYS,
    NORMAL,
    PRIORITIES,
    PRIVACY,
    AudioSession,
)
from services.api.sessions.options import NAMES, BatchOptions, SessionOptions
from services.cli.actions import processing
from services.cli.main import parser
from services.http import operations
from services.http.request_errors import InvalidParameter


class Options:
    """An endpoint that only reads options."""

    @operations.operation(scope=None, query=SessionOptions)
    def on_post(self, _req: falcon.Request, _resp: falcon.Response) -> None: ...


def read(query: str) -> SessionOptions:
    """Parse the options of a query as the application does."""
    req = falcon.testing.create_req(method="POST", query_string=query)
    operations.Parameters().process_resource(req, falcon.Response(), Options(), None)
    return operations.query_of(req, SessionOptions)


def values(kind: type[msgspec.Struct], field: str) -> set[Any]:
    """Return the choices of a field by its JSON schema."""
    schema = msgspec.json.schema(kind)["$defs"][kind.__name__]["properties"][field]
    choices = schema.get("anyOf", [schema])
    return {each for choice in choices for each in choice.get("enum", [])}


def test_the_choices_are_those_of_the_table() -> None:
    assert values(SessionOptions, "priority") == set(PRIORITIES)
    assert values(SessionOptions, "privacy") == set(PRIVACY)
    assert values(SessionOptions, "channel") == {ENERGY_MEAN, LOUDEST}
    assert values(SessionOptions, "bands") - {None} == set(BANDS)
    assert values(SessionOptions, "calibration_tone_db") - {None} == set(CALIBRATION_TONES_DB)


def test_the_table_has_the_rules_for_channels() -> None:
    table = AudioSession.__table__
    assert isinstance(table, Table)
    default = table.c.channel.server_default
    assert isinstance(default, DefaultClause)
    assert str(default.arg) == f"'{ENERGY_MEAN}'"
    [check] = [
        str(each.sqltext)
        for each in table.constraints
        if isinstance(each, CheckConstraint) and "channel ~" in str(each.sqltext)
    ]
    assert f"({'|'.join(get_args(ChannelRule))}|" in check


def test_nothing_is_asked_by_default() -> None:
    asked = read("")
    assert PRIORITIES.index(asked.priority) == NORMAL
    assert (asked.thresholds(), asked.own_metadata(), asked.types) == ({}, {}, [])
    assert {"threshold", "types", "metadata", "recorded_at", "file_name", "batch_id"} <= NAMES


def test_a_batch_has_no_beginning() -> None:
    assert not {"recorded_at", "file_name"} & set(BatchOptions.__struct_fields__)


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("threshold=rain:0.7", {"rain": 0.7}),
        ("threshold=rain:0.7&threshold=siren:1", {"rain": 0.7, "siren": 1.0}),
        ("threshold=a%20b:c:0", {"a b:c": 0.0}),
    ],
)
def test_thresholds(query: str, wanted: dict[str, float]) -> None:
    assert read(query).thresholds() == wanted


def test_what_a_command_is_given_is_read_as_it_was_meant() -> None:
    given_options = parser().parse_args(
        [
            "process",
            "a.flac",
            "--model",
            str(uuid.UUID(int=7)),
            "--threshold",
            "rain=0.7",
            "--threshold",
            "a=b=1",
            "--time-zone",
            "Asia/Tokyo",
            "--metadata",
            "site=7",
            "--metadata",
            "note=a=b",
            "--priority",
            "low",
            "--types",
            "traffic",
            "--types",
            "rain",
            "--privacy",
            "mute",
            "--channel",
            "2",
        ]
    )
    asked = read(urlencode(processing.parameters(given_options, calibration_db=-3.5), doseq=True))
    assert (asked.model, asked.priority, asked.calibration_db) == (uuid.UUID(int=7), "low", -3.5)
    assert asked.thresholds() == {"rain": 0.7, "a=b": 1.0}
    assert asked.own_metadata() == {"site": "7", "note": "a=b"}
    assert asked.time_zone == "Asia/Tokyo"
    assert (asked.types, asked.privacy) == (["traffic", "rain"], "mute")
    assert asked.channel == 2


@pytest.mark.parametrize("offset", ["+01:00", "%2B01:00"])
def test_a_plus_sign_may_stand_for_itself(offset: str) -> None:
    asked = read(f"recorded_at=2026-11-28T09:30:00{offset}&calibration_db=+94")
    assert asked.recorded_at == datetime(2026, 11, 28, 8, 30, tzinfo=UTC)
    assert asked.calibration_db == 94


@pytest.mark.parametrize("zone", ["Europe/Berlin", "UTC", "America/Argentina/Buenos_Aires"])
def test_zones(zone: str) -> None:
    assert read(f"time_zone={zone}").time_zone == zone


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("model", "the-best"),
        ("model", ""),
        ("channel", "0"),
        ("channel", "65"),
        ("channel", "left"),
        ("channel", ""),
        ("channel", "1,2"),
        ("threshold", "rain"),
        ("threshold", "rain:"),
        ("threshold", "rain:loud"),
        ("threshold", "rain:1.1"),
        ("threshold", "rain:-0.1"),
        ("threshold", "rain:nan"),
        ("threshold", ":0.5"),
        ("threshold", ""),
        ("threshold", "a\0b:1"),
        ("recorded_at", "yesterday"),
        ("recorded_at", "2026-11-28"),
        ("recorded_at", "2026-11-28T09:30:00"),
        ("recorded_at", "1859-12-31T23:59:59Z"),
        ("recorded_at", "2200-01-01T00:00:00Z"),
        ("recorded_at", "0001-01-01T00:00:00+14:00"),
        ("time_zone", "Mars/Olympus"),
        ("time_zone", "Europe"),
        ("time_zone", ""),
        ("time_zone", "../etc/passwd"),
        ("time_zone", "localtime"),
        ("time_zone", "/UTC"),
        ("metadata", "site=7"),
        ("metadata", ""),
        ("metadata", "[]"),
        ("metadata", '"a"'),
        ("metadata", '{"a": {}}'),
        ("metadata", '{"a": [1]}'),
        ("metadata", '{"": 1}'),
        ("metadata", '{"a": "\\u0000"}'),
        ("metadata", '{"\\u0000": 1}'),
        ("metadata", '{"a": "\\ud800"}'),
        ("metadata", '{"a": NaN}'),
        ("metadata", '{"a": 1e300}'),
        ("metadata", '{"a": 1' + "0" * 30 + "}"),
        ("metadata", json.dumps({"n" * 65: 1})),
        ("metadata", json.dumps({str(n): n for n in range(METADATA_KEYS + 1)})),
        ("metadata", json.dumps({"a": "ä" * (METADATA_BYTES // 2)}, ensure_ascii=False)),
        ("metadata", "[" * 4_000),
    ],
)
def test_what_is_no_such_value_is_named(name: str, value: str) -> None:
    with pytest.raises(InvalidParameter) as refused:
        read(urlencode({name: value}))
    assert [error.field for error in refused.value.extension["errors"]] == [name]
    assert all(error.detail for error in refused.value.extension["errors"])


def test_every_fault_is_told_at_once() -> None:
    with pytest.raises(InvalidParameter) as refused:
        read("time_zone=Mars&metadata=x&threshold=rain:1&threshold=rain:0.5")
    fields = [error.field for error in refused.value.extension["errors"]]
    assert sorted(fields) == ["metadata", "threshold", "time_zone"]


@given(
    st.dictionaries(
        st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1, max_size=64),
        st.none()
        | st.booleans()
        | st.integers(-(2**53), 2**53)
        | st.floats(-(2**53), 2**53, allow_nan=False)
        | st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=20),
        max_size=10,
    )
)
def test_metadata_comes_back_as_it_was_sent(own: dict[str, Any]) -> None:
    assert read(urlencode({"metadata": json.dumps(own, ensure_ascii=False)})).own_metadata() == own


@given(st.datetimes(datetime(1861, 1, 1), datetime(2199, 1, 1)), st.integers(-840, 840))
def test_any_time_with_an_offset_is_taken(naive: datetime, offset_minutes: int) -> None:
    given_time = naive.replace(tzinfo=UTC) + timedelta(minutes=offset_minutes)
    assert read(urlencode({"recorded_at": given_time.isoformat()})).recorded_at == given_time
