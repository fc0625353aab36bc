"""A restored dump loses nothing that has a recording, also after the nightly jobs."""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select, text

from actors.execution.runtime import Runtime
from actors.messaging import broker
from actors.messaging.messages import (
    CleanUp,
    CleanUpFailedSessions,
    CleanUpOldSessions,
    DetectSpan,
    ProcessAudioFile,
)
from actors.recovery import Recovery
from db.blobs.keys import recording_key
from db.tables.metrics import ProcessingMetric
from db.tables.sessions import AudioSession
from services.cli import main as cli
from tests.support import dumps, recordings
from tests.support.clock import ask, findings, pass_days
from tests.support.pipeline import (
    add,
    detections_of,
    handle,
    run_to_the_end,
    session,
    split,
)

pytestmark = pytest.mark.integration

DEMO = recordings.encode(recordings.demo())
#: Two and a half minutes: three spans.
THREE_SPANS = recordings.encode(recordings.long(2.5))
ADOPT = ("restore", "check", "--adopt", "--user", "team@example.org", "--json")

Restore = Callable[..., Runtime]


@pytest.fixture(autouse=True)
def old_at_once(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a blob without a row count as old at once."""
    monkeypatch.setenv("CLAMOR_ORPHAN_S", "0.000001")
    monkeypatch.setenv("AMQP_URL", "memory://")
    runtime.settings = replace(runtime.settings, orphan_s=1e-6)


@pytest.fixture
def restore(
    runtime: Runtime, postgres_url: str, drop_later: Any, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Restore]:
    """Restores a dump; returns a worker of the new database, which commands address from then."""
    with ExitStack() as stack:

        def restored(dumped: Path, **changed: Any) -> Runtime:
            url = dumps.restore(dumped, server_url=postgres_url)
            stack.callback(drop_later, url)
            settings = replace(runtime.settings, database_url=url, **changed)
            made = Runtime(settings, broker.setup(settings))
            stack.callback(made.close)
            for name in ("database_url", "blob_url"):
                monkeypatch.setenv(name.upper(), getattr(settings, name))
            return made

        yield restored


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any]]:
    """Run a command that prints JSON."""
    capsys.readouterr()
    code = cli.main(arguments)
    return code, json.loads(capsys.readouterr().out)


def take_over(restored: Runtime) -> None:
    assert ask(restored, CleanUp()).state == "failed"
    assert ask(restored, CleanUp(), force=True).state == "completed"


def answer(runtime: Runtime, session_id: uuid.UUID) -> list[tuple[Any, ...]]:
    with runtime.store.transaction() as tx:
        events = detections_of(tx, session_id)
        return [(e.start_s, e.end_s, e.noise_type, e.confidence, e.laeq_db) for e in events]


def sent_back(runtime: Runtime, session_id: uuid.UUID) -> int:
    """Return how often a session was split again."""
    with runtime.store.transaction() as tx:
        runs = select(func.count()).where(
            ProcessingMetric.session_id == session_id, ProcessingMetric.result == "sent_back"
        )
        return tx.execute(runs).scalar_one()


def nights(runtime: Runtime) -> None:
    """Run the nightly jobs, and again eight days later."""
    for _ in range(2):
        for nudge in (CleanUp(), CleanUpFailedSessions(), CleanUpOldSessions()):
            done = ask(runtime, nudge)
            assert done.state == "completed", done.problem
        assert findings(ask(runtime, CleanUp()))["orphans"] == 0
        pass_days(runtime, 8)


def in_every_state(runtime: Runtime) -> dict[str, uuid.UUID]:
    """Add a session in each state; a step takes the session that waits for it."""
    completed = add(runtime, DEMO)
    run_to_the_end(runtime, completed)
    aggregating = split(runtime, DEMO)
    handle(runtime, DetectSpan(session_id=aggregating, span_index=0))
    detecting = split(runtime, THREE_SPANS)
    handle(runtime, DetectSpan(session_id=detecting, span_index=0))
    splitting = add(runtime, DEMO)
    handle(runtime, ProcessAudioFile(session_id=splitting))
    found = {
        "completed": completed,
        "aggregating": aggregating,
        "detecting": detecting,
        "splitting": splitting,
        "queued": add(runtime, DEMO),
    }
    assert states(runtime, found) == {name: name for name in found}
    return found


def states(runtime: Runtime, ids: Mapping[str, uuid.UUID]) -> dict[str, str]:
    return {name: session(runtime, session_id).state for name, session_id in ids.items()}


def finish(runtime: Runtime, *ids: uuid.UUID) -> list[AudioSession]:
    """Run everything to its end, and remove the decoded audio."""
    ended = [run_to_the_end(runtime, session_id) for session_id in ids]
    Recovery(runtime).round()
    assert not [key for key in runtime.blobs.keys("sessions/") if "pcm" in key]
    return ended


def test_a_restore_to_the_middle_of_a_stream_loses_no_recording(
    runtime: Runtime, restore: Restore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The database is older than the bucket.

    Sessions under way in the dump have ended since, and their decoded audio is gone. Others were
    posted since, and one of these has ended.
    """
    assert ask(runtime, CleanUp()).state == "completed"
    ids = in_every_state(runtime)
    dumped = dumps.dump(runtime.settings.database_url, tmp_path / "dump")
    wanted = dict(zip(ids, finish(runtime, *ids.values()), strict=True))
    since = [add(runtime, DEMO) for _ in range(3)]
    finish(runtime, since[0])
    recorded = {recording_key(each) for each in (*ids.values(), *since)}

    restored = restore(dumped)
    assert states(restored, ids) == {name: name for name in ids}
    with restored.store.transaction() as tx:
        # The dump is three days old.
        tx.execute(text("UPDATE audio_sessions SET created_at = created_at - interval '3 days'"))
    take_over(restored)
    code, found = run(capsys, *ADOPT)
    assert (code, found["adopted"]) == (0, len(since))
    nights(restored)
    for name, session_id in ids.items():
        ended = run_to_the_end(restored, session_id)
        assert (ended.state, ended.problem) == ("completed", None), name
        assert ended.summary == wanted[name].summary
        assert answer(restored, session_id) == answer(runtime, session_id)
        assert sent_back(restored, session_id) == int(name in ("detecting", "aggregating")), name
    for session_id in since:
        assert run_to_the_end(restored, session_id).state == "completed"
        assert answer(restored, session_id) == answer(runtime, ids["completed"])
    nights(restored)
    assert recorded <= {*restored.blobs.keys("sessions/")}
    assert run(capsys, "restore", "check", "--json")[0] == 0


def test_a_dump_over_the_same_database_loses_no_recording(
    runtime: Runtime,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing distinguishes it from the database of before, so no job refuses."""
    for name in ("database_url", "blob_url"):
        monkeypatch.setenv(name.upper(), getattr(runtime.settings, name))
    assert ask(runtime, CleanUp()).state == "completed"
    ids = in_every_state(runtime)
    dumped = dumps.dump(runtime.settings.database_url, tmp_path / "dump")
    since = add(runtime, DEMO)
    finish(runtime, *ids.values(), since)
    recorded = {recording_key(each) for each in (*ids.values(), since)}
    runtime.store.engine.dispose()
    dumps.restore_over(dumped, database_url=runtime.settings.database_url)
    with runtime.store.transaction() as tx:
        tx.execute(text("UPDATE audio_sessions SET created_at = created_at - interval '3 days'"))
    code, found = run(capsys, *ADOPT)
    assert (code, found["adopted"], found["refusal"]) == (0, 1, None)
    nights(runtime)
    for session_id in (*ids.values(), since):
        assert run_to_the_end(runtime, session_id).state == "completed"
    assert recorded <= {*runtime.blobs.keys("sessions/")}


@pytest.mark.parametrize("database_first", [True, False])
def test_the_database_is_backed_up_before_the_bucket(
    runtime: Runtime,
    restore: Restore,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    database_first: bool,
) -> None:
    """Posted between the two: a recording without a row, or a row without a recording for good."""
    blobs = Path(runtime.settings.blob_url.removeprefix("file://"))
    copied = tmp_path / "copied"
    earlier = add(runtime, DEMO)
    if database_first:
        dumps.dump(runtime.settings.database_url, tmp_path / "dump")
    else:
        shutil.copytree(blobs, copied)
    between = add(runtime, DEMO)
    if database_first:
        shutil.copytree(blobs, copied)
    else:
        dumps.dump(runtime.settings.database_url, tmp_path / "dump")
    restored = restore(tmp_path / "dump", blob_url=copied.as_uri())
    code, found = run(capsys, *ADOPT)
    assert run_to_the_end(restored, earlier).state == "completed"
    ended = run_to_the_end(restored, between)
    if database_first:
        assert (code, found["adopted"], ended.state) == (0, 1, "completed")
        return
    assert (code, found["unfinished_without_recording"]["count"]) == (1, 1)
    assert ended.state == "failed"
    assert ended.problem is not None
    assert ended.problem["code"] == "recording-missing"
