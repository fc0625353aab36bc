"""The arguments of the ``clamor`` command, and their help."""

from __future__ import annotations

import argparse
import uuid
from datetime import date
from pathlib import Path
from typing import Any

from db.tables.accounts import SCOPES
from db.tables.analyses import LIMITED
from db.tables.exports import EXPORT_FORMATS
from db.tables.sessions import CALIBRATION_TONES_DB, KEEP, PRIORITIES, PRIVACY

#: The installation that an operator's commands address.
_INSTALLATION = "the installation that the environment or --home names"


def parser() -> argparse.ArgumentParser:
    """Return the parser of all commands; it stores the chosen one as ``command``."""
    whole = argparse.ArgumentParser(
        prog="clamor", description="Clamor detects noise in recordings: what it was, and when."
    )
    whole.set_defaults(home=None)
    commands = whole.add_subparsers(title="commands", required=True, metavar="COMMAND")

    process = commands.add_parser("process", help="send recordings and print their detections")
    process.add_argument("files", nargs="+", type=Path, metavar="FILE")
    how_loud = process.add_mutually_exclusive_group()
    _calibration_db(how_loud)
    how_loud.add_argument(
        "--calibration-tone", type=Path, metavar="FILE",
        help="recording of a calibrator, sent first, to measure --calibration-db",
    )  # fmt: skip
    process.add_argument(
        "--tone-db", type=float, choices=CALIBRATION_TONES_DB, metavar="{94,114}",
        help="the calibrator's level in dB SPL",
    )  # fmt: skip
    _recording_options(process)
    process.add_argument(
        "--recorded-at", metavar="TIME",
        help="when the recording began, with UTC offset: 2026-11-28T09:30:00+01:00",
    )  # fmt: skip
    _json(process)
    _api(process)
    process.set_defaults(command="process")

    batch = commands.add_parser(
        "batch",
        help="send many recordings in one request",
        description="Send many recordings in one request, or name those below a prefix of the "
        "blob store's inbox/, and show the result of each. Exits with 1 if any failed.",
    )
    what = batch.add_mutually_exclusive_group(required=True)
    what.add_argument("files", nargs="*", default=[], type=Path, metavar="FILE")
    what.add_argument("--prefix", metavar="inbox/FOLDER", help="instead: all files below this")
    _calibration_db(batch)
    _recording_options(batch)
    _api(batch)
    batch.set_defaults(command="batch")

    _export_command(commands)
    _session_commands(commands)
    _report_command(commands)
    analyze = commands.add_parser(
        "analyze",
        help="show the time and the share of sound energy of each noise type in a session",
        description="Show the analysis of a finished session. With limits it is computed again.",
    )
    analyze.add_argument("session", type=uuid.UUID, metavar="SESSION_ID")
    analyze.add_argument(
        "--limit", type=_limit, action="append", default=[], dest="limits",
        metavar="LEVEL=DB", help="count the seconds above a limit: LAeq=65 or LAFmax=80",
    )  # fmt: skip
    analyze.add_argument("--json", action="store_true", help="print JSON instead of tables")
    _api(analyze)
    analyze.set_defaults(command="analyze")

    demo = commands.add_parser("demo", help="process one recording and draw its detections")
    demo.add_argument("file", nargs="?", type=Path, metavar="FILE")
    demo.add_argument("--out", type=Path, default=Path("demo"), help="folder for the picture")
    _home(demo)
    demo.set_defaults(command="demo")

    _model_commands(commands)

    up = commands.add_parser("up", help="run everything in one process, with an embedded Postgres")
    _address(up)
    _home(up)
    up.add_argument("--until-eof", action="store_true", help="stop when standard input closes")
    up.set_defaults(command="up")

    serve = commands.add_parser("serve", help="run the HTTP API")
    _address(serve)
    _processes(serve, of="server")
    serve.set_defaults(command="serve")

    worker = commands.add_parser("worker", help="run workers")
    _processes(worker, of="worker")
    worker.set_defaults(command="worker")

    scheduler = commands.add_parser("scheduler", help="start the periodic jobs; run one scheduler")
    scheduler.set_defaults(command="scheduler")

    described = commands.add_parser("openapi", help="print the OpenAPI description")
    described.set_defaults(command="openapi")

    _account_commands(commands)
    _schedule_commands(commands)
    _queue_commands(commands)

    migration = commands.add_parser("migrate", help="migrate the database to the newest schema")
    how = migration.add_mutually_exclusive_group()
    how.add_argument("--sql", action="store_true", help="print the SQL without running it")
    how.add_argument(
        "--check", action="store_true",
        help="check on an embedded database: one head, and the schema of the models",
    )  # fmt: skip
    migration.set_defaults(command="migrate")
    return whole


