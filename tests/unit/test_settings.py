"""Settings are read once, refused clearly, and never repeated."""

from __future__ import annotations

import pytest

from db.settings import Settings, SettingsError, from_environment

GIVEN = {
    "DATABASE_URL": "postgresql://clamor:secret@db/clamor",
    "AMQP_URL": "memory://",
    "BLOB_URL": "file:///srv/blobs",
}


def test_defaults() -> None:
    settings = from_environment(GIVEN)
    assert settings.in_memory_broker
    assert settings.lease_s > settings.steward_s


@pytest.mark.parametrize("variable", sorted(GIVEN))
def test_a_missing_one_is_named(variable: str) -> None:
    with pytest.raises(SettingsError, match=rf"^{variable} is not set"):
        from_environment(GIVEN | {variable: " "})


@pytest.mark.parametrize("text", ["soon", "-1", "0", "nan"])
def test_a_wrong_one_is_named_and_not_repeated(text: str) -> None:
    with pytest.raises(SettingsError, match=r"^CLAMOR_LEASE_S cannot be read: ") as caught:
        from_environment(GIVEN | {"CLAMOR_LEASE_S": text})
    assert text not in str(caught.value)


def test_secrets_are_not_shown() -> None:
    assert "secret" not in repr(from_environment(GIVEN))
    assert isinstance(from_environment(GIVEN), Settings)
