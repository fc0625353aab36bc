"""Sounds that used to be misclassified, with the backbone's real weights and without them.

Tests that need the published weights are skipped if these are not beside the checkout.
"""

from __future__ import annotations

import io
import shutil
import subprocess
from functools import cache

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from scipy.signal import butter, sosfilt

from actors.facts.channel_rules import ENERGY_MEAN
from actors.science import synth
from actors.science.audio_io import decode
from actors.science.audio_io.prepare import pcm_to_float, prepare, used_channels
from actors.science.detection import classifier, inference, silence
from actors.science.detection.second_opinion import SecondOpinion
from actors.science.detection.tagging import tagger
from actors.science.detection.tagging.backbone import BackboneNetwork
from actors.science.detection.tagging.tagger import Tagger
from actors.science.levels.totals import Totals
from actors.science.types import Event
from tests.support import programs, servers, weights

Samples = NDArray[np.float32]

#: Real background, if the recordings for accuracy are beside the checkout.
BACKGROUNDS = weights.PUBLISHED.parents[1] / "data" / "backgrounds"

#: A sample rate of speech recorders, and that of music.
SLOW_HZ, RATE_HZ = 16_000, 44_100

both = pytest.mark.parametrize("beside", [False, True], ids=["alone", "with the backbone"])


@cache
def published_tagger() -> Tagger:
    return Tagger(BackboneNetwork.from_bytes(weights.published()), tagger.shipped_head())


def hear(content: bytes, *, beside: bool) -> tuple[list[Event], Totals]:
    """Return the events and the levels of a recording as in the pipeline."""
    pcm, wide, file = bytearray(), bytearray(), io.BytesIO(content)
    used = used_channels(file, ENERGY_MEAN)
    with decode.open_recording(file) as decoder:
        prepared = prepare(decoder, used=used, write=pcm.extend, write_wide=wide.extend)
    opinion = None
    if beside:
        samples = pcm_to_float(bytes(wide))
        opinion = SecondOpinion(published_tagger(), inference.in_memory(samples), samples.size)
    events = inference.detect(
        classifier.shipped(),
        pcm_to_float(bytes(pcm)),
        levels=prepared.levels,
        grid=prepared.grid,
        opinion=opinion,
        quiet_db=silence.quiet_db(prepared.format.codec),
    )
    return events, prepared.totals


def file_of(samples: Samples, rate_hz: int, kind: str = "FLAC") -> bytes:
    file = io.BytesIO()
    # The quality of LAME's -V5 to -V7.
    options = {"compression_level": 0.7} if kind == "MP3" else {}
    soundfile.write(file, samples, rate_hz, format=kind, **options)
    return file.getvalue()


def shares(events: list[Event], seconds: float) -> dict[str, float]:
    """Return the fraction of a recording in which each type is reported."""
    found: dict[str, float] = {}
    for event in events:
        lasts = (event.end_s - event.start_s) / seconds
        found[event.noise_type] = found.get(event.noise_type, 0.0) + lasts
    return found


# -- Steady noise through a lossy codec ----------------------------------------------------------


def steady(exponent: float, *, seconds: int, seed: int) -> Samples:
    """Return noise with a power spectrum of this exponent, at about -50 dBFS."""
    n_samples = seconds * SLOW_HZ
    spectrum = np.fft.rfft(np.random.default_rng(seed).standard_normal(n_samples))
    spectrum[1:] *= np.arange(1, spectrum.size) ** (-exponent / 2)
    spectrum[0] = 0.0
    noise = np.fft.irfft(spectrum, n_samples)
    return np.asarray(0.003 * noise / noise.std(), dtype=np.float32)


@both
@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.0], ids=["white", "pink", "brown"])
@pytest.mark.parametrize("seconds", [30, 120])
@pytest.mark.parametrize("kind", ["FLAC", "MP3"])
def test_steady_noise_has_no_events(kind: str, seconds: int, exponent: float, beside: bool) -> None:
    """At 16 kHz, MP3 gives noise a texture like that of rain."""
    noise = steady(exponent, seconds=seconds, seed=0)
    assert hear(file_of(noise, SLOW_HZ, kind), beside=beside)[0] == []


@both
@pytest.mark.parametrize("gain_db", [-10, 30])
def test_steady_noise_in_8_bits_has_no_events(gain_db: float, beside: bool) -> None:
    """It switches between two neighbouring values now and then, which hammers."""
    noise = 10 ** (gain_db / 20) * steady(2.0, seconds=60, seed=0)
    file = io.BytesIO()
    soundfile.write(file, noise, SLOW_HZ, format="WAV", subtype="PCM_U8")
    assert hear(file.getvalue(), beside=beside)[0] == []


@both
def test_hum_through_an_mp3_is_hum_and_nothing_else(beside: bool) -> None:
    rng = np.random.default_rng(0)
    hum = 0.01 * synth.mains_hum(rng, 20 * SLOW_HZ, SLOW_HZ)
    hum += steady(0.0, seconds=20, seed=1) / 10
    events, _ = hear(file_of(hum.astype(np.float32), SLOW_HZ, "MP3"), beside=beside)
    assert {event.noise_type for event in events} == {"mains_hum"}


@pytest.mark.parametrize("offset", [0.05, 0.3])
def test_a_constant_offset_is_no_hum(offset: float) -> None:
    noise = steady(0.0, seconds=3, seed=0) * np.float32(1 / 6)
    assert hear(file_of(noise, SLOW_HZ), beside=True)[0] == []
    assert hear(file_of(noise + np.float32(offset), SLOW_HZ), beside=True)[0] == []


