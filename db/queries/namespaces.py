"""The namespace of our tables, in whichever schema the search path finds them."""

from __future__ import annotations

#: A subquery that returns its OID; null before the first migration.
OURS = "(SELECT relnamespace FROM pg_class WHERE oid = to_regclass('audio_sessions'))"
