"""``clamor validate``: check a model file, and measure its accuracy."""

from __future__ import annotations

import argparse
from pathlib import Path

from services.cli import options


def add_parser(commands: options.Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "validate",
        help="check a model file and measure its accuracy on a labelled set",
        description="Check that a model file is intact, and measure its accuracy on a labelled "
        "set. Exits with 1 if a check fails.",
        epilog="The manifest labels clips, with the header of 'clamor train', or events, with "
        "the header file,onset_s,offset_s,label; a line with only a file is a recording "
        "without events. Without a manifest only the file is checked. See docs/training.md.",
    )
    parser.add_argument("model", metavar="MODEL_ID|FILE", help="registered model or file")
    parser.add_argument("manifest", type=Path, nargs="?", metavar="MANIFEST.csv")
    options.add_api(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Validate the model; return 1 if a check fails."""
    from services.api.models import manifests
    from services.cli.actions import models, targets

    model = models.which(args.model)
    labelled = args.manifest and models.Labelled.read(args.manifest, manifests.parse_set)
    with targets.api(args) as (client, bars):
        return models.validate(client, model, labelled, bars=bars)
