"""A session's page in a real browser: live, by mouse, by keyboard, and for screen readers."""

from __future__ import annotations

import re
import uuid

import numpy as np
import pytest
from playwright.sync_api import FloatRect, Page, Route, expect

from actors.execution.runtime import Runtime
from actors.messaging.messages import ProcessAudioFile, SplitRecording
from db.tables.detections import NoiseDetection
from tests.support import accounts, recordings
from tests.support.api import App
from tests.support.browser import assert_accessible
from tests.support.cluster import eventually
from tests.support.pipeline import add, detections_of, handle, run_to_the_end

pytestmark = pytest.mark.integration

DEMO = recordings.encode(recordings.demo())
#: A header that promises twice as much audio as there is.
BROKEN_OFF = (wav := recordings.encode(recordings.demo(), container="WAV"))[: len(wav) // 2]


@pytest.fixture(scope="module")
def finished(runtime: Runtime) -> uuid.UUID:
    """A session processed to its end."""
    session_id = add(runtime, DEMO)
    assert run_to_the_end(runtime, session_id).state == "completed"
    return session_id


def show(page: Page, session_id: uuid.UUID, *, key: str = accounts.KEY) -> None:
    """Open a session's page and enter a key."""
    page.goto(f"/sessions/{session_id}")
    page.get_by_label("API key").fill(key)
    page.keyboard.press("Enter")


def heard(runtime: Runtime, session_id: uuid.UUID) -> list[NoiseDetection]:
    with runtime.store.reading() as tx:
        return detections_of(tx, session_id)


def position(page: Page) -> float:
    return float(page.locator("#position").input_value())


def box(page: Page, selector: str) -> FloatRect:
    """Return the place of the first element, once it is drawn.

    The picture replaces its elements when it is drawn again; an element that has just gone has no
    place.
    """
    return eventually(page.locator(selector).first.bounding_box, what=selector)


def rows(page: Page) -> list[list[str]]:
    """Return the cells of the table's rows."""
    return [row.split("\t") for row in page.locator("#rows tr").all_inner_texts()]


def test_a_session_is_followed_live_and_ends_in_its_picture(page: Page, runtime: Runtime) -> None:
    session_id = add(runtime, DEMO)
    show(page, session_id)
    expect(page.get_by_role("heading", level=1)).to_have_text("a.flac")
    bar = page.get_by_role("progressbar")
    expect(bar).to_be_visible()
    page.evaluate("window.neverLeft = true")
    handle(runtime, ProcessAudioFile(session_id=session_id))
    handle(runtime, SplitRecording(session_id=session_id))
    # What is already available is already shown.
    expect(page.locator("#picture image")).to_be_visible()
    expect(page.get_by_role("button", name="Play")).to_be_enabled()
    expect(page.get_by_role("region", name="Events", exact=True)).to_be_hidden()
    run_to_the_end(runtime, session_id)
    events = heard(runtime, session_id)
    expect(page.locator("#rows tr")).to_have_count(len(events))
    expect(bar).to_be_hidden()
    expect(page.get_by_role("status")).to_have_text(f"Finished: {len(events)} events")
    for part in (".bar", ".box, .mark", "[fill-opacity]"):
        expect(page.locator(f"#picture .event {part}")).to_have_count(len(events))
    for line in (".laeq", ".lafmax"):
        assert "H" in (page.locator(f"#picture {line}").get_attribute("d") or "")
    expect(page.locator("#picture text", has_text="dBFS")).to_be_visible()
    assert page.evaluate("window.neverLeft")
    # The key is in no URL, and survives a reload in this tab.
    assert accounts.KEY not in page.url
    page.reload()
    expect(page.locator("#rows tr")).to_have_count(len(events))


def test_without_a_stream_the_session_is_asked_for(page: Page, runtime: Runtime) -> None:
    page.route("**/events", lambda route: route.fulfill(status=503, json={"title": "Too many"}))
    session_id = add(runtime, DEMO)
    show(page, session_id)
    expect(page.get_by_role("progressbar")).to_be_visible()
    run_to_the_end(runtime, session_id)
    expect(page.locator("#rows tr")).to_have_count(len(heard(runtime, session_id)))


def test_the_player_seeks_and_plays(page: Page, runtime: Runtime, finished: uuid.UUID) -> None:
    show(page, finished)
    events = heard(runtime, finished)
    play = page.get_by_role("button", name="Play")
    expect(play).to_be_enabled()
    # By keyboard: Enter on the button of an event.
    page.locator("#rows button").nth(2).press("Enter")
    eventually(
        lambda: position(page) == pytest.approx(events[2].start_s, abs=0.051), what="the position"
    )
    expect(page.locator("#rows tr.chosen")).to_have_count(1)
    expect(page.locator("#readout")).to_contain_text(events[2].noise_type.replace("_", " "))
    exposure_db = f"{events[2].lae_db:.1f}".replace("-", "\u2212")
    expect(page.locator("#event-levels")).to_contain_text(f"LAE {exposure_db} dBFS")
    # The position is a slider.
    page.get_by_role("slider", name="Position").press("ArrowRight")
    eventually(
        lambda: position(page) == pytest.approx(events[2].start_s + 5, abs=0.051),
        what="the position",
    )
    page.keyboard.press("Home")
    eventually(lambda: position(page) == 0, what="the position")
    # By mouse: an event in the picture, and any place of the spectrogram.
    page.locator("#picture .event .box").nth(1).click()
    eventually(
        lambda: position(page) == pytest.approx(events[1].start_s, abs=0.051), what="the position"
    )
    frame = box(page, "#picture .frame")
    page.mouse.click(frame["x"] + frame["width"] - 2, frame["y"] + 2)
    eventually(
        lambda: position(page) > 0.95 * recordings.demo().size / recordings.RATE_HZ,
        what="the position",
    )
    sound = "document.getElementById('audio')"
    eventually(
        lambda: page.evaluate(f"{sound}.currentTime") == pytest.approx(position(page), abs=0.1),
        what="the position",
    )
    # Space plays, except where it has another function.
    page.keyboard.press("Tab")
    page.get_by_role("slider", name="Position").press("Home")
    page.get_by_role("heading", level=1).focus()
    page.keyboard.press(" ")
    expect(page.get_by_role("button", name="Pause")).to_be_visible()
    eventually(lambda: page.evaluate(f"{sound}.currentTime > 0.3"), what="sound")
    page.keyboard.press(" ")
    expect(play).to_be_visible()
    eventually(lambda: position(page) > 0.2, what="the position")
    assert float(page.locator(".playhead").get_attribute("x1") or 0) > 132


def test_the_table_is_filtered_and_sorted(
    page: Page, runtime: Runtime, finished: uuid.UUID
) -> None:
    events = heard(runtime, finished)
    # The model's confidences are too similar to filter these by.
    sureness = [0.3 + 0.1 * index for index in range(len(events))]

    def unsure(route: Route) -> None:
        response = route.fetch()
        body = response.json()
        for event, confidence in zip(body["items"], sureness, strict=True):
            event["confidence"] = confidence
        route.fulfill(response=response, json=body)

    page.route("**/detections*", unsure)
    show(page, finished)
    expect(page.locator("#rows tr")).to_have_count(len(events))
    kind = events[0].noise_type
    of_kind = [event for event in events if event.noise_type == kind]
    page.get_by_label("Noise type").select_option(kind)
    expect(page.locator("#rows tr")).to_have_count(len(of_kind))
    # The picture shows the same.
    expect(page.locator("#picture .event .bar")).to_have_count(len(of_kind))
    expect(page.get_by_role("status")).to_have_text(f"{len(of_kind)} of {len(events)} events")
    page.get_by_label("Noise type").select_option("")
    page.get_by_label("Minimum confidence").fill("45")
    expect(page.locator("#rows tr")).to_have_count(len(events) - 2)
    page.get_by_label("Minimum confidence").fill("0")
    head = page.get_by_role("columnheader", name="Confidence")
    head.get_by_role("button").click()
    expect(head).to_have_attribute("aria-sort", "descending")
    falling = [float(cells[3].removesuffix(" %")) for cells in rows(page)]
    assert falling == sorted(falling, reverse=True)
    page.keyboard.press("Enter")
    expect(head).to_have_attribute("aria-sort", "ascending")
    rising = [float(cells[3].removesuffix(" %")) for cells in rows(page)]
    assert rising == sorted(rising)
    assert len(rising) == len(events)


def test_many_events_are_shown_a_part_at_a_time(page: Page, finished: uuid.UUID) -> None:
    def many(route: Route) -> None:
        one = {
            "noise_type": "siren_sweep",
            "confidence": 0.9,
            "candidates": [],
            "laeq_db": None,
            "lafmax_db": -20.5,
        }
        items = [one | {"start_s": n / 100, "end_s": n / 100 + 0.01} for n in range(450)]
        route.fulfill(json={"items": items, "level_reference": "dBFS", "next_cursor": None})

    page.route("**/detections*", many)
    show(page, finished)
    expect(page.locator("#rows tr")).to_have_count(200)
    page.get_by_role("button", name="Show 200 more").press("Enter")
    expect(page.locator("#rows tr")).to_have_count(400)
    expect(page.locator("#rows button").nth(200)).to_be_focused()
    assert rows(page)[0][-2:] == ["silent", "\u221220.5"]


def test_overload_and_under_range_are_marked(page: Page, runtime: Runtime) -> None:
    samples = np.array(recordings.demo())
    loud = slice(10 * recordings.RATE_HZ, 20 * recordings.RATE_HZ)
    samples[loud] = np.clip(10 * samples[loud], -0.5, 0.5)
    content = recordings.encode(samples)
    session_id = add(runtime, content, calibration_db=100.0, noise_floor_db=50.0)
    run_to_the_end(runtime, session_id)
    show(page, session_id)
    mark, plot = box(page, "#picture .overload"), box(page, "#picture .laeq")
    assert mark["x"] > plot["x"] + 0.3 * plot["width"]
    assert mark["x"] + mark["width"] < plot["x"] + 0.7 * plot["width"]
    assert page.locator("#picture .under-range").count() > 0
    bounds = ["\u2265" in cells[-2] for cells in rows(page)]
    assert bounds == [event.overloaded for event in heard(runtime, session_id)]
    assert any(bounds)
    expect(page.locator("#facts")).to_contain_text("Overload")
    expect(page.locator("#facts")).to_contain_text("Under-range")
    assert_accessible(page)


def test_a_key_that_is_not_taken_is_told_and_another_one_asked_for(
    page: Page, runtime: Runtime, finished: uuid.UUID
) -> None:
    with runtime.store.transaction() as tx:
        writer = accounts.add_key(tx, accounts.TEAM, ("sessions:write",))
        stranger = accounts.add_user(tx, uuid.uuid4(), "stranger@example.org")
        foreign = accounts.add_key(tx, stranger)
    show(page, finished, key="clamor_nonsense")
    refused = page.get_by_role("alert")
    expect(refused).to_contain_text("The key was not accepted")
    key = page.get_by_label("API key")
    expect(key).to_be_focused()
    key.fill(writer)
    page.keyboard.press("Enter")
    expect(refused).to_contain_text("sessions:read")
    key.fill(foreign)
    page.keyboard.press("Enter")
    expect(refused).to_contain_text("Session not found")
    page.get_by_role("button", name="Use another key").click()
    key.fill(accounts.KEY)
    page.keyboard.press("Enter")
    expect(page.locator("#rows tr").first).to_be_visible()
    expect(refused).to_be_hidden()


def test_a_session_that_failed_says_why(page: Page, runtime: Runtime, app: App) -> None:
    name = "<img src=x onerror=alert(1)>"
    posted = accounts.client(app).simulate_post(
        "/v1/sessions",
        body=b"RIFF\xff\0\0\0WAVE, and then no audio",
        headers={"Content-Type": "audio/wav"},
        params={
            "file_name": name,
            "recorded_at": "2026-03-01T12:00:00+01:00",
            "time_zone": "America/New_York",
            "metadata": '{"site": "<b>roof</b>", "floor": 7}',
        },
    )
    session_id = uuid.UUID(posted.json["id"])
    problem = run_to_the_end(runtime, session_id).problem
    assert problem
    show(page, session_id)
    expect(page.get_by_role("alert")).to_contain_text("The session failed")
    expect(page.get_by_role("alert")).to_contain_text(problem["detail"])
    # A client's file name is always plain text.
    expect(page.get_by_role("heading", level=1)).to_have_text(name)
    expect(page.locator("main img")).to_have_count(0)
    facts = page.get_by_role("region", name="About this recording")
    expect(facts).to_contain_text(re.compile(r"Recorded.*6:00:00.AM \(America/New_York\)"))
    expect(facts).to_contain_text("<b>roof</b>")
    assert_accessible(page)


def test_missing_seconds_are_drawn_and_told(page: Page, runtime: Runtime) -> None:
    session_id = add(runtime, BROKEN_OFF)
    session = run_to_the_end(runtime, session_id)
    assert session.state == "partial"
    assert session.problem
    show(page, session_id)
    expect(page.get_by_role("alert")).to_contain_text("Partly finished")
    expect(page.get_by_role("alert").get_by_role("listitem")).to_have_count(1)

    def half_is_hatched() -> bool:
        missing = box(page, "#picture .missing .missing-ground")
        image = box(page, "#picture image")
        return missing["x"] == pytest.approx(image["x"] + image["width"], abs=2) and missing[
            "width"
        ] == pytest.approx(image["width"], rel=0.02)

    # Half of the recording exists. The picture is drawn anew with each answer that arrives.
    eventually(half_is_hatched, what="a picture whose second half is hatched")


def test_a_large_recording_is_fetched_only_for_who_asks(page: Page, finished: uuid.UUID) -> None:
    fetched: list[str] = []

    def enlarged(route: Route) -> None:
        response = route.fetch()
        route.fulfill(response=response, json=response.json() | {"size_bytes": 2_000_000_000})

    page.route(re.compile(r"/v1/sessions/[^/]+$"), enlarged)
    page.on("request", lambda request: fetched.append(request.url.rpartition("/")[2]))
    show(page, finished)
    ask = page.get_by_role("button", name="Load the recording to play it (2.0 GB)")
    expect(ask).to_be_visible()
    expect(page.locator("#picture image")).to_be_visible()
    assert "recording" not in fetched
    ask.click()
    expect(page.get_by_role("button", name="Play")).to_be_enabled()
    expect(ask).to_be_hidden()


def test_a_container_that_the_browser_cannot_play_is_told(page: Page, runtime: Runtime) -> None:
    session_id = add(runtime, recordings.encode(recordings.demo(), container="AIFF"))
    run_to_the_end(runtime, session_id)
    show(page, session_id)
    expect(page.locator("#sound-note")).to_contain_text("cannot play")
    expect(page.get_by_role("button", name="Play")).to_be_disabled()
    expect(page.get_by_role("link", name="Download")).to_be_visible()
    page.locator("#rows button").nth(1).click()
    eventually(lambda: position(page) > 0, what="the position")


def test_nothing_is_in_the_way_of_a_screen_reader(page: Page, finished: uuid.UUID) -> None:
    page.goto(f"/sessions/{finished}")
    expect(page.get_by_label("API key")).to_be_focused()
    assert_accessible(page)
    show(page, finished)
    expect(page.locator("#rows tr").first).to_be_visible()
    expect(page.get_by_role("button", name="Play")).to_be_enabled()
    assert_accessible(page)
    expect(page.get_by_role("link", name="All sessions")).to_have_attribute("href", "/sessions")
    # The first keyboard stop is a skip link.
    page.reload()
    expect(page.locator("#rows tr").first).to_be_visible()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip")).to_be_focused()
    page.keyboard.press("Enter")
    # The link moves the place from which Tab goes on, but not at once.
    expect(page).to_have_url(re.compile("#main$"))
    page.keyboard.press("Tab")
    expect(page.get_by_role("slider", name="Position")).to_be_focused()
