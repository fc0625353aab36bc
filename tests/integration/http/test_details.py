"""The sentences that say what is wrong in particular, in one place for review.

Other tests assert types, codes and fields. The sentences are in ``golden/details.txt``, by the
names of the cases below; those of the problem types are in `tests.unit.http.test_problem_texts`.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from actors.audio.privacy import audio_is_needed
from actors.audio.resplit import MOST_RESPLITS
from actors.execution.failures import Permanent
from actors.execution.runtime import Runtime
from actors.maintenance import vacuum
from actors.messaging.messages import DetectSpan, SplitRecording
from actors.training import linear_head
from db.blobs.errors import BlobMissing
from db.blobs.keys import recording_key
from db.settings import Settings
from db.tables.sessions import AudioSession
from tests.integration.analytics.reported import made
from tests.integration.audio.test_base_types import TAGGER, use
from tests.integration.audio.test_resplit import remove
from tests.integration.batches import calls
from tests.integration.training.models import listen, promote, train, validate
from tests.integration.training.test_promotion import tamper
from tests.integration.webhooks import receivers
from tests.support import decompression_bombs, golden, labelled, recordings
from tests.support.api import Api
from tests.support.pipeline import add, handle, put_into, run_to_the_end, split
from tests.support.web import LOOPBACK, serving

pytestmark = pytest.mark.integration

FORM = {"Content-Type": "multipart/form-data; boundary=x"}


SENTENCES = golden.read(Path(__file__).parent / "golden" / "details.txt")


@pytest.fixture
def memory_settings(memory_settings: Settings) -> Settings:
    return replace(
        memory_settings, max_batch_items=2, max_duration_s=60.0, private_networks=LOOPBACK
    )


def part(name: str, more: str = "", content: bytes = b"") -> bytes:
    head = f'--x\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'
    return head.encode() + content + b"\r\n"


def form(*parts: bytes) -> dict[str, Any]:
    return {"body": b"".join(parts) + b"--x--\r\n", "headers": FORM}


FILE = part("file", '; filename="a.wav"', recordings.HEADER)
OVERLAPPING = b"file,onset_s,offset_s,label\na.wav,0,2,x\na.wav,1,3,x"

#: Requests that are refused.
REQUESTS: dict[str, tuple[str, dict[str, Any]]] = {
    "no recording": ("/v1/sessions", {"body": b"a=b"}),
    "an option out of range": (
        "/v1/sessions",
        {"body": recordings.HEADER, "query_string": "calibration_db=-101"},
    ),
    "an unknown type": (
        "/v1/sessions",
        {"body": recordings.HEADER, "query_string": "types=spech"},
    ),
    "an option in a form": ("/v1/sessions", form(part("calibration_db", "", b"94"), FILE)),
    "no direct uploads": ("/v1/uploads", {}),
    "too many files": ("/v1/batches", form(FILE, FILE, FILE)),
    "a form that ends early": ("/v1/batches", {"body": FILE[:-9], "headers": FORM}),
    "a part with large headers": (
        "/v1/batches",
        form(part("file", f'; a="{";" * 9_000}"')),
    ),
    "overlapping events": (
        "/v1/models/{model}/validate",
        form(part("manifest", "", OVERLAPPING), part("clip", '; filename="a.wav"', b"?")),
    ),
}


@pytest.mark.parametrize("name", REQUESTS)
def test_a_refused_request_says_what_is_wrong(admin: Api, runtime: Runtime, name: str) -> None:
    path, given = REQUESTS[name]
    problem = admin.simulate_post(path.format(model=runtime.shipped_model_id), **given).json
    # The first error in a field, else the whole.
    [first, *_] = problem.get("errors") or [problem]
    assert first["detail"] == SENTENCES[name]


def no_audio() -> None:
    with audio_is_needed(AudioSession(privacy="mute")):
        raise BlobMissing("a")


#: Calls of the workers that fail.
CALLS: dict[str, Callable[[], None]] = {
    "the audio is removed": no_audio,
    "a table of another owner": lambda: vacuum.refuse_skipped(["audio_sessions"]),
}


@pytest.mark.parametrize("name", CALLS)
def test_work_that_cannot_be_done_says_what_to_do(name: str) -> None:
    with pytest.raises(Permanent) as failed:
        CALLS[name]()
    assert str(failed.value) == SENTENCES[name]


def detail_of(ended: AudioSession) -> str:
    assert ended.problem is not None
    return str(ended.problem["detail"])


def no_clips(admin: Api, runtime: Runtime) -> str:
    done = train(admin, runtime, "file,label\na.wav,x\nb.wav,y", {"a.wav": b"?", "b.wav": b"?"})
    return str(done["problem"]["detail"])


def two_clips(admin: Api, runtime: Runtime) -> str:
    use(runtime, TAGGER)
    names = ("a.flac", "b.flac")
    sound = recordings.encode(labelled.sound("mains_hum"), rate_hz=16_000)
    manifest = "\n".join(["file,label", *(f"{name},my_pump" for name in names)])
    files = dict.fromkeys(names, sound)
    done = train(admin, runtime, manifest, files, algorithm=linear_head.ALGORITHM)
    return str(done["problem"]["detail"])


def no_backbone(admin: Api, runtime: Runtime) -> str:
    use(runtime, None)
    done = train(admin, runtime, *labelled.clips(), algorithm=linear_head.ALGORITHM)
    return str(done["problem"]["detail"])


def nothing_mutes(_admin: Api, runtime: Runtime) -> str:
    use(runtime, None)
    content = recordings.encode(recordings.demo()[: recordings.RATE_HZ])
    return detail_of(run_to_the_end(runtime, add(runtime, content, privacy="mute")))


def page_is_gone(admin: Api, runtime: Runtime) -> str:
    report = made(admin, runtime)
    for key in runtime.blobs.keys("reports/"):
        runtime.blobs.delete(key)
    return str(admin.simulate_get(f"/v1/reports/{report['id']}/html").json["detail"])


def unusable(admin: Api, runtime: Runtime) -> str:
    model_id = str(runtime.shipped_model_id)
    done = validate(admin, runtime, model_id, "file,label\na.wav,x", {"a.wav": b"?"})
    return str(done["problem"]["detail"])


def damaged(admin: Api, runtime: Runtime) -> str:
    model_id = train(admin, runtime, *labelled.clips(), name="hums")["model_id"]
    assert promote(admin, model_id, force=True).status_code == 200
    tamper(runtime, model_id)
    return str(listen(admin, runtime)["problem"]["detail"])


def removed(admin: Api, runtime: Runtime) -> str:
    session_id = add(runtime, b"sound", privacy="discard_audio")
    with runtime.store.transaction() as tx:
        put_into(tx, session_id, "failed", problem={"code": "given-up", "detail": "x"})
    return str(admin.simulate_post(f"/v1/sessions/{session_id}/retry").json["detail"])


def cut_short(admin: Api, _runtime: Runtime) -> str:
    given = {"body": FILE + part("file")[:-9], "headers": FORM}
    broken = admin.simulate_post("/v1/batches", **given)
    batch = admin.simulate_get(broken.headers["location"]).json
    return str(batch["problem"]["detail"])


def recording_is_gone(_admin: Api, runtime: Runtime) -> str:
    session_id = split(runtime, recordings.encode(recordings.demo()))
    remove(runtime, session_id, "pcm")
    runtime.blobs.delete(recording_key(session_id))
    return detail_of(run_to_the_end(runtime, session_id))


def store_loses_files(_admin: Api, runtime: Runtime) -> str:
    session_id = split(runtime, recordings.encode(recordings.demo()))
    for _ in range(MOST_RESPLITS):
        remove(runtime, session_id, "pcm")
        handle(runtime, DetectSpan(session_id=session_id, span_index=0))
        handle(runtime, SplitRecording(session_id=session_id))
    remove(runtime, session_id, "pcm")
    return detail_of(run_to_the_end(runtime, session_id))


def too_long(_admin: Api, runtime: Runtime) -> str:
    content = decompression_bombs.long_silence(60)
    return detail_of(run_to_the_end(runtime, add(runtime, content)))


def named_files(admin: Api, runtime: Runtime) -> str:
    runtime.blobs.put("inbox/empty", b"")
    batch = calls.name(admin, {"keys": ["inbox/none.wav", "inbox/empty"]}).json
    calls.expand(runtime, batch)
    return "\n".join(item["reason"] for item in calls.items(admin, batch))


def refused_clips(admin: Api, runtime: Runtime) -> str:
    lines = ("a.txt,x,,,", "none.wav,x,,,", "b.flac,x,1,9,", f",y,0,1,{uuid.UUID(int=1)}")
    manifest = "\n".join(["file,label,start_s,end_s,session_id", *lines])
    sound = recordings.encode(labelled.sound("mains_hum"), rate_hz=16_000)
    done = train(admin, runtime, manifest, {"a.txt": b"?", "b.flac": sound})
    return "\n".join(clip["reason"] for clip in done["clips_refused"])


def gone_receiver(admin: Api, runtime: Runtime) -> str:
    with serving() as web:
        hook = receivers.register(admin, web)
        receivers.answers(web, 410)
        assert admin.simulate_post(receivers.path_of(hook, "test")).status_code == 202
        receivers.tell(runtime)
    return str(admin.simulate_get(receivers.path_of(hook)).json["disabled_reason"])


#: Work that fails, from its request on.
WORK: dict[str, Callable[[Api, Runtime], str]] = {
    "no clip can be used": no_clips,
    "too few clips": two_clips,
    "no backbone to train on": no_backbone,
    "no backbone to find speech": nothing_mutes,
    "a page that is gone": page_is_gone,
    "no recording can be used": unusable,
    "a damaged model": damaged,
    "a retry without its audio": removed,
    "a batch that was cut short": cut_short,
    "a recording that is gone": recording_is_gone,
    "a store that loses files": store_loses_files,
    "a recording that is too long": too_long,
    "files of the inbox that cannot be used": named_files,
    "clips that cannot be used": refused_clips,
    "a receiver that is gone": gone_receiver,
}


@pytest.mark.parametrize("name", WORK)
def test_work_that_fails_says_why(admin: Api, runtime: Runtime, name: str) -> None:
    assert WORK[name](admin, runtime) == SENTENCES[name]


def test_no_sentence_is_without_a_case() -> None:
    assert set(SENTENCES) == {*REQUESTS, *CALLS, *WORK}
