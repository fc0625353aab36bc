"""Callers that post recordings and read, and probes, while servers come and go."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Self

import httpx

from tests.support.cluster import eventually

#: The interval of the probes of a server, and their timeout (deploy/kubernetes/base/api.yaml).
PROBE_S, PROBE_TIMEOUT_S = 0.1, 3.0
#: The pause of a caller after each round of requests.
PAUSE_S = 0.05
CALLERS = 2
#: Unfinished recordings of a caller, so that workers keep up.
MOST_UNFINISHED = 2
#: A recording waits at most this long on a busy machine.
END_S = 180.0
TIMEOUT_S = 30.0


class Endpoints:
    """The ready servers, to which requests are routed, each with a probe of its readiness."""

    def __init__(self) -> None:
        self._ports: dict[int, _Probe] = {}
        self._under_way: Counter[int] = Counter()
        self._changed = threading.Condition()
        self.n_probes = 0
        #: A line for each probe that found a server not ready.
        self.unready: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_failure: object) -> None:
        for port in list(self._ports):
            self.remove(port)

    def add(self, port: int) -> None:
        """Route requests to a server, and probe it from now on."""
        with self._changed:
            self._ports[port] = _Probe(port, self.unready)

    def remove(self, port: int) -> None:
        """Route no more requests to a server; return when it has answered those under way."""
        with self._changed:
            probe = self._ports.pop(port)
            self._changed.wait_for(lambda: not self._under_way[port], timeout=TIMEOUT_S)
        self.n_probes += probe.stop()

    @contextmanager
    def one(self) -> Iterator[int]:
        """Yield the port of the server with the fewest requests under way."""
        with self._changed:
            port = min(self._ports, key=self._under_way.__getitem__)
            self._under_way[port] += 1
        try:
            yield port
        finally:
            with self._changed:
                self._under_way[port] -= 1
                self._changed.notify_all()


class _Probe:
    """Probes the readiness of one server in a thread."""

    def __init__(self, port: int, unready: list[str]) -> None:
        self._url = f"http://127.0.0.1:{port}/health/ready"
        self._unready = unready
        self._n = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="probe", daemon=True)
        self._thread.start()

    def stop(self) -> int:
        """Stop, and return the number of probes."""
        self._ended.set()
        self._thread.join()
        return self._n

    def _run(self) -> None:
        # As kubelet, over a new connection each time.
        limits = httpx.Limits(max_keepalive_connections=0)
        with httpx.Client(limits=limits, timeout=PROBE_TIMEOUT_S) as client:
            due_at = time.monotonic()
            while not self._ended.wait(max(due_at - time.monotonic(), 0)):
                due_at = max(due_at + PROBE_S, time.monotonic())
                self._probe(client)

    def _probe(self, client: httpx.Client) -> None:
        self._n += 1
        try:
            response = client.get(self._url)
        except httpx.HTTPError as error:
            self._unready.append(f"{self._url}: {error!r}")
        else:
            if not response.is_success:
                self._unready.append(f"{self._url}: {response.status_code} {response.text}")


class Traffic:
    """Callers, each of which posts a recording again and again, follows it and reads lists."""

    def __init__(self, endpoints: Endpoints, *, key: str, recording: bytes) -> None:
        self._endpoints = endpoints
        self._headers = {"Authorization": f"Bearer {key}"}
        self._recording = recording
        #: The latest state of each session, in the order of the posts.
        self.states: dict[str, str] = {}
        self.n_requests = 0
        #: A line for each request that was not served, and each session that did not complete.
        self.faults: list[str] = []
        self._lock = threading.Lock()
        self._stopping, self._aborted = threading.Event(), threading.Event()
        self._threads = [
            threading.Thread(target=self._call, name="caller", daemon=True) for _ in range(CALLERS)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_failure: object) -> None:
        self._stopping.set()
        self._aborted.set()
        for thread in self._threads:
            thread.join()

    def flows(self, n: int) -> None:
        """Wait until ``n`` recordings posted from now on are complete; raise on a fault."""
        n_before = len(self.states)

        def complete() -> bool:
            with self._lock:
                return list(self.states.values())[n_before:].count("completed") >= n

        eventually(complete, timeout_s=END_S, what=f"{n} recordings; faults: {self.faults[:5]}")
        self.assert_faultless()

    def assert_faultless(self) -> None:
        """Raise if a request was not served, a session did not complete, or a probe failed."""
        unready = self._endpoints.unready
        assert (self.faults[:5], unready[:5]) == ([], []), (len(self.faults), len(unready))

    def finish(self) -> None:
        """Post no more, and wait for the end of every recording."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(END_S)
        unfinished = [each for each, state in self.states.items() if state != "completed"]
        assert not unfinished, (unfinished, self.faults[:5])

    def _call(self) -> None:
        mine: set[str] = set()
        with httpx.Client(headers=self._headers, timeout=TIMEOUT_S) as client:
            while (mine or not self._stopping.is_set()) and not self._aborted.is_set():
                if len(mine) < MOST_UNFINISHED and not self._stopping.is_set():
                    mine |= self._post(client)
                for session_id in list(mine):
                    if self._is_finished(client, session_id):
                        mine.remove(session_id)
                self._request(client, "GET", "/v1/sessions", params={"limit": "20"})
                self._request(client, "GET", "/v1/detections", params={"limit": "20"})
                time.sleep(PAUSE_S)

    def _post(self, client: httpx.Client) -> set[str]:
        headers = {"Content-Type": "audio/flac"}
        made = self._request(
            client, "POST", "/v1/sessions", content=self._recording, headers=headers
        )
        if made is None:
            return set()
        with self._lock:
            self.states[made["id"]] = made["state"]
        return {made["id"]}

    def _is_finished(self, client: httpx.Client, session_id: str) -> bool:
        session = self._request(client, "GET", f"/v1/sessions/{session_id}")
        if session is None:
            return False
        with self._lock:
            self.states[session_id] = session["state"]
        if session["state"] in ("failed", "partial", "cancelled"):
            self.faults.append(f"{session_id} ended as {session['state']}: {session['problem']}")
            return True
        return bool(session["state"] == "completed")

    def _request(
        self, client: httpx.Client, method: str, path: str, **how: Any
    ) -> Mapping[str, Any] | None:
        """Return the body of an answer; None, with a fault noted, if the request is not served."""
        with self._endpoints.one() as port:
            with self._lock:
                self.n_requests += 1
            try:
                response = client.request(method, f"http://127.0.0.1:{port}{path}", **how)
            except httpx.HTTPError as error:
                self.faults.append(f"{method} {path}: {error!r}")
                return None
        if not response.is_success:
            self.faults.append(f"{method} {path}: {response.status_code} {response.text}")
            return None
        body: Mapping[str, Any] = response.json()
        return body
