"""The ``clamor`` command."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from db import migrate
from db.models import CALIBRATION_TONES_DB, PRIORITIES
from db.settings import SettingsError, from_environment
from services.errors import UserError

if TYPE_CHECKING:
    from services.client import Client

#: What an error that the user can mend ends with.
USAGE_ERROR = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options) or 0)
    except KeyboardInterrupt:
        return 130
    except (SettingsError, migrate.MigrationError, UserError) as error:
        print(f"clamor: {error}", file=sys.stderr)
        return USAGE_ERROR


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="clamor", description="Clamor finds out what made noise in a recording, and when."
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    process = commands.add_parser("process", help="send recordings and print what was heard")
    process.add_argument("files", nargs="+", type=Path, metavar="FILE")
    how_loud = process.add_mutually_exclusive_group()
    how_loud.add_argument(
        "--calibration-db", type=float, metavar="DB", help="dB SPL of digital full scale"
    )
    how_loud.add_argument(
        "--calibration-tone", type=Path, metavar="FILE",
        help="recording of a calibrator, sent first, that says what --calibration-db is",
    )  # fmt: skip
    process.add_argument(
        "--tone-db", type=float, choices=CALIBRATION_TONES_DB, metavar="{94,114}",
        help="the calibrator's level in dB SPL",
    )  # fmt: skip
    _priority(process)
    process.add_argument("--json", action="store_true", help="print one JSON array and no table")
    _api(process)
    process.set_defaults(run=_process)

    batch = commands.add_parser(
        "batch",
        help="send many recordings in one call",
        description="Send many recordings in one call, or name those that lie below a prefix of "
        "the blob store's inbox/, and show what became of each. Exits with 1 if any failed.",
    )
    what = batch.add_mutually_exclusive_group(required=True)
    what.add_argument("files", nargs="*", default=[], type=Path, metavar="FILE")
    what.add_argument("--prefix", metavar="inbox/FOLDER", help="instead: what lies below this")
    batch.add_argument(
        "--calibration-db", type=float, metavar="DB", help="dB SPL of digital full scale"
    )
    _priority(batch)
    _api(batch)
    batch.set_defaults(run=_batch)

    demo = commands.add_parser("demo", help="process one recording and draw what was heard")
    demo.add_argument("file", nargs="?", type=Path, metavar="FILE")
    demo.add_argument("--out", type=Path, default=Path("demo"), help="folder for the picture")
    _home(demo)
    demo.set_defaults(run=_demo)

    _model_commands(commands)

    up = commands.add_parser("up", help="everything in one process, with an embedded Postgres")
    _address(up)
    _home(up)
    up.add_argument("--until-eof", action="store_true", help="stop when standard input closes")
    up.set_defaults(run=_up)

    serve = commands.add_parser("serve", help="the HTTP API")
    _address(serve)
    serve.add_argument("--processes", type=int, default=1, help="server processes (default: 1)")
    serve.set_defaults(run=_serve)

    worker = commands.add_parser("worker", help="work on recordings")
    worker.add_argument("--processes", type=int, default=1, help="worker processes (default: 1)")
    worker.set_defaults(run=_worker)

    scheduler = commands.add_parser("scheduler", help="send the periodic jobs; run one of these")
    scheduler.set_defaults(run=_scheduler)

    _queue_commands(commands)

    migration = commands.add_parser("migrate", help="bring the database to the newest schema")
    how = migration.add_mutually_exclusive_group()
    how.add_argument("--sql", action="store_true", help="print the SQL and run nothing")
    how.add_argument(
        "--check", action="store_true",
        help="on an embedded database: one head, and a schema that is the models'",
    )  # fmt: skip
    migration.set_defaults(run=_migrate)
    return parser


def _queue_commands(commands: Any) -> None:
    queues = commands.add_parser(
        "queues",
        help="what waits, what is worked on, and what has died",
        description="Show every queue of the installation that the environment names. Exits with "
        "1 if there are dead letters.",
    )
    queues.add_argument("--json", action="store_true", help="print one JSON array and no table")
    queues.set_defaults(run=_queues)
    of_dead = queues.add_subparsers(title="dead letters", metavar="COMMAND")

    show = of_dead.add_parser("show", help="what the dead letters of a queue say, the oldest first")
    show.add_argument("queue", metavar="QUEUE", help="such as audio.detect")
    show.add_argument("--limit", type=_count, default=20, metavar="N", help="(default: 20)")
    show.add_argument("--json", action="store_true", help="print one JSON array and no table")
    show.set_defaults(run=_queues_show)

    replay = of_dead.add_parser(
        "replay",
        help="bring dead letters back to their queues",
        description="Bring dead letters back to their queues, the oldest first. One that this "
        "release cannot read stays dead; then the exit code is 1.",
    )
    replay.add_argument("queues", nargs="*", metavar="QUEUE", help="(default: every queue)")
    replay.add_argument("--limit", type=_count, metavar="N", help="bring at most N back")
    replay.add_argument(
        "--drop-unreadable", action="store_true", help="remove those that cannot be read"
    )
    replay.set_defaults(run=_queues_replay)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError("must be a whole number from 1 on")
    return int(text)


def _model_commands(commands: Any) -> None:
    train = commands.add_parser(
        "train",
        help="learn noise types from labelled recordings",
        description="Learn a model from labelled recordings, and show how good it is on sources "
        "that it has not heard.",
        epilog="The manifest is a CSV file with the header file,label[,group][,start_s,end_s]"
        "[,session_id]. Paths are relative to it. Clips of one group (by default: of one file) "
        "come from one source and are kept together; the label 'background' marks what is no "
        "noise. See docs/training.md.",
    )
    train.add_argument("manifest", type=Path, metavar="MANIFEST.csv")
    train.add_argument("--name", help="what the model is called; its versions are counted")
    train.add_argument("--algorithm", help="how it learns (default: what the workers prefer)")
    train.add_argument("--seed", type=int, help="the same clips and seed give the same model")
    train.add_argument(
        "--promote", action="store_true",
        help="hear new sessions with it, unless it is worse than the model in use",
    )  # fmt: skip
    _api(train)
    train.set_defaults(run=_train)

    validate = commands.add_parser(
        "validate",
        help="check a model's file and measure it on a labelled set",
        description="Check that a model is whole, and measure how good it is on a labelled set. "
        "Exits with 1 if a check fails.",
        epilog="The manifest labels clips, with the header of 'clamor train', or events, with "
        "the header file,onset_s,offset_s,label; a line with a file alone is a recording "
        "without events. Without a manifest only the file is checked. See docs/training.md.",
    )
    validate.add_argument("model", metavar="MODEL_ID|FILE", help="a model here, or a model file")
    validate.add_argument("manifest", type=Path, nargs="?", metavar="MANIFEST.csv")
    _api(validate)
    validate.set_defaults(run=_validate)

    models = commands.add_parser("models", help="list the models, and which one is in use")
    _api(models)
    models.set_defaults(run=_models)

    promote = commands.add_parser(
        "promote", help="hear new sessions with a model",
        description="Hear new sessions with a model. It is compared with the one in use on the "
        "newest labelled set that both were validated on, else by cross-validation if both were "
        "trained on the same clips, and refused if it is worse.",
    )  # fmt: skip
    promote.add_argument("model", type=uuid.UUID, metavar="MODEL_ID")
    promote.add_argument("--force", action="store_true", help="even if it is worse")
    _api(promote)
    promote.set_defaults(run=_promote)


def _api(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--api", metavar="URL", help="an API that runs; else one is started here")
    _home(parser)


def _priority(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--priority", choices=PRIORITIES, default="normal", help="what is worked on first"
    )


def _address(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    parser.add_argument("--port", type=int, default=8000, help="port to listen on (%(default)s)")


def _home(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--home", type=Path, help="folder of the standalone service's data")


@contextmanager
def _client(options: argparse.Namespace, bars: Console) -> Iterator[Client]:
    """A client of the API that was named, or of one that is started for the command."""
    from services.client import Client

    with ExitStack() as stack:
        url = options.api
        if url is None:
            from services import standalone

            home = options.home or standalone.default_home()
            bars.print("Starting a standalone service ...")
            url = stack.enter_context(standalone.running(home=home, log=home / "up.log"))
        client = Client(url)
        stack.callback(client.close)
        yield client


def _process(options: argparse.Namespace) -> int:
    from services import processing

    if (options.calibration_tone is None) != (options.tone_db is None):
        raise UserError("--calibration-tone and --tone-db are given together")
    calibration_db = options.calibration_db
    bars = Console(file=sys.stderr, quiet=options.json and not sys.stderr.isatty())
    with _client(options, bars) as client:
        if options.calibration_tone is not None:
            calibration_db = processing.calibrate(
                client, options.calibration_tone, tone_db=options.tone_db, console=bars
            )
        asked = {"priority": options.priority}
        if calibration_db is not None:
            asked["calibration_db"] = f"{calibration_db}"
        results = processing.process(client, options.files, options=asked, console=bars)
    if options.json:
        print(json.dumps([result.to_json() for result in results]))
    else:
        for result in results:
            if result.error is None:
                processing.print_table(result, console=Console())
    failed = [result for result in results if result.error is not None]
    for result in failed:
        print(f"clamor: {result.file}: {result.error}", file=sys.stderr)
    return 1 if failed else 0


def _batch(options: argparse.Namespace) -> int:
    from services import batch_command

    asked = {"priority": options.priority}
    if options.calibration_db is not None:
        asked["calibration_db"] = f"{options.calibration_db}"
    missing = [str(file) for file in options.files if not file.is_file()]
    if missing:
        raise UserError(f"no such file: {', '.join(missing)}")
    bars = Console(file=sys.stderr)
    with _client(options, bars) as client:
        what = options.files or options.prefix
        return batch_command.run(client, what, options=asked, bars=bars)


def _train(options: argparse.Namespace) -> int:
    from services import manifests, model_commands

    labelled = model_commands.Labelled.read(options.manifest, manifests.parse_clips)
    given = {name: getattr(options, name) for name in ("name", "algorithm", "seed")}
    bars = Console(file=sys.stderr)
    with _client(options, bars) as client:
        return model_commands.train(
            client,
            labelled,
            options={name: value for name, value in given.items() if value is not None},
            promote=options.promote,
            bars=bars,
        )


def _validate(options: argparse.Namespace) -> int:
    from services import manifests, model_commands

    model = model_commands.which(options.model)
    labelled = (
        None
        if options.manifest is None
        else model_commands.Labelled.read(options.manifest, manifests.parse_set)
    )
    bars = Console(file=sys.stderr)
    with _client(options, bars) as client:
        return model_commands.validate(client, model, labelled, bars=bars)


def _models(options: argparse.Namespace) -> int:
    from services import model_commands

    with _client(options, Console(file=sys.stderr)) as client:
        return model_commands.show_models(client)


def _promote(options: argparse.Namespace) -> int:
    from services import model_commands

    with _client(options, Console(file=sys.stderr)) as client:
        return model_commands.put_to_use(client, options.model, force=options.force, out=Console())


def _demo(options: argparse.Namespace) -> int:
    from services import demo, standalone

    return demo.run(
        file=options.file, out=options.out, home=options.home or standalone.default_home()
    )


def _up(options: argparse.Namespace) -> None:
    from services import standalone

    if options.until_eof:
        standalone.stop_at_eof()
    print(f"Clamor listens at http://{options.host}:{options.port}/", file=sys.stderr)
    standalone.run(
        home=options.home or standalone.default_home(), host=options.host, port=options.port
    )


def _serve(options: argparse.Namespace) -> None:
    from services import server

    # A setting that is missing is told here, and not by a dying child.
    settings = from_environment()
    server.serve(
        "services.app:get_app",
        host=options.host,
        port=options.port,
        processes=options.processes,
        streams=settings.event_streams,
    )


def _worker(options: argparse.Namespace) -> None:
    from_environment()
    # This process becomes dramatiq's master, so that signals reach it directly. One thread a
    # process: parallel work comes from processes. Every number that dramatiq would choose for
    # itself (as many processes as the machine has cores, eight threads, ten minutes to stop) is
    # chosen here.
    _become(
        ["-m", "dramatiq", "actors.worker:boot", "--processes", str(options.processes),
         "--threads", "1", "--worker-shutdown-timeout", "25000", "--skip-logging"],
        # One message at a time: a second one would wait here while other workers are idle.
        dramatiq_queue_prefetch="1",
    )  # fmt: skip


def _scheduler(_options: argparse.Namespace) -> None:
    from_environment()
    # periodiq has no module to run, and reckons in local time.
    program = "from periodiq import entrypoint; entrypoint()"
    _become(["-c", program, "actors.schedule:boot"], TZ="UTC")


def _become(arguments: list[str], **environment: str) -> None:
    """Replace this process by another Python."""
    os.execve(
        sys.executable,
        [sys.executable, *arguments],
        {**os.environ, **environment},
    )


def _queues(options: argparse.Namespace) -> int:
    from services import queue_commands

    return queue_commands.overview(from_environment(), as_json=options.json)


def _queues_show(options: argparse.Namespace) -> int:
    from services import queue_commands

    return queue_commands.show(
        from_environment(), options.queue, limit=options.limit, as_json=options.json
    )


def _queues_replay(options: argparse.Namespace) -> int:
    from services import queue_commands

    return queue_commands.replay(
        from_environment(),
        options.queues,
        limit=options.limit,
        drop_unreadable=options.drop_unreadable,
    )


def _migrate(options: argparse.Namespace) -> int:
    if options.sql:
        migrate.sql()
        return 0
    if not options.check:
        print(f"at revision {migrate.upgrade(from_environment().database_url)}")
        return 0
    from services import standalone

    with (
        tempfile.TemporaryDirectory(prefix="clamor-check-") as folder,
        standalone.postgres(Path(folder)) as url,
    ):
        revision = migrate.upgrade(url)
        differences = migrate.drift(url)
    for difference in differences:
        print(f"not in the migrations: {difference}", file=sys.stderr)
    print(f"one head, {revision}; {len(differences) or 'no'} differences from the models")
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
