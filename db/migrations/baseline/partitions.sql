-- Partitions of a month each, and the functions that create and drop them for the application.


CREATE FUNCTION create_partitions() RETURNS SETOF text LANGUAGE plpgsql
SECURITY DEFINER SET search_path FROM CURRENT SET timezone = 'UTC' SET lock_timeout = '5s' AS $$
DECLARE
    parent text;
    begins timestamptz;
    part text;
BEGIN
    FOR parent, begins IN
        SELECT name, month
        FROM unnest(ARRAY['api_requests', 'processing_metrics']) AS name
        CROSS JOIN generate_series(
            date_trunc('month', now()), now() + interval '3 months', interval '1 month'
        ) AS month
    LOOP
        part := parent || to_char(begins, '_YYYY_MM');
        CONTINUE WHEN EXISTS (
            SELECT FROM pg_inherits WHERE inhrelid = to_regclass(quote_ident(part))
        );
        -- Another process may be creating it, and have finished when this one has the lock.
        EXECUTE format('LOCK TABLE ONLY %I IN SHARE UPDATE EXCLUSIVE MODE', parent);
        CONTINUE WHEN EXISTS (
            SELECT FROM pg_inherits WHERE inhrelid = to_regclass(quote_ident(part))
        );
        -- CREATE TABLE ... PARTITION OF would wait for every transaction that uses the table.
        EXECUTE format(
            'CREATE TABLE %I (LIKE %I INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', part, parent
        );
        EXECUTE format(
            'ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
            parent, part, begins, begins + interval '1 month'
        );
        RETURN NEXT part;
    END LOOP;
END
$$;

COMMENT ON FUNCTION create_partitions() IS
    'Create the missing partitions of this month and the next three; return their names. Months '
    'are those of UTC. Runs as its owner.';


CREATE FUNCTION drop_partition(parent text, kept interval) RETURNS text LANGUAGE plpgsql
SECURITY DEFINER SET search_path FROM CURRENT SET timezone = 'UTC' SET lock_timeout = '200ms' AS $$
DECLARE
    part text;
BEGIN
    SELECT oid::regclass INTO part
    FROM pg_class
    JOIN pg_inherits ON inhrelid = oid
    CROSS JOIN LATERAL CAST(
        substring(pg_get_expr(relpartbound, oid) FROM 'TO \(''([^'']+)''\)') AS timestamptz
    ) AS ends
    WHERE parent IN ('api_requests', 'processing_metrics') AND inhparent = to_regclass(parent)
      -- Nothing of this month, whatever the caller asks for.
      AND ends <= least(now() - kept, now())
    ORDER BY ends LIMIT 1;
    IF part IS NOT NULL THEN
        EXECUTE 'DROP TABLE ' || part;
    END IF;
    RETURN part;
END
$$;

COMMENT ON FUNCTION drop_partition(text, interval) IS
    'Drop the oldest partition of a table if all its rows are older than this; return its name, or '
    'null. Runs as its owner.';


-- clamor migrate --grant gives the application what is taken from all others.
REVOKE EXECUTE ON FUNCTION create_partitions(), drop_partition(text, interval) FROM PUBLIC;

SELECT create_partitions();
