"""Mixtures for training: a labelled sound over a background, with a target for each frame.

Mixtures are made of samples, not of spectrograms, so that their fine structure is that of real
recordings. (Copies stretched as images cost four points of accuracy: they are smoother than any
recording.)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import fft
from torch import Tensor
from torch.nn import functional

from actors.science import synth
from actors.science.detection import cnn, inference
from actors.science.detection.chunks import MIN_CHUNK, RATE_HZ, STEP
from actors.science.detection.segment_views import MARGIN, VIEWS, chunks_of
from actors.science.types import BACKGROUND
from actors.training.dataset import LabelledClip, Samples

#: Length of a mixture.
N_SAMPLES = 5 * RATE_HZ
N_STEPS = N_SAMPLES // STEP

#: Targets of a frame: the mixture's sound, background, or ambiguous.
SOUND, BACKGROUND_STEP, UNSURE = 1, 0, -1

#: Frames of a sound within the first value of its maximum, in dB, are its strong ones; those below
#: the second value are background.
STRONG_DB, FAINT_DB = 25.0, 40.0

#: A sound is audible where it exceeds the bed in some part of the spectrum, and inaudible where it
#: is this far below the bed, in dB, in all of them.
BURIED_DB = 7.0

#: Gaps in a sound of up to this many spectrogram columns are part of it.
_GAP_FRAMES = 33

#: Signal-to-noise ratios, in dB, of noisy and of clean copies, and the share of clean ones.
SNR_DB, CLEAN_DB, CLEAN_SHARE = (-3.0, 27.0), (45.0, 70.0), 0.3

#: Share of copies that contain only a part of their clip.
EXCERPT_SHARE = 0.3

#: Level of the sound in a mixture, dB re full scale.
_LEVEL_DB = (-55.0, -15.0)


#: Inputs of segment classification, by the names of `VIEWS`.
SegmentViews = dict[str, NDArray[np.float32]]


@dataclass(frozen=True, eq=False)
class Scene:
    """Five seconds with at most one sound.

    ``steps`` [shape=(N_STEPS,), dtype=int8] is the target of each frame; ``extent`` is the first
    and the last sample of the sound, half-open, ``None`` without one.
    """

    samples: Samples
    label: str
    group: str
    clip: str
    steps: NDArray[np.int8]
    extent: tuple[int, int] | None


def of_clip(clip: LabelledClip, rng: np.random.Generator, *, is_plain: bool) -> Scene:
    """Return one copy of a clip; a plain one is the clip itself over a barely audible bed."""
    sound = _placed(clip.samples.astype(np.float64), rng, is_plain=is_plain)
    is_clean = is_plain or rng.random() < CLEAN_SHARE
    snr_db = float(rng.uniform(*(CLEAN_DB if is_clean else SNR_DB)))
    sound, bed = mixed(sound, snr_db=snr_db, rng=rng)
    steps = _heard(_powers(sound), _powers(bed))
    level = np.sqrt(np.square(sound).mean()) or 1.0
    gain = 10 ** (rng.uniform(*_LEVEL_DB) / 20) / level
    at = np.flatnonzero(steps == SOUND)
    extent = (int(at[0]) * STEP, (int(at[-1]) + 1) * STEP) if at.size else None
    return Scene(_digitised((sound + bed) * gain), clip.label, clip.group, clip.name, steps, extent)


def of_bed(name: str, group: str, rng: np.random.Generator, *, label: str) -> Scene:
    """Return a bed without a sound."""
    bed = synth.background_bed(rng, N_SAMPLES, RATE_HZ) * 10 ** (rng.uniform(-65, -20) / 20)
    steps = np.full(N_STEPS, BACKGROUND_STEP, dtype=np.int8)
    return Scene(_digitised(bed), label, group, name, steps, None)


def views_of(scene: Scene, rng: np.random.Generator) -> list[SegmentViews]:
    """Return inputs of segment classification for a mixture's sound, or for a part of a bed."""
    if scene.extent is not None:
        start, stop = scene.extent
    elif scene.label == BACKGROUND:
        length = int(rng.uniform(MIN_CHUNK, N_SAMPLES))
        start = int(rng.integers(0, N_SAMPLES - length + 1))
        stop = start + length
    else:
        return []
    read = inference.in_memory(scene.samples)
    chunks = [
        read(first - MARGIN, last + MARGIN)
        for first, last in chunks_of(start, stop, n_samples=scene.samples.size)
    ]
    return [{view: extract(chunk) for view, extract in VIEWS.items()} for chunk in chunks]