def _report_command(commands: Any) -> None:
    report = commands.add_parser(
        "report",
        help="show the report of a day",
        description="Request the report of a day, and show it.",
    )
    report.add_argument("day", type=date.fromisoformat, metavar="DAY", help="such as 2026-03-14")
    report.add_argument(
        "--time-zone", default="UTC", metavar="ZONE",
        help="time zone of the day, as an IANA name: Europe/Berlin (default: UTC)",
    )  # fmt: skip
    report.add_argument(
        "--all-users", action="store_true", help="include all users' sessions; for administrators"
    )
    report.add_argument("--html", type=Path, metavar="FILE", help="also write it as an HTML page")
    _json(report)
    _api(report)
    report.set_defaults(command="report")


def _export_command(commands: Any) -> None:
    export = commands.add_parser(
        "export",
        help="write detections to a file, for other programs",
        description="Write the detections of sessions, of a batch, or of all matching sessions "
        "to a file. docs/exports.md describes the formats. Exits with 1 if the export failed.",
    )
    export.add_argument("sessions", nargs="*", type=uuid.UUID, metavar="SESSION_ID")
    export.add_argument("--format", required=True, choices=EXPORT_FORMATS, help="file format")
    export.add_argument("--out", required=True, type=Path, metavar="FILE")
    export.add_argument(
        "--batch", type=str, dest="batch_id", metavar="BATCH_ID", help="only this batch"
    )
    export.add_argument("--from", dest="created_from", metavar="TIME", help="sent at TIME or later")
    export.add_argument("--to", dest="created_to", metavar="TIME", help="sent before TIME")
    export.add_argument(
        "--noise-type", action="append", default=[], dest="noise_types", metavar="TYPE",
        help="only this type or group, with all types below it; may be repeated",
    )  # fmt: skip
    export.add_argument("--min-confidence", type=float, metavar="N", help="minimum confidence")
    _api(export)
    export.set_defaults(command="export")


def _account_commands(commands: Any) -> None:
    user = commands.add_parser(
        "user", help="manage the users of the API", description=f"Users of {_INSTALLATION}.",
    ).add_subparsers(title="commands", required=True, metavar="COMMAND")  # fmt: skip
    create = user.add_parser("create", help="create a user, and print the ID")
    create.add_argument("email", metavar="EMAIL")
    create.add_argument("--name", help="(default: the email address)")
    create.add_argument(
        "--max-audio-s-per-month", type=_seconds, metavar="N",
        help="seconds of audio per month (default: the limit of the installation)",
    )  # fmt: skip
    _operator(create, "user create")
    _operator(user.add_parser("list", help="list the users"), "user list")
    for name, told in (("disable", "refuse all keys of a user"), ("enable", "accept them again")):
        switch = user.add_parser(name, help=told)
        _user(switch)
        _operator(switch, f"user {name}")

    key = commands.add_parser(
        "key", help="manage the API keys of users",
        description=f"API keys of {_INSTALLATION}. A key is shown only once, when it is created.",
    ).add_subparsers(title="commands", required=True, metavar="COMMAND")  # fmt: skip
    create = key.add_parser("create", help="create a key, and print it")
    _user(create)
    create.add_argument("--name", required=True, help="what the key is for")
    create.add_argument(
        "--scope", action="append", required=True, dest="scopes", choices=SCOPES, metavar="SCOPE",
        help=f"what the key allows; may be repeated: {', '.join(SCOPES)}",
    )  # fmt: skip
    create.add_argument("--days", type=_count, metavar="N", help="expires after N days")
    create.add_argument(
        "--requests-per-s", type=_rate, metavar="N",
        help="requests per second (default: the limit of the installation)",
    )  # fmt: skip
    _operator(create, "key create")
    listed = key.add_parser("list", help="list a user's keys, without their secrets")
    _user(listed)
    _operator(listed, "key list")
    rotate = key.add_parser("rotate", help="create a key that replaces another")
    rotate.add_argument("key", metavar="KEY_ID")
    rotate.add_argument(
        "--overlap-hours", type=_hours, default=24, metavar="N",
        help="how long the old key stays valid (default: 24)",
    )  # fmt: skip
    _operator(rotate, "key rotate")
    revoke = key.add_parser("revoke", help="revoke a key, effective with the next request")
    revoke.add_argument("key", metavar="KEY_ID")
    _operator(revoke, "key revoke")


