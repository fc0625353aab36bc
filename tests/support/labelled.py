"""Labelled clips and forms for the tests of training, few and short."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from actors.science import synth
from tests.support import recordings

RATE_HZ = 16_000
LABELS = ("mains_hum", "siren_sweep")


def sound(label: str, *, seconds: float = 1.5, seed: int = 0) -> NDArray[np.float32]:
    """Return a sound of a synthesised type; ``background`` is a bed."""
    rng = np.random.default_rng(seed)
    make = synth.SOUNDS.get(label, synth.background_bed)
    samples = make(rng, int(seconds * RATE_HZ), RATE_HZ)
    return (0.1 * samples).astype(np.float32)


def clips(
    *, labels: Sequence[str] = LABELS, each: int = 4, seed: int = 0
) -> tuple[str, dict[str, bytes]]:
    """Return a manifest and its files."""
    lines, files = ["file,label"], {}
    for label in labels:
        for number in range(each):
            name = f"{label}/{number}.flac"
            lines.append(f"{name},{label}")
            samples = sound(label, seed=seed + number)
            files[name] = recordings.encode(samples, rate_hz=RATE_HZ)
    return "\n".join(lines), files


def form(
    texts: Mapping[str, str | bytes], files: Mapping[str, bytes], *, model: bytes | None = None
) -> tuple[bytes, dict[str, str]]:
    """Return a multipart body and its headers."""
    boundary = f"between-{uuid.uuid4().hex}"
    parts: list[tuple[str, bytes]] = []
    for name, value in texts.items():
        data = value.encode() if isinstance(value, str) else value
        parts.append((f'name="{name}"', data))
    if model is not None:
        parts.append(('name="model"; filename="model.clamor"', model))
    parts += [(f'name="clip"; filename="{name}"', data) for name, data in files.items()]
    body = b"".join(
        f"--{boundary}\r\nContent-Disposition: form-data; {head}\r\n\r\n".encode() + data + b"\r\n"
        for head, data in parts
    )
    headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    return body + f"--{boundary}--\r\n".encode(), headers
