"""Users and keys, through the administrators' endpoints and the operator's commands."""

from __future__ import annotations

import stat
import uuid
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from db.ids import new_id
from db.settings import Settings, SettingsError
from db.store import Store
from services.cli import main as cli
from services.http import keys
from services.processes import first_key
from tests.support import accounts
from tests.support.accounts import PEPPER, TEAM, bearer
from tests.support.api import Api, App

pytestmark = pytest.mark.integration

READ = {"name": "reader", "scopes": ["sessions:read"]}


def is_taken(app: App, secret: str) -> bool:
    got = accounts.client(app, secret).simulate_get("/v1/models")
    assert got.status_code in (200, 401)
    return got.status_code == 200


def make_key(admin: Api, user_id: str, **asked: Any) -> Any:
    return admin.simulate_post(f"/v1/users/{user_id}/keys", json=READ | asked)


def test_a_user_a_key_and_its_end(app: App, admin: Api) -> None:
    posted = admin.simulate_post("/v1/users", json={"email": "a@example.org", "name": "A"})
    assert posted.status_code == 201
    user = posted.json
    assert admin.simulate_get(posted.headers["location"]).json == user
    assert user in admin.simulate_get("/v1/users").json["items"]

    made = make_key(admin, user["id"], expires_in_days=7).json
    key, secret = made["key"], made["secret"]
    assert (key["scopes"], key["user_id"]) == (["sessions:read"], user["id"])
    assert is_taken(app, secret)
    assert admin.simulate_get(f"/v1/users/{user['id']}/keys").json["items"] == [key]
    # The secret is shown only once.
    assert accounts.secret_of(secret) not in admin.simulate_get(f"/v1/keys/{key['id']}").text

    assert admin.simulate_post(f"/v1/users/{user['id']}/disable").json["disabled_at"]
    assert not is_taken(app, secret)
    assert admin.simulate_post(f"/v1/users/{user['id']}/enable").json["disabled_at"] is None
    assert is_taken(app, secret)

    revoked = admin.simulate_delete(f"/v1/keys/{key['id']}")
    assert revoked.json["revoked_at"]
    assert not is_taken(app, secret)
    assert admin.simulate_delete(f"/v1/keys/{key['id']}").json == revoked.json


def test_a_key_gives_way_to_another_one(app: App, admin: Api) -> None:
    old = make_key(admin, str(TEAM)).json
    path = f"/v1/keys/{old['key']['id']}"
    new = admin.simulate_post(f"{path}/rotate", json={"overlap_hours": 1}).json
    assert (new["key"]["name"], new["key"]["scopes"]) == ("reader", ["sessions:read"])
    assert is_taken(app, old["secret"])
    assert is_taken(app, new["secret"])
    assert admin.simulate_get(path).json["expires_at"]
    # Two are active: a third exceeds the limit until one is revoked.
    for again in (make_key(admin, str(TEAM)), admin.simulate_post(f"{path}/rotate")):
        assert (again.status_code, again.json["type"]) == (409, "/problems/too-many-keys")
    admin.simulate_delete(path)
    at_once = admin.simulate_post(
        f"/v1/keys/{new['key']['id']}/rotate", json={"overlap_hours": 0}
    ).json
    assert not is_taken(app, new["secret"])
    assert is_taken(app, at_once["secret"])


@pytest.mark.parametrize(
    ("path", "body", "fields"),
    [
        ("/v1/users", {"email": "nowhere", "name": ""}, ["email"]),
        ("/v1/users", {"name": "A"}, [""]),
        ("/v1/users", {"email": "a@b", "name": "A", "role": "admin"}, [""]),
        (f"/v1/users/{TEAM}/keys", READ | {"scopes": []}, ["scopes"]),
        (f"/v1/users/{TEAM}/keys", READ | {"scopes": ["everything"]}, ["scopes[0]"]),
        (f"/v1/users/{TEAM}/keys", READ | {"expires_in_days": 0}, ["expires_in_days"]),
    ],
)
def test_what_cannot_be_made_names_the_field(
    admin: Api, path: str, body: dict[str, Any], fields: list[str]
) -> None:
    got = admin.simulate_post(path, json=body)
    assert (got.status_code, got.json["type"]) == (400, "/problems/invalid-body")
    assert [each["field"] for each in got.json["errors"]] == fields


