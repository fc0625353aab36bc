"""Encrypt the secrets of webhooks again after the first key of the settings has changed."""

from __future__ import annotations

import structlog

from actors.execution.runtime import Runtime
from db.queries import webhook_queries
from db.secret_box import SecretUnreadable

log = structlog.get_logger(__name__)

#: Webhooks read per transaction.
PAGE_ROWS = 500


def reseal(runtime: Runtime) -> int:
    """Encrypt all secrets with the current key that have another one; return their number."""
    box, resealed, after = runtime.secret_box, 0, None
    while True:
        with runtime.store.transaction() as tx:
            page = webhook_queries.sealed_secrets(tx, after=after, limit=PAGE_ROWS)
            for webhook_id, *sealed in page:
                old = [each for each in sealed if each is not None and not box.is_current(each)]
                try:
                    for each in old:
                        webhook_queries.reseal(tx, webhook_id, each, box.seal(box.open(each)))
                        resealed += 1
                except SecretUnreadable as error:
                    log.warning("secret_unreadable", webhook_id=str(webhook_id), error=str(error))
        if not page:
            return resealed
        after = page[-1][0]
