"""The namespace of our tables, in whichever schema the search path finds them."""

from __future__ import annotations

#: A subquery that returns its OID; null before the first migration.
OURS = "(SELECT relnamespace FROM pg_class WHERE oid = to_regclass('audio_sessions'))"
#: The source of sums over the statistics of each of our tables, ``stat``. A partitioned table,
#: ``root``, has the rows of its partitions.
STATISTICS = f"""
    FROM pg_stat_user_tables stat
    LEFT JOIN pg_inherits ON inhrelid = stat.relid
    JOIN pg_class root ON root.oid = coalesce(inhparent, stat.relid)
    WHERE root.relnamespace = {OURS}
    GROUP BY root.relname
"""