# -- Sound that fills a whole recording ----------------------------------------------------------


def helicopter(seconds: int) -> Samples:
    """Return a rotor: bursts of low and high noise 11.5 times a second over engine noise."""
    rng, n_samples = np.random.default_rng(0), seconds * RATE_HZ
    times_s = np.arange(n_samples) / RATE_HZ
    slap = np.exp(6.0 * (np.cos(2 * np.pi * 11.5 * times_s) - 1.0))

    def band(low_hz: float, high_hz: float, order: int) -> NDArray[np.float64]:
        sos = butter(order, [low_hz, high_hz], "band", fs=RATE_HZ, output="sos")
        noise = sosfilt(sos, rng.standard_normal(n_samples))
        return np.asarray(noise / noise.std())

    sound = band(40, 600, 2) * (0.25 + 1.5 * slap) + 0.35 * band(600, 5_000, 1) * (0.4 + slap)
    sound += 0.15 * np.sin(2 * np.pi * 23 * times_s) + 0.05 * np.sin(2 * np.pi * 1_100 * times_s)
    return np.asarray(0.1 * sound / sound.std(), dtype=np.float32)


@pytest.mark.parametrize("seconds", [10, 30])
def test_a_helicopter_that_fills_a_recording_has_its_name_with_the_backbone(seconds: int) -> None:
    events, _ = hear(file_of(helicopter(seconds), RATE_HZ), beside=True)
    assert shares(events, seconds).get("helicopter", 0.0) > 0.9


@both
def test_the_sea_that_fills_a_recording_has_its_name(beside: bool) -> None:
    path = BACKGROUNDS / "waves.ogg"
    if not path.is_file():
        pytest.skip("the recordings of real background are not beside this checkout")
    events, _ = hear(path.read_bytes(), beside=beside)
    assert shares(events, soundfile.info(path).duration).get("sea_waves", 0.0) > 0.8


# -- Speech --------------------------------------------------------------------------------------

#: Clean speech by espeak-ng: a voice, and what it says.
SPOKEN = {
    "en": "The council will measure the noise along the railway line until the spring.",
    "en-us+f3": "Residents may attend the meeting on Tuesday evening in the old town hall.",
    "de": "Die Stadt misst den Laerm an der Bahnstrecke und gibt ihn im Sommer bekannt.",
    "fr+f4": "La ville va mesurer le bruit le long de la voie, et publiera les resultats.",
    "es": "El ayuntamiento ha decidido medir el ruido junto a la linea del tren.",
}


def test_clean_speech_is_speech_and_nothing_else() -> None:
    """At most one of the voices gets no event; none gets an event of another type."""
    if shutil.which("espeak-ng") is None:
        servers.unavailable(programs.remedy("espeak-ng"))
    n_found = 0
    for voice, text in SPOKEN.items():
        command = ["espeak-ng", "-v", voice, "--stdout", text]
        spoken = subprocess.run(command, capture_output=True, check=True).stdout
        types = {event.noise_type for event in hear(spoken, beside=True)[0]}
        assert types <= {"speech"}, voice
        n_found += bool(types)
    assert n_found >= len(SPOKEN) - 1


# -- Channels -----------------------------------------------------------------------------------


def cabled(sound: Samples, cabling: str) -> Samples:
    """Return a sound as two microphones, or one, may be recorded [shape=(n, n_channels)]."""
    n = sound.size
    late = {f"{ms} ms late": np.pad(sound, (ms * RATE_HZ // 1_000, 0))[:n] for ms in (1, 5, 20)}
    is_second_half = np.arange(n) >= n // 2
    is_odd = np.arange(n) // (RATE_HZ // 2) % 2 == 1
    noise = steady(0.0, seconds=20, seed=3)[:n]
    channels = {
        "inverted": [sound, -0.8 * sound],
        "dead": [0 * sound, sound],
        "one of eight": [0 * sound] * 6 + [sound, 0 * sound],
        "swapped": [np.where(is_second_half, 0, sound), np.where(is_second_half, sound, 0)],
        "inverted at times": [sound, np.where(is_odd, -sound, sound)],
        "in one only": [noise, sound],
    } | {name: [sound, other] for name, other in late.items()}
    return np.stack(channels[cabling], axis=1).astype(np.float32)


@both
@pytest.mark.parametrize(
    "cabling",
    [
        "inverted",
        "dead",
        "one of eight",
        "swapped",
        "inverted at times",
        "in one only",
        "1 ms late",
        "5 ms late",
        "20 ms late",
    ],
)
def test_a_siren_has_its_name_however_it_is_cabled(beside: bool, cabling: str) -> None:
    siren = 0.05 * synth.siren_sweep(np.random.default_rng(1), 4 * RATE_HZ, RATE_HZ)
    whole = np.pad(siren, RATE_HZ).astype(np.float32)
    whole += steady(1.0, seconds=20, seed=2)[: whole.size] / 10
    alone, wanted = hear(file_of(whole, RATE_HZ), beside=beside)
    events, found = hear(file_of(cabled(whole, cabling), RATE_HZ), beside=beside)
    assert {event.noise_type for event in alone} == {"siren_sweep"}
    assert {event.noise_type for event in events} == {"siren_sweep"}
    # A sound in one of two live channels has half the energy in their mean.
    is_halved = cabling in ("swapped", "in one only")
    off_db = {"inverted": 10 * np.log10((1 + 0.8**2) / 2)}.get(cabling, -3.01 * is_halved)
    assert found.a_mean_square == pytest.approx(
        wanted.a_mean_square * 10 ** (off_db / 10), rel=0.02
    )
