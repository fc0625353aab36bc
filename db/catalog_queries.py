"""Queries for the objects of a schema in the catalog, see :mod:`db.catalog`.

Partitions are left out: which there are depends on the time, and they have what their table has.
Included are a default partition, and triggers and constraints that only a partition has; its
indexes and its storage are for the administrator to choose. Views are included too, since a column
that a view uses cannot be changed. Objects of extensions are not.
"""

from __future__ import annotations

# How often a table is vacuumed is for its administrator to set (docs/dba.md).
_TABLES = """
    SELECT CASE relkind
               WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view' WHEN 'f' THEN 'foreign table'
               ELSE 'table'
           END AS kind,
           relname AS name,
           pg_get_partkeydef(oid) AS "partition key",
           (
               SELECT string_agg(option, ', ' ORDER BY option) FROM unnest(reloptions) AS option
               WHERE NOT starts_with(option, 'autovacuum_')
           ) AS storage,
           CASE relpersistence WHEN 'u' THEN 'unlogged' END AS persistence,
           CASE WHEN relrowsecurity THEN 'enabled' END AS "row security",
           CASE relreplident WHEN 'n' THEN 'nothing' WHEN 'f' THEN 'full' WHEN 'i' THEN 'index' END
               AS "replica identity",
           CASE WHEN has_table_privilege('public', oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE')
               THEN 'accessible to every role' ELSE 'restricted' END AS state,
           obj_description(oid, 'pg_class') AS comment
    FROM pg_class
    WHERE relnamespace = {schema} AND relkind IN ('r', 'p', 'v', 'm', 'f')
      AND (NOT relispartition OR pg_get_expr(relpartbound, oid) = 'DEFAULT')
      AND relname <> 'alembic_version'
      AND NOT EXISTS (
          SELECT FROM pg_depend
          WHERE classid = 'pg_class'::regclass AND objid = pg_class.oid AND deptype = 'e'
      )
"""

_COLUMNS = """
    SELECT 'column' AS kind, relname || '.' || attname AS name,
           format_type(atttypid, atttypmod) AS type,
           CASE WHEN attnotnull THEN 'not null' ELSE 'null' END AS nullability,
           pg_get_expr(adbin, adrelid) AS default,
           CASE attidentity WHEN 'a' THEN 'always' WHEN 'd' THEN 'by default' END AS identity,
           (
               SELECT concat_ws(' ', seqmin, 'to', seqmax, 'by', seqincrement,
                                CASE WHEN seqcycle THEN 'in a cycle' END)
               FROM pg_depend JOIN pg_sequence ON seqrelid = objid
               WHERE deptype = 'i' AND refobjid = attrelid AND refobjsubid = attnum
           ) AS sequence,
           CASE WHEN attgenerated <> '' THEN 'generated' END AS generation,
           collname AS collation,
           col_description(pg_class.oid, attnum) AS comment
    FROM pg_class
    JOIN pg_attribute ON attrelid = pg_class.oid AND attnum > 0 AND NOT attisdropped
    LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
    LEFT JOIN pg_collation ON pg_collation.oid = attcollation AND collname <> 'default'
    WHERE relnamespace = {schema} AND relkind IN ('r', 'p') AND NOT relispartition
      AND relname <> 'alembic_version'
      AND NOT EXISTS (
          SELECT FROM pg_depend
          WHERE classid = 'pg_class'::regclass AND objid = pg_class.oid AND deptype = 'e'
      )
"""

# Postgres 18 also lists NOT NULL here, which is compared with the columns. A foreign key is
# enforced by internal triggers, and a restore of rows can leave them disabled.
_CONSTRAINTS = """
    SELECT CASE contype
               WHEN 'c' THEN 'check' WHEN 'f' THEN 'foreign key' WHEN 'p' THEN 'primary key'
               WHEN 'u' THEN 'unique constraint' ELSE 'constraint'
           END AS kind,
           conname || ' on ' || relname AS name,
           regexp_replace(pg_get_constraintdef(pg_constraint.oid, true), ' NOT VALID$', '')
               AS definition,
           CASE WHEN NOT convalidated THEN 'not validated'
               WHEN EXISTS (
                   SELECT FROM pg_trigger
                   WHERE tgconstraint = pg_constraint.oid AND tgenabled <> 'O'
               ) THEN 'not enforced: its triggers are disabled'
               ELSE 'valid'
           END AS state
    FROM pg_constraint
    JOIN pg_class ON pg_class.oid = conrelid
    WHERE relnamespace = {schema} AND contype IN ('c', 'f', 'p', 'u', 'x')
      AND (NOT relispartition OR coninhcount = 0) AND relname <> 'alembic_version'
      AND NOT EXISTS (
          SELECT FROM pg_depend
          WHERE classid = 'pg_class'::regclass AND objid = conrelid AND deptype = 'e'
      )
"""

