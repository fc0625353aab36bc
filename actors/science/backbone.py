"""A network that was trained on AudioSet: embeddings and tags of sound at 32 kHz.

The ``mn`` family of EfficientAT: MobileNetV3-large over a log-mel spectrogram, in several widths
(F. Schmid, K. Koutini, G. Widmer, "Efficient Large-Scale Audio Tagging via Transformer-to-CNN
Knowledge Distillation", ICASSP 2023). The weights are not part of this package. A weight file is
a PyTorch state dict; it is read with ``weights_only`` and refused unless every name, shape and
type is that of the family.

Squeeze and excitation takes the mean over the whole window. The frames of a window therefore
depend on all of it, and windows must be cut at the same places to give the same frames.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from actors.science.errors import ModelError
from actors.science.torchaudio_cpu import mel_banks

Array = NDArray[np.float32]

#: Sample rate of what the network takes.
RATE_HZ = 32_000

#: Samples between two columns of the spectrogram, and between two frames of the embedding.
HOP = 320
FRAME = 32 * HOP

#: Shorter sounds are filled up with silence: one frame of the embedding needs this much.
SHORTEST = RATE_HZ

N_MELS = 128
_N_FFT, _WINDOW = 1_024, 800
_HIGHEST_HZ = 15_000.0
_PRE_EMPHASIS = 0.97
_FLOOR = 1e-5

#: Outputs of the network: the classes of AudioSet.
N_TAGS = 527

#: The widest network of the family has a width of 4. A crafted file could only cost time.
_WIDEST = 4.0
_NORM_EPS = 1e-3

#: The columns of MobileNetV3-large at a width of 1: kernel, channels inside, channels out,
#: squeeze and excitation, stride. The first six blocks use ReLU, the others hardswish.
_BLOCKS = (
    (3, 16, 16, False, 1),
    (3, 64, 24, False, 2),
    (3, 72, 24, False, 1),
    (5, 72, 40, True, 2),
    (5, 120, 40, True, 1),
    (5, 120, 40, True, 1),
    (3, 240, 80, False, 2),
    (3, 200, 80, False, 1),
    (3, 184, 80, False, 1),
    (3, 184, 80, False, 1),
    (3, 480, 112, True, 1),
    (3, 672, 112, True, 1),
    (5, 672, 160, True, 2),
    (5, 960, 160, True, 1),
    (5, 960, 160, True, 1),
)
_N_RELU = 6
_FIRST, _LAST, _HIDDEN = 16, 160, 1_280

#: The name of the weight from which a file's width is read: it takes `_LAST` channels.
_WIDTH_BY = "features.16.0.weight"


class Layers(nn.Module):
    """The network; parameters have the names of the published state dicts.

    Parameters
    ----------
    width
        Multiplies the channels of every layer: 0.4 for ``mn04``, 1.0 for ``mn10``.
    """

    def __init__(self, *, width: float) -> None:
        super().__init__()
        n_channels = _channels(_FIRST, width)
        blocks: list[nn.Module] = [_convolution(1, n_channels, 3, stride=2, act=nn.Hardswish)]
        for number, (kernel, inside, out, squeezes, stride) in enumerate(_BLOCKS):
            n_inside, n_out = _channels(inside, width), _channels(out, width)
            act = nn.ReLU if number < _N_RELU else nn.Hardswish
            blocks.append(
                _Block(n_channels, n_inside, n_out, kernel, stride=stride, act=act, se=squeezes)
            )
            n_channels = n_out
        self.n_embedding = 6 * n_channels
        blocks.append(_convolution(n_channels, self.n_embedding, 1, act=nn.Hardswish))
        self.features = nn.Sequential(*blocks)
        n_hidden = _channels(_HIDDEN, width)
        # Numbered as published: pooling and flattening come first, and dropout is between.
        self.classifier = nn.ModuleDict(
            {"2": nn.Linear(self.n_embedding, n_hidden), "5": nn.Linear(n_hidden, N_TAGS)}
        )

    def forward(self, spectrogram: Tensor) -> Tensor:
        """Embeddings [shape=(n, n_frames, n_embedding)] of [shape=(n, N_MELS, n_columns)]."""
        maps: Tensor = self.features(spectrogram[:, None])
        return maps.mean(dim=2).transpose(1, 2)

    def tags(self, embeddings: Tensor) -> Tensor:
        """Logits [shape=(..., N_TAGS)] of embeddings [shape=(..., n_embedding)]."""
        hidden = nn.functional.hardswish(self.classifier["2"](embeddings))
        logits: Tensor = self.classifier["5"](hidden)
        return logits


@dataclass(frozen=True, eq=False)
class Backbone:
    """Weights that are ready to use; made by `from_bytes`."""

    layers: Layers

    @classmethod
    def from_bytes(cls, data: bytes) -> Backbone:
        """Read a weight file.

        Raises
        ------
        ModelError
            When the file is not a state dict of the family.
        """
        try:
            state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        except Exception as error:  # Whatever it raises, the file is damaged or crafted.
            raise ModelError("the backbone is not a readable PyTorch state dict") from error
        return cls(_fused(_loaded(state)))

    @property
    def n_embedding(self) -> int:
        """The width of an embedding: 384 for ``mn04``."""
        return self.layers.n_embedding

    def frames(self, samples: Array) -> Array:
        """Embed a window of sound, frame by frame.

        Parameters
        ----------
        samples : numpy.ndarray [shape=(n,), dtype=float32]
            Mono at 32 kHz, full scale 1.0. Less than `SHORTEST` is filled up with silence.

        Returns
        -------
        numpy.ndarray [shape=(ceil(n / FRAME), n_embedding), dtype=float32]
            One row each `FRAME` samples (0.32 s). Their mean is the embedding of the window.
        """
        with torch.inference_mode():
            found: Tensor = self.layers(log_mel(samples)[None])[0]
        return found.numpy()

    def embed(self, samples: Array) -> Array:
        """Embed a whole sound [shape=(n_embedding,)]; see `frames`."""
        mean: Array = self.frames(samples).mean(axis=0)
        return mean

    def tags(self, embeddings: Array) -> Array:
        """Tag embeddings [shape=(..., n_embedding)]: AudioSet logits [shape=(..., N_TAGS)]."""
        with torch.inference_mode():
            found: Tensor = self.layers.tags(torch.from_numpy(embeddings))
        return found.numpy()


def log_mel(samples: Array) -> Tensor:
    """Compute what the network sees of a window [shape=(N_MELS, n_columns)].

    Pre-emphasis, power spectrum, Kaldi mel banks from 0 to 15 kHz, logarithm, and the scaling
    that the weights were trained with. Takes [shape=(n,)] at 32 kHz; a column each `HOP` samples.
    """
    filled = np.pad(samples, (0, max(0, SHORTEST - samples.size)))
    waveform = torch.from_numpy(np.ascontiguousarray(filled, dtype=np.float32))
    emphasised = waveform[1:] - _PRE_EMPHASIS * waveform[:-1]
    spectrum = torch.stft(
        emphasised,
        _N_FFT,
        hop_length=HOP,
        win_length=_WINDOW,
        window=_window(),
        center=True,
        return_complex=True,
    )
    power = spectrum.real.square() + spectrum.imag.square()
    return ((_banks() @ power + _FLOOR).log() + 4.5) / 5.0


def _loaded(state: object) -> Layers:
    if not isinstance(state, Mapping) or not isinstance(state.get(_WIDTH_BY), Tensor):
        raise ModelError("the backbone is not a network of the EfficientAT mn family")
    weight: Tensor = state[_WIDTH_BY]
    width = weight.shape[1] / _LAST if weight.ndim == 4 else 0.0
    if not 0.0 < width <= _WIDEST:
        raise ModelError(f"a backbone has a width above 0, up to {_WIDEST:g}")
    # Without memory of its own: shapes are compared before anything of their size is made.
    with torch.device("meta"):
        layers = Layers(width=width)
    wanted = {name: (each.shape, each.dtype) for name, each in layers.state_dict().items()}
    given = {
        name: (each.shape, each.dtype) for name, each in state.items() if isinstance(each, Tensor)
    }
    if wanted != given or len(given) != len(state):
        raise ModelError("the layers of the backbone do not fit each other")
    if not all(bool(torch.isfinite(each).all()) for each in state.values()):
        raise ModelError("the backbone holds numbers that are not finite")
    layers.load_state_dict(dict(state), assign=True)
    return layers.eval().requires_grad_(requires_grad=False)


def _fused(layers: Layers) -> Layers:
    """The same function in fewer steps: normalisations are folded into the convolutions."""
    for part in layers.modules():
        if isinstance(part, nn.Sequential) and len(part) > 1:
            convolution, normalisation = part[0], part[1]
            if isinstance(normalisation, nn.BatchNorm2d):
                assert isinstance(convolution, nn.Conv2d)
                part[0] = nn.utils.fuse_conv_bn_eval(convolution, normalisation)
                part[1] = nn.Identity()
    return layers


class _Block(nn.Module):
    """An inverted residual block: expand, convolve each channel, squeeze and excite, project."""

    def __init__(
        self,
        n_in: int,
        n_inside: int,
        n_out: int,
        kernel: int,
        *,
        stride: int,
        act: type[nn.Module],
        se: bool,
    ) -> None:
        super().__init__()
        parts: list[nn.Module] = []
        if n_inside != n_in:
            parts.append(_convolution(n_in, n_inside, 1, act=act))
        parts.append(
            _convolution(n_inside, n_inside, kernel, stride=stride, groups=n_inside, act=act)
        )
        if se:
            parts.append(_Excitation(n_inside))
        parts.append(_convolution(n_inside, n_out, 1, act=None))
        self.block = nn.Sequential(*parts)
        self._adds = stride == 1 and n_in == n_out

    def forward(self, maps: Tensor) -> Tensor:
        found: Tensor = self.block(maps)
        return found + maps if self._adds else found


class _Squeeze(nn.Module):
    """Weights of the channels [shape=(n, n_channels)], of their means over the whole window."""

    def __init__(self, n_channels: int) -> None:
        super().__init__()
        n_squeezed = _round_to_8(n_channels // 4)
        self.fc1 = nn.Linear(n_channels, n_squeezed)
        self.fc2 = nn.Linear(n_squeezed, n_channels)

    def forward(self, means: Tensor) -> Tensor:
        return torch.sigmoid(self.fc2(nn.functional.relu(self.fc1(means))))


class _Excitation(nn.Module):
    """Squeeze and excitation over channels."""

    def __init__(self, n_channels: int) -> None:
        super().__init__()
        # A list of one, as published: the family has others for frequency and time.
        self.conc_se_layers = nn.ModuleList([_Squeeze(n_channels)])

    def forward(self, maps: Tensor) -> Tensor:
        scale: Tensor = self.conc_se_layers[0](maps.mean(dim=(2, 3)))
        return maps * scale[:, :, None, None]


def _convolution(
    n_in: int,
    n_out: int,
    kernel: int,
    *,
    stride: int = 1,
    groups: int = 1,
    act: type[nn.Module] | None,
) -> nn.Sequential:
    convolution = nn.Conv2d(
        n_in, n_out, kernel, stride, (kernel - 1) // 2, groups=groups, bias=False
    )
    parts: list[nn.Module] = [convolution, nn.BatchNorm2d(n_out, eps=_NORM_EPS)]
    return nn.Sequential(*parts, *([] if act is None else [act()]))


def _channels(n: int, width: float) -> int:
    return _round_to_8(n * width)


def _round_to_8(n: float) -> int:
    """The nearest multiple of 8, but never more than a tenth below ``n``."""
    rounded = max(8, int(n + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * n else rounded


@cache
def _window() -> Tensor:
    return torch.hann_window(_WINDOW, periodic=False)


@cache
def _banks() -> Tensor:
    """The mel banks [shape=(N_MELS, _N_FFT // 2 + 1)]; the bin at half the rate is unused."""
    banks = mel_banks(N_MELS, _N_FFT, float(RATE_HZ), 0.0, _HIGHEST_HZ, 100.0, -500.0, 1.0)[0]
    padded: Tensor = nn.functional.pad(banks, (0, 1))
    return padded
