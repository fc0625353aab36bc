"""`make check` refuses migrations that would stop the traffic."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from db import migrate
from db.migration.chain import VERSIONS, RevisionChain
from deploy import migration_lint

ROOT = Path(__file__).resolve().parents[3]
SQUAWK = Path(sys.executable).with_name("squawk")
REVISION = """
from alembic import op
from db.migration import steps

revision = "b999"
down_revision = {head!r}
branch_labels = None
depends_on = None


def upgrade() -> None:
    {body}
"""

#: What a revision does, and the rules that it breaks.
UNSAFE = {
    """op.create_check_constraint("ck_users_name", "users", "name <> ''")""": [
        "constraint-missing-not-valid"
    ],
    """op.create_index("ix_users_name", "users", ["name"])""": [
        "require-concurrent-index-creation"
    ],
    """op.execute("ALTER TABLE users ALTER COLUMN name TYPE bytea USING name::bytea")""": [
        "changing-column-type"
    ],
    """op.execute("ALTER TYPE mood RENAME VALUE 'sad' TO 'low'")""": ["renaming-object"],
    """op.execute("ALTER TABLE users ADD COLUMN age integer NOT NULL")""": [
        "adding-required-field"
    ],
    """op.execute("DROP TABLE users")""": ["ban-drop-table"],
    """op.execute("ALTER TABLE users RENAME COLUMN name TO title")""": ["renaming-column"],
    """op.execute("ALTER TABLE users ALTER COLUMN name SET NOT NULL")""": [
        "adding-not-nullable-field"
    ],
    """steps.add_column("users", "age uuid DEFAULT gen_random_uuid()")""": [
        "adding-field-with-default"
    ],
    """steps.add_column("users", "age uuid REFERENCES webhooks")""": [
        "adding-foreign-key-constraint"
    ],
    """steps.add_column("users", "age integer CHECK (age > 0)")""": ["check-of-new-column"],
    """op.execute("ALTER TABLE users ADD age numeric(4, 1) DEFAULT 1 CHECK (age > 0)")""": [
        "check-of-new-column"
    ],
    """op.execute("UPDATE users SET name = 'x' WHERE name = '$1'")""": ["whole-table-write"],
    """steps.brief("old requests", "DELETE FROM idempotent_requests")""": ["whole-table-write"],
    """op.execute("WITH old AS (SELECT id FROM users) UPDATE users SET name = 'x' FROM old")""": [
        "whole-table-write"
    ],
    """op.execute("ALTER TABLE turns SET UNLOGGED")""": ["table-rewrite"],
    """op.execute("CLUSTER users USING pk_users")""": ["table-rewrite"],
    """op.execute("VACUUM (ANALYZE, FULL) users")""": ["table-rewrite"],
    """op.execute("LOCK TABLE users IN SHARE MODE")""": ["table-lock"],
    """op.execute("TRUNCATE turns")""": ["table-lock"],
}
SAFE = {
    "each step": """steps.add_column("users", "age integer")
    steps.backfill("users", "age = 1", "age IS NULL")
    steps.set_not_null("users", "age")
    steps.add_check("ck_users_age", "users", "age > 0")
    steps.add_foreign_key("fk_users_age", "users", "age", "other")
    steps.create_index("ix_users_age", "users", "age")
    steps.drop_index("ix_users_age")""",
    "a new column": """op.execute("ALTER TABLE users ADD COLUMN age integer")""",
    "a check": """op.execute(
        "ALTER TABLE users ADD CONSTRAINT ck_users_name CHECK (name <> '') NOT VALID"
    )
    with op.get_context().autocommit_block():
        op.execute("ALTER TABLE users VALIDATE CONSTRAINT ck_users_name")""",
    "an index": """with op.get_context().autocommit_block():
        op.execute("CREATE INDEX CONCURRENTLY IF NOT EXISTS ix_users_name ON users (name)")""",
    "an exception": """op.execute(
        '''
        -- The release before does not read it.
        -- squawk-ignore ban-drop-table
        DROP TABLE turns
        '''
    )""",
    "another exception": """op.execute(
        '''
        -- Twelve rows.
        -- lint-ignore whole-table-write
        UPDATE turns SET lane = DEFAULT
        '''
    )""",
    "a check beside a new column": """op.execute(
        "ALTER TABLE users ADD COLUMN age integer, ADD CONSTRAINT c CHECK (age > 0) NOT VALID"
    )""",
    "words in texts and bodies": """op.execute(
        "COMMENT ON TABLE users IS 'A text; UPDATE users, it says: TRUNCATE users;'"
    )
    op.execute(
        "CREATE FUNCTION f() RETURNS void LANGUAGE sql AS $$ SELECT 1; DELETE FROM users; $$"
    )""",
}


def lint(folder: Path, sql: str) -> list[str]:
    """Return the rules that some SQL breaks, as `make check` finds them."""
    file = folder / "migrations.sql"
    file.write_text(sql)
    run = subprocess.run(
        [SQUAWK, "--reporter", "gcc", str(file)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode in (0, 1), run.stderr
    found = [line.split("warning: ")[1].split()[0] for line in run.stdout.splitlines() if line]
    assert bool(found) == bool(run.returncode), run.stdout + run.stderr
    return found + [line.split(": ")[1] for line in migration_lint.findings(sql)]


def sql_with(folder: Path, body: str, capsys: pytest.CaptureFixture[str]) -> str:
    """Return the SQL of the migrations and of one more revision."""
    (folder / "b999_planted.py").write_text(REVISION.format(head=migrate.head(), body=body))
    migrate.sql(chain=RevisionChain((VERSIONS, folder)))
    printed = capsys.readouterr().out
    assert f"Running upgrade {migrate.head()} -> b999" in printed
    return printed


def test_the_migrations_pass(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    migrate.sql()
    assert lint(tmp_path, capsys.readouterr().out) == []


def test_the_command_names_the_line_and_what_to_write_instead(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "migrations.sql"
    monkeypatch.setattr(sys, "argv", ["lint", str(file)])
    file.write_text("SELECT 1;\n\n-- a comment; with a semicolon\nTRUNCATE users;\n")
    assert migration_lint.main() == 1
    [line] = capsys.readouterr().out.splitlines()
    assert line.startswith(f"{file}:4: table-lock: ")
    assert "db.migration.steps" in line
    file.write_text("SELECT 1;\n")
    assert migration_lint.main() == 0


@pytest.mark.parametrize(("body", "rules"), UNSAFE.items())
def test_an_unsafe_migration_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], body: str, rules: list[str]
) -> None:
    assert lint(tmp_path, sql_with(tmp_path, body, capsys)) == rules


@pytest.mark.parametrize("body", SAFE.values(), ids=SAFE)
def test_a_safe_migration_passes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], body: str
) -> None:
    assert lint(tmp_path, sql_with(tmp_path, body, capsys)) == []