_INDEXES = """
    SELECT 'index' AS kind, indexed.relname AS name,
           pg_get_indexdef(indexrelid, 0, true) AS definition,
           CASE WHEN indisvalid THEN 'valid' ELSE 'invalid' END AS state
    FROM pg_index
    JOIN pg_class AS indexed ON indexed.oid = indexrelid
    JOIN pg_class AS tables ON tables.oid = indrelid
    WHERE indexed.relnamespace = {schema} AND NOT tables.relispartition
      AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid AND contype <> 'f')
      AND NOT EXISTS (
          SELECT FROM pg_depend
          WHERE classid = 'pg_class'::regclass AND objid = indrelid AND deptype = 'e'
      )
"""

_TRIGGERS = """
    SELECT 'trigger' AS kind, tgname || ' on ' || relname AS name,
           pg_get_triggerdef(pg_trigger.oid, true) AS definition,
           CASE tgenabled WHEN 'O' THEN 'enabled' WHEN 'D' THEN 'disabled'
               ELSE 'enabled for replication' END AS state,
           obj_description(pg_trigger.oid, 'pg_trigger') AS comment
    FROM pg_trigger
    JOIN pg_class ON pg_class.oid = tgrelid
    WHERE relnamespace = {schema} AND NOT tgisinternal AND tgparentid = 0
"""

_RULES = """
    SELECT 'rule' AS kind, rulename || ' on ' || relname AS name
    FROM pg_rewrite
    JOIN pg_class ON pg_class.oid = ev_class
    WHERE relnamespace = {schema} AND relkind IN ('r', 'p')
"""

# What runs as its owner is for the application alone.
_FUNCTIONS = """
    SELECT 'function' AS kind, proname || '(' || oidvectortypes(proargtypes) || ')' AS name,
           pg_get_function_arguments(pg_proc.oid) AS arguments,
           pg_get_function_result(pg_proc.oid) AS result,
           lanname AS language,
           provolatile::text AS volatility,
           CASE WHEN proisstrict THEN 'strict' END AS strictness,
           CASE WHEN prosecdef THEN 'definer' ELSE 'invoker' END AS security,
           CASE WHEN prosecdef AND has_function_privilege('public', pg_proc.oid, 'EXECUTE')
               THEN 'executable by every role' ELSE 'restricted' END AS state,
           (
               SELECT string_agg(setting, ', ' ORDER BY setting COLLATE "C")
               FROM unnest(proconfig) AS setting
           ) AS configuration,
           prosrc AS body,
           obj_description(pg_proc.oid, 'pg_proc') AS comment
    FROM pg_proc
    JOIN pg_language ON pg_language.oid = prolang
    WHERE pronamespace = {schema}
      AND NOT EXISTS (
          SELECT FROM pg_depend
          WHERE classid = 'pg_proc'::regclass AND objid = pg_proc.oid AND deptype = 'e'
      )
"""

#: Each returns the kind and the name of objects, and facts about them; ``{schema}`` is theirs.
QUERIES = (_TABLES, _COLUMNS, _CONSTRAINTS, _INDEXES, _TRIGGERS, _RULES, _FUNCTIONS)

#: Names the tables that belong to another role than ``audio_sessions``, and the privileges that a
#: role lacks which may write to that one: a table that another role than the owner created or
#: restored has no default privileges.
PRIVILEGES = """
    WITH ours AS (
        SELECT oid, relname, relowner FROM pg_class
        WHERE relnamespace = quote_ident(current_schema())::regnamespace AND relkind IN ('r', 'p')
          AND relname = ANY (CAST(:names AS text[]))
    ),
    sessions AS (SELECT oid, relowner FROM ours WHERE relname = 'audio_sessions'),
    writers AS (
        SELECT DISTINCT grantee FROM sessions
        JOIN pg_class USING (oid)
        CROSS JOIN LATERAL aclexplode(relacl)
        WHERE privilege_type = 'INSERT' AND grantee NOT IN (0, sessions.relowner)
    )
    SELECT format('table %s belongs to %s, and audio_sessions to %s', relname,
                  pg_get_userbyid(ours.relowner), pg_get_userbyid(sessions.relowner))
    FROM ours CROSS JOIN sessions WHERE ours.relowner <> sessions.relowner
    UNION ALL
    SELECT format('role %s has no %s on table %s', pg_get_userbyid(grantee),
                  string_agg(privilege, ', ' ORDER BY privilege), relname)
    FROM ours CROSS JOIN writers
    CROSS JOIN unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS privilege
    WHERE NOT has_table_privilege(grantee, ours.oid, privilege)
    GROUP BY grantee, relname
    ORDER BY 1
"""
