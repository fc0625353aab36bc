"""``clamor export``: write detections to a file on this machine."""

from __future__ import annotations

import argparse
import uuid
from pathlib import Path

from actors.facts.export_formats import FORMATS
from services.cli import options


def add_parser(commands: options.Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "export",
        help="write detections to a file, for other programs",
        description="Write the detections of sessions, of a batch, or of all matching sessions "
        "to a file. docs/exports.md describes the formats. Exits with 1 if the export failed.",
    )
    parser.add_argument("sessions", nargs="*", type=uuid.UUID, metavar="SESSION_ID")
    parser.add_argument("--format", required=True, choices=FORMATS, help="file format")
    parser.add_argument("--out", required=True, type=Path, metavar="FILE")
    parser.add_argument("--batch", dest="batch_id", metavar="BATCH_ID", help="only this batch")
    parser.add_argument("--from", dest="created_from", metavar="TIME", help="sent at TIME or later")
    parser.add_argument("--to", dest="created_to", metavar="TIME", help="sent before TIME")
    parser.add_argument(
        "--noise-type",
        action="append",
        default=[],
        dest="noise_types",
        metavar="TYPE",
        help="only this type or group, with all types below it; may be repeated",
    )
    parser.add_argument("--min-confidence", type=float, metavar="N", help="minimum confidence")
    options.add_api(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Export the detections; return 1 if the export failed."""
    from services.cli.actions import exports, targets

    names = ("batch_id", "created_from", "created_to", "noise_types", "min_confidence")
    narrowed = {name: getattr(args, name) for name in names}
    with targets.api(args) as (client, bars):
        return exports.run(
            client, args.sessions, format=args.format, narrowed=narrowed, out=args.out, bars=bars
        )
