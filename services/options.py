"""What a recording may be posted with, as query parameters of ``POST /v1/sessions``."""

from __future__ import annotations

import re
from typing import Any

import falcon

from db.models import BANDS, CALIBRATION_RANGE_DB, CALIBRATION_TONES_DB, NORMAL, PRIORITIES
from services.errors import InvalidParameter

#: The parameters. A form may not bear them as fields: the file could come before them.
NAMES = ("calibration_db", "calibration_tone_db", "bands", "priority")

#: What is taken for a number: no infinities, nothing that is "not a number", no underscores.
_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]*)?([eE][+-]?[0-9]+)?")


def of(req: falcon.Request) -> dict[str, Any]:
    """The columns of a session that a request asks for; raises :class:`InvalidParameter`."""
    given = {name: _one(req, name) for name in NAMES}
    calibration_db = _number("calibration_db", given["calibration_db"])
    tone_db = _number("calibration_tone_db", given["calibration_tone_db"])
    lowest, highest = CALIBRATION_RANGE_DB
    if calibration_db is not None and not lowest <= calibration_db <= highest:
        raise InvalidParameter(f"'calibration_db' must lie between {lowest:g} and {highest:g}")
    if tone_db is not None and tone_db not in CALIBRATION_TONES_DB:
        tones = " or ".join(f"{level:g}" for level in CALIBRATION_TONES_DB)
        raise InvalidParameter(f"'calibration_tone_db' must be {tones}")
    if calibration_db is not None and tone_db is not None:
        raise InvalidParameter(
            "'calibration_db' and 'calibration_tone_db' exclude each other: a calibrator's"
            " recording says what the calibration is"
        )
    if given["bands"] is not None and given["bands"] not in BANDS:
        raise InvalidParameter(f"'bands' must be {' or '.join(BANDS)}")
    if given["priority"] is not None and given["priority"] not in PRIORITIES:
        raise InvalidParameter(f"'priority' must be {' or '.join(PRIORITIES)}")
    return {
        "calibration_db": calibration_db,
        "calibration_tone_db": tone_db,
        "bands": given["bands"],
        "priority": NORMAL if given["priority"] is None else PRIORITIES.index(given["priority"]),
    }


def _one(req: falcon.Request, name: str) -> str | None:
    given = req.params.get(name)
    if isinstance(given, list):
        raise InvalidParameter(f"'{name}' must be given once")
    return given


def _number(name: str, given: str | None) -> float | None:
    if given is None:
        return None
    # A plus sign in a query stands for a space.
    if not _NUMBER.fullmatch(given.strip(" ")):
        raise InvalidParameter(f"'{name}' must be a number of dB")
    return float(given)
