"""Every command line of the README and of docs/, verbatim, against a standalone service."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from services.processes import server
from services.processes.first_key import key_of
from tests.support import documents, labelled, programs, recordings, servers
from tests.support.documents import DOCUMENTS, END, README, TUTORIAL, WALKS, Step, steps
from tests.support.standalone import Up, environment

pytestmark = pytest.mark.acceptance

#: Stands in an answer for a value that varies, or for more of the same kind.
ANY = "…"
EVENT_STREAM = documents.ROOT / "docs" / "event-stream.md"
CLAMOR = Path(sys.executable).parent / "clamor"
#: training.md comes last: it promotes a model with two noise types, and the others show more.
WITH_COMMANDS = sorted(
    (
        document
        for document in DOCUMENTS
        if document not in (*WALKS, EVENT_STREAM)
        and any(step.reason is None for step in steps(document))
    ),
    key=lambda document: document.name == "training.md",
)
#: Number of blocks not run, by document. A new one must give a reason and be counted here.
NOT_RUN = {
    "README.md": 1,
    "compose.md": 1,
    "dba.md": 2,
    "kubernetes.md": 2,
    "model.md": 3,
    "operations.md": 1,
    "reliability.md": 1,
    "restore.md": 4,
    "training.md": 1,
    "uploads.md": 1,
}
#: Does what a person does after reading the output of `clamor up`.
AWAIT_UP = """
UP=$!
trap 'kill $UP; wait $UP' EXIT
until grep -q 'export KEY=' errors.txt; do kill -0 $UP; sleep 0.2; done
eval "$(grep -h 'export KEY=' errors.txt)"
"""


def told(shown: Any, answered: Any) -> bool:
    """Return whether an answer matches the one in the document."""
    if shown == ANY:
        return True
    if isinstance(shown, dict):
        if ANY not in shown and shown.keys() != answered.keys():
            return False
        return all(told(shown[name], answered.get(name)) for name in shown if name != ANY)
    if isinstance(shown, list):
        rest = shown[-1:] == [ANY]
        shown = shown[:-1] if rest else shown
        if not (len(shown) <= len(answered) if rest else len(shown) == len(answered)):
            return False
        return all(map(told, shown, answered))
    if isinstance(shown, float):
        # Levels agree everywhere to the second decimal, but documents show fewer.
        return isinstance(answered, float) and answered == pytest.approx(shown, abs=0.05)
    return bool(shown == answered)


def test_what_is_shown_is_what_is_answered() -> None:
    answered = {"a": [1.0, 2.0], "b": {"c": "x", "d": None}}
    same: list[Any] = [
        answered,
        {"a": [1.04, ANY], ANY: ANY},
        {"a": ANY, "b": {"c": "x", ANY: ANY}},
    ]
    for shown in same:
        assert told(shown, answered)
    others: list[Any] = [
        {"a": [1.0, 2.0]},
        {"a": [1.0], "b": ANY},
        {"a": [1.2, 2.0], "b": ANY},
        {"a": [1.0, 2.0, 3.0, ANY], "b": ANY},
        {"a": ANY, "b": {"c": "y", ANY: ANY}},
    ]
    for shown in others:
        assert not told(shown, answered)


def test_what_is_not_run_says_why_and_is_counted() -> None:
    counted: dict[str, int] = {}
    for document in DOCUMENTS:
        for step in steps(document):
            if step.reason is not None:
                assert len(step.reason) > 10, step.script
                servers.say(f"not run: {document.name}: {step.reason}")
                counted[document.name] = counted.get(document.name, 0) + 1
    assert counted == NOT_RUN


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_no_command_line_hides_from_being_run(document: Path) -> None:
    """Commands in blocks of another language, and a key that curl would drop, are errors."""
    text = document.read_text()
    for _, kind, block in documents.BLOCK.findall(text):
        if not kind.startswith("sh"):
            assert not re.search(r"^\W*(curl|clamor|make) (?!=)", block, re.MULTILINE), block
    assert '-H "$KEY"' not in text


@contextmanager
def desk(folder: Path, home: Path) -> Iterator[dict[str, str]]:
    """Prepare a folder with the files that the documents name; yield a user's environment in it."""
    (folder / ".venv" / "bin").mkdir(parents=True)
    clamor = folder / ".venv" / "bin" / "clamor"
    # The documents use the default port, which may be taken here.
    clamor.write_text(
        f'#!/bin/sh\ncase "$1" in up) shift; exec "{CLAMOR}" up --port "$PORT" "$@";; esac\n'
        f'exec "{CLAMOR}" "$@"\n'
    )
    clamor.chmod(0o755)
    # A refused request fails its command.
    (folder / ".curlrc").write_text("fail\n")
    street = recordings.encode(recordings.demo())
    (folder / "demo").mkdir()
    for name in ("street.flac", "demo/demo.flac"):
        recordings.write(folder / name, street)
    at_s = np.arange(5 * recordings.RATE_HZ) / recordings.RATE_HZ
    sine = (0.1 * np.sin(2 * np.pi * 1000 * at_s)).astype(np.float32)
    for name, samples in (("street.wav", recordings.demo()), ("tone.wav", sine)):
        recordings.write(folder / name, recordings.encode(samples, container="WAV"))
    _write_labelled(folder)
    yield environment(
        CLAMOR_HOME=str(home),
        CURL_HOME=str(folder),
        PORT=str(server.free_port()),
        PATH=os.pathsep.join((str(clamor.parent), os.environ["PATH"])),
    )


