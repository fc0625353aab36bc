"""Every endpoint with every kind of insufficient key.

The routes come from the application, so a new route is tested too. An unknown path parameter fails
until :class:`Place` names a row of the team for it.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from typing import Any

import falcon.inspect
import falcon.testing
import pytest
from sqlalchemy import select, text

from actors.execution.runtime import Runtime
from db.queries import (
    account_queries,
    batch_queries,
    delivery_queries,
    export_queries,
    model_queries,
    report_queries,
    session_queries,
    webhook_queries,
)
from db.queries.model_queries import NewTrainingClipRow
from db.queries.session_queries import NewDetectionRow
from db.store import Store
from db.tables.accounts import SCOPES
from db.tables.detections import NoiseDetection
from services.http import keys
from services.http.operations import Operation
from tests.support import accounts
from tests.support.accounts import ADMIN, TEAM, TEAM_SCOPES, bearer
from tests.support.api import App, app_of

pytestmark = pytest.mark.integration

STRANGER = uuid.UUID("33333333-3333-4333-8333-333333333333")


#: A detection of the session.
HEARD = NewDetectionRow(start_s=0.0, end_s=1.0, noise_type="rain", confidence=0.5)


#: The parameters that an endpoint requires.
NEEDED = {
    "/v1/detections/summary": {
        "by": "type",
        "heard_from": "2026-03-14T00:00:00Z",
        "heard_to": "2026-03-15T00:00:00Z",
    }
}


@dataclass
class Place:
    """An application, and a row of the team for every path parameter."""

    app: Any
    store: Store
    rows: dict[str, str] = field(default_factory=dict)

    def fill(self) -> None:
        """Insert the rows."""
        names = ("session_id", "batch_id", "model_id", "job_id", "validation_id", "webhook_id")
        ids = {name: uuid.uuid4() for name in names}
        with self.store.transaction() as tx:
            session_queries.add_session(
                tx,
                id=ids["session_id"],
                user_id=TEAM,
                file_name="a.wav",
                size_bytes=1,
                recording_key="sessions/a",
            )
            session_queries.add_detections(tx, ids["session_id"], [HEARD])
            ids["detection_id"] = tx.scalars(select(NoiseDetection.id)).one()
            batch_queries.add_batch(
                tx, id=ids["batch_id"], user_id=TEAM, state="receiving", options={}
            )
            ids["model_id"] = model_queries.register_model(
                tx,
                name="m",
                version="1",
                sha256="0" * 64,
                header={"classes": ["a"]},
                blob_key="models/m",
                user_id=TEAM,
            )
            clip = NewTrainingClipRow(file_name="a", label="a", source="a")
            model_queries.add_training(
                tx, [clip], id=ids["job_id"], user_id=TEAM, name="m", algorithm=None, seed=0
            )
            model_queries.add_validation(
                tx, id=ids["validation_id"], user_id=TEAM, model_id=ids["model_id"]
            )
            webhook_queries.add_webhook(
                tx,
                id=ids["webhook_id"],
                user_id=TEAM,
                url="https://example.org/",
                all_sessions=True,
                secret="whsec_c2VjcmV0",
            )
            ids["export_id"] = uuid.uuid4()
            export_queries.add_export(
                tx,
                id=ids["export_id"],
                user_id=TEAM,
                format="csv",
                selection={},
                expires_at=session_queries.clock(tx),
            )
            ids["report_id"] = report_queries.ask_for_report(
                tx,
                id=uuid.uuid4(),
                day=date(2026, 3, 14),
                time_zone="UTC",
                user_id=TEAM,
                starts_at=datetime(2026, 3, 14, tzinfo=UTC),
                ends_at=datetime(2026, 3, 15, tzinfo=UTC),
            )
            ids["delivery_id"] = uuid.uuid4()
            delivery_queries.add_ping(tx, ids["webhook_id"], ping_id=ids["delivery_id"])
            accounts.add_user(tx, STRANGER, "stranger@example.org")
            key = keys.parse(accounts.add_key(tx, TEAM, name="looked at"))
        assert key is not None
        self.rows = {name: str(each) for name, each in ids.items()}
        self.rows |= {"user_id": str(TEAM), "job": "health_check", "key_id": key.id}

    def calls(self) -> Iterator[tuple[str, str, str, Operation]]:
        """Yield method, template, path and operation of every endpoint that requires a key."""
        for route in falcon.inspect.inspect_routes(self.app):
            resource, *_ = self.app._router.find(self._path(route.path))
            for method in route.methods:
                responder = getattr(resource, f"on_{method.method.lower()}", None)
                operation = getattr(responder, "operation", None)
                if operation is not None and operation.scope is not None:
                    yield method.method, route.path, self._path(route.path), operation

    def _path(self, template: str) -> str:
        path = template.replace(":uuid", "")
        for name, value in self.rows.items():
            path = path.replace(f"{{{name}}}", value)
        if "{" in path:
            # Endpoints without a key may use any name.
            path = path.replace("{name}", "internal-error")
        assert "{" not in path, f"which row of the team does {template} name? Say it in Place.fill"
        return path

    def tables(self) -> dict[str, str]:
        """Return a version token that changes whenever the content of a table changes."""
        with self.store.transaction() as tx:
            names = tx.scalars(
                text("SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1")
            ).all()
            word = "SELECT md5(coalesce(string_agg(t::text, '' ORDER BY t::text), '')) FROM {} t"
            return {name: tx.execute(text(word.format(name))).scalar_one() for name in names}


@pytest.fixture
def place(app: App, store: Store) -> Place:
    place = Place(app, store)
    place.fill()
    return place


def refused(place: Place, headers: dict[str, str], status: int) -> None:
    """Check that every endpoint refuses these headers and that no table changes."""
    before = place.tables()
    client = falcon.testing.TestClient(place.app)
    bad: list[tuple[object, ...]] = []
    for method, template, path, _operation in place.calls():
        got = client.simulate_request(method, path, headers=headers)
        is_told = method == "HEAD" or got.json["status"] == status
        if got.status_code != status or not is_told:
            bad.append((method, template, got.status_code))
        elif status == 401 and not got.headers["www-authenticate"].startswith("Bearer"):
            bad.append((method, template, "no WWW-Authenticate"))
    assert bad == []
    assert place.tables() == before


def no_key(_store: Store) -> dict[str, str]:
    return {}


def another_scheme(_store: Store) -> dict[str, str]:
    return {"Authorization": "Basic dGVhbTp0ZWFt"}


def no_key_at_all(_store: Store) -> dict[str, str]:
    return bearer("clamor_")


def unknown(_store: Store) -> dict[str, str]:
    return bearer(str(keys.new()))


def wrong_secret(_store: Store) -> dict[str, str]:
    right = keys.parse(accounts.KEY)
    assert right is not None
    return bearer(str(keys.Shown(id=right.id, secret="x" * 43)))


def another_pepper(store: Store) -> dict[str, str]:
    made = keys.new()
    stolen = keys.Hasher("another pepper of another installation")
    with store.transaction() as tx:
        accounts.add_key(tx, TEAM, key=made, secret_hash=stolen.of(made))
    return bearer(str(made))


def revoked(store: Store) -> dict[str, str]:
    with store.transaction() as tx:
        shown = accounts.add_key(tx, TEAM, SCOPES)
        parsed = keys.parse(shown)
        assert parsed is not None
        account_queries.revoke_key(tx, parsed.id)
    return bearer(shown)


def expired(store: Store) -> dict[str, str]:
    with store.transaction() as tx:
        return bearer(accounts.add_key(tx, TEAM, SCOPES, expires_at=session_queries.clock(tx)))


def disabled(store: Store) -> dict[str, str]:
    with store.transaction() as tx:
        shown = accounts.add_key(tx, STRANGER, SCOPES)
        account_queries.disable_user(tx, STRANGER, disabled=True)
    return bearer(shown)


@pytest.mark.parametrize(
    "bad_key",
    [
        no_key,
        another_scheme,
        no_key_at_all,
        unknown,
        wrong_secret,
        another_pepper,
        revoked,
        expired,
        disabled,
    ],
)
def test_no_endpoint_takes_a_bad_key(
    place: Place, bad_key: Callable[[Store], dict[str, str]]
) -> None:
    refused(place, bad_key(place.store), 401)


def test_there_are_endpoints_of_every_scope(place: Place) -> None:
    asked = [operation.scope for *_, operation in place.calls()]
    assert len(asked) >= 30
    assert {"sessions:read", "sessions:write", "models:write", "admin"} <= set(asked)


@pytest.mark.parametrize("scope", SCOPES)
def test_a_key_may_do_what_its_scope_says_and_no_more(place: Place, scope: str) -> None:
    with place.store.transaction() as tx:
        key = accounts.add_key(tx, TEAM, [scope])
    before = place.tables()
    client = falcon.testing.TestClient(place.app, headers=bearer(key))
    bad = []
    for method, template, path, operation in place.calls():
        if scope not in (operation.scope, "admin"):
            got = client.simulate_request(method, path)
            if got.status_code != 403 or (
                method != "HEAD" and got.json["type"] != "/problems/missing-scope"
            ):
                bad.append((method, template, got.status_code))
    assert bad == []
    assert place.tables() == before
    # What the scope allows is not refused because of the key; reading is enough to show that.
    for method, template, path, operation in place.calls():
        if method == "GET" and scope in (operation.scope, "admin") and "events" not in template:
            got = client.simulate_request(method, path)
            assert got.status_code not in (401, 403), (method, template)


def test_nobody_sees_or_changes_what_is_somebody_elses(place: Place) -> None:
    with place.store.transaction() as tx:
        key = accounts.add_key(tx, STRANGER, TEAM_SCOPES)
    before = place.tables()
    stranger = falcon.testing.TestClient(place.app, headers=bearer(key))
    bad = []
    for method, template, path, operation in place.calls():
        if operation.scope == "admin":
            wanted = 403
        elif "{" in template:
            wanted = 404
        else:
            continue
        # With an acceptable content type where a body is read, so that it is not the reason.
        got = stranger.simulate_request(method, path, headers={"Content-Type": "application/json"})
        if got.status_code != wanted:
            bad.append((method, template, got.status_code))
    assert bad == []
    ids = set(place.rows.values()) - {str(TEAM)}
    for method, template, path, operation in place.calls():
        if method == "GET" and "{" not in template and operation.scope != "admin":
            got = stranger.simulate_get(path, params=NEEDED.get(template, {}))
            assert got.status_code == 200, template
            assert not [each for each in ids if each in got.text], template
    assert place.tables() == before


def test_an_administrator_sees_what_everybody_has(place: Place) -> None:
    admin = accounts.client(place.app, accounts.ADMIN_KEY)
    for name in ("sessions/{session_id}", "batches/{batch_id}", "models/{model_id}"):
        assert admin.simulate_get(f"/v1/{name.format(**place.rows)}").status_code == 200
    assert str(ADMIN) not in place.rows.values()


def test_endpoints_without_a_key_show_nothing_of_anybody(place: Place) -> None:
    client = falcon.testing.TestClient(place.app)
    for path in ("/health/live", "/health/ready", "/metrics"):
        got = client.simulate_get(path)
        assert got.status_code in (200, 503)
        # The job's name is that of an actor, which metrics have as a label.
        assert not [each for name, each in place.rows.items() if name != "job" and each in got.text]


def test_a_pepper_is_replaced_without_invalidating_keys(runtime: Runtime) -> None:
    new = "the pepper after the one of the tests"

    def status(pepper: str) -> int:
        settings = replace(runtime.settings, key_pepper=pepper)
        client = falcon.testing.TestClient(app_of(runtime, settings=settings))
        found = client.simulate_get("/v1/sessions", headers=bearer(accounts.KEY))
        return int(found.status_code)

    assert status(f"{accounts.PEPPER},{new}") == 200
    assert status(new) == 401
    assert status(f"{new},{accounts.PEPPER}") == 200
    # The key was hashed again when it was used.
    assert status(new) == 200
    assert status(accounts.PEPPER) == 401
