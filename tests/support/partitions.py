"""Partitions of the past, which tests and benchmarks with old rows need."""

from __future__ import annotations

from datetime import datetime

import psycopg

#: Adds the months from one on to both tables: up to this one, unless it is later. Those that exist
#: stay.
_ADD = """
SET timezone = 'UTC';
DO $$
DECLARE
    parent text;
    begins timestamptz;
BEGIN
    FOR parent, begins IN
        SELECT name, month
        FROM unnest(ARRAY['api_requests', 'processing_metrics']) AS name
        CROSS JOIN generate_series(
            date_trunc('month', timestamptz '{since}'),
            greatest(now(), timestamptz '{since}'),
            interval '1 month'
        ) AS month
    LOOP
        EXECUTE format(
            'CREATE TABLE IF NOT EXISTS %I PARTITION OF %I FOR VALUES FROM (%L) TO (%L)',
            parent || to_char(begins, '_YYYY_MM'), parent, begins, begins + interval '1 month'
        );
    END LOOP;
END $$
"""
_NAMES = """
SELECT inhrelid::regclass::text FROM pg_inherits
WHERE inhparent IN ('api_requests'::regclass, 'processing_metrics'::regclass)
"""


def add_since(url: str, since: datetime) -> None:
    """Add the partitions of the months from one up to this one, or the one if it is later."""
    with psycopg.connect(url) as connection:
        connection.execute(_ADD.format(since=since.isoformat()).encode())


def names(url: str) -> set[str]:
    """Return the names of all partitions."""
    with psycopg.connect(url) as connection:
        return {name for (name,) in connection.execute(_NAMES)}
