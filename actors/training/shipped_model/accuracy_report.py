r"""Measure the product's accuracy, with and without the backbone, for docs/accuracy.md.

    python -m actors.training.shipped_model.accuracy_report --data FOLDER \
        --backbone FILE [--models DIR] [--report FILE]

``FOLDER`` holds ``esc10/``, ``everyday/``, ``backgrounds/`` and ``soundscapes/``. Sounds are judged
by base types that were trained without their group. ``DIR`` holds the models that ``build
--keep`` made without each fold of ESC-10; without it, ESC-10 clips and soundscapes are skipped,
since the shipped model was trained on those clips. Everyday noise is not in the training data of
any model.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from actors.science.detection import classifier
from actors.science.detection.classifier import Classifier
from actors.science.detection.tagging.backbone import BackboneNetwork
from actors.training.dataset import LabelledClip
from actors.training.shipped_model import (
    answers,
    base_type_examples,
    base_types,
    build,
    codecs,
    data_folder,
    estimator_report,
    gate,
    held_out,
    markdown,
)
from actors.training.shipped_model.answers import OUTCOMES, JudgedAnswer, Judges
from actors.training.sounds import Sound

#: The measured conditions: the model alone, and with base types over the backbone beside it. The
#: gates of the model, each trained without one group.
Conditions = Mapping[str, Judges | None]
Gates = Mapping[str, Classifier]
WITHOUT, WITH = "without the backbone", "with the backbone"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="accuracy_report", description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the recordings")
    parser.add_argument("--backbone", type=Path, required=True, help="the weights of mn04_as")
    parser.add_argument("--models", type=Path, help="models without each fold of ESC-10")
    parser.add_argument("--report", type=Path, help="write the tables to this file as well")
    options = parser.parse_args(arguments)
    given, judges = _judges(options.data, options.backbone.read_bytes())
    gates = gate.held_out(given, data_folder.backgrounds(options.data))
    text = write(options.data, given, {WITHOUT: None, WITH: judges}, gates, options.models)
    print(text)
    if options.report is not None:
        options.report.write_text(text, encoding="utf-8")
    return 0


def write(
    data: Path, given: Sequence[Sound], by: Conditions, gates: Gates, kept_in: Path | None
) -> str:
    """Measure everything, and write a report in Markdown."""
    esc10, everyday_noise = (
        [sound for sound in given if sound.origin == name] for name in ("esc10", "everyday")
    )
    lines = [
        "# Accuracy of the product's answers",
        "",
        "Made by `make bench-accuracy`. The base types and the gate were trained without the group"
        " of each sound: the folds of ESC-10, the authors of everyday recordings. An answer is the"
        " type that sounds longest among the events that are reported; `no type` is silence, or"
        " `unclassified`. The calibration error is the expected one of the confidences of reported"
        f" events. MP3, Vorbis and Opus are of libsndfile's compression level"
        f" {answers.CODEC_LEVEL}; `codecs.py` has AAC and 8 bits.",
        "",
        *_everyday(everyday_noise, by, gates),
        *_false_alarms(data, by, gates),
        *_steady_noise(by, gates),
    ]
    if kept_in is None:
        lines += [
            "Clips of ESC-10 and soundscapes were not measured: that takes models without each fold"
            " (`MODELS`)."
        ]
    else:
        lines += _held_out(data, esc10, by, gates, kept_in)
    return "\n".join(lines).rstrip("\n") + "\n"


def _judges(folder: Path, weights: bytes) -> tuple[list[Sound], Judges]:
    """Read the recordings, and train base types without each group of them."""
    backbone = BackboneNetwork.from_bytes(weights)
    learnt, given = base_type_examples.learn_from(folder, backbone)
    header, groups = base_types.header_of(weights), {*learnt.groups}
    heads = {
        group: base_types.fit(backbone, learnt.where(groups - {group}), header=header)
        for group in sorted(groups)
    }
    return given, Judges(backbone, heads)


def _everyday(sounds: Sequence[Sound], by: Conditions, gates: Gates) -> list[str]:
    found = _by_condition(_through_codecs(sounds), _shipped(gates), by)
    return [
        f"## Everyday noise: {len(sounds)} recordings",
        *_outcomes(found),
        "By type, as they were recorded; numbers of recordings:",
        *_by_type({name: of["clean"] for name, of in found.items()}),
    ]


def _shipped(gates: Gates) -> Callable[[Sound], Classifier]:
    """Return the shipped model for each sound, with a gate that was trained without its group."""
    model = classifier.shipped()
    return lambda sound: replace(model, gate=gates[sound.group])


def _held_out(
    data: Path, clips: Sequence[Sound], by: Conditions, gates: Gates, kept_in: Path
) -> list[str]:
    """Measure ESC-10 clips and soundscapes by models that were trained without them."""
    rows = data_folder.read_labels(data / "esc10")
    labelled, _ = data_folder.load_clips(data / "esc10", rows)
    kept = build.kept_models(kept_in, sorted({clip.group for clip in labelled}))
    members = build.measure(kept, labelled)
    models = {
        fold: replace(build.at_temperature(model, members.temperature), gate=gates[fold])
        for fold, model in kept.items()
    }
    rng = np.random.default_rng(base_type_examples.SEED)
    sets = _through_codecs(clips)
    sets = {"clean": sets.pop("clean"), "10 dB": answers.noisy(clips, rng), **sets}
    found = _by_condition(sets, lambda sound: models[sound.group], by)
    return [
        f"## {len(clips)} clips of ESC-10",
        *_outcomes(found),
        *_soundscapes(data / "soundscapes", labelled, models, by),
        *estimator_report.write(members),
    ]


def _soundscapes(
    folder: Path,
    clips: Sequence[LabelledClip],
    models: Mapping[str, Classifier],
    by: Conditions,
) -> list[str]:
    recordings = list(held_out.read_soundscapes(folder, clips))
    figures = {
        name: held_out.by_snr(answers.soundscapes(models, recordings, folder, judges), recordings)
        for name, judges in by.items()
    }
    n_events = sum(len(each.reference) for each in recordings)
    return [
        "## Soundscapes",
        "",
        f"{len(recordings)} soundscapes of 60 s with {n_events} events, by signal-to-noise ratio."
        " Segments last 1 s; onsets count within 0.5 s, offsets within 0.5 s or half of the event.",
        *markdown.table(
            ["", "", *next(iter(figures[WITHOUT].values()))],
            (
                [name, snr, *(f"{value:.3f}" for value in of_snr.values())]
                for name, of in figures.items()
                for snr, of_snr in of.items()
            ),
        ),
    ]


def _false_alarms(data: Path, by: Conditions, gates: Gates) -> list[str]:
    beds = data_folder.backgrounds(data)
    rows = []
    for name, judges in by.items():
        hourly, types = answers.false_alarms(beds, _shipped(gates), judges)
        shown = ", ".join(f"{each} {n}" for each, n in types.most_common())
        rows.append([name, f"{hourly:.0f}", shown or "none"])
    return [
        f"## False alarms in {len(beds)} recordings of real background",
        *markdown.table(["", "an hour", "of which types"], rows),
    ]


def _steady_noise(by: Conditions, gates: Gates) -> list[str]:
    rng = np.random.default_rng(base_type_examples.SEED)
    sets = _through_codecs(answers.steady_noise(min(gates), rng))
    rows = []
    for name, judges in by.items():
        for codec, beds in sets.items():
            hourly, types = answers.false_alarms(beds, _shipped(gates), judges)
            shown = ", ".join(f"{each} {n}" for each, n in types.most_common())
            rows.append([name, codec, f"{hourly:.0f}", shown or "none"])
    minutes = answers.STEADY_S * len(answers.STEADY) * len(answers.STEADY_DB) / 60
    return [
        "## False alarms in steady noise, by codec",
        "",
        f"White, pink and brown noise at {', '.join(f'{db:.0f}' for db in answers.STEADY_DB)} dB re"
        f" full scale: {minutes:.0f} minutes for each codec.",
        *markdown.table(["", "", "an hour", "of which types"], rows),
    ]


def _through_codecs(sounds: Sequence[Sound]) -> dict[str, Sequence[Sound]]:
    return {"clean": sounds} | {codec: answers.coded(sounds, codec) for codec in codecs.MEASURED}


def _by_condition(
    sets: Mapping[str, Sequence[Sound]], model_of: Callable[[Sound], Classifier], by: Conditions
) -> dict[str, dict[str, list[JudgedAnswer]]]:
    """Judge each set of sounds, with and without the backbone."""
    return {
        name: {what: answers.judged(sounds, model_of, judges) for what, sounds in sets.items()}
        for name, judges in by.items()
    }


def _outcomes(found: Mapping[str, Mapping[str, Sequence[JudgedAnswer]]]) -> list[str]:
    rows = []
    for name, of in found.items():
        for what, judged in of.items():
            shares = answers.shares(judged)
            error = answers.calibration_error(judged)
            rows.append([name, what, *(f"{each:.1%}" for each in shares.values()), f"{error:.3f}"])
    return markdown.table(["", "", *shares, "calibration error"], rows)


def _by_type(found: Mapping[str, Sequence[JudgedAnswer]]) -> list[str]:
    """Write a row per type with the counts of each outcome, with and without the backbone."""
    heads = [f"{name}, {each}" for name in found for each in OUTCOMES]
    rows = []
    for noise_type in sorted({each.noise_type for each in found[WITHOUT]}):
        counts = [
            Counter(each.outcome for each in judged if each.noise_type == noise_type)
            for judged in found.values()
        ]
        cells = (str(count[each] or "") for count in counts for each in OUTCOMES)
        rows.append([noise_type, str(counts[0].total()), *cells])
    return markdown.table(["type", "recordings", *heads], rows)


if __name__ == "__main__":
    sys.exit(main())
