"""The code of two releases: the previous one, and the working tree with one more revision."""

from __future__ import annotations

import shutil
import subprocess
import tarfile
from pathlib import Path

from db.migration.chain import RevisionChain
from tests.support import servers

ROOT = Path(__file__).parents[2]
#: The commit of the previous release.
PREVIOUS_COMMIT = ROOT / "tests" / "acceptance" / "previous_commit"
PACKAGES = ("actors", "db", "services")

#: The revision after the newest one.
PLANTED = "planted"
#: Its steps: each kind that adds something to a table in use. Rows that the previous release adds
#: meanwhile get the default.
UPGRADE = """\
steps.add_column("audio_sessions", "planted text")
    steps.brief(
        "default of planted", "ALTER TABLE audio_sessions ALTER COLUMN planted SET DEFAULT 'new'"
    )
    steps.backfill("audio_sessions", "planted = 'old'", "planted IS NULL")
    steps.add_check("ck_audio_sessions_planted", "audio_sessions", "planted IN ('old', 'new')")
    steps.create_index("ix_audio_sessions_planted", "audio_sessions", "planted, created_at")"""
DOWNGRADE = 'steps.drop_column("audio_sessions", "planted")'


def unpack_previous(folder: Path) -> Path:
    """Unpack the packages of the previous release into a folder, and return it.

    In a clone without its commit the test is skipped with the reason, and fails in CI.
    """
    commit = PREVIOUS_COMMIT.read_text().strip()
    archive = folder.with_suffix(".tar")
    done = subprocess.run(
        ["git", "-C", str(ROOT), "archive", f"--output={archive}", commit, *PACKAGES],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        servers.unavailable(
            f"no commit {commit} of the previous release ({done.stderr.strip()}):"
            " run git fetch --unshallow"
        )
    with tarfile.open(archive) as files:
        files.extractall(folder, filter="data")
    return folder


def copy_with_revision(folder: Path) -> Path:
    """Copy the packages of the working tree into a folder, add a revision, and return it."""
    for package in PACKAGES:
        shutil.copytree(
            ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    RevisionChain((folder / "db" / "migrations" / "versions",)).scripts.generate_revision(
        PLANTED,
        "a column with an index and a check",
        imports="from db.migration import steps",
        upgrades=UPGRADE,
        downgrades=DOWNGRADE,
    )
    return folder
