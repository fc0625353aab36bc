"""Evaluation of the product's answers, with base types beside its model and without them.

A sound is judged by base types that were trained without its group. `accuracy_report` writes the
tables.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import soxr

from actors.facts import noise_types
from actors.science import synth
from actors.science.detection import inference, silence
from actors.science.detection.chunks import RATE_HZ as MODEL_RATE_HZ
from actors.science.detection.classifier import Classifier
from actors.science.detection.second_opinion import SecondOpinion
from actors.science.detection.tagging.backbone import RATE_HZ, Array, BackboneNetwork
from actors.science.detection.tagging.tagger import Head, Tagger
from actors.science.evaluation import clip_metrics
from actors.science.types import UNCLASSIFIED, Event
from actors.training import sounds
from actors.training.shipped_model import codecs, data_folder, held_out
from actors.training.shipped_model.held_out import Soundscape, SoundscapeEvents
from actors.training.sounds import Sound

#: The possible outcomes, in the order of the table.
OUTCOMES = ("right type", "right group", "wrong group", "no type")

#: How many of an event's candidates are considered.
CANDIDATES = 3

#: Compression level of lossy codecs: a medium quality of libsndfile.
CODEC_LEVEL = 0.5

NOISY_DB = 10.0

#: Steady noise: the exponents of its power spectrum, its levels in dB re full scale, and the length
#: of each.
STEADY = {"white": 0.0, "pink": 1.0, "brown": 2.0}
STEADY_DB = (-60.0, -40.0, -20.0)
STEADY_S = 240


@dataclass(frozen=True, eq=False)
class Judges:
    """Base types that were trained without each group; None measures the model alone."""

    backbone: BackboneNetwork
    heads: Mapping[str, Head]

    def of(self, group: str, samples: Array) -> SecondOpinion:
        """Return the base types for a sound of a group."""
        tagger = Tagger(self.backbone, self.heads[group])
        return SecondOpinion(tagger, inference.in_memory(samples), samples.size)


def detect(model: Classifier, sound: Sound, judges: Judges | None) -> list[Event]:
    """Detect the events of a sound, as the pipeline does."""
    narrow = soxr.resample(sound.samples, RATE_HZ, MODEL_RATE_HZ)
    opinion = None if judges is None else judges.of(sound.group, sound.samples)
    return inference.detect(model, narrow, opinion=opinion, quiet_db=sound.quiet_db)


def answer(heard: Iterable[Event]) -> Event | None:
    """Return the surest event of the longest type; `UNCLASSIFIED` only without any other."""
    found = list(heard)
    named = [event for event in found if event.noise_type != UNCLASSIFIED] or found
    if not named:
        return None
    seconds: Counter[str] = Counter()
    for event in named:
        seconds[event.noise_type] += event.end_s - event.start_s  # type: ignore[assignment]
    surest = {event.noise_type: event for event in sorted(named, key=lambda each: each.confidence)}
    return surest[max(seconds, key=lambda name: (seconds[name], surest[name].confidence))]


def outcome(event: Event | None, sound: Sound) -> tuple[str, bool]:
    """Return the outcome of an answer, and whether one of its first candidates is correct."""
    if event is None:
        return "no type", False
    right = sound.right
    groups = {noise_types.group_of(name) for name in right}
    is_near = any(each.noise_type in right for each in event.candidates[:CANDIDATES])
    if event.noise_type == UNCLASSIFIED:
        return "no type", is_near
    if event.noise_type in right:
        return "right type", is_near
    return ("right group" if noise_types.group_of(event.noise_type) in groups else "wrong group"), (
        is_near
    )


@dataclass(frozen=True)
class JudgedAnswer:
    """The answer for a sound.

    Attributes
    ----------
    noise_type
        The type of the sound.
    outcome
        One of `OUTCOMES`.
    is_near
        Whether one of the first candidates is correct.
    reported
        For each event with a type: its confidence, and whether its type or group is correct.
    """

    noise_type: str
    outcome: str
    is_near: bool
    reported: tuple[tuple[float, bool], ...]


def judged(
    sounds: Iterable[Sound], model_of: Callable[[Sound], Classifier], judges: Judges | None
) -> list[JudgedAnswer]:
    """Classify sounds, each by its model, and judge the answers."""
    found = []
    for sound in sounds:
        heard = detect(model_of(sound), sound, judges)
        name, is_near = outcome(answer(heard), sound)
        reported = tuple(
            (event.confidence, is_true(event, sound))
            for event in heard
            if event.noise_type != UNCLASSIFIED
        )
        found.append(JudgedAnswer(sound.types[0], name, is_near, reported))
    return found


def is_true(event: Event, sound: Sound) -> bool:
    """Return whether an event's type is correct, or a group that contains a correct type."""
    return not sound.right.isdisjoint(noise_types.below(event.noise_type))


