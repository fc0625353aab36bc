"""``clamor demo``: process one recording, and draw its detections."""

from __future__ import annotations

import argparse
from pathlib import Path

from services.cli import options


def add_parser(commands: options.Commands) -> None:
    """Add the command."""
    parser = commands.add_parser("demo", help="process one recording and draw its detections")
    parser.add_argument("file", nargs="?", type=Path, metavar="FILE")
    parser.add_argument("--out", type=Path, default=Path("demo"), help="folder for the picture")
    options.add_home(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Process the recording, or a synthetic one; return 1 if it failed."""
    from db.settings import home_folder
    from services.cli.actions import demo

    return demo.run(file=args.file, out=args.out, home=args.home or home_folder())
