"""Measure what the product answers, with the base types beside its model and without them.

    python -m actors.training.everyday --data FOLDER --backbone FILE [--models DIR] [--report FILE]

``FOLDER`` is that of `tagging`. A sound is judged by base types that were trained without its
group. ``DIR`` holds the models that ``baseline --keep`` made without each fold of ESC-10; with them
clips of ESC-10 and soundscapes are measured, too. Everyday noise is no part of any model.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import soxr

from actors import noise_types
from actors.science import classifier, ear
from actors.science.backbone import RATE_HZ, Array, Backbone
from actors.science.chunks import RATE_HZ as MODEL_RATE_HZ
from actors.science.classifier import Model
from actors.science.second_opinion import SecondOpinion
from actors.science.tagger import Head, Tagger
from actors.science.types import UNCLASSIFIED, Event
from actors.training import accuracy, dataset, tagging
from actors.training import sounds as material
from actors.training.accuracy import Heard, Soundscape
from actors.training.sounds import Sound

#: What an answer can be, in the order of the table.
OUTCOMES = ("right type", "right group", "wrong group", "no type")

#: How many candidates of an event count for the last column.
CANDIDATES = 3

NOISY_DB = 10.0


@dataclass(frozen=True, eq=False)
class Judges:
    """The base types that were trained without each group; None measures the model alone."""

    backbone: Backbone
    heads: Mapping[str, Head]

    def of(self, group: str, samples: Array) -> SecondOpinion:
        """The base types for a sound of a group."""
        tagger = Tagger(self.backbone, self.heads[group])
        return SecondOpinion(tagger, ear.in_memory(samples), samples.size)


def hear(model: Model, sound: Sound, judges: Judges | None) -> list[Event]:
    """The events of a sound, as the pipeline finds them."""
    narrow = soxr.resample(sound.samples, RATE_HZ, MODEL_RATE_HZ)
    opinion = None if judges is None else judges.of(sound.group, sound.samples)
    return ear.hear(model, narrow, opinion=opinion)


def answer(heard: Iterable[Event]) -> Event | None:
    """The surest event of the type that sounds longest; None where no type was found."""
    named = [event for event in heard if event.noise_type != UNCLASSIFIED]
    if not named:
        return None
    seconds: Counter[str] = Counter()
    for event in named:
        seconds[event.noise_type] += event.end_s - event.start_s  # type: ignore[assignment]
    surest = {event.noise_type: event for event in sorted(named, key=lambda each: each.confidence)}
    return surest[max(seconds, key=lambda name: (seconds[name], surest[name].confidence))]


def outcome(event: Event | None, sound: Sound) -> tuple[str, bool]:
    """Judge an answer; also whether one of its first candidates is right."""
    if event is None:
        return "no type", False
    right = sound.right
    groups = {noise_types.group_of(name) for name in right}
    is_near = any(each.noise_type in right for each in event.candidates[:CANDIDATES])
    if event.noise_type in right:
        return "right type", is_near
    return ("right group" if noise_types.group_of(event.noise_type) in groups else "wrong group"), (
        is_near
    )


def rates(
    sounds: Sequence[Sound], model_of: Callable[[Sound], Model], judges: Judges | None
) -> dict[str, float]:
    """The share of each outcome among sounds, and of right types among the first candidates."""
    found: Counter[str] = Counter()
    for sound in sounds:
        name, is_near = outcome(answer(hear(model_of(sound), sound, judges)), sound)
        found[name] += 1
        found["first three"] += is_near
    return {name: found[name] / len(sounds) for name in (*OUTCOMES, "first three")}


def noisy(sounds: Sequence[Sound], rng: np.random.Generator) -> list[Sound]:
    """The same sounds over synthesised beds at `NOISY_DB`."""
    return [replace(each, samples=material.mixed(each.samples, NOISY_DB, rng)) for each in sounds]


def false_alarms(
    beds: Sequence[Sound], model: Model, judges: Judges | None
) -> tuple[float, Counter[str]]:
    """Events an hour in real background that are of no type which it holds, and their types."""
    wrong: Counter[str] = Counter()
    for bed in beds:
        allowed = {*bed.right, UNCLASSIFIED, *map(noise_types.group_of, bed.right)}
        found = (event.noise_type for event in hear(model, bed, judges))
        wrong.update(name for name in found if name not in allowed)
    hours = sum(bed.samples.size for bed in beds) / RATE_HZ / 3_600
    return wrong.total() / hours, wrong


def soundscapes(
    models: Mapping[str, Model], folder: Path, clips: Sequence[Sound], judges: Judges | None
) -> Heard:
    """Hear the soundscapes of a folder; see `accuracy.hear_soundscapes`."""
    labelled = [
        dataset.LabelledClip(each.name, each.types[0], each.group, each.samples) for each in clips
    ]
    recordings = list(accuracy.read_soundscapes(folder, labelled))

    def opinions(recording: Soundscape) -> Mapping[str, SecondOpinion]:
        assert judges is not None
        samples = material.load(folder / recording.name)
        return {fold: judges.of(fold, samples) for fold in models}

    return accuracy.hear_soundscapes(
        models, recordings, opinions=None if judges is None else opinions
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="everyday", description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the recordings")
    parser.add_argument("--backbone", type=Path, required=True, help="the weights of mn04_as")
    parser.add_argument("--models", type=Path, help="models without each fold of ESC-10")
    parser.add_argument("--report", type=Path, help="write the tables to this file as well")
    options = parser.parse_args(arguments)
    data = options.backbone.read_bytes()
    backbone = Backbone.from_bytes(data)
    learnt, given = tagging.learn_from(options.data, backbone)
    header = tagging.header_of(data)
    groups = sorted(set(learnt.groups))
    heads = {
        group: tagging.fit(backbone, learnt.where({*groups} - {group}), header=header)
        for group in groups
    }
    text = report(options.data, given, Judges(backbone, heads), options.models)
    print(text)
    if options.report is not None:
        options.report.write_text(text, encoding="utf-8")
    return 0


def report(data: Path, given: Sequence[Sound], judges: Judges, kept_in: Path | None) -> str:
    """Measure everything, and write it as Markdown."""
    conditions = {"the model alone": None, "with the base types": judges}
    esc, everyday = ([s for s in given if s.origin == name] for name in ("esc10", "everyday"))
    shipped, beds = classifier.shipped(), material.backgrounds(data)
    lines = [
        "# Accuracy of the product's answers",
        "",
        "Made by `make bench-everyday`. The base types were trained without the group of each",
        "sound: the folds of ESC-10, the authors of everyday recordings.",
        "",
        f"## Everyday noise: {len(everyday)} recordings",
        "",
        _head("", *OUTCOMES, f"right among the first {CANDIDATES} candidates"),
    ]
    for name, judge in conditions.items():
        found = rates(everyday, lambda _: shipped, judge)
        lines.append(_row(name, *(f"{share:.1%}" for share in found.values())))
    lines += ["", f"## False alarms in {len(beds)} recordings of real background", ""]
    lines.append(_head("", "an hour", "of which types"))
    for name, judge in conditions.items():
        hourly, types = false_alarms(beds, shipped, judge)
        shown = ", ".join(f"{each} {n}" for each, n in types.most_common())
        lines.append(_row(name, f"{hourly:.0f}", shown or "none"))
    if kept_in is not None:
        lines += _esc10(data, esc, conditions, kept_in)
    return "\n".join(lines) + "\n"


def _esc10(
    data: Path, clips: Sequence[Sound], conditions: Mapping[str, Judges | None], kept_in: Path
) -> list[str]:
    """Clips of ESC-10 and soundscapes, by models that did not learn from them."""
    models = {
        fold: Model.from_bytes((kept_in / f"without-{fold}.clamor").read_bytes())
        for fold in sorted({clip.group for clip in clips})
    }
    rng = np.random.default_rng(tagging.SEED)
    sets = {"clean": clips, "10 dB": noisy(clips, rng)}
    lines = ["", f"## {len(clips)} clips of ESC-10", "", _head("", "", *OUTCOMES)]
    for name, judge in conditions.items():
        for condition, sounds in sets.items():
            found = rates(sounds, lambda sound: models[sound.group], judge)
            shares = (f"{found[each]:.1%}" for each in OUTCOMES)
            lines.append(_row(name, condition, *shares))
    lines += ["", "## Soundscapes", ""]
    for number, (name, judge) in enumerate(conditions.items()):
        figures = soundscapes(models, data / "soundscapes", clips, judge).figures()
        if not number:
            lines.append(_head("", *figures))
        lines.append(_row(name, *(f"{value:.3f}" for value in figures.values())))
    return lines


def _head(*names: str) -> str:
    return f"{_row(*names)}\n|{'---|' * len(names)}"


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.exit(main())
