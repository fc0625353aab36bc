"""The report on the recipe's accuracy, as the Markdown that docs/accuracy.md holds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from actors.science import clip_metrics
from actors.science.members import Member
from actors.science.types import BACKGROUND
from actors.training import accuracy, recipe
from actors.training.accuracy import Clips, Heard, Soundscape

#: Conditions in which clips are named, and their signal-to-noise ratios in dB.
CONDITIONS: Mapping[str, float | None] = {"clean": None, "10 dB": accuracy.NOISY_DB}

#: Name of the vote of all members.
VOTE = "the vote of all"

Choose = Callable[[Sequence[Member]], Sequence[Member]]

#: Who votes: all members, or some of them alone.
VOTERS: Mapping[str, Choose] = {
    "the network alone": lambda members: members[: recipe.N_NETWORKS],
    "the vote without the network": lambda members: members[recipe.N_NETWORKS :],
    **{
        f"the vote without {name}": lambda members, n=number: [  # type: ignore[misc]
            *members[:n],
            *members[n + 1 :],
        ]
        for number, name in enumerate(recipe.PARTNERS, start=recipe.N_NETWORKS)
    },
    VOTE: list,
}


@dataclass(frozen=True, eq=False)
class Measured:
    """All that was measured."""

    named: Mapping[str, Mapping[str, Clips]]
    calibration: Mapping[str, float]
    temperature: float
    recordings: Sequence[Soundscape]
    heard: Heard
    background_share: float
    false_alarms_per_hour: float


def write(measured: Measured) -> str:
    """The whole report."""
    vote = measured.named[VOTE]
    n_clips = len(vote["clean"].truth)
    parts = [
        "# Accuracy of the shipped model's recipe",
        "",
        "Made by `make bench-accuracy`; what is measured and what else was tried stands in"
        " [model.md](model.md).",
        "",
        f"Grouped cross-validation over the folds of {n_clips} clips: a clip, or an event of a"
        " soundscape, is judged by a model that was trained without its fold.",
        "",
        "## Clips of 5 s, ten classes",
        "",
        *_clip_table(measured.named),
        "",
        f"Expected calibration error of the vote: {measured.calibration['clean']:.3f} clean,"
        f" {measured.calibration['10 dB']:.3f} at 10 dB, with each fold's temperature fitted on"
        f" the other folds; the model's own is {measured.temperature:.2f}. Right answers by fold:"
        f" {_by_fold(vote['clean'])} clean, {_by_fold(vote['10 dB'])} at 10 dB.",
        "",
        "Accuracy is that of the likeliest class beside background; background is the likeliest of"
        f" all for {vote['clean'].missed:.1%} of the clips clean and {vote['10 dB'].missed:.1%} at"
        f" 10 dB, and for {measured.background_share:.0%} of beds of background alone.",
        "",
        *_class_table(vote),
        "",
        "## Soundscapes",
        "",
        f"{len(measured.recordings)} soundscapes of 60 s with"
        f" {sum(len(each.reference) for each in measured.recordings)} events. Segments last 1 s;"
        " onsets count within 0.5 s, offsets within 0.5 s or half of the event.",
        "",
        *_soundscape_table(measured),
        "",
        "Events an hour in beds of background without any event:"
        f" {measured.false_alarms_per_hour:.1f}.",
    ]
    return "\n".join(parts) + "\n"


def _clip_table(named: Mapping[str, Mapping[str, Clips]]) -> list[str]:
    rows = [
        f"| {voters} | " + " | ".join(f"{each.accuracy:.1%}" for each in of.values()) + " |"
        for voters, of in named.items()
    ]
    return [f"| | {' | '.join(CONDITIONS)} |", "|---|" + "---|" * len(CONDITIONS), *rows]


def _by_fold(clips: Clips) -> str:
    right = clips.best == clips.truth
    return ", ".join(f"{right[clips.folds == fold].mean():.1%}" for fold in np.unique(clips.folds))


def _class_table(vote: Mapping[str, Clips]) -> list[str]:
    lines = [
        "| class | recall, clean | precision, clean | recall, 10 dB | precision, 10 dB |",
        "|---|---|---|---|---|",
    ]
    classes = [name for name in vote["clean"].classes if name != BACKGROUND]
    scores = {
        condition: clip_metrics.per_class(each.truth.tolist(), each.best.tolist(), classes=classes)
        for condition, each in vote.items()
    }
    for name in sorted(set(vote["clean"].truth.tolist())):
        cells = [
            f"{value:.0%}"
            for condition in CONDITIONS
            for value in (scores[condition][name].recall, scores[condition][name].precision)
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def _soundscape_table(measured: Measured) -> list[str]:
    by_snr = {
        f"{snr_db} dB": {each.name for each in measured.recordings if each.snr_db == snr_db}
        for snr_db in sorted({each.snr_db for each in measured.recordings})
    }
    rows = {"all": measured.heard.figures()}
    rows |= {name: measured.heard.where(names).figures() for name, names in by_snr.items()}
    names = list(rows["all"])
    return [
        f"| signal-to-noise | {' | '.join(names)} |",
        "|---|" + "---|" * len(names),
        *(
            f"| {row} | " + " | ".join(f"{figures[name]:.3f}" for name in names) + " |"
            for row, figures in rows.items()
        ),
    ]
