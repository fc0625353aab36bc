"""``clamor batch``: send many recordings in one request."""

from __future__ import annotations

import argparse
from pathlib import Path

from services.cli import options


def add_parser(commands: options.Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "batch",
        help="send many recordings in one request",
        description="Send many recordings in one request, or name those below a prefix of the "
        "blob store's inbox/, and show the result of each. Exits with 1 if any failed.",
    )
    recordings = parser.add_mutually_exclusive_group(required=True)
    recordings.add_argument("files", nargs="*", default=[], type=Path, metavar="FILE")
    recordings.add_argument(
        "--prefix", metavar="inbox/FOLDER", help="instead: all files below this"
    )
    options.add_calibration(parser)
    options.add_recording(parser)
    options.add_api(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Send the batch; return 1 if a recording failed."""
    from services.cli.actions import batches, processing, targets
    from services.http.errors import UserError

    asked = processing.parameters(args, calibration_db=args.calibration_db)
    missing = [str(file) for file in args.files if not file.is_file()]
    if missing:
        raise UserError(f"no such file: {', '.join(missing)}")
    with targets.api(args) as (client, bars):
        return batches.run(client, args.files or args.prefix, options=asked, bars=bars)
