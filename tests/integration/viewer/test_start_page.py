"""The start page in a real browser: uploads, and finding sessions."""

from __future__ import annotations

import base64
import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import FilePayload, Page, Request, Route, expect
from sqlalchemy import select

from actors.execution.runtime import Runtime
from db.blobs.keys import recording_key
from db.queries import session_queries
from db.tables.sessions import AudioSession
from tests.support import accounts, recordings
from tests.support.browser import assert_accessible
from tests.support.pipeline import run_to_the_end, summary_of

pytestmark = pytest.mark.integration

SHORT = recordings.encode(recordings.demo()[: 6 * recordings.RATE_HZ])
HOSTILE = "<img src=x onerror=alert(1)>\"'&lt; \u202e.flac"
#: The first bytes of a WAV file, without any audio.
NO_AUDIO = b"RIFF\xff\0\0\0WAVE, and then no audio"
API = re.compile(r"/v1/")


@dataclass(frozen=True)
class Holder:
    """A user with separate sessions, and the user's key."""

    user_id: uuid.UUID
    key: str


@pytest.fixture
def holder(runtime: Runtime) -> Holder:
    return new_holder(runtime)


def new_holder(runtime: Runtime, scopes: Sequence[str] = accounts.TEAM_SCOPES) -> Holder:
    with runtime.store.transaction() as tx:
        user_id = accounts.add_user(tx, made := uuid.uuid4(), f"{made}@example.org")
        return Holder(user_id, accounts.add_key(tx, user_id, scopes))


def add(runtime: Runtime, holder: Holder, content: bytes, name: str, **values: Any) -> uuid.UUID:
    """Add a session of the holder's as an upload leaves it."""
    session_id = uuid.uuid4()
    runtime.blobs.put(recording_key(session_id), content)
    with runtime.store.transaction() as tx:
        session_queries.add_session(
            tx,
            id=session_id,
            user_id=holder.user_id,
            file_name=name,
            size_bytes=len(content),
            recording_key=recording_key(session_id),
            **values,
        )
    return session_id


def sessions_of(runtime: Runtime, holder: Holder) -> list[AudioSession]:
    with runtime.store.reading() as tx:
        return list(tx.scalars(select(AudioSession).where(AudioSession.user_id == holder.user_id)))


def sign_in(page: Page, key: str, path: str = "/sessions") -> None:
    page.goto(path)
    page.get_by_label("API key").fill(key)
    page.keyboard.press("Enter")
    expect(page.get_by_role("region", name="Sessions")).to_be_visible()


def drop(page: Page, files: dict[str, bytes]) -> None:
    """Drop files on the page, as a file manager does."""
    given = [[name, base64.b64encode(content).decode()] for name, content in files.items()]
    transfer = page.evaluate_handle(
        """(given) => {
          const transfer = new DataTransfer();
          for (const [name, content] of given) {
            const bytes = Uint8Array.from(atob(content), (each) => each.charCodeAt(0));
            transfer.items.add(new File([bytes], name));
          }
          return transfer;
        }""",
        given,
    )
    for kind in ("dragover", "drop"):
        page.dispatch_event("#drop", kind, {"dataTransfer": transfer})


def posts(page: Page) -> list[str]:
    """Collect the URLs of the POST requests that the page sends from now on."""
    posted: list[str] = []

    def note(asked: Request) -> None:
        if asked.method == "POST":
            posted.append(asked.url)

    page.on("request", note)
    return posted


def uploads(page: Page) -> Any:
    return page.get_by_role("list", name="Recordings of this tab").get_by_role("listitem")


def named(page: Page) -> list[str]:
    """Return the recordings that the list shows."""
    return page.locator("#rows td.name a").all_inner_texts()


