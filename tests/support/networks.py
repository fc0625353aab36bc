"""Small networks over samples, for tests that need a model."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from actors.science.detection.classifier import Classifier
from actors.science.detection.cnn import Convolutional, Layers
from actors.science.detection.features import FEATURE_VERSION
from actors.science.types import BACKGROUND

WIDTHS, HIDDEN = (4, 4, 4), 8


def untrained(
    classes: Sequence[str] = ("background", "rain", "sneeze"), *, seed: int = 0
) -> Classifier:
    """Return a model of one untrained network: meaningless output that depends on the sound."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers = _layers(classes)
        for part in layers.modules():
            # With torch's default initialisation the output would hardly vary.
            if isinstance(part, (nn.Conv1d, nn.Conv2d)):
                nn.init.kaiming_normal_(part.weight)
    return _model(layers, classes)


def background_only(classes: Sequence[str] = ("background", "rain")) -> Classifier:
    """Return a model that classifies everything as background."""
    layers = _layers(classes)
    assert layers.scores.bias is not None
    with torch.no_grad():
        layers.scores.weight.zero_()
        layers.scores.bias.copy_(torch.tensor([8.0 * (name == BACKGROUND) for name in classes]))
    return _model(layers, classes)


def _layers(classes: Sequence[str]) -> Layers:
    return Layers(widths=WIDTHS, hidden=HIDDEN, n_classes=len(classes)).eval()


def _model(layers: Layers, classes: Sequence[str]) -> Classifier:
    header = {
        "name": "small",
        "version": "1",
        "algorithm": "cnn",
        "feature_version": FEATURE_VERSION,
        "classes": list(classes),
    }
    return Classifier.make(header, members=[Convolutional.of(layers, widths=WIDTHS, hidden=HIDDEN)])
