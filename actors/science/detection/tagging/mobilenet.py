"""MobileNetV3-large over a spectrogram: parameters by their published names, and the network.

The ``mn`` family of EfficientAT in several widths; see `backbone` beside this module. `MobileNet`
holds the parameters of a weight file. `compiled` turns them into a network for one window at a
time, since windows of a recording differ in length; its overhead for short windows is small.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

#: Outputs of the network: the classes of AudioSet.
N_TAGS = 527

#: Name of the weight that gives a file's width: it has `LAST` input channels at a width of 1.
WIDTH_BY = "features.16.0.weight"
LAST = 160

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
    (5, 672, LAST, True, 2),
    (5, 960, LAST, True, 1),
    (5, 960, LAST, True, 1),
)
_N_RELU = 6
_FIRST, _HIDDEN = 16, 1_280

#: Part of the network, on maps [shape=(1, n_rows, n_columns, n_channels)]. Never modifies its
#: input, except activations, whose input always comes from a preceding step.
Step = Callable[[Tensor], Tensor]


class MobileNet(nn.Module):
    """The parameters, with the names of the published state dicts.

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
        # Numbered as published, where pooling, flattening and dropout have numbers, too.
        self.classifier = nn.ModuleDict(
            {"2": nn.Linear(self.n_embedding, n_hidden), "5": nn.Linear(n_hidden, N_TAGS)}
        )

    def tags(self, embeddings: Tensor) -> Tensor:
        """Compute logits [shape=(..., N_TAGS)] of embeddings [shape=(..., n_embedding)]."""
        hidden = nn.functional.hardswish(self.classifier["2"](embeddings))
        logits: Tensor = self.classifier["5"](hidden)
        return logits


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
        self.adds = stride == 1 and n_in == n_out


class _Squeeze(nn.Module):
    """Two layers that turn channel means over the whole window into channel weights."""

    def __init__(self, n_channels: int) -> None:
        super().__init__()
        n_squeezed = _round_to_8(n_channels // 4)
        self.fc1 = nn.Linear(n_channels, n_squeezed)
        self.fc2 = nn.Linear(n_squeezed, n_channels)


class _Excitation(nn.Module):
    """Squeeze and excitation over channels."""

    def __init__(self, n_channels: int) -> None:
        super().__init__()
        # A list of one, as published: the family has variants for frequency and time.
        self.conc_se_layers = nn.ModuleList([_Squeeze(n_channels)])


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
    """Return the nearest multiple of 8, but not more than a tenth below ``n``."""
    rounded = max(8, int(n + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * n else rounded


# --- the network -------------------------------------------------------------------------------


def compiled(layers: MobileNet) -> Step:
    """Make the network from its parameters, which it uses directly: do not change them afterwards.

    It takes a spectrogram [shape=(n_mels, n_columns)] and returns embeddings [shape=(n_frames,
    n_embedding)]. Normalisations are folded into the convolutions. Channels come last in memory.
    """
    whole = _chain(
        [_block(part) if isinstance(part, _Block) else _convolve(part) for part in layers.features]
    )

    def network(spectrogram: Tensor) -> Tensor:
        return whole(spectrogram[None, :, :, None])[0].mean(dim=0)

    return network


def _chain(steps: Sequence[Step]) -> Step:
    def run(maps: Tensor) -> Tensor:
        for step in steps:
            maps = step(maps)
        return maps

    return run


def _block(block: _Block) -> Step:
    inner = _chain(
        [
            _excite(part) if isinstance(part, _Excitation) else _convolve(part)
            for part in block.block
        ]
    )
    return (lambda maps: inner(maps).add_(maps)) if block.adds else inner


def _convolve(part: nn.Module) -> Step:
    """Return a convolution with its normalisation and its activation, if any."""
    assert isinstance(part, nn.Sequential)
    convolution, normalisation, *rest = part
    assert isinstance(convolution, nn.Conv2d)
    assert isinstance(normalisation, nn.BatchNorm2d)
    fused = nn.utils.fuse_conv_bn_eval(convolution, normalisation)
    linear = _pointwise(fused) if fused.kernel_size == (1, 1) else _spatial(fused)
    return _chain([linear, *(_ACTIVATIONS[type(each)] for each in rest)])


_ACTIVATIONS: dict[type[nn.Module], Step] = {
    nn.ReLU: torch.relu_,
    nn.Hardswish: partial(nn.functional.hardswish, inplace=True),
}


def _spatial(convolution: nn.Conv2d) -> Step:
    weight = convolution.weight.contiguous(memory_format=torch.channels_last)
    convolve = partial(
        torch.conv2d,
        weight=weight,
        bias=convolution.bias,
        stride=convolution.stride,
        padding=convolution.padding,
        groups=convolution.groups,
    )

    def run(maps: Tensor) -> Tensor:
        return convolve(maps.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)

    return run


def _pointwise(convolution: nn.Conv2d) -> Step:
    """Return a 1 x 1 convolution as a matrix product.

    oneDNN sets up a convolution for each new window length, which takes longer than running it; a
    matrix product needs no setup.
    """
    weight, bias = convolution.weight[:, :, 0, 0].t().contiguous(), convolution.bias
    assert bias is not None

    def run(maps: Tensor) -> Tensor:
        found = torch.addmm(bias, maps.flatten(0, 2), weight)
        return found.view(*maps.shape[:3], -1)

    return run


def _excite(part: _Excitation) -> Step:
    """Weight channels by their means over the whole window."""
    [squeeze] = part.conc_se_layers
    assert isinstance(squeeze, _Squeeze)
    first, second = squeeze.fc1, squeeze.fc2

    def run(maps: Tensor) -> Tensor:
        hidden = nn.functional.linear(maps.mean(dim=(1, 2)), first.weight, first.bias).relu_()
        weights = nn.functional.linear(hidden, second.weight, second.bias).sigmoid_()
        return maps * weights[:, None, None]

    return run
