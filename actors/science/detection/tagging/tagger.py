"""The base types: the probability of each noise type in some seconds of sound at 32 kHz.

Logistic regressions over the backbone's embedding and its AudioSet tags. The tags alone overuse
`music` and `speech`; the head subtracts each tag's average over everyday sounds and learns the rest
from labelled recordings. Types without recordings use their tags alone. Each type is judged
independently: a sound may contain several of them, or none.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources

import numpy as np
from numpy.typing import NDArray

from actors.facts import noise_types
from actors.science.detection.tagging.backbone import RATE_HZ, SHORTEST, Array, BackboneNetwork
from actors.science.detection.tagging.mobilenet import N_TAGS
from actors.science.errors import ModelError
from actors.science.types import AnyArray

Floats = NDArray[np.float64]

#: Longest piece that is embedded at once: AudioSet's clips last ten seconds.
PIECE = 10 * RATE_HZ

#: Tag of a type without AudioSet classes: very unlikely.
_NO_TAG = -12.0

_ARRAYS = ("mean", "spread", "prior", "scale", "bias", "weights")


@dataclass(frozen=True, eq=False)
class Head:
    """The linear head.

    Attributes
    ----------
    types
        Names of the columns.
    header
        Version, and name and SHA-256 of the backbone that it was trained on.
    arrays
        ``mean`` [shape=(n_embedding,)] and ``spread`` [shape=()] of embeddings; ``prior``
        [shape=(n_types,)], the mean tag of each type, and ``scale``, the weight of its tag;
        ``bias`` [shape=(n_types,)]; ``weights`` [shape=(n_types, n_embedding)].
    """

    types: tuple[str, ...]
    header: Mapping[str, object]
    arrays: Mapping[str, AnyArray]

    def logits(self, embeddings: Array, tags: Array) -> Floats:
        """Compute logits of embeddings [shape=(n, n_embedding)] with tags [shape=(n, N_TAGS)]."""
        own = self.arrays
        prior = own["scale"] * (of_types(tags, self.types) - own["prior"])
        learnt = (embeddings - own["mean"]) / own["spread"] @ own["weights"].T
        found: Floats = np.asarray(prior + learnt + own["bias"], dtype=np.float64)
        return found

    def to_bytes(self) -> bytes:
        """Encode as an ``.npz`` file; the same head gives the same bytes."""
        header = json.dumps({**self.header, "types": list(self.types)}, sort_keys=True)
        written = io.BytesIO()
        np.savez(
            written,
            allow_pickle=False,
            header=np.frombuffer(header.encode(), dtype=np.uint8),
            **dict(self.arrays),
        )
        return written.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> Head:
        """Read the output of `to_bytes`.

        Raises
        ------
        ModelError
            If the file is damaged.
        """
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as file:
                header = json.loads(file["header"].tobytes())
                arrays = {name: file[name] for name in _ARRAYS}
        except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise ModelError("the file of the base types is damaged") from error
        return cls(tuple(header.pop("types")), header, arrays)


@dataclass(frozen=True, eq=False)
class Tagger:
    """The backbone with its head."""

    backbone: BackboneNetwork
    head: Head

    @property
    def name(self) -> str:
        """The backbone's name, and the head's version."""
        return f"{self.head.header['backbone']} {self.head.header['version']}"

    @property
    def types(self) -> tuple[str, ...]:
        """Names of the columns of `probabilities`."""
        return self.head.types

    def frames(self, piece: Array) -> Array:
        """Embed a piece of sound [shape=(n,)] at 32 kHz; see `BackboneNetwork.frames`.

        A constant offset is removed, which would otherwise be classified as a hum.
        """
        return self.backbone.frames(piece - piece.mean(dtype=np.float64).astype(np.float32))

    def probabilities(self, embeddings: Array) -> Floats:
        """Compute the probability of each type in one sound [shape=(n_types,)].

        Takes the embeddings [shape=(n, n_embedding)] of its pieces.
        """
        return _sigmoid(self.logits(embeddings).mean(axis=0))

    def evidence(self, embeddings: Array) -> Floats:
        """Return how far a sound's tags exceed those of everyday sound [shape=(n_types,)].

        In log-odds, 0 for types without AudioSet classes. Takes the embeddings of `probabilities`.
        """
        tags = of_types(self.backbone.tags(embeddings), self.types)
        found: Floats = (tags - self.head.arrays["prior"]).mean(axis=0)
        return found

    def over_time(self, frames: Array, *, width: int) -> Floats:
        """Compute the probability of each type around each frame [shape=(n_frames, n_types)].

        Takes `frames` of one piece; each is averaged over ``width`` frames around it, an odd
        number.
        """
        first = np.maximum(np.arange(len(frames)) - width // 2, 0)
        stop = np.minimum(np.arange(len(frames)) + width // 2 + 1, len(frames))
        sums = np.concatenate([np.zeros((1, frames.shape[1])), np.cumsum(frames, axis=0)])
        means = (sums[stop] - sums[first]) / (stop - first)[:, None]
        return _sigmoid(self.logits(means.astype(np.float32)))

    def logits(self, embeddings: Array) -> Floats:
        """Compute the head's logits [shape=(n, n_types)] of embeddings [shape=(n, n_embedding)]."""
        return self.head.logits(embeddings, self.backbone.tags(embeddings))


def _sigmoid(logits: Floats) -> Floats:
    found: Floats = 1.0 / (1.0 + np.exp(-logits))
    return found


@cache
def shipped_head() -> Head:
    """Read the head that comes with the package."""
    return Head.from_bytes((resources.files("actors.science") / "model" / "types.npz").read_bytes())


def pieces_of(start: int, stop: int, *, n_samples: int) -> list[tuple[int, int]]:
    """Cut the segment ``[start, stop)`` of a recording into pieces to embed, as sample ranges.

    Equal parts of at most `PIECE`. A segment shorter than `SHORTEST` is extended by the sound
    around it, where the recording has it.
    """
    lacking = max(0, SHORTEST - (stop - start))
    start = max(0, min(start - lacking // 2, n_samples - SHORTEST))
    stop = min(max(stop, start + SHORTEST), n_samples)
    n_parts = max(1, -(-(stop - start) // PIECE))
    length = (stop - start) // n_parts
    return [(start + part * length, start + (part + 1) * length) for part in range(n_parts)]


def of_types(tags: Array, types: tuple[str, ...]) -> Floats:
    """Return the strongest of the tags [shape=(..., N_TAGS)] by type [shape=(..., n_types)]."""
    silent = np.full((*tags.shape[:-1], 1), _NO_TAG)
    found: Floats = np.concatenate([tags, silent], axis=-1)[..., _outputs(types)].max(axis=-1)
    return found


@cache
def _outputs(types: tuple[str, ...]) -> NDArray[np.intp]:
    """Return the outputs of each type as a row, padded with its first; ``N_TAGS`` for none."""
    table = noise_types.table()
    rows = [(table[name].audioset_outputs if name in table else ()) or (N_TAGS,) for name in types]
    longest = max(map(len, rows), default=1)
    filled = [[*row, *row[:1] * (longest - len(row))] for row in rows]
    return np.array(filled, dtype=np.intp).reshape(len(types), longest)
