"""Measure types that are trained from a few examples, in cross-validation.

    python -m actors.training.shipped_model.few_shot --data FOLDER --backbone FILE [--report FILE]

``FOLDER`` is that of `data_folder`. The ten classes of ESC-10 are removed from the base types, with
all recordings of them, and trained again under other names from examples of three folds. They are
tested on clips of the fourth fold and on everyday recordings of its group. The section is written
to the end of the report.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from actors.science.detection.tagging import tagger
from actors.science.detection.tagging.backbone import Array, BackboneNetwork
from actors.science.detection.tagging.tagger import Head, Tagger
from actors.training import head_fitting, linear_head
from actors.training.dataset import LabelledClip
from actors.training.head_fitting import ClipEmbeddings
from actors.training.negatives import Negatives
from actors.training.shipped_model import answers, base_type_examples, base_types
from actors.training.shipped_model.base_type_examples import EmbeddedSounds
from actors.training.sounds import Sound

#: Examples of each type; number of random draws.
COUNTS, DRAWS = (1, 3, 5, 10, 20), 3

#: Prefix of the new types' names, which must differ from the names of AudioSet classes.
_NEW = "new "

_TITLE = "## Types from a handful of examples"

COLUMNS = (
    "examples of each type",
    "right of the ten",
    f"at {answers.NOISY_DB:g} dB",
    "right of all types",
    f"at {answers.NOISY_DB:g} dB",
    "everyday, base types",
    "with one new type",
    "with ten new types",
)


@dataclass(frozen=True, eq=False)
class HeldOutSounds:
    """Test sounds of one group: embeddings [shape=(n, n_embedding)] and their correct types.

    ``allowed`` has the correct types of each sound.
    """

    embeddings: Array
    allowed: Sequence[frozenset[str]]

    def right(self, by: Tagger, among: frozenset[str] | None = None) -> list[bool]:
        """Return whether the most probable type is correct, among all types or some."""
        logits = by.head.logits(self.embeddings, by.backbone.tags(self.embeddings))
        if among is not None:
            logits[:, [name not in among for name in by.types]] = -np.inf
        best = logits.argmax(axis=1)
        return [
            by.types[column] in right
            for column, right in zip(best.tolist(), self.allowed, strict=True)
        ]


@dataclass(frozen=True, eq=False)
class FewShotFold:
    """Base types and negatives made without one fold's sounds, and those sounds for testing."""

    beside: Tagger
    against: Negatives
    learns: NDArray[np.intp]
    clean: HeldOutSounds
    noisy: HeldOutSounds
    everyday: HeldOutSounds


def measure(
    folds: Sequence[FewShotFold], given: ClipEmbeddings, names: Sequence[str]
) -> Iterator[list[float]]:
    """Compute the shares of `COLUMNS` for each of `COUNTS`, over all folds and draws."""
    every = frozenset(names)
    for count in COUNTS:
        found: list[list[bool]] = [[] for _ in COLUMNS[1:]]
        for draw in range(DRAWS):
            rng = np.random.default_rng([draw, count])
            for fold in folds:
                drawn = _drawn(fold, given, names, count, rng)
                head = head_fitting.fit(fold.beside, drawn, fold.against, set(names))
                trained = Tagger(fold.beside.backbone, head)
                found[0] += fold.clean.right(trained, every)
                found[1] += fold.noisy.right(trained, every)
                found[2] += fold.clean.right(trained)
                found[3] += fold.noisy.right(trained)
                found[4] += fold.everyday.right(fold.beside)
                for name in names if not draw else ():
                    alone = drawn.where(drawn.labels == name)
                    head = head_fitting.fit(fold.beside, alone, fold.against, {name})
                    found[5] += fold.everyday.right(Tagger(fold.beside.backbone, head))
                found[6] += fold.everyday.right(trained)
        yield [float(np.mean(each)) for each in found]


def _drawn(
    fold: FewShotFold,
    given: ClipEmbeddings,
    names: Sequence[str],
    count: int,
    rng: np.random.Generator,
) -> ClipEmbeddings:
    """Draw some clips of each type from the fold's training data, with their copies."""
    chosen: list[int] = []
    for name in names:
        own = np.intersect1d(np.unique(given.clips[given.labels == name]), fold.learns)
        chosen += rng.choice(own, min(count, own.size), replace=False).tolist()
    return given.where(np.isin(given.clips, chosen))


