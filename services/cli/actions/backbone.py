"""``clamor model fetch``: download and verify the weights of the backbone."""

from __future__ import annotations

import sys
from pathlib import Path

from rich.console import Console

from actors.outbound import backbones
from services.cli.actions.bars import Bars
from services.http.errors import UserError


def fetch(setting: str, *, beside_model: bool, limit_s: float) -> int:
    """Fetch the weights that a value of ``CLAMOR_BACKBONE_URL`` names, if missing.

    Raises
    ------
    UserError
        If they cannot be fetched; the message gives the reason and the remedy.
    """
    wanted = backbones.source(setting)
    if wanted is None:
        print("CLAMOR_BACKBONE_URL is off: no backbone is used, so nothing was fetched")
        return 0
    folder = backbones.BESIDE_MODEL if beside_model else backbones.data_folder()
    kept = [folder / wanted.kept_name] if beside_model else backbones.places(wanted)
    for path in kept:
        if backbones.read(path, wanted, complain=_complain) is not None:
            print(f"{wanted.name} is already there: {path}")
            return 0
    path = _fetch(wanted, folder, limit_s=limit_s)
    print(
        f"{wanted.name} was fetched and matches its hash: {path}. Restart running processes to "
        "use it"
    )
    return 0


def _fetch(wanted: backbones.WeightsSource, folder: Path, *, limit_s: float) -> Path:
    with Bars(Console(file=sys.stderr)) as progress:
        bar = progress.add_task(wanted.name, total=100, stage="fetching")

        def show(n_bytes: int, total: int | None) -> None:
            stage = f"{n_bytes / 1e6:.1f} MB"
            progress.update(bar, completed=100 * n_bytes / total if total else 0, stage=stage)

        try:
            return backbones.fetch(
                wanted, folder, on_bytes=show, complain=_complain, limit_s=limit_s
            )
        except backbones.FetchError as error:
            raise UserError(str(error)) from None


def _complain(path: Path, reason: str) -> None:
    print(f"clamor: {path} is not used: {reason}", file=sys.stderr)
