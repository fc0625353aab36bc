"""The ``clamor`` command."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from rich.console import Console

from actors.observability.logs import configure
from db import migrate
from db.settings import Settings, SettingsError, backbone_url, from_environment, home_folder
from services.cli.arguments import parser
from services.http import shutdown
from services.http.errors import UserError

if TYPE_CHECKING:
    from services.client import Client

#: The API key for ``--api``. Not an argument, since every user of the machine can see arguments.
KEY_VARIABLE = "CLAMOR_API_KEY"
#: Exit code of errors that the user can fix.
USAGE_ERROR = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command, and return the exit code."""
    options = parser().parse_args(arguments)
    # By default SIGTERM ends a command without its cleanup, and has no effect on PID 1. Servers
    # and workers set their own handlers once they run.
    signal.signal(signal.SIGTERM, _end)
    try:
        return _RUNS[options.command](options) or 0
    except KeyboardInterrupt:
        return 130
    except (SettingsError, migrate.MigrationError, UserError) as error:
        print(f"clamor: {error}", file=sys.stderr)
        return USAGE_ERROR


def _end(signum: int, _frame: object) -> NoReturn:
    sys.exit(128 + signum)


@contextmanager
def _client(options: argparse.Namespace, bars: Console) -> Iterator[Client]:
    """Yield a client of the given API, or of a service started for this command."""
    if options.api is None:
        from services.processes import standalone

        home = options.home or home_folder()
        bars.print(f"Using the standalone service of {home} ...", markup=False)
        with standalone.running(home=home, log=home / "up.log") as client:
            yield client
        return
    from services.client import Client

    client = Client(options.api, key=os.environ.get(KEY_VARIABLE, "").strip())
    try:
        yield client
    finally:
        client.close()


def _process(options: argparse.Namespace) -> int:
    from services.cli import processing

    if (options.calibration_tone is None) != (options.tone_db is None):
        raise UserError("--calibration-tone and --tone-db must be given together")
    if options.recorded_at is not None and len(options.files) > 1:
        raise UserError("--recorded-at applies to one recording; send the others separately")
    calibration_db = options.calibration_db
    bars = Console(file=sys.stderr, quiet=options.json and not sys.stderr.isatty())
    with _client(options, bars) as client:
        if options.calibration_tone is not None:
            calibration_db = processing.calibrate(
                client, options.calibration_tone, tone_db=options.tone_db, console=bars
            )
        asked = processing.parameters(options, calibration_db=calibration_db)
        if options.recorded_at is not None:
            asked["recorded_at"] = options.recorded_at
        results = processing.process(client, options.files, options=asked, console=bars)
    if options.json:
        print(json.dumps([result.to_json() for result in results]))
    else:
        for result in results:
            if result.error is None:
                processing.print_table(result, console=Console())
                if options.api is not None and result.session is not None:
                    # Only with --api: a service that this command started has ended.
                    page = f"{options.api.rstrip('/')}/sessions/{result.session.id}"
                    print(f"view and play it: {page}")
    failed = [result for result in results if result.error is not None]
    for result in failed:
        print(f"clamor: {result.file}: {result.error}", file=sys.stderr)
    return 1 if failed else 0


def _batch(options: argparse.Namespace) -> int:
    from services.cli import batch_command, processing

    asked = processing.parameters(options, calibration_db=options.calibration_db)
    missing = [str(file) for file in options.files if not file.is_file()]
    if missing:
        raise UserError(f"no such file: {', '.join(missing)}")
    bars = Console(file=sys.stderr)
    with _client(options, bars) as client:
        what = options.files or options.prefix
        return batch_command.run(client, what, options=asked, bars=bars)


def _analyze(options: argparse.Namespace) -> int:
    from services.cli import analysis_command

    with _client(options, Console(file=sys.stderr)) as client:
        return analysis_command.show(
            client, options.session, limits=options.limits, as_json=options.json
        )