def mixed(
    sound: NDArray[np.float64], *, snr_db: float, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return a sound and a bed of its length, ``snr_db`` below the mean level of its strong frames.

    Levels are those of the network's mel bands, which exclude rumble below 40 Hz.
    """
    bed = synth.background_bed(rng, sound.size, RATE_HZ).astype(np.float64)
    power, bed_power = _powers(sound), _powers(bed)
    is_strong = _below_top_db(power) < STRONG_DB
    strong = float((power.sum(dim=1) * is_strong).sum() / is_strong.sum())
    gain = np.sqrt(strong / float(bed_power.sum(dim=1).mean()) * 10 ** (-snr_db / 10))
    return sound, bed * gain


def _placed(
    samples: NDArray[np.float64], rng: np.random.Generator, *, is_plain: bool
) -> NDArray[np.float64]:
    """Place the clip, or a variation of it, in the mixture; part of it may be cut off."""
    sound = samples[:N_SAMPLES]
    offset = 0
    if not is_plain:
        sound = _filtered(_faster(samples, float(np.exp(rng.uniform(-0.12, 0.12)))), rng)
        if rng.random() < EXCERPT_SHARE:
            sound = _excerpt(sound, rng)
        if rng.random() < 0.5:
            is_long = sound.size > N_SAMPLES // 2
            offset = int(
                rng.uniform(-0.3, 0.6) * N_SAMPLES
                if is_long
                else rng.uniform(0, N_SAMPLES - sound.size)
            )
    scene = np.zeros(N_SAMPLES)
    first, stop = max(0, offset), min(N_SAMPLES, offset + sound.size)
    scene[first:stop] = sound[first - offset : stop - offset]
    if np.abs(scene).max() < 1e-5:  # The part that was kept is silent.
        scene[: min(N_SAMPLES, samples.size)] = samples[:N_SAMPLES]
    return scene


def _faster(samples: NDArray[np.float64], factor: float) -> NDArray[np.float64]:
    """Play a sound faster: shorter and higher by a factor."""
    length = max(1, int(samples.size / factor))
    n_from = fft.next_fast_len(samples.size, real=True)
    n_to = fft.next_fast_len(length, real=True)
    spectrum = np.fft.rfft(samples, n_from)
    kept = min(n_from, n_to) // 2 + 1
    shorter = np.zeros(n_to // 2 + 1, dtype=complex)
    shorter[:kept] = spectrum[:kept]
    return np.fft.irfft(shorter, n_to)[:length] * n_to / n_from


def _filtered(samples: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Filter a sound as another microphone would: a tilted spectrum with two bumps."""
    n_fast = fft.next_fast_len(samples.size, real=True)
    octaves = np.log2(np.maximum(np.fft.rfftfreq(n_fast, 1 / RATE_HZ), 60.0) / 1_000.0)
    gain_db = rng.uniform(-2, 2) * octaves
    for _ in range(2):
        centre, width = rng.uniform(-3.5, 3.0), rng.uniform(0.4, 1.2)
        gain_db = gain_db + rng.uniform(-4, 4) * np.exp(-(((octaves - centre) / width) ** 2))
    spectrum = np.fft.rfft(samples, n_fast) * 10 ** (gain_db / 20)
    return np.fft.irfft(spectrum, n_fast)[: samples.size]


def _excerpt(sound: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Return a part of a sound around one of its strong frames, with fades of 10 ms."""
    if sound.size < 800:
        return sound
    power = np.square(sound[: sound.size // 800 * 800].reshape(-1, 800)).mean(axis=1)
    strong = np.flatnonzero(power >= power.max() * 10 ** (-STRONG_DB / 10))
    at = int(rng.choice(strong)) * 800
    length = int(rng.uniform(0.4, 4.0) * RATE_HZ)
    part = sound[max(0, at - length // 3) : at + length].copy()
    n_fade = min(160, part.size // 2)
    ramp = np.linspace(0.0, 1.0, n_fade)
    part[:n_fade] *= ramp
    part[part.size - n_fade :] *= ramp[::-1]
    return part


def _heard(power: Tensor, bed_power: Tensor) -> NDArray[np.int8]:
    """Return the target of each frame, from the separate powers of the sound and its bed."""
    below_db = _below_top_db(power)
    ratio = (_in_groups(power) / (_in_groups(bed_power) + 1e-14)).amax(dim=1)
    is_buried = ratio < 10 ** (-BURIED_DB / 10)
    steps = np.full(power.shape[0], UNSURE, dtype=np.int8)
    steps[((below_db > FAINT_DB) | is_buried).numpy()] = BACKGROUND_STEP
    steps[_closed((below_db < STRONG_DB) & (ratio > 1.0)).numpy()] = SOUND
    return steps[cnn.FRAMES_PER_STEP // 2 :: cnn.FRAMES_PER_STEP]


def _powers(samples: NDArray[np.floating]) -> Tensor:
    return torch.pow(10.0, cnn.log_mel(samples.astype(np.float32)) / 10.0)


def _below_top_db(power: Tensor) -> Tensor:
    """Return how far the level over 0.1 s is below its maximum [shape=(n_frames,)]."""
    level = functional.avg_pool1d(power.sum(dim=1)[None, None], 9, 1, 4, count_include_pad=False)[
        0, 0
    ]
    return 10.0 * (level.max() / (level + 1e-14)).log10()


def _in_groups(power: Tensor) -> Tensor:
    """Return powers in eight groups of bands, over 0.1 s [shape=(n_frames, 8)]."""
    grouped = functional.avg_pool1d(power[None], 8, 8)
    return functional.avg_pool1d(grouped.transpose(1, 2), 9, 1, 4)[0].T


def _closed(frames: Tensor) -> Tensor:
    """Close gaps of up to `_GAP_FRAMES`."""
    reach = _GAP_FRAMES // 2
    wide = functional.max_pool1d(frames.float()[None, None], _GAP_FRAMES, 1, reach)
    return (-functional.max_pool1d(-wide, _GAP_FRAMES, 1, reach)[0, 0] > 0.5) | frames


def _digitised(samples: NDArray[np.floating]) -> Samples:
    """Quantise to 16 bits."""
    return np.asarray(np.rint(np.clip(samples, -1.0, 1.0) * 32_767) / 32_768, dtype=np.float32)
