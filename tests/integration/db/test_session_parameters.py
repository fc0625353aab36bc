"""What a database or a role sets for its sessions does not change how Clamor works."""

from __future__ import annotations

from datetime import datetime

import psycopg
import pytest
from sqlalchemy import text

from db.store import Store

pytestmark = pytest.mark.integration


def test_settings_of_the_database_do_not_matter(database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        name = connection.info.dbname
        for setting in (
            "datestyle = 'German, DMY'",
            "default_transaction_isolation = 'serializable'",
            "timezone = 'Pacific/Kiritimati'",
            "client_encoding = 'LATIN1'",
        ):
            connection.execute(f"ALTER DATABASE {name} SET {setting}")
    store = Store(database_url, pool_size=1)
    try:
        for begin in (store.transaction, store.reading):
            with begin() as tx:
                now = tx.execute(text("SELECT now()")).scalar_one()
                assert isinstance(now, datetime)
                assert not now.utcoffset()
                assert tx.execute(text("SHOW transaction_isolation")).scalar_one() == (
                    "read committed"
                )
                assert tx.execute(text("SELECT :text"), {"text": "日本"}).scalar_one() == "日本"
    finally:
        store.close()
