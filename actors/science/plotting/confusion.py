"""The plot of a confusion matrix."""

from __future__ import annotations

import io
from collections.abc import Sequence
from textwrap import shorten

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

_DPI = 110
#: Maximum length of a class name beside the matrix.
_MOST_CHARS = 28
#: Names are shown verbatim: a dollar sign does not start a formula.
_PLAIN = {"parse_math": False}


def draw(matrix: NDArray[np.int64], classes: Sequence[str], *, title: str) -> bytes:
    """Draw a confusion matrix.

    Parameters
    ----------
    matrix : numpy.ndarray [shape=(n_classes, n_classes)]
        Number of clips by true class (row) and predicted class (column).
    classes
        Names of rows and columns.
    title
        Title above the plot.

    Returns
    -------
    bytes
        A PNG file. Colours are shares of the row, so that rare classes are as visible as common
        ones; numbers are clips.
    """
    n_classes = len(classes)
    totals = matrix.sum(axis=1, keepdims=True)
    shares = np.divide(matrix, totals, out=np.zeros(matrix.shape), where=totals > 0)
    side_in = 2.6 + 0.44 * n_classes
    figure = Figure(
        figsize=(max(side_in + 0.9, 5.5), max(side_in, 4.2)), dpi=_DPI, layout="constrained"
    )
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="Blues", vmin=0.0, vmax=1.0)
    for row, column in zip(*np.nonzero(matrix), strict=True):
        axes.text(
            column,
            row,
            str(matrix[row, column]),
            ha="center",
            va="center",
            fontsize=9,
            color="white" if shares[row, column] > 0.55 else "black",
        )
    names = [shorten(name.replace("_", " "), _MOST_CHARS, placeholder=" ...") for name in classes]
    with_counts = [f"{name} ({total})" for name, total in zip(names, totals[:, 0], strict=True)]
    axes.set_xticks(
        range(n_classes), names, rotation=50, ha="right", rotation_mode="anchor", **_PLAIN
    )
    axes.set_yticks(range(n_classes), with_counts, **_PLAIN)
    axes.set_xticks(np.arange(n_classes + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(n_classes + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="#DDDDDD", linewidth=0.6)
    axes.tick_params(which="both", length=0)
    axes.set_xlabel("taken for")
    axes.set_ylabel("true class (clips)")
    figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold", **_PLAIN)
    figure.colorbar(image, ax=axes, label="share of the true class", shrink=0.8, pad=0.02)
    out = io.BytesIO()
    figure.savefig(out, format="png")
    return out.getvalue()
