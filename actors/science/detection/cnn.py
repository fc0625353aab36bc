"""A small convolutional network over a log-mel spectrogram: class scores of every frame.

Its input is samples rather than features of chunks; its output are scores every 0.1 s, each from
about three seconds of context on either side. Gain has no effect: every spectrogram column is
relative to the level of the two seconds around it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from actors.science.detection.chunks import HOP, RATE_HZ, STEP
from actors.science.detection.ensemble import Array, Estimator, Logits
from actors.science.detection.modulation import squared
from actors.science.detection.tagging.torchaudio_cpu import functional, transforms
from actors.science.errors import ModelError
from actors.science.types import AnyArray

#: Columns of the spectrogram per frame of the scores.
FRAMES_PER_STEP = STEP // HOP

#: Context on either side that scores may depend on: the receptive field of the layers and of the
#: normalisation, rounded up to the grid.
REACH = 32 * STEP

N_MELS = 64
_N_FFT = 512
_MARGIN = (_N_FFT - HOP) // 2

#: Floor of powers; the rounding noise of 16-bit audio is above it.
FLOOR = 1e-11

#: Columns of the running mean that removes the level, one second on either side.
_LEVEL_FRAMES = 2 * RATE_HZ // HOP + 1

#: Levels relative to the mean are clipped to this range, in dB.
_LOWEST_DB, _HIGHEST_DB = -70.0, 10.0

#: Largest accepted layer of a file: a crafted network could only waste time.
_LARGEST_WIDTH = 1_024

#: Entries of the state that are used in training only.
_UNUSED = "num_batches_tracked"

#: Frames of the running means that provide context: half a second, 1.3 s and 3.1 s.
_CONTEXTS = (5, 13, 31)


def log_mel(samples: NDArray[np.float32]) -> Tensor:
    """Compute log-mel powers [shape=(n_frames, N_MELS)] of whole hops, in dB of any reference.

    Frame ``k`` is centred on the samples ``[k * HOP, (k + 1) * HOP)``; the ends are padded with
    silence.
    """
    n_frames = samples.size // HOP
    waveform = torch.from_numpy(np.ascontiguousarray(samples[: n_frames * HOP], dtype=np.float32))
    padded = nn.functional.pad(waveform, (_MARGIN, _MARGIN))
    # Squared by parts: the transform's own power takes a root first, and twice as long.
    power = squared(_spectrogram()(padded)).T @ _mel_bank()
    return 10.0 * (power + FLOOR).log10()


def relative(log_power: Tensor) -> Tensor:
    """Compute the network's input: levels relative to their surroundings, roughly from -2 to 3.

    Takes and returns [shape=(n, n_frames, N_MELS)].
    """
    total = torch.pow(10.0, log_power / 10.0).sum(dim=2) + 1e-9
    level = nn.functional.avg_pool1d(total[:, None], _LEVEL_FRAMES, 1, _LEVEL_FRAMES // 2)[:, 0]
    return scaled(log_power - 10.0 * level.log10()[:, :, None])


def scaled(relative_db: Tensor) -> Tensor:
    """Clip levels relative to some mean and scale them to roughly -2 to 3."""
    return (relative_db.clamp(_LOWEST_DB, _HIGHEST_DB) + 35.0) / 15.0


class Dropout(nn.Dropout):
    """Dropout with an optional random generator.

    torch's default generator is shared by all threads of a process: other training in it would
    change the result of a seed.
    """

    chance: torch.Generator | None = None

    def forward(self, values: Tensor) -> Tensor:
        """Set a random part of the values to zero, and scale the others up."""
        if not self.training or self.chance is None:
            return super().forward(values)
        kept = torch.empty_like(values).bernoulli_(1 - self.p, generator=self.chance)
        return values * kept.div_(1 - self.p)


class Layers(nn.Module):
    """The network: three stages that downsample time and frequency, then context over time.

    Parameters
    ----------
    widths
        Channels of the stages.
    hidden
        Width of the last hidden layer.
    n_classes
        Number of scores per frame.
    dropout
        Dropout rate in training before the last layers.
    """

    def __init__(
        self, *, widths: tuple[int, int, int], hidden: int, n_classes: int, dropout: float = 0.0
    ) -> None:
        super().__init__()
        first, second, third = widths
        self.stages = nn.Sequential(
            *_convolution(1, first, size=5, stride=2),
            nn.AvgPool2d(2),
            *_convolution(first, second),
            *_convolution(second, second),
            nn.AvgPool2d(2),
            Dropout(dropout / 3),
            *_convolution(second, third),
            *_convolution(third, third),
        )
        self.pooled = nn.Sequential(
            nn.Conv1d(2 * third, third, 1, bias=False), nn.BatchNorm1d(third), nn.ReLU()
        )
        self.dropout = Dropout(dropout)
        n_context = third * (2 + len(_CONTEXTS))
        self.hidden = nn.Sequential(
            nn.Conv1d(n_context, hidden, 1), nn.BatchNorm1d(hidden), nn.ReLU()
        )
        self.scores = nn.Conv1d(hidden, n_classes, 1)

    def draw_from(self, chance: torch.Generator) -> None:
        """Use ``chance`` as the random generator of all dropout layers."""
        for part in self.modules():
            if isinstance(part, Dropout):
                part.chance = chance

    def forward(self, frames: Tensor) -> Tensor:
        """Compute logits [shape=(n, n_steps, n_classes)].

        Takes spectrogram frames [shape=(n, n_frames, N_MELS)].
        """
        maps = self.stages(frames[:, None])
        steps = self.pooled(torch.cat([maps.mean(dim=3), maps.amax(dim=3)], dim=1))
        means = [_running_mean(steps, width) for width in _CONTEXTS]
        variance = _running_mean(steps * steps, _CONTEXTS[-1]) - means[-1] ** 2
        spread = (variance.clamp_min(0.0) + 1e-4).sqrt()
        context = torch.cat([steps, *means, spread], dim=1)
        hidden = self.hidden(self.dropout(context))
        logits: Tensor = self.scores(self.dropout(hidden))
        return logits.transpose(1, 2)


@dataclass(frozen=True, eq=False, kw_only=True)
class Convolutional(Estimator):
    """A trained network; ``arrays`` are the parameters and statistics of its `Layers`."""

    kind = "cnn"
    widths: tuple[int, int, int] = (24, 48, 96)
    hidden: int = 128

    @classmethod
    def of(cls, layers: Layers, *, widths: tuple[int, int, int], hidden: int) -> Convolutional:
        """Make an estimator; parameters are stored as float16, statistics as float32."""
        arrays: dict[str, AnyArray] = {}
        for name, tensor in layers.state_dict().items():
            if not name.endswith(_UNUSED):
                is_statistic = "running" in name
                kept = tensor.detach().numpy().astype(np.float32 if is_statistic else np.float16)
                arrays[name] = kept
        return cls(arrays=arrays, widths=widths, hidden=hidden)

    @property
    def input_kind(self) -> str:
        return "samples"

    @property
    def n_classes(self) -> int:
        return int(self.arrays["scores.bias"].size)

    def settings(self) -> dict[str, object]:
        return {"widths": list(self.widths), "hidden": self.hidden}

    def check(self) -> None:
        sizes = [*self.widths, self.hidden] if isinstance(self.widths, (list, tuple)) else []
        if len(sizes) != 4 or any(
            type(size) is not int or not 0 < size <= _LARGEST_WIDTH for size in sizes
        ):
            raise ModelError("the sizes of a convolutional network are three widths and one hidden")
        object.__setattr__(self, "widths", tuple(self.widths))
        if any(values.dtype.kind != "f" for values in self.arrays.values()):
            raise ModelError("a convolutional network's arrays are floating-point numbers")
        if any((v < 0).any() for name, v in self.arrays.items() if name.endswith("running_var")):
            raise ModelError("a variance of the model is below zero")
        # On the meta device: shapes are compared before memory of their size is allocated.
        with torch.device("meta"):
            layers = Layers(widths=self.widths, hidden=self.hidden, n_classes=self.n_classes)
        wanted = {
            name: tuple(tensor.shape)
            for name, tensor in layers.state_dict().items()
            if not name.endswith(_UNUSED)
        }
        if wanted != {name: values.shape for name, values in self.arrays.items()}:
            raise ModelError("the layers of the model do not fit each other")
        state = {
            name: torch.from_numpy(values.astype(np.float32))
            for name, values in self.arrays.items()
        }
        layers.load_state_dict(state, strict=False, assign=True)
        fused = _fused(layers.eval()).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        object.__setattr__(self, "_layers", fused)

    def logits(self, inputs: Array) -> Logits:
        """Compute logits of every frame [shape=(n_steps, n_classes)].

        Takes samples [shape=(n,)] at 16 kHz; those after the last whole frame are ignored.
        """
        return self.logits_of(frames_of(inputs))

    def logits_of(self, frames: Tensor) -> Logits:
        """Compute the same from the output of `frames_of`, which several estimators can share."""
        layers: Layers = self.__dict__["_layers"]
        with torch.inference_mode():
            found: Tensor = layers(frames)[0]
        return found.numpy().astype(np.float64)


def frames_of(samples: Array) -> Tensor:
    """Compute the network's input from samples [shape=(1, n_frames, N_MELS)]."""
    with torch.inference_mode():
        return relative(log_mel(samples[: samples.size // STEP * STEP])[None])


def _convolution(n_in: int, n_out: int, *, size: int = 3, stride: int = 1) -> list[nn.Module]:
    convolution = nn.Conv2d(n_in, n_out, size, stride, size // 2, bias=False)
    return [convolution, nn.BatchNorm2d(n_out), nn.ReLU()]


def _running_mean(steps: Tensor, width: int) -> Tensor:
    return nn.functional.avg_pool1d(steps, width, 1, width // 2)


def _fused(layers: Layers) -> Layers:
    """Return an equivalent network with the normalisations folded into the convolutions."""
    for stage in (layers.stages, layers.pooled, layers.hidden):
        for index in range(len(stage) - 1):
            convolution, normalisation = stage[index], stage[index + 1]
            if isinstance(normalisation, (nn.BatchNorm1d, nn.BatchNorm2d)):
                assert isinstance(convolution, (nn.Conv1d, nn.Conv2d))
                stage[index] = nn.utils.fuse_conv_bn_eval(convolution, normalisation)
                stage[index + 1] = nn.Identity()
    return layers


@cache
def _spectrogram() -> nn.Module:
    module: nn.Module = transforms.Spectrogram(
        n_fft=_N_FFT, hop_length=HOP, power=None, center=False
    )
    return module


@cache
def _mel_bank() -> Tensor:
    """Return the weights of the bins in each band [shape=(n_bins, N_MELS)].

    Divided by the power of the window, so that a bin's power is that of the samples, which gives
    the floor one meaning.
    """
    bank: Tensor = functional.melscale_fbanks(
        _N_FFT // 2 + 1, f_min=40.0, f_max=RATE_HZ / 2, n_mels=N_MELS, sample_rate=RATE_HZ
    )
    return bank / torch.hann_window(_N_FFT).square().sum()