def _train(options: argparse.Namespace) -> int:
    from services.api.models import manifests
    from services.cli import model_commands

    labelled = model_commands.Labelled.read(options.manifest, manifests.parse_clips)
    given = {name: getattr(options, name) for name in ("name", "algorithm", "seed")}
    bars = Console(file=sys.stderr)
    with _client(options, bars) as client:
        return model_commands.train(
            client,
            labelled,
            options={name: value for name, value in given.items() if value is not None},
            promote=options.promote,
            force=options.force,
            bars=bars,
        )


def _validate(options: argparse.Namespace) -> int:
    from services.api.models import manifests
    from services.cli import model_commands

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
    from services.cli import model_commands

    with _client(options, Console(file=sys.stderr)) as client:
        return model_commands.show_models(client)


def _model_fetch(options: argparse.Namespace) -> int:
    from services.cli import fetch_command

    return fetch_command.run(
        backbone_url(), beside_model=options.beside_model, limit_s=options.limit_s
    )


def _promote(options: argparse.Namespace) -> int:
    from services.cli import model_commands

    with _client(options, Console(file=sys.stderr)) as client:
        return model_commands.put_to_use(client, options.model, force=options.force, out=Console())


def _export(options: argparse.Namespace) -> int:
    from services.cli import export_command

    narrowed = {
        name: getattr(options, name)
        for name in ("batch_id", "created_from", "created_to", "noise_types", "min_confidence")
    }
    bars = Console(file=sys.stderr)
    with _client(options, bars) as client:
        return export_command.run(
            client, options.sessions, format=options.format, narrowed=narrowed, out=options.out,
            bars=bars,
        )  # fmt: skip


def _sessions_retry(options: argparse.Namespace) -> int:
    from services.cli import retry_command

    if options.all == bool(options.sessions):
        raise UserError("name the sessions to retry, or give --all")
    with _client(options, Console(file=sys.stderr)) as client:
        return retry_command.run(client, options.sessions)


def _demo(options: argparse.Namespace) -> int:
    from services.cli import demo

    return demo.run(file=options.file, out=options.out, home=options.home or home_folder())


def _up(options: argparse.Namespace) -> None:
    from services.processes import standalone

    if options.until_eof:
        standalone.stop_at_eof()
    standalone.run(
        home=options.home or home_folder(),
        host=options.host,
        port=options.port,
        is_private=options.until_eof,
    )


def _serve(options: argparse.Namespace) -> None:
    from services.processes import server

    # Report missing settings here rather than from a child process that dies.
    settings = from_environment()
    server.serve(
        "services.app:get_app",
        host=options.host,
        port=options.port,
        processes=options.processes,
        streams=settings.event_streams,
    )


def _worker(options: argparse.Namespace) -> None:
    _wait_for_schema(from_environment())
    # This process becomes dramatiq's master, so that signals reach it directly. One thread per
    # process: parallelism comes from processes. All of dramatiq's defaults (one process per core,
    # eight threads, ten minutes to stop) are overridden here.
    _become(
        ["-m", "dramatiq", "actors.worker:boot", "--processes", str(options.processes),
         "--threads", "1", "--worker-shutdown-timeout", "25000", "--skip-logging"],
        # Prefetch one message: a second one would wait here while other workers are idle.
        dramatiq_queue_prefetch="1",
    )  # fmt: skip


def _scheduler(_options: argparse.Namespace) -> None:
    _wait_for_schema(from_environment())
    # periodiq reads its cron lines in local time.
    _become(["-m", "actors.scheduling.scheduler", "actors.scheduling.jobs:boot"], TZ="UTC")


def _wait_for_schema(settings: Settings) -> None:
    """Wait until the database has the schema of this release; SIGTERM ends the wait."""
    configure(settings.log_level)
    # Without a handler, PID 1 of a container would ignore the signal. The program that this process
    # becomes does not inherit the handler. There is nothing to clean up, and an exception could get
    # lost in a callback of the database library.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    migrate.wait_until_migrated(settings.database_url)


def _become(arguments: list[str], **environment: str) -> None:
    """Replace this process with another Python.

    A stop signal that arrives while the new program loads stays blocked until it handles signals.
    Otherwise PID 1 would ignore the signal and be killed after the grace period.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, shutdown.SIGNALS)
    os.execve(
        sys.executable,
        [sys.executable, *arguments],
        {**os.environ, **environment},
    )


def _settings(options: argparse.Namespace) -> Settings:
    """Return the settings of the installation that an operator's command addresses."""
    from services.processes import homes

    return homes.installation(options.home)[0]


