"""The base types: how likely each noise type is in a sound of some seconds at 32 kHz.

Logistic regressions over the backbone's embedding and its AudioSet tags. The tags alone answer
`music` or `speech` for want of better; the head takes away what each tag has on average over
everyday sounds and learns the rest from labelled recordings. Types of which there are no recordings
keep their tags alone. Each type is judged by itself: a sound may hold several of them, or none.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray

from actors import noise_types
from actors.science.backbone import RATE_HZ, SHORTEST, Array, Backbone
from actors.science.errors import ModelError

Floats = NDArray[np.float64]

#: The longest piece that is embedded at once, and how many of them are taken of a sound, evenly
#: spread: AudioSet's clips last ten seconds, and more pieces of a rain change nothing.
PIECE = 10 * RATE_HZ
MOST_PIECES = 6

#: What a type without AudioSet classes has for its tag: very unlikely.
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
        Version, and name and sha256 of the backbone that it was trained on.
    arrays
        ``mean`` [shape=(n_embedding,)] and ``spread`` [shape=()] of embeddings; ``prior``
        [shape=(n_types,)], the mean tag of each type, and ``scale``, what its tag counts;
        ``bias`` [shape=(n_types,)]; ``weights`` [shape=(n_types, n_embedding)].
    """

    types: tuple[str, ...]
    header: Mapping[str, Any]
    arrays: Mapping[str, NDArray[Any]]

    def logits(self, embeddings: Array, tags: Array) -> Floats:
        """Score embeddings [shape=(n, n_embedding)] with their tags [shape=(n, N_TAGS)]."""
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
        """Read what `to_bytes` wrote.

        Raises
        ------
        ModelError
            When the file is damaged.
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

    backbone: Backbone
    head: Head

    @property
    def name(self) -> str:
        """The backbone's name, and the version of the head."""
        return f"{self.head.header['backbone']} {self.head.header['version']}"

    @property
    def types(self) -> tuple[str, ...]:
        """Names of the columns of `probabilities`."""
        return self.head.types

    def probabilities(self, pieces: list[Array]) -> Floats:
        """Compute the probability of each type, given pieces of one sound [shape=(n_types,)].

        Takes pieces [shape=(n,)] at 32 kHz, as `pieces_of` cuts them. A constant offset is taken
        away: it would come out as a hum.
        """
        centred = (piece - piece.mean(dtype=np.float64).astype(np.float32) for piece in pieces)
        return self.of_embeddings(np.stack([self.backbone.embed(piece) for piece in centred]))

    def of_embeddings(self, embeddings: Array) -> Floats:
        """Compute the same of the embeddings of the pieces [shape=(n, n_embedding)]."""
        logits = self.head.logits(embeddings, self.backbone.tags(embeddings)).mean(axis=0)
        found: Floats = 1.0 / (1.0 + np.exp(-logits))
        return found


@cache
def shipped_head() -> Head:
    """Read the head that comes with the package."""
    return Head.from_bytes((resources.files(__package__) / "model" / "types.npz").read_bytes())


def pieces_of(start: int, stop: int, *, n_samples: int) -> list[tuple[int, int]]:
    """Cut the stretch ``[start, stop)`` of a recording into pieces to embed, as sample ranges.

    Equal parts of at most `PIECE`, of which at most `MOST_PIECES` are taken. A shorter stretch
    than `SHORTEST` is taken with the sound around it, where the recording has it.
    """
    lacking = max(0, SHORTEST - (stop - start))
    start = max(0, min(start - lacking // 2, n_samples - SHORTEST))
    stop = min(max(stop, start + SHORTEST), n_samples)
    n_parts = max(1, -(-(stop - start) // PIECE))
    length = (stop - start) // n_parts
    taken = np.linspace(0, n_parts - 1, min(n_parts, MOST_PIECES)).round().astype(int)
    return [(start + part * length, start + (part + 1) * length) for part in taken.tolist()]


def of_types(tags: Array, types: tuple[str, ...]) -> Floats:
    """The strongest tag of each type [shape=(..., n_types)] of tags [shape=(..., N_TAGS)]."""
    table = noise_types.table()
    found = np.full((*tags.shape[:-1], len(types)), _NO_TAG)
    for column, name in enumerate(types):
        outputs = table[name].audioset_outputs if name in table else ()
        if outputs:
            found[..., column] = tags[..., list(outputs)].max(axis=-1)
    return found
