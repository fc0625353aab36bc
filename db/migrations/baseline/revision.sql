-- The revision of the schema, in the table of Alembic. The role that migrates writes it, and others
-- read it: default privileges have given them more.


COMMENT ON TABLE alembic_version IS 'The single row that names the revision of the schema.';
COMMENT ON COLUMN alembic_version.version_num IS
    'The newest revision that clamor migrate has run; db/migrations/versions has them.';

DO $$
DECLARE
    other regrole;
BEGIN
    FOR other IN
        SELECT DISTINCT grantee::regrole
        FROM pg_class, aclexplode(relacl)
        WHERE pg_class.oid = to_regclass('alembic_version') AND grantee NOT IN (0, relowner)
    LOOP
        EXECUTE format('REVOKE INSERT, UPDATE, DELETE ON alembic_version FROM %s', other);
    END LOOP;
END $$;