def test_recordings_that_are_dropped_are_followed_to_their_ends(
    page: Page, runtime: Runtime, holder: Holder
) -> None:
    sign_in(page, holder.key)
    expect(page.locator("#empty")).to_contain_text("There are no sessions yet")
    drop(page, {"street.flac": SHORT, HOSTILE: SHORT})
    status = page.locator("#upload-status")
    expect(status).to_have_text("2 recordings: 2 in progress")
    expect(uploads(page).get_by_role("progressbar")).to_have_count(2)
    expect(page.locator("#rows tr")).to_have_count(2)
    for session in sessions_of(runtime, holder):
        assert run_to_the_end(runtime, session.id).state == "completed"
    expect(status).to_have_text("2 recordings: 2 finished")
    expect(uploads(page).get_by_role("progressbar")).to_have_count(0)
    expect(uploads(page).first).to_contain_text("Completed")
    # The list updates too, and shows the detections.
    expect(page.locator("#rows .completed")).to_have_count(2)
    expect(page.locator("#rows")).to_contain_text(re.compile(r"\d events?: "))
    # File names are plain text in both places.
    assert sorted(named(page)) == sorted(
        session.file_name for session in sessions_of(runtime, holder)
    )
    assert any("<img src=x" in name for name in named(page))
    expect(page.locator("main img")).to_have_count(0)
    # The name links to its session, which links back.
    page.get_by_role("link", name="street.flac").first.click()
    expect(page.get_by_role("heading", level=1)).to_have_text("street.flac")
    page.get_by_role("link", name="All sessions").click()
    expect(page.locator("#rows tr")).to_have_count(2)


def test_recordings_are_chosen_by_keyboard(page: Page, runtime: Runtime, holder: Holder) -> None:
    files: list[FilePayload] = [
        {"name": f"{place}.flac", "mimeType": "audio/flac", "buffer": SHORT}
        for place in ("roof", "yard")
    ]
    # Set before the page opens: the browser must not show its own dialog.
    page.on("filechooser", lambda chooser: chooser.set_files(files))
    sign_in(page, holder.key)
    page.get_by_role("heading", level=1).focus()
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Choose recordings")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#upload-status")).to_have_text("2 recordings: 2 in progress")
    found = {session.file_name for session in sessions_of(runtime, holder)}
    assert found == {"roof.flac", "yard.flac"}


def test_what_is_refused_says_why_and_what_to_do(
    page: Page, runtime: Runtime, holder: Holder
) -> None:
    page.route(
        lambda url: url.endswith("/"),
        lambda route: route.fulfill(json={"limits": {"max_upload_bytes": len(SHORT)}}),
    )
    posted = posts(page)
    sign_in(page, holder.key)
    # Starts with a tag; not audio of any kind.
    drop(page, {"notes.txt": b"<b>no audio</b>" * 9, "empty.wav": b"", "long.wav": SHORT + b"\0"})
    notes, empty, long = (uploads(page).nth(index) for index in range(3))
    expect(notes).to_contain_text("Unknown audio format")
    expect(notes).to_contain_text("Convert the recording")
    expect(notes.get_by_role("link", name="About this problem")).to_have_attribute(
        "href", "/problems/unknown-format"
    )
    expect(empty).to_contain_text("The file is empty")
    expect(long).to_contain_text("The file is too large")
    expect(page.locator("#upload-status")).to_have_text("3 recordings: 3 refused")
    # Files that are certain to be refused are not sent.
    assert len(posted) == 1
    assert sessions_of(runtime, holder) == []
    page.get_by_role("button", name="Clear finished and failed uploads").click()
    expect(uploads(page)).to_have_count(0)
    expect(page.get_by_role("button", name="Choose recordings")).to_be_focused()


def test_a_session_that_fails_says_why_beside_its_upload(
    page: Page, runtime: Runtime, holder: Holder
) -> None:
    sign_in(page, holder.key)
    drop(page, {"broken.wav": NO_AUDIO})
    expect(page.locator("#upload-status")).to_have_text("1 recording: 1 in progress")
    (session,) = sessions_of(runtime, holder)
    problem = run_to_the_end(runtime, session.id).problem
    assert problem
    expect(uploads(page).first).to_contain_text("Failed")
    expect(uploads(page).first).to_contain_text(problem["detail"][1:])
    expect(page.locator("#rows .why")).to_contain_text(problem["detail"][1:])


def test_an_upload_whose_answer_was_lost_is_repeated_safely(
    page: Page, runtime: Runtime, holder: Holder
) -> None:
    sign_in(page, holder.key)

    def lose(route: Route) -> None:
        if route.request.method != "POST":
            route.fallback()
            return
        route.fetch()
        route.abort()

    page.route(API, lose)
    drop(page, {"street.flac": SHORT})
    expect(uploads(page).first).to_contain_text("The upload was interrupted")
    page.unroute(API)
    page.get_by_role("button", name="Try again: street.flac").click()
    expect(page.locator("#upload-status")).to_have_text("1 recording: 1 in progress")
    assert len(sessions_of(runtime, holder)) == 1


