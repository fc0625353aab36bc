"""The recordings of a run, and the client that posts them repeatedly."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import httpx
import numpy as np
import psycopg

from tests.chaos.world import World
from tests.support import accounts, recordings

RATE_HZ = 16_000
#: Number of concurrent posts.
POSTERS = 2
#: Most unfinished sessions before the client waits, so that settling stays short.
BACKLOG = 12
#: The client's timeout of a response, and its shortest and longest pause before a retry.
ANSWER_S = 30.0
RETRY_S = (0.2, 3.0)
#: Once the faults have stopped, a response must arrive within this time.
GIVE_UP_S = 240.0


@dataclass(frozen=True)
class Recording:
    """A recording: its bytes, and how often it is posted relative to the others."""

    content: bytes
    share: int


def make() -> dict[str, Recording]:
    """Return the distinct recordings, by file name."""
    demo = recordings.demo()
    noise = np.random.default_rng(5).normal(0, 0.1, 10 * RATE_HZ).astype(np.float32)
    # Recordings longer than a minute and ten seconds have more than one span.
    two_spans = np.resize(recordings.demo(3)[::3], int(72 * RATE_HZ))
    whole = recordings.encode(noise, rate_hz=RATE_HZ)
    return {
        "short.flac": Recording(recordings.encode(demo[: 3 * recordings.RATE_HZ]), 4),
        "clip.ogg": Recording(
            recordings.encode(
                demo[5 * recordings.RATE_HZ : 14 * recordings.RATE_HZ],
                container="OGG",
                subtype="VORBIS",
            ),
            4,
        ),
        "demo.flac": Recording(recordings.encode(demo), 2),
        "two-spans.flac": Recording(recordings.encode(two_spans, rate_hz=RATE_HZ), 2),
        "silence.wav": Recording(recordings.encode(0 * noise, rate_hz=RATE_HZ, container="WAV"), 1),
        "broken-off.flac": Recording(whole[: len(whole) * 6 // 10], 1),
        # A file must at least begin like a recording, or else the post is refused.
        "text.wav": Recording(b"RIFF\xff\x07\0\0WAVE" + b"this is not a recording\n" * 50, 1),
        "header-only.flac": Recording(whole[:60], 1),
    }


class Stream:
    """Posts recordings in random order until it is stopped, or has posted ``limit``.

    Like any robust client, it retries after a missing response, a server error or a request to
    wait. A post without a response may still have created a session, so there may be more sessions
    than recordings.
    """

    def __init__(
        self, world: World, distinct: Mapping[str, Recording], *, seed: int, limit: int | None
    ) -> None:
        self._world = world
        self._distinct = distinct
        self._limit = limit
        self._rng = random.Random(f"{seed} stream")
        self._deck: list[str] = []
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, name=f"poster-{index}", daemon=True)
            for index in range(POSTERS)
        ]
        #: The number of recordings posted, and the number of failed attempts by reason.
        self.posted = 0
        self.tries: dict[str, int] = {}
        self.broken: list[BaseException] = []

    def start(self) -> None:
        """Start posting."""
        for thread in self._threads:
            thread.start()

    @property
    def done(self) -> bool:
        """Whether posting has ended."""
        return not any(thread.is_alive() for thread in self._threads)

    def stop(self) -> None:
        """Finish the current posts, and stop."""
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        try:
            with httpx.Client(
                base_url=self._world.client.url, timeout=ANSWER_S, headers=accounts.bearer()
            ) as http:
                while not self._stopped.is_set():
                    name = self._next()
                    if name is None:
                        return
                    self._await_backlog()
                    post(http, name, self._distinct[name].content, on_failure=self._count)
        except BaseException as error:
            self.broken.append(error)

    def _next(self) -> str | None:
        with self._lock:
            if self._limit is not None and self.posted >= self._limit:
                return None
            self.posted += 1
            if not self._deck:
                self._deck = [
                    name for name, entry in self._distinct.items() for _ in range(entry.share)
                ]
                self._rng.shuffle(self._deck)
            return self._deck.pop()

    def _await_backlog(self) -> None:
        """Wait until the workers have caught up, or until the database is unavailable."""
        while not self._stopped.wait(0.1):
            try:
                [(unfinished,)] = self._world.rows(UNFINISHED)
            except psycopg.OperationalError:
                return
            if unfinished < BACKLOG:
                return

    def _count(self, reason: str) -> None:
        with self._lock:
            self.tries[reason] = self.tries.get(reason, 0) + 1


UNFINISHED = (
    "SELECT count(*) FROM audio_sessions"
    " WHERE state NOT IN ('completed', 'partial', 'failed', 'cancelled')"
)


def post(
    http: httpx.Client, name: str, content: bytes, *, on_failure: Callable[[str], object]
) -> None:
    """Post a recording until the response is 202."""
    pause_s, deadline = RETRY_S[0], time.monotonic() + GIVE_UP_S
    while True:
        try:
            response = http.post("/v1/sessions", params={"file_name": name}, content=content)
            if response.status_code == httpx.codes.ACCEPTED:
                return
            reason = str(response.status_code)
            if response.status_code != 429 and response.status_code < 500:
                raise AssertionError(f"{name} was refused with {reason}: {response.text}")
        except httpx.TransportError as error:
            reason = type(error).__name__
        on_failure(reason)
        if time.monotonic() > deadline:
            raise AssertionError(f"{name} could not be posted for {GIVE_UP_S:.0f} s: {reason}")
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, RETRY_S[1])
