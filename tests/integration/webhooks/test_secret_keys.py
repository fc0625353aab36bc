"""The secrets of webhooks are encrypted, and their key is replaced without downtime."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import structlog.testing
from sqlalchemy import text

from actors.execution.runtime import Runtime
from actors.messaging.messages import CleanUp
from db.secret_box import SecretBox, SecretUnreadable
from db.settings import SettingsError
from tests.integration.webhooks.receivers import cancelled, path_of, register, tell, told
from tests.support import accounts
from tests.support.api import Api, client_of
from tests.support.clock import ask, findings
from tests.support.web import Web

pytestmark = pytest.mark.integration

OLD = accounts.SECRET_KEYS[0]
NEW = "another key that the settings have"


@contextmanager
def with_keys(runtime: Runtime, *keys: str) -> Iterator[Runtime]:
    """A worker after a deployment with these keys."""
    deployed = Runtime(replace(runtime.settings, secret_keys=keys), runtime.publisher.broker)
    yield deployed
    deployed.close()


def stored(runtime: Runtime) -> list[str]:
    with runtime.store.transaction() as tx:
        rows = tx.execute(text("SELECT secret, old_secret FROM webhooks"))
        return [each for row in rows for each in row if each is not None]


def test_the_table_does_not_have_the_secret(api: Api, runtime: Runtime, hook: Any) -> None:
    api.simulate_post(path_of(hook, "rotate"))
    assert len(stored(runtime)) == 2
    assert not any("whsec" in each or hook["secret"][6:] in each for each in stored(runtime))


def test_a_key_is_replaced_in_three_deployments(
    api: Api, runtime: Runtime, web: Web, hook: Any
) -> None:
    rotated = api.simulate_post(path_of(hook, "rotate")).json

    def signs(deployed: Runtime) -> None:
        cancelled(deployed)
        tell(deployed)
        for secret in (hook["secret"], rotated["secret"]):
            assert told(web, secret)["type"] == "session.cancelled"

    with with_keys(runtime, OLD, NEW) as deployed:
        signs(deployed)
        assert findings(ask(deployed, CleanUp()))["resealed"] == 0
    with with_keys(runtime, NEW, OLD) as deployed:
        register(client_of(deployed), web, all_sessions=False)
        assert findings(ask(deployed, CleanUp()))["resealed"] == 2
        assert findings(ask(deployed, CleanUp()))["resealed"] == 0
        signs(deployed)
    with with_keys(runtime, NEW) as deployed:
        signs(deployed)


def test_a_key_that_is_missing_loses_nothing(runtime: Runtime, web: Web, hook: Any) -> None:
    cancelled(runtime)
    with with_keys(runtime, NEW) as deployed, structlog.testing.capture_logs() as lines:
        assert findings(ask(deployed, CleanUp()))["resealed"] == 0
        tell(deployed)
    assert [line["event"] for line in lines if line["log_level"] == "warning"].count(
        "secret_unreadable"
    ) == 1
    assert not web.bodies
    with runtime.store.transaction() as tx:
        tx.execute(text("UPDATE webhooks SET due_at = now()"))
        tx.execute(text("UPDATE webhook_deliveries SET next_at = now()"))
    tell(runtime)
    assert told(web, hook["secret"])["type"] == "session.cancelled"


def test_keys_are_long_and_damaged_secrets_are_noticed() -> None:
    for keys in ((), ("short",), (OLD, "short")):
        with pytest.raises(SettingsError, match="CLAMOR_SECRET_KEYS"):
            SecretBox(keys)
    box = SecretBox([OLD])
    sealed = box.seal("whsec_x")
    assert box.open(sealed) == "whsec_x"
    assert sealed != box.seal("whsec_x")
    with pytest.raises(SecretUnreadable):
        box.open(sealed[:-4] + "AAA=")