def test_a_server_that_asks_to_wait_is_asked_again(
    page: Page, runtime: Runtime, holder: Holder
) -> None:
    refusals = [503, 429]

    def busy(route: Route) -> None:
        if route.request.method != "POST" or not refusals:
            route.fallback()
            return
        route.fulfill(status=refusals.pop(), headers={"Retry-After": "1"}, json={"title": "Busy"})

    page.route(API, busy)
    sign_in(page, holder.key)
    drop(page, {"street.flac": SHORT})
    expect(uploads(page).first).to_contain_text("retrying in 1 second")
    expect(page.locator("#upload-status")).to_have_text("1 recording: 1 in progress")
    assert refusals == []
    assert len(sessions_of(runtime, holder)) == 1


def test_uploads_end_when_they_are_cancelled_or_their_key_is_forgotten(
    page: Page, holder: Holder
) -> None:
    ended: list[str] = []
    page.on(
        "requestfailed",
        lambda asked: ended.append(parse_qs(urlsplit(asked.url).query)["file_name"][0]),
    )
    # Uploads never finish.
    page.route(API, lambda route: route.request.method == "POST" or route.fallback())
    sign_in(page, holder.key)
    # Two are sent at once; the third waits.
    drop(page, {f"{index}.flac": SHORT for index in range(3)})
    expect(uploads(page).nth(2)).to_contain_text("Waiting to be sent")
    page.get_by_role("button", name="Cancel: 0.flac").click()
    expect(uploads(page).nth(0)).to_contain_text("Cancelled")
    expect(uploads(page).nth(2)).to_contain_text("Sending")
    assert ended == ["0.flac"]
    page.get_by_role("button", name="Use another key").click()
    expect(page.get_by_role("region", name="Send recordings")).to_be_hidden()
    sign_in(page, holder.key)
    expect(uploads(page)).to_have_count(0)
    assert sorted(ended) == ["0.flac", "1.flac", "2.flac"]


def test_filters_stand_in_the_address(page: Page, runtime: Runtime, holder: Holder) -> None:
    heard = add(
        runtime,
        holder,
        SHORT,
        "heard.flac",
        user_metadata={"site": "roof"},
        recorded_at=datetime(2026, 3, 1, 12, tzinfo=UTC),
    )
    add(runtime, holder, NO_AUDIO, "failed.wav")
    noise_type = next(iter(summary_of(run_to_the_end(runtime, heard)).noise_types))
    add(runtime, holder, SHORT, "waiting.flac")
    sign_in(page, holder.key)
    expect(page.locator("#rows tr")).to_have_count(3)
    page.locator("#filter-summary").click()
    show = page.get_by_role("button", name="Show")
    page.get_by_label("State").select_option("Failed")
    show.click()
    expect(page.locator("#rows tr")).to_have_count(1)
    assert named(page) == ["failed.wav"]
    assert page.url.endswith("/sessions?state=failed")
    # The URL restores the filters, after a reload as well.
    page.reload()
    expect(page.locator("#filter-summary")).to_have_text("Filters (1 in use)")
    expect(page.get_by_label("State").locator("option:checked")).to_have_text("Failed")
    assert named(page) == ["failed.wav"]
    page.get_by_label("State").select_option("In progress")
    show.click()
    expect(page.get_by_role("link", name="waiting.flac")).to_be_visible()
    assert page.url.count("state=") == 4
    page.go_back()
    expect(page.get_by_role("link", name="failed.wav")).to_be_visible()
    expect(page.get_by_label("State").locator("option:checked")).to_have_text("Failed")
    # All filters at once, each in the form that the API takes.
    page.get_by_label("State").select_option("Any")
    page.get_by_label("Noise type").select_option(noise_type.replace("_", " "))
    page.get_by_label("Minimum confidence").fill("12.5")
    page.get_by_label("File name").fill("heard.flac")
    page.get_by_label("Received from").fill("2020-01-01T00:00")
    page.get_by_label("Received before").fill("2100-01-01T00:00")
    page.get_by_label("Recorded from").fill("2026-03-01T12:00:00")
    page.get_by_label("Recorded before").fill("2026-03-01T12:00:01")
    page.get_by_label("Metadata").fill('{"site": "roof"}')
    page.get_by_label("Order").select_option("Longest first")
    page.get_by_label("Sessions on a page").select_option("10")
    with page.expect_request("**/v1/sessions?*") as asked:
        show.press("Enter")
    query = parse_qs(urlsplit(asked.value.url).query)
    assert query == {
        "noise_type": [noise_type],
        "min_confidence": ["0.125"],
        "file_name": ["heard.flac"],
        "created_from": ["2020-01-01T00:00:00.000Z"],
        "created_to": ["2100-01-01T00:00:00.000Z"],
        "recorded_from": ["2026-03-01T12:00:00.000Z"],
        "recorded_to": ["2026-03-01T12:00:01.000Z"],
        "metadata": ['{"site": "roof"}'],
        "sort": ["-duration_s"],
        "limit": ["10"],
    }
    expect(page.get_by_role("link", name="heard.flac")).to_be_visible()
    assert named(page) == ["heard.flac"]
    # A search without a match says so and links back.
    page.get_by_label("Batch ID").fill(str(uuid.uuid4()))
    show.click()
    expect(page.locator("#empty")).to_contain_text("No sessions match these filters")
    page.locator("#empty").get_by_role("button", name="Clear the filters").click()
    expect(page.locator("#rows tr")).to_have_count(3)
    assert page.url.endswith("/sessions")


