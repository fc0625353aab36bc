"""The backbone: numerically equal to the published one; crafted files are rejected."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from actors.science.detection.tagging.backbone import (
    FRAME,
    HOP,
    N_MELS,
    RATE_HZ,
    BackboneNetwork,
    log_mel,
)
from actors.science.detection.tagging.mobilenet import N_TAGS
from actors.science.errors import ModelError
from tests.support import weights
from tests.support.metering import DATA

WIDTH = 0.4
#: The embedding and the tags of `chirp`, by the published weights of ``mn04_as``.
VECTORS = DATA / "mn04_as.csv"
State = dict[str, Tensor]


STATE = weights.random_state(width=WIDTH)
NETWORK = BackboneNetwork.from_bytes(weights.file_of(STATE))


def sound(n_samples: int, *, seed: int = 0) -> NDArray[np.float32]:
    noise = np.random.default_rng(seed).standard_normal(n_samples)
    swell = 1 + np.sin(np.arange(n_samples) / RATE_HZ)
    return np.asarray(0.05 * noise * swell, dtype=np.float32)


# -- The spectrogram ---------------------------------------------------------------------------


def mel_by_definition(samples: NDArray[np.float32]) -> NDArray[np.float64]:
    """Compute the front end in double precision, step by step from its definition."""
    emphasised = samples[1:].astype(np.float64) - 0.97 * samples[:-1]
    padded = np.pad(emphasised, 512, mode="reflect")
    window = np.zeros(1_024)
    window[112:912] = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(800) / 799)
    n_columns = emphasised.size // HOP + 1
    frames = np.stack([padded[k * HOP : k * HOP + 1_024] for k in range(n_columns)])
    power = np.abs(np.fft.rfft(frames * window)) ** 2
    highest_mel = float(1_127.0 * np.log1p(15_000.0 / 700.0))
    edges = np.linspace(0.0, highest_mel, N_MELS + 2)
    bins = 1_127.0 * np.log1p(np.arange(512) * RATE_HZ / 1_024 / 700.0)
    rising = (bins - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - bins) / (edges[2:] - edges[1:-1])[:, None]
    banks = np.maximum(0.0, np.minimum(rising, falling))
    found: NDArray[np.float64] = (np.log(banks @ power[:, :512].T + 1e-5) + 4.5) / 5.0
    return found


@pytest.mark.parametrize("gain", [0.001, 1.0, 15.0])
@pytest.mark.parametrize("n_samples", [RATE_HZ, RATE_HZ + 1, 99_999])
def test_spectrogram_is_that_of_the_definition(n_samples: int, gain: float) -> None:
    samples = sound(n_samples) * np.float32(gain)
    found = log_mel(samples).numpy()
    assert found.shape == (N_MELS, (n_samples - 1) // HOP + 1)
    # Near the floor, some 140 dB below the loudest, the last bits are those of the machine's FFT.
    np.testing.assert_allclose(found, mel_by_definition(samples), atol=5e-4)


# -- The network -------------------------------------------------------------------------------


def reference(state: State, samples: NDArray[np.float32]) -> NDArray[np.float64]:
    """Compute the network in double precision, by plain functions over the state dict's names."""
    wide = {name: each.double() for name, each in state.items()}
    maps = log_mel(samples)[None, None].double()
    strides = {2: 2, 4: 2, 7: 2, 13: 2}
    maps = torch.nn.functional.hardswish(normalised(wide, maps, "features.0", stride=2))
    for number in range(1, 16):
        act: Callable[[Tensor], Tensor] = (
            torch.nn.functional.relu if number < 7 else torch.nn.functional.hardswish
        )
        maps = block(wide, maps, f"features.{number}.block", strides.get(number, 1), act)
    maps = torch.nn.functional.hardswish(normalised(wide, maps, "features.16", stride=1))
    found: NDArray[np.float64] = maps[0].mean(dim=1).T.numpy()
    return found


def block(
    state: State, maps: Tensor, name: str, stride: int, act: Callable[[Tensor], Tensor]
) -> Tensor:
    before = maps
    parts = sorted({key[len(name) + 1 :].split(".")[0] for key in state if key.startswith(name)})
    for part in parts:
        here = f"{name}.{part}"
        squeeze = f"{here}.conc_se_layers.0."
        if f"{squeeze}fc1.weight" in state:
            mean = maps.mean(dim=(2, 3))
            hidden = (mean @ state[f"{squeeze}fc1.weight"].T + state[f"{squeeze}fc1.bias"]).relu()
            scale = hidden @ state[f"{squeeze}fc2.weight"].T + state[f"{squeeze}fc2.bias"]
            maps = maps * scale.sigmoid()[:, :, None, None]
            continue
        is_depthwise = state[f"{here}.0.weight"].shape[1] == 1
        maps = normalised(state, maps, here, stride=stride if is_depthwise else 1)
        maps = maps if part == parts[-1] else act(maps)
    return maps + before if stride == 1 and maps.shape == before.shape else maps


