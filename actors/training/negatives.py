"""Embeddings of the base types' training data, as negatives for types trained beside them.

The recordings do not ship, so their embeddings do: some of each base type, and some of background.
Without them, a type trained from a few examples would match sounds of every other type.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources

import numpy as np
from numpy.typing import NDArray

#: The file in the folder of the shipped model.
FILE_NAME = "negatives.npz"


@dataclass(frozen=True, eq=False)
class Negatives:
    """Labelled embeddings.

    Attributes
    ----------
    types
        Names of the columns of ``is_right``.
    backbone_sha256
        The weights of the backbone that embedded them.
    embeddings : numpy.ndarray [shape=(n, n_embedding), dtype=float16]
    labels : numpy.ndarray [shape=(n,), dtype=uint8]
        The column of each row's type; the number of columns for background.
    is_right : numpy.ndarray [shape=(n, n_types), dtype=bool]
        The correct types of each row; the background of a copy may be a type as well.
    """

    types: tuple[str, ...]
    backbone_sha256: str
    embeddings: NDArray[np.float16]
    labels: NDArray[np.uint8]
    is_right: NDArray[np.bool_]

    def to_bytes(self) -> bytes:
        """Encode as an ``.npz`` file; the same rows give the same bytes."""
        header = {"types": list(self.types), "backbone_sha256": self.backbone_sha256}
        written = io.BytesIO()
        np.savez(
            written,
            header=np.frombuffer(json.dumps(header, sort_keys=True).encode(), dtype=np.uint8),
            embeddings=self.embeddings,
            labels=self.labels,
            is_right=self.is_right,
        )
        return written.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> Negatives:
        """Read the output of `to_bytes`."""
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            header = json.loads(file["header"].tobytes())
            rows = (file[name] for name in ("embeddings", "labels", "is_right"))
            return cls(tuple(header["types"]), header["backbone_sha256"], *rows)

    def where(self, kept: NDArray[np.bool_]) -> Negatives:
        """Select the rows of a mask."""
        return replace(
            self,
            embeddings=self.embeddings[kept],
            labels=self.labels[kept],
            is_right=self.is_right[kept],
        )

    @property
    def is_sound(self) -> NDArray[np.bool_]:
        """The rows that are not background."""
        return self.labels < len(self.types)

    def right_among(self, types: Sequence[str]) -> NDArray[np.bool_]:
        """Return ``is_right`` for other columns [shape=(n, len(types))]."""
        found = np.zeros((len(self.labels), len(types)), dtype=bool)
        for column, name in enumerate(types):
            if name in self.types:
                found[:, column] = self.is_right[:, self.types.index(name)]
        return found


@cache
def shipped() -> Negatives:
    """Read the embeddings that come with the package."""
    folder = resources.files("actors.science") / "model"
    return Negatives.from_bytes((folder / FILE_NAME).read_bytes())
