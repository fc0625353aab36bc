"""The recipe of the shipped model: its training data, and its estimators.

A convolutional network scores frames. Segments are classified by its vote with discriminant
analysis and support vectors over features, and discriminant analysis over textures (`partners`).
"""

from __future__ import annotations

import multiprocessing
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from actors.execution.parent import end_with_parent
from actors.science import synth
from actors.science.detection import segment_views
from actors.science.detection.chunks import RATE_HZ
from actors.science.detection.cnn import Convolutional
from actors.science.detection.ensemble import Estimator
from actors.science.types import BACKGROUND
from actors.training import mixtures, network, partners
from actors.training.dataset import LabelledClip
from actors.training.mixtures import Scene
from actors.training.network import Course, Spectra

SEED = 20_241

#: Mixtures of each clip, of each synthesised type, and beds without a sound.
COPIES, SYNTHESISED, BEDS = 10, 250, 500

#: Real mixtures of an epoch, per clip.
SCENES_PER_CLIP = 4

#: Networks for framewise scoring. In the vote, their total weight is that of one partner.
N_NETWORKS = 1

#: Marks a model that is trained on all groups.
EVERYTHING = ""


@dataclass(frozen=True, eq=False)
class RecipeData:
    """All training data.

    ``spectra`` holds the mixtures, in the order of ``groups``. ``views`` are the inputs of segment
    classification for the sounds in them: for each of `segment_views.VIEWS` an array with a row per
    chunk, with ``labels`` and ``view_groups``.
    """

    classes: tuple[str, ...]
    spectra: Spectra
    groups: NDArray[np.str_]
    views: Mapping[str, NDArray[np.float32]]
    labels: NDArray[np.str_]
    view_groups: NDArray[np.str_]
    n_clips: int


def material(clips: Sequence[LabelledClip]) -> RecipeData:
    """Make the mixtures and their inputs; the same clips give the same material."""
    made = list(_scenes(clips))
    classes = tuple(sorted({scene.label for scene in made}))
    rng = np.random.default_rng(SEED + 1)
    seen = [(scene, views) for scene in made for views in mixtures.views_of(scene, rng)]
    return RecipeData(
        classes,
        network.spectra(made, classes=classes, real={clip.name for clip in clips}),
        np.array([scene.group for scene in made]),
        {view: np.stack([views[view] for _, views in seen]) for view in segment_views.VIEWS},
        np.array([scene.label for scene, _ in seen]),
        np.array([scene.group for scene, _ in seen]),
        len(clips),
    )


def fit_partners(given: RecipeData, *, without: str) -> list[Estimator]:
    """Train the partners of the networks without the sounds of a group."""
    kept = given.view_groups != without
    views = {view: rows[kept] for view, rows in given.views.items()}
    return partners.fit(
        partners.PARTNERS.values(),
        views,
        given.labels[kept],
        groups=given.view_groups[kept],
        seed=SEED,
    )


def networks(given: RecipeData, *, without: Sequence[str]) -> dict[str, list[Estimator]]:
    """Train the networks once without each of some groups, in parallel.

    There are as many processes as processors. Every training uses one thread, so the number of
    parallel trainings does not change the result.
    """
    tasks = [(group, number) for group in without for number in range(N_NETWORKS)]
    with tempfile.TemporaryDirectory(prefix="clamor-scenes-") as folder:
        _store(given, Path(folder))
        with ProcessPoolExecutor(
            os.cpu_count(),
            mp_context=multiprocessing.get_context("spawn"),
            initializer=end_with_parent,
        ) as pool:
            jobs = [pool.submit(_train, folder, *task) for task in tasks]
            trained = [job.result() for job in jobs]
    found: dict[str, list[Estimator]] = {group: [] for group in without}
    for (group, _), member in zip(tasks, trained, strict=True):
        found[group].append(replace(member, weight=1.0 / N_NETWORKS))
    return found


def _scenes(clips: Sequence[LabelledClip]) -> list[Scene]:
    rng = np.random.default_rng(SEED)
    groups = sorted({clip.group for clip in clips})
    made = [scene for clip in clips for scene in copies(clip, rng)]
    for name, sound in synth.SOUNDS.items():
        for number in range(SYNTHESISED):
            samples = (0.1 * sound(rng, mixtures.N_SAMPLES, RATE_HZ)).astype(np.float32)
            clip = LabelledClip(f"{name}-{number}", name, groups[number % len(groups)], samples)
            made.append(mixtures.of_clip(clip, rng, is_plain=number % 6 == 0))
    for number in range(BEDS):
        group = groups[number % len(groups)]
        made.append(mixtures.of_bed(f"bed-{number}", group, rng, label=BACKGROUND))
    return made


def copies(clip: LabelledClip, rng: np.random.Generator) -> Iterator[Scene]:
    """Return the clip itself, and copies of varying speed, spectrum, place, noise and level."""
    if not clip.samples.any():
        return
    for number in range(COPIES):
        yield mixtures.of_clip(clip, rng, is_plain=number == 0)


def _store(given: RecipeData, folder: Path) -> None:
    np.save(folder / "log_mel.npy", given.spectra.log_mel.numpy())
    np.save(folder / "targets.npy", given.spectra.targets.numpy())
    np.save(folder / "is_real.npy", given.spectra.is_real.numpy())
    np.save(folder / "groups.npy", given.groups)
    np.save(folder / "classes.npy", np.array(given.classes))
    np.save(folder / "n_clips.npy", np.array(given.n_clips))


def _train(folder: str, without: str, number: int) -> Convolutional:
    """Train one network, in a separate process."""
    stored = {path.stem: np.load(path) for path in Path(folder).glob("*.npy")}
    examples = Spectra(
        *(torch.from_numpy(stored[name]) for name in ("log_mel", "targets", "is_real"))
    )
    kept = stored["groups"] != without
    called = f"network {number + 1} of {N_NETWORKS}, " + (
        f"without fold {without}" if without else "on everything"
    )

    # Some of the clips are held out with their mixtures.
    n_clips = round(int(stored["n_clips"]) * float(kept.mean()))
    course = Course(n_real=n_clips * SCENES_PER_CLIP)

    def tell(epoch: int, loss: float) -> None:
        if (epoch + 1) % 5 == 0:
            print(f"  {called}: epoch {epoch + 1} of {course.epochs}, loss {loss:.3f}", flush=True)

    return network.train(
        examples.where(kept),
        classes=stored["classes"].tolist(),
        course=course,
        seed=SEED + number,
        on_epoch=tell,
    )
