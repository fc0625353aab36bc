"""Train the head of the base types, from the backbone's embeddings to noise types.

    python -m actors.training.shipped_model.base_types --data FOLDER --backbone FILE [--head FILE]

``FOLDER`` is that of `data_folder`. The head is tested on groups that it was not trained on.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from actors.facts import noise_types
from actors.science.detection.tagging import tagger
from actors.science.detection.tagging.backbone import BackboneNetwork
from actors.science.detection.tagging.tagger import Floats, Head
from actors.science.types import JsonDict
from actors.training import head_fitting, negatives
from actors.training.shipped_model import data_folder
from actors.training.shipped_model.base_type_examples import (
    EmbeddedSounds,
    choose_negatives,
    learn_from,
)

#: Penalties on the weights and on the biases, and the compensation for rare types: 0 weighs every
#: sound alike, 1 every type.
WEIGHT_PENALTY, BIAS_PENALTY, BALANCE = 0.02, 0.03, 0.5

VERSION = "2.1.0"


def types_of_head() -> tuple[str, ...]:
    """Return the head's columns: all types that are not groups."""
    return tuple(name for name, row in noise_types.table().items() if row.parent is not None)


def fit(backbone: BackboneNetwork, given: EmbeddedSounds, *, header: JsonDict) -> Head:
    """Train the head: logistic regressions beside the tags, with penalised weights and biases.

    The types of a row should be probable, and more so than all others; types that are merely
    accepted count neither way. ``header`` names the backbone and its hash; see `Head`.
    """
    types = types_of_head()
    embeddings = np.stack(given.embeddings)
    mean, spread = embeddings.mean(axis=0), embeddings.std()
    tags = tagger.of_types(backbone.tags(embeddings), types)
    prior = tags.mean(axis=0)
    present, allowed = targets(given, types)
    counts = Counter(given.types)
    rarity = np.array([counts[row] ** -BALANCE for row in given.types])
    scale, bias, learnt = _descend(
        (embeddings - mean) / spread, tags - prior, present, allowed, rarity / rarity.mean()
    )
    is_taught = present.any(axis=0)
    by_tag = _by_tag((tags - prior)[:, is_taught], present[:, is_taught], allowed[:, is_taught])
    return Head(
        types,
        {"version": VERSION, **header},
        {
            "mean": mean.astype(np.float32),
            "spread": np.array(spread, dtype=np.float32),
            "prior": prior.astype(np.float32),
            "scale": np.where(is_taught, scale, by_tag[0]).astype(np.float32),
            "bias": np.where(is_taught, bias, by_tag[1]).astype(np.float32),
            "weights": learnt.astype(np.float32),
        },
    )


