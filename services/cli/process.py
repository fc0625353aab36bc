"""``clamor process``: send recordings, and print their detections."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from services.cli import options


def add_parser(commands: options.Commands) -> None:
    """Add the command."""
    parser = commands.add_parser("process", help="send recordings and print their detections")
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    calibration = parser.add_mutually_exclusive_group()
    options.add_calibration(calibration)
    calibration.add_argument(
        "--calibration-tone",
        type=Path,
        metavar="FILE",
        help="recording of a calibrator, sent first, to measure --calibration-db",
    )
    parser.add_argument(
        "--tone-db",
        type=float,
        choices=options.CALIBRATION_TONES_DB,
        metavar="{94,114}",
        help="the calibrator's level in dB SPL",
    )
    options.add_recording(parser)
    parser.add_argument(
        "--recorded-at",
        metavar="TIME",
        help="when the recording began, with UTC offset: 2026-11-28T09:30:00+01:00 (default: as "
        "its file states it)",
    )
    options.add_json(parser)
    options.add_api(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Process the files; return 1 if one of them failed."""
    from services.cli.actions import processing, targets
    from services.http.errors import UserError

    if (args.calibration_tone is None) != (args.tone_db is None):
        raise UserError("--calibration-tone and --tone-db must be given together")
    if args.recorded_at is not None and len(args.files) > 1:
        raise UserError("--recorded-at applies to one recording; send the others separately")
    calibration_db = args.calibration_db
    with targets.api(args, quiet=args.json and not sys.stderr.isatty()) as (client, bars):
        if args.calibration_tone is not None:
            calibration_db = processing.calibrate(
                client, args.calibration_tone, tone_db=args.tone_db, channel=args.channel, bars=bars
            )
        asked = processing.parameters(args, calibration_db=calibration_db)
        if args.recorded_at is not None:
            asked["recorded_at"] = args.recorded_at
        results = processing.process(client, args.files, options=asked, bars=bars)
    if args.json:
        print(json.dumps([result.to_json() for result in results]))
    else:
        for result in results:
            if result.error is None:
                processing.print_table(result)
                if args.api is not None and result.session is not None:
                    # Only with --api: a service that this command started has ended.
                    page = f"{args.api.rstrip('/')}/sessions/{result.session.id}"
                    print(f"view and play it: {page}")
    failed = [result for result in results if result.error is not None]
    for result in failed:
        print(f"clamor: {result.file}: {result.error}", file=sys.stderr)
    return 1 if failed else 0