def shares(found: Sequence[JudgedAnswer]) -> dict[str, float]:
    """Return the shares of outcomes, and of a correct type among the first candidates."""
    counts = Counter(each.outcome for each in found)
    near = sum(each.is_near for each in found)
    return {name: counts[name] / len(found) for name in OUTCOMES} | {
        f"right among the first {CANDIDATES}": near / len(found)
    }


def calibration_error(found: Sequence[JudgedAnswer]) -> float:
    """Expected calibration error of the confidence of reported events; NaN without any."""
    reported = [each for one in found for each in one.reported]
    if not reported:
        return float("nan")
    confidence = np.array([each for each, _ in reported])
    # The first of two columns is the larger one, or equal: it is correct where the answer is.
    columns = np.stack([confidence, np.zeros_like(confidence)], axis=1)
    return clip_metrics.expected_calibration_error(
        columns, np.array([int(not is_right) for _, is_right in reported])
    )


def noisy(given: Sequence[Sound], rng: np.random.Generator) -> list[Sound]:
    """Mix sounds with synthesised beds at `NOISY_DB`."""
    found = []
    for each in given:
        bed = synth.background_bed(rng, each.samples.size, RATE_HZ)
        found.append(replace(each, samples=sounds.over(each.samples, bed, NOISY_DB)))
    return found


def coded(sounds: Iterable[Sound], codec: str) -> list[Sound]:
    """Pass sounds through one of `codecs.CODECS`."""
    chosen = codecs.CODECS[codec]
    quiet_db = silence.quiet_db("pcm_8" if chosen.coding == "PCM_U8" else None)
    return [
        replace(
            each,
            samples=codecs.coded(each.samples, chosen, level=CODEC_LEVEL),
            quiet_db=quiet_db,
        )
        for each in sounds
    ]


def false_alarms(
    beds: Sequence[Sound], model_of: Callable[[Sound], Classifier], judges: Judges | None
) -> tuple[float, Counter[str]]:
    """Return the rate per hour of events of types that real background lacks, and their types."""
    wrong: Counter[str] = Counter()
    for bed in beds:
        allowed = {*bed.right, UNCLASSIFIED, *map(noise_types.group_of, bed.right)}
        found = (event.noise_type for event in detect(model_of(bed), bed, judges))
        wrong.update(name for name in found if name not in allowed)
    hours = sum(bed.samples.size for bed in beds) / RATE_HZ / 3_600
    return wrong.total() / hours, wrong


def steady_noise(group: str, rng: np.random.Generator) -> list[Sound]:
    """Make noise in which nothing happens, judged as a sound of ``group``."""
    n_samples = STEADY_S * RATE_HZ
    found = []
    for name, exponent in STEADY.items():
        spectrum = np.fft.rfft(rng.standard_normal(n_samples))
        spectrum[1:] *= np.arange(1, spectrum.size) ** (-exponent / 2)
        spectrum[0] = 0.0
        noise = np.fft.irfft(spectrum, n_samples)
        found += [
            Sound(
                f"{name}, {level_db:.0f} dB",
                (),
                group,
                np.asarray(10 ** (level_db / 20) * noise / noise.std(), dtype=np.float32),
            )
            for level_db in STEADY_DB
        ]
    return found


def soundscapes(
    models: Mapping[str, Classifier],
    recordings: Sequence[Soundscape],
    folder: Path,
    judges: Judges | None,
) -> SoundscapeEvents:
    """Detect events in the soundscapes of a folder; see `held_out.hear_soundscapes`."""

    def opinions(recording: Soundscape) -> Mapping[str, SecondOpinion]:
        assert judges is not None
        samples = data_folder.load(folder / recording.name)
        return {fold: judges.of(fold, samples) for fold in models}

    return held_out.hear_soundscapes(
        models, recordings, opinions=None if judges is None else opinions
    )
