"""``clamor train``: train a model on labelled recordings."""

from __future__ import annotations

import argparse
from pathlib import Path

from services.cli import options


def add_parser(commands: options.Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "train",
        help="train a model on labelled recordings",
        description="Train a model on labelled recordings, and show its accuracy on sources that "
        "were held out of training.",
        epilog="The manifest is a CSV file with the header file,label[,group][,start_s,end_s]"
        "[,session_id]. Paths are relative to it. Clips of one group (by default: of one file) "
        "come from one source and are kept together; the label 'background' marks clips without "
        "noise. See docs/training.md.",
    )
    parser.add_argument("manifest", type=Path, metavar="MANIFEST.csv")
    parser.add_argument("--name", help="name of the model; versions are numbered")
    parser.add_argument(
        "--algorithm",
        help="training algorithm (default: chosen by the workers); "
        "linear_head adds types to the base types, from 3 to 20 clips each",
    )
    parser.add_argument("--seed", type=int, help="the same clips and seed give the same model")
    parser.add_argument(
        "--promote",
        action="store_true",
        help="analyse new sessions with the model; if it is worse than the one in use, ask first "
        "(at a terminal) or refuse",
    )
    parser.add_argument("--force", action="store_true", help="with --promote: even if it is worse")
    options.add_api(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Train the model; return 1 if the training failed or the promotion was refused."""
    from services.api.models import manifests
    from services.cli.actions import models, targets

    labelled = models.Labelled.read(args.manifest, manifests.parse_clips)
    given = {name: getattr(args, name) for name in ("name", "algorithm", "seed")}
    with targets.api(args) as (client, bars):
        return models.train(
            client,
            labelled,
            options={name: value for name, value in given.items() if value is not None},
            promote=args.promote,
            force=args.force,
            bars=bars,
        )
