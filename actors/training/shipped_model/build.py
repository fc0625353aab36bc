"""Cross-validate the recipe of the shipped model, and make that model.

    python -m actors.training.shipped_model.build --data FOLDER [--keep DIR] [--model FILE]

``FOLDER`` holds ``esc10/`` (``labels.csv`` and ``clips/``). ``DIR`` keeps a model without each
fold, for `accuracy_report`. The same data, seed, processor and library versions give the same
model.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

from actors.science.detection.classifier import Classifier
from actors.science.detection.ensemble import Estimator
from actors.science.detection.features import FEATURE_VERSION
from actors.science.errors import ModelError
from actors.science.types import JsonDict
from actors.training import calibration
from actors.training.dataset import LabelledClip
from actors.training.partners import PARTNERS
from actors.training.shipped_model import data_folder, estimator_report, held_out, recipe
from actors.training.shipped_model.estimator_report import Measured
from actors.training.shipped_model.recipe import EVERYTHING, RecipeData

NAME, VERSION = "clamor-base", "2.1.0"

CITATION = (
    "K. J. Piczak. ESC: Dataset for Environmental Sound Classification. "
    "Proceedings of the 23rd ACM International Conference on Multimedia, 2015. "
    "DOI 10.1145/2733373.2806390. CC BY."
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    options = _parser().parse_args(arguments)
    rows = data_folder.read_labels(options.data / "esc10")
    clips, data_sha256 = data_folder.load_clips(options.data / "esc10", rows)
    print(f"{len(clips)} clips; making scenes of them", flush=True)
    given = recipe.material(clips)
    print(f"{len(given.groups)} scenes, {len(given.classes)} classes", flush=True)
    header = make_header(data_sha256=data_sha256, clips=clips)
    models = _models(given, header=header, kept_in=options.keep)
    folds = {fold: model for fold, model in models.items() if fold != EVERYTHING}
    print("Measuring", flush=True)
    measured = measure(folds, clips)
    print("\n".join(estimator_report.write(measured)))
    if options.model is not None:
        finished = finish(models[EVERYTHING], measured)
        options.model.parent.mkdir(parents=True, exist_ok=True)
        options.model.write_bytes(finished.to_bytes())
        credits_file = options.model.parent / "CREDITS.md"
        credits_file.write_text(credits_text(rows), encoding="utf-8")
        print(f"wrote {options.model}: {len(finished.to_bytes())} bytes, {finished.sha256}")
    return 0


def measure(folds: Mapping[str, Classifier], clips: Sequence[LabelledClip]) -> Measured:
    """Measure models that were each trained without one fold, and fit their temperature."""
    named = {
        voters: {
            condition: held_out.classify_clips(_only(folds, voters), clips, snr_db=snr_db)
            for condition, snr_db in estimator_report.CONDITIONS.items()
        }
        for voters in estimator_report.VOTERS
    }
    vote = list(named[estimator_report.VOTE].values())
    return Measured(
        named=named,
        calibration={
            condition: held_out.calibration_error(each, vote)
            for condition, each in named[estimator_report.VOTE].items()
        },
        temperature=calibration.fit_temperature(vote),
    )


def kept_models(folder: Path, folds: Iterable[str]) -> dict[str, Classifier]:
    """Read the models that were kept without each fold; their temperature is not set yet.

    Raises
    ------
    OSError, ModelError
        If one of them is missing or damaged.
    """
    return {fold: Classifier.from_bytes(_file(folder, fold).read_bytes()) for fold in folds}


def at_temperature(model: Classifier, temperature: float) -> Classifier:
    """Return a model with its vote calibrated."""
    return _with(model, vote_temperature=temperature)


def finish(model: Classifier, measured: Measured) -> Classifier:
    """Return the model that ships: calibrated, with its accuracy in the header."""
    clean, noisy = (
        measured.named[estimator_report.VOTE][name] for name in estimator_report.CONDITIONS
    )
    training = {
        **model.header["training"],
        "clip_accuracy": round(clean.accuracy, 4),
        "clip_accuracy_10_db": round(noisy.accuracy, 4),
    }
    return _with(model, vote_temperature=measured.temperature, training=training)


def make_header(*, data_sha256: str, clips: Sequence[LabelledClip]) -> JsonDict:
    """Make the header of the model file."""
    libraries = ("numpy", "scikit-learn", "scipy", "soxr", "torch", "torchaudio")
    return {
        "name": NAME,
        "version": VERSION,
        "algorithm": f"cnn x {recipe.N_NETWORKS} + {' + '.join(PARTNERS)}",
        "feature_version": FEATURE_VERSION,
        "training": {"data_sha256": data_sha256, "n_clips": len(clips), "seed": recipe.SEED},
        "libraries": {name: version(name) for name in libraries},
        "credits": f"Trained on {len(clips)} clips of ESC-10, credited one by one in CREDITS.md, "
        f"and on synthesised sounds. {CITATION}",
    }


def credits_text(rows: Sequence[dict[str, str]]) -> str:
    """Write ``CREDITS.md``: the data set's citation and a line for each clip."""
    lines = [
        "# Credits of the shipped model",
        "",
        "`base.clamor` was trained on clips of ESC-10, the CC BY part of this data set, and on",
        "synthesised sounds. The backbone, whose weights are fetched, is credited in",
        "[CREDITS-backbone.md](CREDITS-backbone.md).",
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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="build", description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the recordings")
    parser.add_argument("--model", type=Path, help="write the model to this file")
    parser.add_argument(
        "--keep",
        type=Path,
        metavar="DIR",
        help="keep the models here, and do not train again the networks of those that are here",
    )
    return parser


def _models(given: RecipeData, *, header: JsonDict, kept_in: Path | None) -> dict[str, Classifier]:
    """Train a model without each fold, and one on everything."""
    wanted = [*sorted(set(given.groups.tolist())), EVERYTHING]
    networks = {name: found for name in wanted if (found := _kept(kept_in, name))}
    lacking = [name for name in wanted if name not in networks]
    networks |= recipe.networks(given, without=lacking) if lacking else {}
    models: dict[str, Classifier] = {}
    for name in wanted:
        voters: list[Estimator] = [*networks[name], *recipe.fit_partners(given, without=name)]
        models[name] = Classifier.make({**header, "classes": list(given.classes)}, members=voters)
        if kept_in is not None:
            kept_in.mkdir(parents=True, exist_ok=True)
            _file(kept_in, name).write_bytes(models[name].to_bytes())
    return models


def _kept(folder: Path | None, name: str) -> list[Estimator]:
    """Return the networks of a stored model; none if there is no such model."""
    try:
        kept = None if folder is None else Classifier.from_bytes(_file(folder, name).read_bytes())
    except (OSError, ModelError):
        return []
    return [] if kept is None else [each for each in kept.members if each.input_kind == "samples"]


def _file(folder: Path, name: str) -> Path:
    return folder / (f"without-{name}.clamor" if name else "everything.clamor")


def _only(folds: Mapping[str, Classifier], voters: str) -> dict[str, Classifier]:
    """Return the models with only some of their estimators."""
    return {
        fold: Classifier.make(model.header, members=kept)
        for fold, model in folds.items()
        if (kept := estimator_report.VOTERS[voters](model.members))
    }


def _with(model: Classifier, **changes: object) -> Classifier:
    return Classifier.make({**model.header, **changes}, members=model.members)


if __name__ == "__main__":
    sys.exit(main())