def _user(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("user", metavar="EMAIL|USER_ID")


def _schedule_commands(commands: Any) -> None:
    health = commands.add_parser(
        "health",
        help="show the latest health check",
        description=f"Show the latest health check of {_INSTALLATION}. "
        "Exits with 1 if a check failed, or if the result is too old.",
    )
    _json(health)
    _operator(health, "health")

    listed = commands.add_parser(
        "schedule",
        help="show the periodic jobs, their latest results and next runs",
        description=f"Show the periodic jobs of {_INSTALLATION}. Exits with 1 if the "
        "latest run of a job failed.",
    )
    _json(listed)
    _operator(listed, "schedule")
    of_jobs = listed.add_subparsers(title="runs", metavar="COMMAND")
    asked = of_jobs.add_parser("run", help="run a job now, and wait for its end")
    asked.add_argument("job", metavar="JOB", help="such as health_check")
    asked.add_argument(
        "--option", action="append", default=[], dest="options", metavar="NAME=VALUE",
        help="override an option of the job; values are JSON: docs/maintenance.md",
    )  # fmt: skip
    asked.add_argument(
        "--force", action="append_const", dest="options", const="force=true",
        help="run even where the job would refuse, such as clean_up in the store of another "
        "database; the same as --option force=true",
    )  # fmt: skip
    _operator(asked, "schedule run")


def _queue_commands(commands: Any) -> None:
    queues = commands.add_parser(
        "queues",
        help="show the queues: waiting, in progress, and dead letters",
        description=f"Show every queue of {_INSTALLATION}. Exits with 1 if there are dead letters.",
    )
    _json(queues)
    _operator(queues, "queues")
    of_dead = queues.add_subparsers(title="dead letters", metavar="COMMAND")

    show = of_dead.add_parser("show", help="show the dead letters of a queue, oldest first")
    show.add_argument("queue", metavar="QUEUE", help="such as audio.detect")
    show.add_argument("--limit", type=_count, default=20, metavar="N", help="(default: 20)")
    _json(show)
    _operator(show, "queues show")

    replay = of_dead.add_parser(
        "replay",
        help="return dead letters to their queues",
        description="Return dead letters to their queues, oldest first. Letters that this release "
        "cannot read stay where they are; then the exit code is 1.",
    )
    replay.add_argument("queues", nargs="*", metavar="QUEUE", help="(default: every queue)")
    replay.add_argument("--limit", type=_count, metavar="N", help="return at most N")
    replay.add_argument(
        "--drop-unreadable", action="store_true", help="remove letters that cannot be read"
    )
    _operator(replay, "queues replay")


def _session_commands(commands: Any) -> None:
    sessions = commands.add_parser("sessions", help="retry sessions that were given up")
    of_sessions = sessions.add_subparsers(title="sessions", metavar="COMMAND", required=True)
    retry = of_sessions.add_parser(
        "retry",
        help="retry sessions that were given up",
        description="Retry failed sessions that were given up, such as after an outage. Exits with "
        "1 if a session is refused.",
    )
    retry.add_argument("sessions", type=uuid.UUID, nargs="*", metavar="SESSION_ID")
    retry.add_argument(
        "--all", action="store_true", help="all given-up sessions that the key may see"
    )
    _api(retry)
    retry.set_defaults(command="sessions retry")


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError("must be a whole number of at least 1")
    return int(text)


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1e12:
        raise argparse.ArgumentTypeError("must be between 0 and 1e12")
    return value


def _rate(text: str) -> float:
    value = float(text)
    if not 0 < value <= 1e6:
        raise argparse.ArgumentTypeError("must be above 0 and at most a million")
    return value


def _hours(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError("must be a whole number of at least 0")
    return int(text)


def _model_commands(commands: Any) -> None:
    train = commands.add_parser(
        "train",
        help="train a model on labelled recordings",
        description="Train a model on labelled recordings, and show its accuracy on sources that "
        "were held out of training.",
        epilog="The manifest is a CSV file with the header file,label[,group][,start_s,end_s]"
        "[,session_id]. Paths are relative to it. Clips of one group (by default: of one file) "
        "come from one source and are kept together; the label 'background' marks clips without "
        "noise. See docs/training.md.",
    )
    train.add_argument("manifest", type=Path, metavar="MANIFEST.csv")
    train.add_argument("--name", help="name of the model; versions are numbered")
    train.add_argument(
        "--algorithm",
        help="training algorithm (default: chosen by the workers); "
        "linear_head adds types to the base types, from 3 to 20 clips each",
    )
    train.add_argument("--seed", type=int, help="the same clips and seed give the same model")
    train.add_argument(
        "--promote", action="store_true",
        help="analyse new sessions with the model; if it is worse than the one in use, ask first "
        "(at a terminal) or refuse",
    )  # fmt: skip
    train.add_argument("--force", action="store_true", help="with --promote: even if it is worse")
    _api(train)
    train.set_defaults(command="train")

    validate = commands.add_parser(
        "validate",
        help="check a model file and measure its accuracy on a labelled set",
        description="Check that a model file is intact, and measure its accuracy on a labelled "
        "set. Exits with 1 if a check fails.",
        epilog="The manifest labels clips, with the header of 'clamor train', or events, with "
        "the header file,onset_s,offset_s,label; a line with only a file is a recording "
        "without events. Without a manifest only the file is checked. See docs/training.md.",
    )
    validate.add_argument("model", metavar="MODEL_ID|FILE", help="registered model or file")
    validate.add_argument("manifest", type=Path, nargs="?", metavar="MANIFEST.csv")
    _api(validate)
    validate.set_defaults(command="validate")

    weights = commands.add_parser("model", help="fetch the weights of the backbone")
    of_weights = weights.add_subparsers(title="commands", required=True, metavar="COMMAND")
    fetch = of_weights.add_parser(
        "fetch",
        help="fetch the weights of the backbone, if missing",
        description="Fetch the weights of the backbone into the user's data folder, if missing: "
        "from their official address, or from CLAMOR_BACKBONE_URL.",
    )
    fetch.add_argument(
        "--beside-model", action="store_true",
        help="store them in the package, beside the shipped model: for container images",
    )  # fmt: skip
    fetch.add_argument(
        "--limit-s", type=_count, default=600, metavar="N",
        help="give up after N seconds (default: 600)",
    )  # fmt: skip
    fetch.set_defaults(command="model fetch")

    models = commands.add_parser("models", help="list the models, and show which one is in use")
    _api(models)
    models.set_defaults(command="models")

    promote = commands.add_parser(
        "promote", help="analyse new sessions with a model",
        description="Analyse new sessions with a model. It is compared with the one in use on the "
        "newest labelled set that both were validated on, else by cross-validation. If noise types "
        "would be lost or a figure is worse, the command asks at a terminal and fails elsewhere.",
    )  # fmt: skip
    promote.add_argument("model", type=uuid.UUID, metavar="MODEL_ID")
    promote.add_argument(
        "--force", action="store_true", help="do not ask, and promote even if it is worse"
    )
    _api(promote)
    promote.set_defaults(command="promote")


def _api(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--api", metavar="URL",
        help="a running API, with its key in CLAMOR_API_KEY (default: the standalone service of "
        "--home, started if it does not run)",
    )  # fmt: skip
    _home(parser)


def _recording_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--priority", choices=PRIORITIES, default="normal", help="which sessions go first"
    )
    parser.add_argument(
        "--model", type=uuid.UUID, metavar="MODEL_ID", help="(default: the model in use)"
    )
    parser.add_argument(
        "--threshold", type=_threshold, action="append", default=[], dest="thresholds",
        metavar="TYPE=CONFIDENCE", help="minimum confidence of a noise type: rain=0.7",
    )  # fmt: skip
    parser.add_argument(
        "--types", action="append", default=[], metavar="TYPE",
        help="report only this noise type or group, with all types below it; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--privacy", choices=PRIVACY, default=KEEP,
        help="keep the recording, replace its speech with noise, or remove the recording",
    )  # fmt: skip
    parser.add_argument("--time-zone", metavar="ZONE", help="local time zone: Europe/Berlin")
    parser.add_argument(
        "--metadata", type=_own, action="append", default=[], metavar="NAME=VALUE",
        help="your own data, stored with the session",
    )  # fmt: skip


def _threshold(text: str) -> str:
    noise_type, _, confidence = text.rpartition("=")
    if not noise_type:
        raise argparse.ArgumentTypeError("must be a noise type and a confidence: rain=0.7")
    return f"{noise_type}:{confidence}"


def _limit(text: str) -> tuple[str, float]:
    level, _, limit_db = text.partition("=")
    if level not in LIMITED:
        raise argparse.ArgumentTypeError("must be a level and a limit in dB: LAeq=65")
    return level, float(limit_db)


def _own(text: str) -> tuple[str, str]:
    name, found, value = text.partition("=")
    if not found:
        raise argparse.ArgumentTypeError("must be a name and a value: site=7")
    return name, value


def _address(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    parser.add_argument("--port", type=int, default=8000, help="port to listen on (%(default)s)")


def _home(parser: argparse.ArgumentParser, *, default: Any = None) -> None:
    parser.add_argument(
        "--home", type=Path, default=default, metavar="FOLDER",
        help="folder of the standalone service (default: CLAMOR_HOME, else the user's data folder)",
    )  # fmt: skip


def _operator(parser: argparse.ArgumentParser, command: str) -> None:
    """Set a command that addresses the installation of the environment or of ``--home``."""
    # SUPPRESS: a subcommand must not reset a --home that was given before it.
    _home(parser, default=argparse.SUPPRESS)
    parser.set_defaults(command=command)


def _calibration_db(parser: Any) -> None:
    parser.add_argument(
        "--calibration-db", type=float, metavar="DB", help="dB SPL of digital full scale"
    )


def _json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")


def _processes(parser: argparse.ArgumentParser, *, of: str) -> None:
    parser.add_argument("--processes", type=int, default=1, help=f"{of} processes (default: 1)")