def normalised(state: State, maps: Tensor, name: str, *, stride: int) -> Tensor:
    weight = state[f"{name}.0.weight"]
    found = torch.nn.functional.conv2d(
        maps,
        weight,
        stride=stride,
        padding=weight.shape[-1] // 2,
        groups=maps.shape[1] // weight.shape[1],
    )
    return torch.nn.functional.batch_norm(
        found,
        state[f"{name}.1.running_mean"],
        state[f"{name}.1.running_var"],
        state[f"{name}.1.weight"],
        state[f"{name}.1.bias"],
        eps=1e-3,
    )


@pytest.mark.parametrize("width", [0.4, 1.0])
def test_network_is_that_of_the_definition_in_any_width(width: float) -> None:
    state = weights.random_state(width=width, seed=1)
    samples = sound(2 * RATE_HZ)
    wanted = reference(state, samples)
    found = BackboneNetwork.from_bytes(weights.file_of(state)).frames(samples)
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, atol=1e-4 * np.abs(wanted).max())


@settings(max_examples=15)
@given(n_samples=st.integers(0, 3 * RATE_HZ))
def test_a_frame_each_third_of_a_second(n_samples: int) -> None:
    frames = NETWORK.frames(sound(n_samples))
    assert frames.shape == (-(-max(n_samples, RATE_HZ) // FRAME), NETWORK.n_embedding)
    assert np.isfinite(frames).all()


def test_whole_sound_is_the_mean_of_its_frames() -> None:
    samples = sound(3 * RATE_HZ)
    embedding = NETWORK.embed(samples)
    np.testing.assert_allclose(embedding, NETWORK.frames(samples).mean(axis=0), rtol=1e-6)
    assert NETWORK.tags(embedding).shape == (N_TAGS,)
    assert NETWORK.tags(NETWORK.frames(samples)).shape == (10, N_TAGS)


def test_short_sound_is_filled_up_with_silence() -> None:
    samples = sound(RATE_HZ // 3)
    filled = np.pad(samples, (0, RATE_HZ - samples.size))
    np.testing.assert_array_equal(NETWORK.frames(samples), NETWORK.frames(filled))


# -- The published weights ---------------------------------------------------------------------


def chirp() -> NDArray[np.float32]:
    """Return ten reproducible seconds: a tone from 50 Hz to 15 kHz over fading noise."""
    t = np.arange(10 * RATE_HZ) / RATE_HZ
    tone = np.sin(2 * np.pi * 50.0 * 10.0 / np.log(300.0) * (300.0 ** (t / 10.0) - 1.0))
    noise = np.random.Generator(np.random.PCG64(7)).uniform(-1.0, 1.0, t.size)
    return np.asarray(0.1 * tone + 0.05 * noise * (1.0 - t / 10.0), dtype=np.float32)


def test_published_weights_give_the_stored_vectors() -> None:
    published = BackboneNetwork.from_bytes(weights.published())
    stored = np.loadtxt(VECTORS, delimiter=",", comments="#")
    embedding = published.embed(chirp())
    np.testing.assert_allclose(embedding, stored[: published.n_embedding], atol=1e-5)
    tags = published.tags(embedding)
    # Sums of 512 numbers in single precision, in an order that is the machine's.
    np.testing.assert_allclose(tags, stored[published.n_embedding :], rtol=1e-5, atol=1e-5)


# -- Files that are rejected -------------------------------------------------------------------


def without(name: str) -> State:
    return {key: each for key, each in STATE.items() if key != name}


CRAFTED: dict[str, Any] = {
    "nothing": {},
    "a list": [1, 2],
    "a weight is missing": without("features.3.block.1.0.weight"),
    "a weight too many": STATE | {"extra": torch.zeros(1)},
    "something else too many": STATE | {"extra": 1},
    "another shape": STATE | {"classifier.5.bias": torch.zeros(528)},
    "another type": STATE | {"classifier.5.bias": torch.zeros(527, dtype=torch.float64)},
    "not a number": STATE | {"classifier.5.bias": torch.full((527,), torch.nan)},
    "no width": STATE | {"features.16.0.weight": torch.zeros(384)},
    "too wide": STATE | {"features.16.0.weight": torch.zeros(1, 100_000, 1, 1)},
}


@pytest.mark.parametrize("what", CRAFTED)
def test_file_that_differs_is_refused(what: str) -> None:
    with pytest.raises(ModelError):
        BackboneNetwork.from_bytes(weights.file_of(CRAFTED[what]))


class Command:
    """Would be called by an unpickler that trusts its input."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (pytest.fail, ("the file was executed",))


@pytest.mark.parametrize("data", [b"", b"no state dict", weights.file_of(STATE)[:-5_000]])
def test_damaged_file_is_refused(data: bytes) -> None:
    with pytest.raises(ModelError):
        BackboneNetwork.from_bytes(data)


def test_nothing_in_a_file_is_executed() -> None:
    with pytest.raises(ModelError):
        BackboneNetwork.from_bytes(weights.file_of({"features.16.0.weight": Command()}))