def targets(
    given: EmbeddedSounds, types: Sequence[str]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return the types in each row, and the types accepted in it [both shape=(n, n_types)]."""
    present = np.zeros((len(given.types), len(types)), dtype=bool)
    allowed = np.zeros_like(present)
    columns = {name: column for column, name in enumerate(types)}
    for row, (own, also) in enumerate(zip(given.types, given.also, strict=True)):
        for name in (*own, *also):
            for near in {*noise_types.below(name), *noise_types.above(name)} & columns.keys():
                allowed[row, columns[near]] = True
        present[row, [columns[name] for name in own]] = True
    return present, allowed


def _by_tag(
    tags: Floats, present: NDArray[np.bool_], allowed: NDArray[np.bool_]
) -> tuple[float, float]:
    """Fit one scale and bias for all types by tags alone, for types without examples."""
    counts = present | ~allowed
    found = LogisticRegression(C=1e3).fit(tags[counts][:, None], present[counts])
    return float(found.coef_[0, 0]), float(found.intercept_[0])


def _descend(
    embeddings: Floats,
    tags: Floats,
    present: NDArray[np.bool_],
    allowed: NDArray[np.bool_],
    rarity: Floats,
) -> tuple[float, Floats, Floats]:
    """Minimise the penalised `head_fitting.surprise`; return scale, biases and weights.

    Types without examples have no weights, and are left out of the independent loss.
    """
    learns = torch.from_numpy(present.any(axis=0)).double()
    inputs, tagged = torch.from_numpy(embeddings).double(), torch.from_numpy(tags).double()
    truth, possible = torch.from_numpy(present), torch.from_numpy(present | allowed)
    counts = torch.from_numpy(present | ~allowed).double() * learns
    of_rows = torch.from_numpy(rarity)
    scale = torch.ones((), dtype=torch.float64, requires_grad=True)
    common = torch.full((), -3.0, dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(tags.shape[1], dtype=torch.float64, requires_grad=True)
    weight = torch.zeros(
        (tags.shape[1], embeddings.shape[1]), dtype=torch.float64, requires_grad=True
    )
    descent = torch.optim.LBFGS(
        [scale, common, bias, weight], max_iter=150, line_search_fn="strong_wolfe"
    )

    def loss() -> torch.Tensor:
        descent.zero_grad()
        logits = scale * tagged + common + bias + learns * (inputs @ weight.T)
        penalty = WEIGHT_PENALTY * weight.square().sum() + BIAS_PENALTY * bias.square().mean()
        found = (
            head_fitting.surprise(logits, truth, counts, possible, of_rows) / len(truth) + penalty
        )
        found.backward()  # type: ignore[no-untyped-call]
        return found

    descent.step(loss)  # type: ignore[no-untyped-call]
    masked = learns[:, None] * weight
    biases: Floats = (common + bias).detach().numpy()
    return scale.item(), biases, masked.detach().numpy()


def header_of(data: bytes) -> JsonDict:
    """Return the header fields that identify the backbone of a weight file."""
    return {"backbone": "mn04_as", "backbone_sha256": hashlib.sha256(data).hexdigest()}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="base_types", description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the recordings")
    parser.add_argument("--backbone", type=Path, required=True, help="the weights of mn04_as")
    parser.add_argument("--head", type=Path, help="write the head to this file")
    options = parser.parse_args(arguments)
    data = options.backbone.read_bytes()
    backbone = BackboneNetwork.from_bytes(data)
    learnt, _ = learn_from(options.data, backbone)
    header = header_of(data)
    groups = sorted(set(learnt.groups))
    for group in groups:
        head = fit(backbone, learnt.where({*groups} - {group}), header=header)
        share = accuracy(head, backbone, learnt.where({group}))
        print(f"without group {group}: {share:.1%} of its examples right", flush=True)
    if options.head is not None:
        options.head.write_bytes(fit(backbone, learnt, header=header).to_bytes())
        credits_file = options.head.parent / "CREDITS-types.md"
        rows = data_folder.read_labels(options.data / "everyday")
        credits_file.write_text(credits_text(rows), encoding="utf-8")
        negatives_file = options.head.parent / negatives.FILE_NAME
        sha256 = header["backbone_sha256"]
        chosen = choose_negatives(learnt, types_of_head(), backbone_sha256=sha256)
        negatives_file.write_bytes(chosen.to_bytes())
        print(f"wrote {options.head}, {credits_file} and {negatives_file}", flush=True)
    return 0


def credits_text(rows: Sequence[dict[str, str]]) -> str:
    """Credit the authors of the sounds that the head was trained on."""
    lines = [
        "# Credits of the base types",
        "",
        "`types.npz` and `gate.clamor` were trained on the clips of ESC-10 that",
        "[CREDITS.md](CREDITS.md) lists, on the recordings below, and on synthesised sounds;",
        "`negatives.npz` has embeddings of some of them. All were cut, resampled, mixed and",
        "changed in level. The network:",
        "[CREDITS-backbone.md](CREDITS-backbone.md).",
        "",
        "## Everyday noise",
        "",
    ]
    for row in sorted(rows, key=lambda row: row["file"]):
        title = " ".join(row["title"].split()) or row["source_path"].rpartition("/")[2]
        author = row["author"] or "unnamed"
        source = f"github.com/{row['source_repo']}"
        lines.append(f'- {row["file"]}: "{title}" by {author}, {row["licence"]}, {source}')
    lines += ["", "## Background", ""]
    lines += [
        f"- {name}: {bed.author}, {bed.source}, {bed.licence}"
        for name, bed in data_folder.BACKGROUNDS.items()
    ]
    return "\n".join(lines) + "\n"


def accuracy(head: Head, backbone: BackboneNetwork, given: EmbeddedSounds) -> float:
    """Compute the fraction of sounds whose most probable type is correct."""
    embeddings = np.stack(given.embeddings)
    best = head.logits(embeddings, backbone.tags(embeddings)).argmax(axis=1)
    hits = [
        head.types[column] in (*types, *also)
        for column, types, also in zip(best, given.types, given.also, strict=True)
        if types
    ]
    return float(np.mean(hits))


if __name__ == "__main__":
    sys.exit(main())
