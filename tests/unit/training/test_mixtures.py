"""Mixtures: labels are where the sounds are, and the background has the requested level."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from actors.science import synth
from actors.science.detection.chunks import RATE_HZ, STEP
from actors.training import mixtures
from actors.training.dataset import LabelledClip
from actors.training.mixtures import BACKGROUND_STEP, N_SAMPLES, N_STEPS, SOUND, UNSURE, Scene
from actors.training.shipped_model import recipe


def clip(name: str, *, seed: int = 0, start_s: float = 1.0, end_s: float = 2.5) -> LabelledClip:
    """Return five silent seconds with one synthesised sound in them."""
    rng = np.random.default_rng(seed)
    samples = np.zeros(N_SAMPLES, dtype=np.float32)
    first, stop = int(start_s * RATE_HZ), int(end_s * RATE_HZ)
    samples[first:stop] = 0.1 * synth.SOUNDS[name](rng, stop - first, RATE_HZ)
    return LabelledClip(f"{name}-{seed}", name, f"group-{seed}", samples)


def made(labelled: LabelledClip, *, copies: int, seed: int = 0) -> list[Scene]:
    rng = np.random.default_rng(seed)
    return [mixtures.of_clip(labelled, rng, is_plain=number == 0) for number in range(copies)]


def white(rng: np.random.Generator, n_samples: int, _rate_hz: int) -> NDArray[np.float32]:
    """Return a background with a flat spectrum."""
    return rng.normal(size=n_samples).astype(np.float32)


def level_db(samples: NDArray[np.floating]) -> float:
    return float(10 * np.log10(np.square(samples, dtype=np.float64).mean() + 1e-20))


@pytest.mark.parametrize("name", ["broadband_hiss", "mains_hum", "siren_sweep"])
@pytest.mark.parametrize(("start_s", "end_s"), [(0.0, 1.5), (1.0, 2.5), (3.0, 5.0)])
def test_the_label_is_where_the_sound_is(name: str, start_s: float, end_s: float) -> None:
    """Frames at the very edges may be either; no others."""
    [plain] = made(clip(name, start_s=start_s, end_s=end_s), copies=1)
    first, stop = round(start_s * RATE_HZ / STEP), round(end_s * RATE_HZ / STEP)
    assert (plain.steps[first + 1 : max(stop - 1, 0)] == SOUND).all()
    away = np.r_[plain.steps[: max(first - 2, 0)], plain.steps[stop + 2 :]]
    assert (away == BACKGROUND_STEP).all()
    assert plain.extent is not None
    assert plain.extent[0] == pytest.approx(first * STEP, abs=STEP)
    assert plain.extent[1] == pytest.approx(stop * STEP, abs=STEP)
    assert (plain.label, plain.group, plain.clip) == (name, "group-0", f"{name}-0")


def test_the_label_is_where_the_sound_is_in_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever a clean copy is moved, exactly its loud frames are the sound's."""
    monkeypatch.setattr(mixtures, "CLEAN_SHARE", 1.0)
    n_checked = 0
    for scene in made(clip("broadband_hiss"), copies=30):
        steps = np.square(scene.samples.reshape(N_STEPS, STEP), dtype=np.float64).mean(axis=1)
        inside, outside = (
            is_so & np.r_[True, is_so[:-1]] & np.r_[is_so[1:], True]
            for is_so in (steps > 0.1 * steps.max(), steps < 1e-3 * steps.max())
        )
        assert (scene.steps[inside] == SOUND).all()
        assert (scene.steps[outside] != SOUND).all()
        n_checked += int(inside.sum())
    assert n_checked > 200


def test_scenes_are_what_they_promise() -> None:
    found = made(clip("hammering"), copies=20)
    assert len(found) == 20
    for scene in found:
        assert scene.samples.shape == (N_SAMPLES,)
        assert scene.samples.dtype == np.float32
        assert float(np.abs(scene.samples).max()) <= 1.0
        np.testing.assert_array_equal(scene.samples * 32_768, np.rint(scene.samples * 32_768))
        assert scene.steps.shape == (N_STEPS,)
        assert scene.steps.dtype == np.int8
        assert set(scene.steps.tolist()) <= {SOUND, BACKGROUND_STEP, UNSURE}
        at = np.flatnonzero(scene.steps == SOUND)
        expected = (at[0] * STEP, (at[-1] + 1) * STEP) if at.size else None
        assert scene.extent == expected
    levels = [level_db(scene.samples) for scene in found]
    assert max(levels) - min(levels) > 20
    assert sum(scene.extent is not None for scene in found) > 15


@pytest.mark.parametrize("snr_db", [-10.0, 0.0, 20.0])
@pytest.mark.parametrize("share", [1.0, 0.4])
def test_the_bed_lies_as_far_below_the_sound_as_was_asked_for(
    snr_db: float, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sound's level is that of its loud part: silence after it does not lower the level."""
    monkeypatch.setattr(synth, "background_bed", white)
    for seed in range(3):
        rng = np.random.default_rng(seed)
        sound = np.zeros(N_SAMPLES)
        n_loud = int(share * N_SAMPLES)
        sound[:n_loud] = rng.normal(0, 0.05, n_loud)
        kept, bed = mixtures.mixed(sound, snr_db=snr_db, rng=rng)
        np.testing.assert_array_equal(kept, sound)
        assert bed.shape == sound.shape
        assert level_db(sound[:n_loud]) - level_db(bed) == pytest.approx(snr_db, abs=0.3)


def test_a_sound_far_below_its_bed_is_background(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mixtures, "CLEAN_SHARE", 0.0)
    monkeypatch.setattr(mixtures, "SNR_DB", (-50.0, -45.0))
    monkeypatch.setattr(synth, "background_bed", white)
    for scene in made(clip("broadband_hiss"), copies=8)[1:]:
        assert (scene.steps == BACKGROUND_STEP).all()
        assert scene.extent is None


def test_a_seed_makes_the_same_scenes() -> None:
    labelled = clip("alarm_tone")
    first, again = made(labelled, copies=3, seed=3), made(labelled, copies=3, seed=3)
    for ours, theirs in zip(first, again, strict=True):
        np.testing.assert_array_equal(ours.samples, theirs.samples)
        np.testing.assert_array_equal(ours.steps, theirs.steps)
        assert ours.extent == theirs.extent
    others = made(labelled, copies=3, seed=4)
    assert not any(np.array_equal(a.samples, b.samples) for a, b in zip(first, others, strict=True))


def test_a_silent_clip_makes_no_scene_of_the_recipe() -> None:
    silent = LabelledClip("a", "rain", "1", np.zeros(N_SAMPLES, dtype=np.float32))
    assert list(recipe.copies(silent, np.random.default_rng(0))) == []


def test_a_bed_is_background_all_along() -> None:
    for seed in range(5):
        bed = mixtures.of_bed("bed", "1", np.random.default_rng(seed), label="background")
        assert bed.samples.shape == (N_SAMPLES,)
        assert (bed.steps == BACKGROUND_STEP).all()
        assert bed.extent is None
        assert -70 < level_db(bed.samples) < -15


@pytest.mark.parametrize("n_samples", [1, 100, 799, 801, 5_000, N_SAMPLES + 1, 3 * N_SAMPLES])
def test_clips_of_any_length_make_scenes(n_samples: int) -> None:
    samples = np.random.default_rng(0).normal(0, 0.1, n_samples).astype(np.float32)
    found = made(LabelledClip("a", "rain", "1", samples), copies=4)
    assert len(found) == 4
    assert all(np.isfinite(scene.samples).all() for scene in found)
