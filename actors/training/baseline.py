"""Train the model that ships with the package.

    python -m actors.training.baseline --data PATH/TO/esc10 [--out FILE] [--cross-validate]

The same data, seed and library versions give the same file. Cross-validation is grouped by the
data's folds: clips of one source recording are never on both sides.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from actors.science import synth
from actors.science.classifier import Model
from actors.science.features import FEATURE_VERSION
from actors.science.types import BACKGROUND
from actors.training import algorithms, dataset
from actors.training.dataset import Examples, LabelledClip

NAME, VERSION = "clamor-base", "1.1.0"
SEED = 20_240

#: One of `algorithms.ALGORITHMS`.
ALGORITHM = "mlp"

CITATION = (
    "K. J. Piczak. ESC: Dataset for Environmental Sound Classification. "
    "Proceedings of the 23rd ACM International Conference on Multimedia, 2015. "
    "DOI 10.1145/2733373.2806390. CC BY."
)

Scores = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Measured:
    """One set of examples with the scores that a model gave which had not seen their fold."""

    examples: Examples
    scores: Scores


def train(examples: Examples, *, header: dict[str, Any], temperature: float = 1.0) -> Model:
    """Train the members and pack them into a model.

    Parameters
    ----------
    examples
        What to learn from.
    header
        Goes into the model, with the classes added.
    temperature
        Divides the logits; above 1 makes the model less sure of itself.
    """
    voters = algorithms.fit(
        ALGORITHM, examples.features, examples.labels, groups=examples.groups, seed=SEED
    )
    classes = np.unique(examples.labels).tolist()
    return Model.make(
        {**header, "classes": classes}, members=algorithms.warmer(voters, temperature)
    )


def cross_validate(clips: Sequence[LabelledClip], examples: Examples) -> dict[str, Measured]:
    """Scores of each fold by a model that was trained on the others.

    Returns
    -------
    dict
        ``clean`` and ``10 dB``: 1-s chunks of the clips; ``training``: the examples themselves,
        synthesised types and beds among them.
    """
    header = make_header(data_sha256="", clips=clips)
    sets = {
        "clean": dataset.clean_examples(clips, snr_db=None, seed=SEED),
        "10 dB": dataset.clean_examples(clips, snr_db=10.0, seed=SEED + 1),
        "training": examples,
    }
    n_classes = len(np.unique(examples.labels))
    scores = {
        name: np.zeros((len(each.labels), n_classes), np.float32) for name, each in sets.items()
    }
    for group in np.unique(examples.groups):
        model = train(examples.where(examples.groups != group), header=header)
        for name, each in sets.items():
            is_held_out = each.groups == group
            scores[name][is_held_out] = model.scores(each.features[is_held_out])
    return {name: Measured(sets[name], scores[name]) for name in sets}


def fit_temperature(measured: Measured, *, classes: Sequence[str]) -> float:
    """The temperature that makes held-out probabilities most likely, among a few steps."""
    truth = np.searchsorted(np.array(classes), measured.examples.labels)
    logits = np.log(np.maximum(measured.scores, 1e-7))

    def loss(temperature: float) -> float:
        scaled = logits / temperature
        scaled -= scaled.max(axis=1, keepdims=True)
        chosen = scaled[np.arange(len(truth)), truth] - np.log(np.exp(scaled).sum(axis=1))
        return -float(chosen.mean())

    return min((float(step) for step in np.round(np.arange(0.6, 2.01, 0.05), 2)), key=loss)


def report(measured: dict[str, Measured], *, classes: Sequence[str]) -> str:
    """Tables of what cross-validation found."""
    lines: list[str] = []
    for name in ("clean", "10 dB"):
        by_chunk, by_clip = accuracy(measured[name], classes=classes)
        lines.append(f"ESC-10 classes, {name}: chunk {by_chunk:.3f}, clip {by_clip:.3f}")
    truth, found = _decided(measured["training"], classes=classes)
    is_bed = np.char.startswith(measured["training"].examples.clips, "bed-")
    lines.append(f"events on beds alone: {(found[is_bed] != BACKGROUND).mean():.4f} of chunks")
    is_synthesised = np.isin(truth, list(synth.SOUNDS))
    correct = (found == truth)[is_synthesised].mean()
    lines.append(f"synthesised types, all noise levels: chunk {correct:.3f}")
    clean_truth, clean_found = _decided(measured["clean"], classes=classes)
    lines.append(f"{'class':16s} {'recall, clean':>14s} {'recall, noisy':>14s} {'precision':>10s}")
    for name in classes:
        clean = _share(clean_found[clean_truth == name] == name)
        noisy = _share(found[truth == name] == name)
        precise = _share(truth[found == name] == name)
        lines.append(f"{name:16s} {clean:>14s} {noisy:>14s} {precise:>10s}")
    return "\n".join(lines)


def accuracy(measured: Measured, *, classes: Sequence[str]) -> tuple[float, float]:
    """Accuracy by chunk, over all classes, and by clip, by the mean of its chunks' scores.

    Chunks that are background do not count, and a clip is never called background.
    """
    examples = measured.examples
    is_sound = examples.labels != BACKGROUND
    names = np.array(classes)
    by_chunk = names[measured.scores.argmax(axis=1)] == examples.labels
    without = np.where(names == BACKGROUND, 0.0, measured.scores)
    hits = []
    for clip in np.unique(examples.clips[is_sound]):
        member = (examples.clips == clip) & is_sound
        best = names[without[member].mean(axis=0).argmax()]
        hits.append(best == examples.labels[member][0])
    return float(by_chunk[is_sound].mean()), float(np.mean(hits))


def make_header(*, data_sha256: str, clips: Sequence[LabelledClip]) -> dict[str, Any]:
    """What the model file says of itself."""
    libraries = ("numpy", "scikit-learn", "scipy", "soxr", "torch", "torchaudio")
    return {
        "name": NAME,
        "version": VERSION,
        "algorithm": ALGORITHM,
        "feature_version": FEATURE_VERSION,
        "training": {"data_sha256": data_sha256, "n_clips": len(clips), "seed": SEED},
        "libraries": {name: version(name) for name in libraries},
        "credits": f"Trained on {len(clips)} clips of ESC-10, credited one by one in CREDITS.md, "
        f"and on synthesised sounds. {CITATION}",
    }


def credits_text(rows: Sequence[dict[str, str]]) -> str:
    """``CREDITS.md``: the data set's citation and a line for each clip."""
    lines = [
        "# Credits of the shipped model",
        "",
        "`base.clamor` was trained on clips of ESC-10, the CC BY part of this data set, and on",
        "synthesised sounds:",
        "",
        f"> {CITATION}",
        "",
        "The clips were resampled, cut, mixed with noise and changed in level, speed and spectral",
        "tilt. Each with its title, author, licence and source:",
        "",
    ]
    for row in sorted(rows, key=lambda row: row["file"]):
        title = " ".join(row["title"].split()) or row["file"]
        lines.append(
            f'- {row["file"]} ({row["label"]}): "{title}" by {row["author"]}, '
            f"{row['licence']}, <{row['source_url']}>"
        )
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="baseline", description="Train the shipped model.")
    parser.add_argument("--data", type=Path, required=True, help="folder of labels.csv and clips/")
    parser.add_argument("--out", type=Path, default=Path("actors/science/model/base.clamor"))
    parser.add_argument("--cross-validate", action="store_true", help="print tables as well")
    options = parser.parse_args(arguments)
    rows = dataset.read_labels(options.data)
    clips, data_sha256 = dataset.load_clips(options.data, rows)
    examples = dataset.training_examples(clips, seed=SEED)
    classes = sorted(set(examples.labels.tolist()))
    print(f"{len(clips)} clips, {len(examples.labels)} examples, {len(classes)} classes")
    # The temperature needs held-out scores, so the folds are gone through in any case.
    measured = cross_validate(clips, examples)
    temperature = fit_temperature(measured["training"], classes=classes)
    if options.cross_validate:
        print(report(measured, classes=classes))
    header = make_header(data_sha256=data_sha256, clips=clips)
    model = train(examples, header=header, temperature=temperature)
    data = model.to_bytes()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_bytes(data)
    (options.out.parent / "CREDITS.md").write_text(credits_text(rows), encoding="utf-8")
    print(f"wrote {options.out}: {len(data)} bytes, temperature {temperature}, {model.sha256}")
    return 0


def _decided(
    measured: Measured, *, classes: Sequence[str]
) -> tuple[NDArray[np.str_], NDArray[np.str_]]:
    return measured.examples.labels, np.array(classes)[measured.scores.argmax(axis=1)]


def _share(hits: NDArray[np.bool_]) -> str:
    return f"{hits.mean():.3f}" if hits.size else "-"


if __name__ == "__main__":
    sys.exit(main())