def test_what_is_not_there_or_is_there_twice(admin: Api) -> None:
    nobody = uuid.uuid4()
    for method, path in (
        ("GET", f"/v1/users/{nobody}"),
        ("GET", f"/v1/users/{nobody}/keys"),
        ("POST", f"/v1/users/{nobody}/disable"),
        ("GET", "/v1/keys/0123"),
        ("DELETE", "/v1/keys/0123"),
        ("POST", "/v1/keys/0123/rotate"),
    ):
        assert admin.simulate_request(method, path).status_code == 404, path
    assert make_key(admin, str(nobody)).status_code == 404
    twice = {"email": "team@example.org", "name": "again"}
    got = admin.simulate_post("/v1/users", json=twice)
    assert (got.status_code, got.json["type"]) == (409, "/problems/user-exists")


def test_the_database_has_no_secret(store: Store, admin: Api) -> None:
    secret = accounts.secret_of(make_key(admin, str(TEAM)).json["secret"])
    with store.transaction() as tx:
        rows = tx.scalars(text("SELECT api_keys::text FROM api_keys")).all()
    assert len(rows) == 3
    assert not [row for row in rows if secret in row or secret.encode().hex() in row]


def test_the_operators_commands(
    app: App,
    memory_settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in ("database_url", "amqp_url", "blob_url"):
        monkeypatch.setenv(name.upper(), getattr(memory_settings, name))
    monkeypatch.setenv("CLAMOR_KEY_PEPPER", PEPPER)

    def run(*arguments: str, code: int = 0) -> str:
        assert cli.main(arguments) == code
        return capsys.readouterr().out.strip()

    user_id = run("user", "create", "ops@example.org", "--name", "Ops")
    assert uuid.UUID(user_id)
    secret = run("key", "create", "ops@example.org", "--name", "ci", "--scope", "sessions:read")
    assert is_taken(app, secret)
    listed = run("key", "list", user_id)
    key = keys.parse(secret)
    assert key is not None
    assert key.id in listed
    assert key.secret not in listed
    newer = run("key", "rotate", key.id, "--overlap-hours", "0")
    assert not is_taken(app, secret)
    assert is_taken(app, newer)
    run("user", "disable", user_id)
    assert not is_taken(app, newer)
    run("user", "enable", user_id)
    newest = keys.parse(newer)
    assert newest is not None
    run("key", "revoke", newest.id)
    assert not is_taken(app, newer)
    assert "ops@example.org" in run("user", "list")
    for wrong in (
        ("user", "create", "ops@example.org"),
        ("key", "list", "nobody@example.org"),
        ("key", "list", "nobody"),
        ("key", "revoke", "0123"),
    ):
        run(*wrong, code=2)
    monkeypatch.setenv("CLAMOR_KEY_PEPPER", "short")
    run("key", "create", user_id, "--name", "ci", "--scope", "admin", code=2)


def test_the_first_key_is_made_once_and_again_if_it_is_lost(
    app: App, store: Store, tmp_path: Path
) -> None:
    hasher = keys.Hasher(PEPPER)
    made = first_key.ensure(tmp_path, store, hasher)
    assert is_taken(app, made)
    assert first_key.ensure(tmp_path, store, hasher) == made
    file = tmp_path / first_key.KEY_FILE
    assert file.read_text().strip() == made
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    pepper = first_key.pepper(tmp_path)
    assert first_key.pepper(tmp_path) == pepper
    assert stat.S_IMODE((tmp_path / first_key.PEPPER_FILE).stat().st_mode) == 0o600
    with store.transaction() as tx:
        tx.execute(text("UPDATE api_keys SET revoked_at = now()"))
    again = first_key.ensure(tmp_path, store, hasher)
    assert again != made
    assert is_taken(app, again)


def test_an_api_without_a_pepper_does_not_start(memory_settings: Settings) -> None:
    with pytest.raises(SettingsError, match="CLAMOR_KEY_PEPPER"):
        keys.Hasher("")
    assert PEPPER not in repr(memory_settings)


def test_keys_created_at_the_same_time_have_different_ids() -> None:
    made = [keys.id_of(new_id()) for _ in range(1_000)]
    assert len(set(made)) == len(made)
    assert all(keys.parse(str(keys.new(each))) for each in made)


def test_a_key_shows_no_secret_by_accident() -> None:
    made = keys.new()
    assert made.secret not in repr(made)
    assert keys.parse(str(made)) == made
    for wrong in ("", "clamor_", str(made)[:-1], f"{made} ", str(made).replace("clamor", "other")):
        assert keys.parse(wrong) is None
    assert bearer(str(made))["Authorization"].endswith(made.secret)
