"""Arguments that several commands have, and the values that they may take."""

from __future__ import annotations

import argparse
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from actors.facts.channel_rules import ENERGY_MEAN, LOUDEST

#: What a command's ``add_parser`` adds its parser to.
Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"

#: The installation that an operator's commands address.
INSTALLATION = "the installation that the environment or --home names"

# The values that the API takes. They are repeated here because the tables, which define them, load
# the database library; tests/unit/cli/test_options.py compares them.
SCOPES = ("sessions:write", "sessions:read", "models:write", "reports:read", "admin")
LIMITED_LEVELS = ("LAeq", "LAFmax")
CALIBRATION_TONES_DB = (94.0, 114.0)
PRIORITIES = ("high", "normal", "low")
BANDS = ("third_octave",)
PRIVACY = ("keep", "mute", "discard_audio")


def add_api(parser: argparse.ArgumentParser) -> None:
    """Add the API that a command sends to."""
    parser.add_argument(
        "--api",
        metavar="URL",
        help="a running API, with its key in CLAMOR_API_KEY (default: the standalone service of "
        "--home, started if it does not run)",
    )
    add_home(parser)


def add_installation(
    parser: argparse.ArgumentParser, run: Callable[[argparse.Namespace], int]
) -> None:
    """Let a command run on the installation of the environment or of ``--home``."""
    # SUPPRESS: a subcommand must not reset a --home that was given before it.
    add_home(parser, default=argparse.SUPPRESS)
    parser.set_defaults(run=run)


def add_home(parser: argparse.ArgumentParser, *, default: str | None = None) -> None:
    """Add the folder of the standalone service."""
    parser.add_argument(
        "--home",
        type=Path,
        default=default,
        metavar="FOLDER",
        help="folder of the standalone service (default: CLAMOR_HOME, else the user's data folder)",
    )


def add_address(parser: argparse.ArgumentParser) -> None:
    """Add the address of a server."""
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    parser.add_argument("--port", type=int, default=8000, help="port to listen on (%(default)s)")


def add_processes(parser: argparse.ArgumentParser, *, of: str) -> None:
    """Add a number of processes."""
    parser.add_argument("--processes", type=int, default=1, help=f"{of} processes (default: 1)")


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add the choice of JSON."""
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")


def add_calibration(parser: argparse._ActionsContainer) -> None:
    """Add the calibration of a recording."""
    parser.add_argument(
        "--calibration-db", type=float, metavar="DB", help="dB SPL of digital full scale"
    )


def add_recording(parser: argparse.ArgumentParser) -> None:
    """Add the parameters that a recording may be sent with."""
    parser.add_argument(
        "--priority", choices=PRIORITIES, default="normal", help="which sessions go first"
    )
    parser.add_argument(
        "--model", type=uuid.UUID, metavar="MODEL_ID", help="(default: the model in use)"
    )
    _add_analysis(parser)
    parser.add_argument(
        "--privacy",
        choices=PRIVACY,
        default="keep",
        help="keep the recording, replace its speech with noise, or remove the recording",
    )
    parser.add_argument(
        "--time-zone",
        metavar="ZONE",
        help="local time zone, also of times in files that state none: Europe/Berlin",
    )
    parser.add_argument(
        "--metadata",
        type=_metadata,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="your own data, stored with the session",
    )


def _add_analysis(parser: argparse.ArgumentParser) -> None:
    """Add the parameters of the measurement and of the detection."""
    parser.add_argument(
        "--channel",
        type=_channel,
        default=ENERGY_MEAN,
        metavar="CHANNEL",
        help=f"channels to measure and analyse: a number from 1, {LOUDEST}, or {ENERGY_MEAN} (the "
        "default), which leaves out silent ones",
    )
    parser.add_argument(
        "--noise-floor-db",
        type=float,
        metavar="DB",
        help="A-weighted self-noise of the instrument in dB SPL, with a calibration: marks levels "
        "that it raises",
    )
    parser.add_argument(
        "--bands",
        choices=BANDS,
        help="frequency bands to measure too, of the recording and of each detection",
    )
    parser.add_argument(
        "--threshold",
        type=_threshold,
        action="append",
        default=[],
        dest="thresholds",
        metavar="TYPE=CONFIDENCE",
        help="minimum confidence of a noise type: rain=0.7",
    )
    parser.add_argument(
        "--types",
        action="append",
        default=[],
        metavar="TYPE",
        help="report only this noise type or group, with all types below it; may be repeated",
    )


def count(text: str) -> int:
    """Read a whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError("must be a whole number of at least 1")
    return int(text)


def _channel(text: str) -> str:
    if text not in (ENERGY_MEAN, LOUDEST) and not text.isdecimal():
        raise argparse.ArgumentTypeError(f"must be a number from 1, {LOUDEST}, or {ENERGY_MEAN}")
    return text


def _threshold(text: str) -> str:
    noise_type, _, confidence = text.rpartition("=")
    if not noise_type:
        raise argparse.ArgumentTypeError("must be a noise type and a confidence: rain=0.7")
    return f"{noise_type}:{confidence}"


def _metadata(text: str) -> tuple[str, str]:
    name, found, value = text.partition("=")
    if not found:
        raise argparse.ArgumentTypeError("must be a name and a value: site=7")
    return name, value