def test_a_filter_that_the_api_refuses_is_named(page: Page, holder: Holder) -> None:
    sign_in(page, holder.key, "/sessions?state=odd&utm_source=mail")
    refused = page.get_by_role("alert")
    expect(refused).to_contain_text("'utm_source': unknown parameter")
    expect(refused).to_contain_text("'state'")
    expect(page.locator("#empty")).to_be_hidden()
    refused.get_by_role("button", name="Clear the filters").click()
    expect(page.locator("#empty")).to_be_visible()
    expect(refused).to_be_hidden()


def test_the_list_is_walked_page_by_page(page: Page, runtime: Runtime, holder: Holder) -> None:
    names = [f"{number:02}.flac" for number in range(23)]
    for name in names:
        add(runtime, holder, recordings.HEADER, name)
    newest = names[::-1]
    sign_in(page, holder.key, "/sessions?limit=10")
    following = page.get_by_role("button", name="Next page")
    shown = page.locator("#rows td.name a").first
    expect(shown).to_have_text(newest[0])
    assert named(page) == newest[:10]
    expect(page.locator("#list-status")).to_have_text("10 sessions on this page; there are more")
    expect(page.get_by_role("button", name="Previous page")).to_be_hidden()
    following.press("Enter")
    expect(shown).to_have_text(newest[10])
    following.click()
    expect(shown).to_have_text(newest[20])
    assert named(page) == newest[20:]
    expect(following).to_be_hidden()
    page.reload()
    expect(shown).to_have_text(newest[20])
    page.get_by_role("button", name="Previous page").click()
    expect(shown).to_have_text(newest[10])
    page.get_by_role("button", name="First page").click()
    expect(shown).to_have_text(newest[0])
    expect(page.get_by_role("button", name="First page")).to_be_hidden()
    assert "cursor" not in page.url


def test_a_key_that_is_not_taken_is_asked_for_again(
    page: Page, runtime: Runtime, holder: Holder
) -> None:
    writer = new_holder(runtime, ("sessions:write",))
    add(runtime, holder, SHORT, "mine.flac")
    page.goto("/sessions")
    key, refused = page.get_by_label("API key"), page.get_by_role("alert")
    expect(key).to_be_focused()
    refusals = (("clamor_nonsense", "The key was not accepted"), (writer.key, "sessions:read"))
    for given, why in refusals:
        key.fill(given)
        page.keyboard.press("Enter")
        expect(refused).to_contain_text(why)
        expect(key).to_be_focused()
        expect(page.get_by_role("region")).to_have_count(0)
    key.fill(holder.key)
    page.keyboard.press("Enter")
    expect(page.get_by_role("link", name="mine.flac")).to_be_visible()
    expect(refused).to_be_hidden()
    expect(page.get_by_role("heading", level=1)).to_be_focused()
    assert holder.key not in page.url
    # What one key showed is cleared before the next key.
    page.get_by_role("button", name="Use another key").click()
    expect(page.get_by_text("mine.flac")).to_be_hidden()
    key.fill(new_holder(runtime).key)
    page.keyboard.press("Enter")
    expect(page.locator("#empty")).to_be_visible()
    expect(page.locator("#rows tr")).to_have_count(0)