def prepare(data: bytes, folder: Path) -> tuple[list[FewShotFold], ClipEmbeddings, list[str]]:
    """Embed all sounds, and train base types without the ten classes and each fold."""
    backbone = BackboneNetwork.from_bytes(data)
    examples, sounds = base_type_examples.learn_from(folder, backbone)
    clips = [each for each in sounds if each.origin == "esc10"]
    ten = sorted({name for clip in clips for name in clip.types})
    labelled = [
        LabelledClip(clip.name, _NEW + clip.types[0], clip.group, clip.samples) for clip in clips
    ]
    material = linear_head.embed(
        labelled, backbone, seed=base_type_examples.SEED, tell=lambda _: None
    )
    others = [each for each in sounds if each.origin == "everyday" and not {*each.types} & {*ten}]
    noisy = answers.noisy(clips, np.random.default_rng(base_type_examples.SEED))
    folds = []
    for group in sorted({clip.group for clip in clips}):
        known = _without(examples, group, ten)
        head = without_types(
            base_types.fit(backbone, known, header=base_types.header_of(data)), ten
        )
        folds.append(
            FewShotFold(
                Tagger(backbone, head),
                base_type_examples.choose_negatives(known, head.types, backbone_sha256=""),
                np.array([row for row, clip in enumerate(clips) if clip.group != group]),
                *(_judged(backbone, each, group) for each in (clips, noisy, others)),
            )
        )
    return folds, material, [_NEW + name for name in ten]


def _judged(backbone: BackboneNetwork, sounds: Sequence[Sound], group: str) -> HeldOutSounds:
    own = [each for each in sounds if each.group == group]
    types = [(*each.types, *each.also) for each in own]
    return HeldOutSounds(
        np.stack([backbone.embed(each.samples[: tagger.PIECE]) for each in own]),
        [frozenset({*each, *(_NEW + name for name in each)}) for each in types],
    )


def _without(given: EmbeddedSounds, group: str, types: Sequence[str]) -> EmbeddedSounds:
    """Select the examples that are neither of a group nor of some types."""
    rest = given.where({*given.groups} - {group})
    return rest.rows(row for row, own in enumerate(rest.types) if not {*own} & {*types})


def without_types(head: Head, without: Sequence[str]) -> Head:
    """Return a head without some of its types."""
    kept = [column for column, name in enumerate(head.types) if name not in without]
    by_type = ("prior", "scale", "bias", "weights")
    arrays = {
        name: values[kept] if name in by_type else values for name, values in head.arrays.items()
    }
    return Head(tuple(head.types[column] for column in kept), head.header, arrays)


def section(rows: Sequence[Sequence[float]]) -> str:
    """Write the figures as a section of Markdown."""
    lines = [
        _TITLE,
        "",
        "The ten classes of ESC-10, with all their recordings, were taken out of the base types",
        "and trained back by `linear_head` from examples of three folds. Clips of the fourth fold",
        "judge them by the likeliest type of the whole clip, of the ten or of all types. The head",
        "alone judges, not the model beside it. The last columns have the share of everyday",
        "recordings of other types whose likeliest type is right: by the base types, with one of",
        f"the ten, and with all ten. Each number of examples was drawn {DRAWS} times.",
        "",
        f"| {' | '.join(COLUMNS)} |",
        f"|{'---|' * len(COLUMNS)}",
    ]
    for count, shares in zip(COUNTS, rows, strict=True):
        lines.append(f"| {count} | {' | '.join(f'{share:.1%}' for share in shares)} |")
    return "\n".join(lines) + "\n"


def placed(report: str, text: str) -> str:
    """Return a report with the section at its end, replacing an existing one."""
    return f"{report.partition(_TITLE)[0].rstrip()}\n\n{text}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="few_shot", description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the recordings")
    parser.add_argument("--backbone", type=Path, required=True, help="the weights of mn04_as")
    parser.add_argument("--report", type=Path, help="write the section to this file as well")
    options = parser.parse_args(arguments)
    text = section(list(measure(*prepare(options.backbone.read_bytes(), options.data))))
    print(text)
    if options.report is not None:
        before = options.report.read_text(encoding="utf-8")
        options.report.write_text(placed(before, text), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
