"""The values that arguments may take are those of the API."""

from __future__ import annotations

from db.tables import accounts, analyses, sessions
from services.cli import options


def test_choices_are_those_of_the_tables() -> None:
    assert options.SCOPES == accounts.SCOPES
    assert options.LIMITED_LEVELS == analyses.LIMITED
    assert options.CALIBRATION_TONES_DB == sessions.CALIBRATION_TONES_DB
    assert options.PRIORITIES == sessions.PRIORITIES
    assert options.BANDS == sessions.BANDS
    assert options.PRIVACY == sessions.PRIVACY