def test_a_key_that_may_not_send_says_so_at_once(page: Page, runtime: Runtime) -> None:
    reader = new_holder(runtime, ("sessions:read",))
    posted = posts(page)
    sign_in(page, reader.key)
    drop(page, {f"{index}.flac": SHORT for index in range(9)})
    expect(page.locator("#upload-status")).to_have_text("9 recordings: 9 refused")
    expect(uploads(page).last).to_contain_text("sessions:write")
    expect(uploads(page).last).to_contain_text("Use a key that has the scope")
    # Waiting files are not sent only to be refused one by one.
    assert len(posted) <= 3
    assert sessions_of(runtime, reader) == []


def test_a_server_that_is_away_is_asked_until_it_is_back(
    page: Page, runtime: Runtime, holder: Holder
) -> None:
    add(runtime, holder, SHORT, "waiting.flac")
    sign_in(page, holder.key)
    expect(page.locator("#rows tr")).to_have_count(1)
    page.route(API, lambda route: route.abort())
    refused = page.get_by_role("alert").filter(has_text="The server does not respond")
    expect(refused).to_be_visible()
    drop(page, {"street.flac": SHORT})
    expect(uploads(page).first).to_contain_text("Check that the server is running")
    page.unroute(API)
    expect(refused).to_be_hidden()
    page.get_by_role("button", name="Try again: street.flac").click()
    expect(page.locator("#rows tr")).to_have_count(2)


def test_the_report_of_a_day_is_made_and_downloaded(
    page: Page, runtime: Runtime, holder: Holder
) -> None:
    session_id = add(runtime, holder, SHORT, "street.flac")
    sign_in(page, holder.key)
    report = page.get_by_role("region", name="Daily report")
    page.get_by_role("link", name="Daily report").click()
    report.get_by_label("Day").fill("2026-03-01")
    with page.expect_response("**/v1/reports") as asked:
        report.get_by_role("button", name="Create report").click()
    assert (asked.value.request.post_data_json or {})["day"] == "2026-03-01"
    run_to_the_end(runtime, session_id)
    with page.expect_download() as download:
        report.get_by_role("link", name="Download the report of 2026-03-01").click()
    assert download.value.suggested_filename == "clamor-report-2026-03-01.html"
    assert "2026-03-01" in download.value.path().read_text()


def test_a_report_that_is_refused_says_why(page: Page, runtime: Runtime) -> None:
    scopes = [scope for scope in accounts.TEAM_SCOPES if scope != "reports:read"]
    sign_in(page, new_holder(runtime, scopes).key)
    report = page.get_by_role("region", name="Daily report")
    report.get_by_role("button", name="Create report").click()
    expect(report.get_by_role("status")).to_contain_text("reports:read")
    expect(report.get_by_role("status")).to_contain_text("Use a key that has the scope")


def test_nothing_is_in_the_way_of_a_screen_reader(
    page: Page, runtime: Runtime, holder: Holder
) -> None:
    page.goto("/sessions")
    expect(page.get_by_label("API key")).to_be_focused()
    assert_accessible(page)
    sign_in(page, holder.key)
    expect(page.locator("#empty")).to_be_visible()
    assert_accessible(page)
    run_to_the_end(runtime, add(runtime, holder, SHORT, HOSTILE * 3))
    run_to_the_end(runtime, add(runtime, holder, NO_AUDIO, "failed.wav"))
    drop(page, {"a" * 190 + ".flac": SHORT, "notes.txt": b"no audio at all", "empty.wav": b""})
    expect(page.locator("#upload-status")).to_contain_text("1 in progress, 2 refused")
    expect(page.locator("#rows tr")).to_have_count(3)
    page.locator("#filter-summary").click()
    assert_accessible(page)
    # The first keyboard stop is a skip link.
    page.reload()
    expect(page.locator("#rows tr")).to_have_count(3)
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip")).to_be_focused()
    page.keyboard.press("Enter")
    # The link moves the place from which Tab goes on, but not at once.
    expect(page).to_have_url(re.compile("#main$"))
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Choose recordings")).to_be_focused()