def _user_create(options: argparse.Namespace) -> int:
    from services.cli import account_commands

    return account_commands.create_user(
        _settings(options),
        options.email,
        name=options.name,
        max_audio_s_per_month=options.max_audio_s_per_month,
    )


def _user_list(options: argparse.Namespace) -> int:
    from services.cli import account_commands

    return account_commands.show_users(_settings(options))


def _user_switch(options: argparse.Namespace) -> int:
    from services.cli import account_commands

    disabled = options.command == "user disable"
    return account_commands.switch_user(_settings(options), options.user, disabled=disabled)


def _key_create(options: argparse.Namespace) -> int:
    from services.cli import account_commands

    return account_commands.create_key(
        _settings(options),
        options.user,
        name=options.name,
        scopes=options.scopes,
        days=options.days,
        requests_per_s=options.requests_per_s,
    )


def _key_list(options: argparse.Namespace) -> int:
    from services.cli import account_commands

    return account_commands.show_keys(_settings(options), options.user)


def _key_rotate(options: argparse.Namespace) -> int:
    from services.cli import account_commands

    return account_commands.rotate_key(
        _settings(options), options.key, overlap_hours=options.overlap_hours
    )


def _key_revoke(options: argparse.Namespace) -> int:
    from services.cli import account_commands

    return account_commands.revoke_key(_settings(options), options.key)


def _report(options: argparse.Namespace) -> int:
    from services.cli import report_command

    bars = Console(file=sys.stderr)
    with _client(options, bars) as client:
        return report_command.run(
            client, options.day, time_zone=options.time_zone, html=options.html,
            all_users=options.all_users, as_json=options.json, bars=bars,
        )  # fmt: skip


def _openapi(_options: argparse.Namespace) -> int:
    from services.cli import openapi_command

    return openapi_command.show()


def _health(options: argparse.Namespace) -> int:
    from services.cli import health_command

    return health_command.show(_settings(options), as_json=options.json)


def _schedule(options: argparse.Namespace) -> int:
    from services.cli import schedule_commands

    return schedule_commands.overview(_settings(options), as_json=options.json)


def _schedule_run(options: argparse.Namespace) -> int:
    from services.cli import schedule_commands

    return schedule_commands.run(_settings(options), options.job, options.options)


def _queues(options: argparse.Namespace) -> int:
    from services.cli import queue_commands
    from services.processes import homes

    settings, service = homes.installation(options.home)
    return queue_commands.overview(settings, service, as_json=options.json)


def _queues_show(options: argparse.Namespace) -> int:
    from services.cli import queue_commands

    return queue_commands.show(
        _settings(options), options.queue, limit=options.limit, as_json=options.json
    )


def _queues_replay(options: argparse.Namespace) -> int:
    from services.cli import queue_commands

    return queue_commands.replay(
        _settings(options),
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
    from services.processes import standalone

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


#: The function of each command; a result of None means exit code 0.
_RUNS: Mapping[str, Callable[[argparse.Namespace], int | None]] = {
    "process": _process,
    "batch": _batch,
    "export": _export,
    "sessions retry": _sessions_retry,
    "analyze": _analyze,
    "demo": _demo,
    "up": _up,
    "serve": _serve,
    "worker": _worker,
    "scheduler": _scheduler,
    "migrate": _migrate,
    "user create": _user_create,
    "user list": _user_list,
    "user disable": _user_switch,
    "user enable": _user_switch,
    "key create": _key_create,
    "key list": _key_list,
    "key rotate": _key_rotate,
    "key revoke": _key_revoke,
    "openapi": _openapi,
    "health": _health,
    "schedule": _schedule,
    "schedule run": _schedule_run,
    "queues": _queues,
    "queues show": _queues_show,
    "queues replay": _queues_replay,
    "report": _report,
    "train": _train,
    "validate": _validate,
    "models": _models,
    "model fetch": _model_fetch,
    "promote": _promote,
}
