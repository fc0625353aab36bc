"""The page of a report."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser

import numpy as np
import pytest
from sqlalchemy import text

from actors.execution.runtime import Runtime
from actors.science.levels import totals
from db.blobs.keys import report_key
from db.queries import request_queries
from db.queries.request_queries import RequestRow
from tests.integration.analytics.reported import BERLIN, made, session
from tests.support import partitions, recordings
from tests.support.accounts import TEAM
from tests.support.api import Api
from tests.support.clock import clean_up_twice
from tests.support.pipeline import add, run_to_the_end

pytestmark = pytest.mark.integration

EVIL = "<img src=x onerror=alert(1)>"


class Texts(HTMLParser):
    """Collect a page's elements and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.links: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        assert not any(name.startswith("on") or name == "style" for name, _ in attrs)
        self.links += [value or "" for name, value in attrs if name in ("src", "srcset", "href")]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_is_one_file_in_which_names_are_text(api: Api, runtime: Runtime) -> None:
    session(
        runtime,
        "2026-10-25T10:00Z",
        events={EVIL: [0], "$dog$": [1]},
        problem={"code": EVIL, "detail": ""},
        state="partial",
    )
    received = datetime(2026, 10, 25, 12, tzinfo=UTC)
    partitions.add_since(runtime.settings.database_url, received)
    with runtime.store.transaction() as tx:
        tx.execute(text("UPDATE api_keys SET name = :name"), {"name": EVIL})
        request_queries.add_requests(
            tx,
            [
                RequestRow(
                    "r",
                    "GET",
                    "/v1/usage",
                    200,
                    0.1,
                    5,
                    7,
                    "1" * 16,
                    TEAM,
                    None,
                    received,
                )
            ],
        )
    found = made(api, runtime)
    got = api.simulate_get(f"/v1/reports/{found['id']}/html")
    assert (got.status_code, got.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "default-src 'none'" in got.headers["content-security-policy"]
    assert "script" not in got.headers["content-security-policy"]
    page = Texts(got.text)
    assert page.text.count(EVIL) == 3
    assert not page.tags & {"script", "iframe", "form", "a", "link", "object"}
    assert page.links
    assert all(link.startswith("data:image/png;base64,") for link in page.links)


def test_a_page_that_is_not_there_is_said(api: Api, runtime: Runtime) -> None:
    asked = api.simulate_post("/v1/reports", json=BERLIN).json
    early = api.simulate_get(f"/v1/reports/{asked['id']}/html")
    assert (early.status_code, early.json["type"]) == (409, "/problems/not-finished")
    found = made(api, runtime)
    with runtime.store.transaction() as tx:
        key = tx.execute(text("SELECT html_key FROM daily_reports")).scalar_one()
    runtime.blobs.delete(key)
    gone = api.simulate_get(f"/v1/reports/{found['id']}/html")
    assert (gone.status_code, gone.json["type"]) == (409, "/problems/not-finished")


def test_pages_of_before_are_removed_and_those_of_now_stay(
    api: Api, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = made(api, runtime)
    stray = report_key(uuid.uuid4(), uuid.uuid4())
    runtime.blobs.put(stray, b"of a worker that died")
    made(api, runtime)
    assert len(list(runtime.blobs.keys("reports/"))) == 3
    monkeypatch.setattr(runtime, "settings", replace(runtime.settings, orphan_s=-60.0))
    clean_up_twice(runtime)
    [left] = runtime.blobs.keys("reports/")
    assert found["id"] in left
    assert api.simulate_get(f"/v1/reports/{found['id']}/html").status_code == 200


def test_a_recording_leaves_its_level_by_quarters(runtime: Runtime) -> None:
    samples = np.random.default_rng(6).normal(0, 0.1, 9 * recordings.RATE_HZ).astype(np.float32)
    samples[: 6 * recordings.RATE_HZ] *= 0.01
    # The level changes at the quarter of an hour.
    session_id = add(
        runtime,
        recordings.encode(samples),
        recorded_at=datetime(2026, 3, 14, 11, 59, 54, tzinfo=UTC),
    )
    ended = run_to_the_end(runtime, session_id)
    assert ended.quarter_mean_squares is not None
    quiet, loud = ended.quarter_mean_squares
    assert loud > 1_000 * quiet
    assert ended.summary
    whole = (6 * quiet + 3 * loud) / 9
    assert totals.to_db(whole) == pytest.approx(ended.summary["laeq_db"], abs=0.02)
