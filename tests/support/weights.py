"""Weights of the backbone: random ones of its shape, and the published ones if available."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from actors.science.detection.tagging.mobilenet import MobileNet
from actors.science.detection.tagging.tagger import Head
from actors.training.shipped_model import base_types

State = dict[str, Tensor]

#: Location of the published weights relative to a checkout.
PUBLISHED = Path(__file__).resolve().parents[2].parent / "shared" / "models" / "mn04_as_mAP_432.pt"


def random_state(*, width: float, seed: int = 0) -> State:
    """Draw a state dict of the family, for tests of everything but accuracy."""
    chance = torch.Generator().manual_seed(seed)
    with torch.device("meta"):
        shapes = {name: each.shape for name, each in MobileNet(width=width).state_dict().items()}
    state: State = {}
    for name, shape in shapes.items():
        if name.endswith("num_batches_tracked"):
            state[name] = torch.tensor(1)
        elif name.endswith("running_var"):
            state[name] = torch.rand(shape, generator=chance) + 0.5
        else:
            # Scaled so that a layer neither damps nor amplifies its input.
            spread = max(1, int(np.prod(shape[1:]))) ** -0.5
            state[name] = torch.randn(shape, generator=chance) * spread
    return state


def file_of(state: object) -> bytes:
    """Encode a state dict as a weight file."""
    written = io.BytesIO()
    torch.save(state, written)
    return written.getvalue()


def published() -> bytes:
    """Read the published weights, or skip the test if they are missing."""
    if not PUBLISHED.is_file():
        pytest.skip("the published weights of mn04_as are not beside this checkout")
    return PUBLISHED.read_bytes()


def random_head(backbone_sha256: str = "", *, n_embedding: int = 384, seed: int = 0) -> Head:
    """Draw a head of the base types with the hash of its backbone."""
    rng, types = np.random.default_rng(seed), base_types.types_of_head()
    n_types = len(types)
    return Head(
        types,
        {
            "version": str(seed),
            "backbone": "random",
            "backbone_sha256": backbone_sha256,
        },
        {
            "mean": np.zeros(n_embedding, dtype=np.float32),
            "spread": np.array(1.0, dtype=np.float32),
            "prior": np.zeros(n_types, dtype=np.float32),
            "scale": np.full(n_types, 0.1, dtype=np.float32),
            "bias": rng.normal(size=n_types).astype(np.float32),
            "weights": rng.normal(size=(n_types, n_embedding)).astype(np.float32) * 0.02,
        },
    )