def _write_labelled(folder: Path) -> None:
    """Write labelled recordings under the names used in docs/training.md."""
    for name, seed in (("clips", 0), ("held-out", 50)):
        manifest, files = labelled.clips(seed=seed)
        for file, data in ({"manifest.csv": manifest.encode()} | files).items():
            path = folder / name / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
    (folder / "dogs").mkdir()
    rate = labelled.RATE_HZ
    hum, siren = (
        np.concatenate([labelled.sound(label, seed=seed) for seed in range(4)])
        for label in labelled.LABELS
    )
    recordings.write(
        folder / "dogs" / "rex-1.wav", recordings.encode(hum, rate_hz=rate, container="WAV")
    )
    recordings.write(folder / "yard.flac", recordings.encode(siren, rate_hz=rate))
    recordings.write(folder / "a.wav", recordings.encode(hum, rate_hz=rate, container="WAV"))
    lines = ["file,label,group,start_s,end_s"]
    for file, label in zip(("dogs/rex-1.wav", "yard.flac"), labelled.LABELS, strict=True):
        lines += [f"{file},{label},{n},{1.5 * n},{1.5 * n + 1.5}" for n in range(4)]
    (folder / "manifest.csv").write_text("\n".join(lines))
    (folder / "held-out.csv").write_text("file,label\na.wav,mains_hum")


def run(walk: list[Step], folder: Path, known: dict[str, str]) -> list[str]:
    """Run blocks as one bash script; yield the output of each."""
    for package in programs.missing(["curl"]):
        servers.unavailable(programs.remedy(package))
    script = "".join(
        step.shell() + (AWAIT_UP if step.how == "up" else "") for step in walk if not step.reason
    )
    with (folder / "errors.txt").open("wb") as errors:
        try:
            ended = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", script],
                check=False,
                env=known,
                cwd=folder,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                timeout=280,
            )
        except FileNotFoundError as missing:
            servers.unavailable(missing)
    assert ended.returncode == 0, ended.stdout + (folder / "errors.txt").read_text()
    return ended.stdout.split(END)


def test_the_readme_walks_through_the_api(tmp_path: Path) -> None:
    assert _walked(README, tmp_path) >= 2


def test_the_tutorial_walks_through_the_api(tmp_path: Path) -> None:
    assert _walked(TUTORIAL, tmp_path) >= 5


def _walked(document: Path, tmp_path: Path) -> int:
    """Run a walk and compare each answer with the one shown; return the number of blocks."""
    walk = [step for step in steps(document) if not step.reason]
    with desk(tmp_path, tmp_path / "home") as known:
        url = f"http://127.0.0.1:{known['PORT']}"
        outputs = run(walk, tmp_path, known | {"URL": url})
    for step, output in zip(walk, outputs, strict=False):
        if not step.how.startswith("walk"):
            continue
        if step.answer is None:
            assert output.strip() == "", step.script
        elif step.is_json:
            # curl reports refusals on standard error.
            assert told(json.loads(step.answer), json.loads(output)), f"{step.script}\n{output}"
        else:
            assert output.strip() == step.answer.strip(), step.script
    return len(walk)


@pytest.fixture(scope="module")
def session_id(service: Up, tmp_path_factory: pytest.TempPathFactory) -> str:
    """An ended session for the documents that need one."""
    file = tmp_path_factory.mktemp("session") / "street.flac"
    recordings.write(file, recordings.encode(recordings.demo()))
    with service.client() as client:
        session = client.wait(client.upload(file))
    assert session.state == "completed"
    return str(session.id)


@pytest.mark.parametrize("document", WITH_COMMANDS, ids=lambda document: document.name)
def test_the_commands_of_a_document(
    document: Path, service: Up, session_id: str, tmp_path: Path
) -> None:
    with desk(tmp_path, service.home) as known:
        known |= {"URL": service.url, "KEY": key_of(service.home), "SESSION": session_id}
        known |= {"CLAMOR_API_KEY": known["KEY"]}
        run(steps(document), tmp_path, known)


def test_the_event_stream_ends_with_done(service: Up, tmp_path: Path) -> None:
    with desk(tmp_path, service.home) as known:
        known |= {"URL": service.url, "KEY": key_of(service.home)}
        [watched, _] = run(steps(EVENT_STREAM), tmp_path, known)
    assert "event: done" in watched
