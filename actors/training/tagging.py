"""Train the head of the base types: what the backbone's embeddings mean in noise types.

    python -m actors.training.tagging --data FOLDER --backbone FILE [--head FILE]

``FOLDER`` holds ``esc10/``, ``everyday/`` and ``backgrounds/``. Sounds of one author, or of one
fold of ESC-10, are in one group; the head is judged on groups that it was not trained on.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr
import torch
from numpy.typing import NDArray

from actors import noise_types
from actors.science import decode, synth, tagger
from actors.science.backbone import RATE_HZ, SHORTEST, Array, Backbone
from actors.science.tagger import Floats, Head
from actors.science.types import BACKGROUND
from actors.training import dataset

#: Groups of sounds; a group is held out at a time.
N_GROUPS = 4

#: Copies of each sound beside the whole of it; sounds and beds that are synthesised.
COPIES, SYNTHESISED, BEDS = 5, 24, 160

#: Signal-to-noise ratios of the copies, in dB, and their gains.
SNR_DB, GAIN_DB = (0.0, 20.0), (-15.0, 0.0)

#: Penalties on the weights and on the biases, and how far rare types are made up for: 0 counts
#: every sound alike, 1 every type.
WEIGHT_PENALTY, BIAS_PENALTY, BALANCE = 0.03, 0.1, 0.5

#: How many copies hold a part of their sound, how many lie over real background, and how many
#: synthesised sounds have been through a lossy codec.
CUT_SHARE, REAL_SHARE, CODEC_SHARE = 0.5, 0.5, 0.4

#: Codecs of field recorders and phones: rate, container and coding.
CODECS = (
    (16_000, "MP3", "MPEG_LAYER_III"),
    (32_000, "MP3", "MPEG_LAYER_III"),
    (16_000, "OGG", "VORBIS"),
    (16_000, "OGG", "OPUS"),
)

SEED = 20_242
VERSION = "1.0.0"

#: Samples of a tenth of a second.
_BLOCK = RATE_HZ // 10

#: What the backgrounds hold beside what a copy lays over them: none of it is a mistake.
BACKGROUNDS = {
    "birds": ("birds",),
    "boat": ("boat", "water"),
    "city": ("road_traffic", "engine_idling", "truck_bus"),
    "coffee-shop": ("crowd", "speech"),
    "rain": ("rain", "water"),
    "storm": ("wind", "rain", "thunder"),
    "train": ("train",),
    "waves": ("sea_waves", "water"),
    "wind": ("wind",),
}

#: Who recorded the backgrounds, where, and under which licence.
BACKGROUND_CREDITS = {
    "city": "gezortenplotz, Freesound 44796, CC BY",
    "coffee-shop": "stephan, SoundBible 1664, public domain",
    "rain": "alex36917, Freesound 524605, CC BY",
    "storm": "digifishmusic, Freesound 41739, CC BY",
    "waves": "Luftrum, Freesound 48412, CC BY",
    "wind": "felix.blume, Freesound 217506, CC0",
    "boat": "Falcet, Freesound 439365, CC0",
    "birds": "kvgarlic, Freesound 156826, CC0",
    "train": "SDLx, Freesound 259988, CC BY 3.0",
}

#: The types that are synthesised.
SYNTHETIC = {
    "alarm_tone": synth.alarm_tone,
    "broadband_hiss": synth.broadband_hiss,
    "hammering": synth.hammering,
    "mains_hum": synth.mains_hum,
    "siren_sweep": synth.siren_sweep,
}


@dataclass(frozen=True, eq=False)
class Sound:
    """A labelled sound at 32 kHz; ``also`` are types that are right as well."""

    name: str
    noise_type: str
    group: str
    samples: Array
    also: tuple[str, ...] = ()
    #: The folder that it is from, if it is a recording.
    origin: str = ""


@dataclass(eq=False)
class Examples:
    """What the head learns from: a row for each copy of a sound."""

    embeddings: list[Array] = field(default_factory=list)
    types: list[str] = field(default_factory=list)
    also: list[tuple[str, ...]] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)

    def add(
        self, backbone: Backbone, sound: Sound, samples: Array, *, also: tuple[str, ...] = ()
    ) -> None:
        """Embed samples of a sound, in which some other types are right as well."""
        self.embeddings.append(backbone.embed(samples[: tagger.PIECE]))
        self.types.append(sound.noise_type)
        self.also.append((*sound.also, *also))
        self.groups.append(sound.group)

    def where(self, groups: set[str]) -> Examples:
        """The rows of some groups."""
        kept = [row for row, group in enumerate(self.groups) if group in groups]
        return Examples(
            [self.embeddings[row] for row in kept],
            [self.types[row] for row in kept],
            [self.also[row] for row in kept],
            [self.groups[row] for row in kept],
        )


def types_of_head() -> tuple[str, ...]:
    """Names of the head's columns: all types of the table that are no group, and background."""
    table = noise_types.table()
    return (*(name for name, row in table.items() if row.parent is not None), BACKGROUND)


def load(path: Path) -> Array:
    """A recording as mono at 32 kHz."""
    with path.open("rb") as file, decode.open_recording(file) as decoder:
        rate_hz = decoder.format.rate_hz
        mono = np.concatenate([block.mean(axis=1) for block in decoder.blocks()])
    resampled: Array = soxr.resample(mono.astype(np.float32), rate_hz, RATE_HZ)
    return resampled


def sounds(folder: Path) -> Iterator[Sound]:
    """Read the labelled sounds of a folder, each with its group."""
    authors: dict[str, str] = {}
    for row in dataset.read_labels(folder / "esc10"):
        authors.setdefault(row["author"].casefold(), row["fold"])
        path = folder / "esc10" / "clips" / row["file"]
        yield Sound(row["file"], row["label"], row["fold"], load(path), origin="esc10")
    for row in dataset.read_labels(folder / "everyday"):
        author = (row["author"] or row["source_repo"]).casefold()
        group = authors.setdefault(author, _group_of(author))
        path = folder / "everyday" / "clips" / row["file"]
        also = tuple(row["other_types"].split())
        yield Sound(row["file"], row["noise_type"], group, load(path), also, origin="everyday")


def synthesised(rng: np.random.Generator) -> Iterator[Sound]:
    """Make sounds of the synthesised types, and beds with nothing over them."""
    makers = [(name, make) for name, make in SYNTHETIC.items() for _ in range(SYNTHESISED)]
    makers += [(BACKGROUND, synth.background_bed)] * BEDS
    for number, (name, make) in enumerate(makers):
        n_samples = int(rng.uniform(1.0, 8.0) * RATE_HZ)
        samples = np.asarray(0.1 * make(rng, n_samples, RATE_HZ), dtype=np.float32)
        if rng.random() < CODEC_SHARE:
            samples = through_codec(samples, rng)
        yield Sound(f"{name}-{number}", name, str(number % N_GROUPS + 1), samples)


def through_codec(samples: Array, rng: np.random.Generator) -> Array:
    """Encode and decode a sound by a lossy codec of a low rate, as field recorders do."""
    rate_hz, container, subtype = CODECS[int(rng.integers(len(CODECS)))]
    slow = soxr.resample(samples, RATE_HZ, rate_hz)
    file = io.BytesIO()
    level = float(rng.uniform(0.0, 1.0))
    soundfile.write(file, slow, rate_hz, format=container, subtype=subtype, compression_level=level)
    file.seek(0)
    decoded, _ = soundfile.read(file, dtype="float32")
    back: Array = soxr.resample(decoded, rate_hz, RATE_HZ)
    return back


def backgrounds(folder: Path) -> list[tuple[str, Array]]:
    """Read the recordings of real background, by name."""
    return [(path.stem, load(path)) for path in sorted((folder / "backgrounds").glob("*.ogg"))]


def examples(
    backbone: Backbone,
    given: Iterable[Sound],
    beds: Sequence[tuple[str, Array]],
    rng: np.random.Generator,
    *,
    copies: int = COPIES,
) -> Examples:
    """Embed each sound, and copies that are cut, mixed with background and made fainter."""
    found = Examples()
    for sound in given:
        found.add(backbone, sound, sound.samples)
        for _ in range(copies if sound.noise_type != BACKGROUND else 0):
            mixed, bed = _copy(sound, beds, rng)
            found.add(backbone, sound, mixed, also=BACKGROUNDS.get(bed, ()))
    return found


def _copy(
    sound: Sound, beds: Sequence[tuple[str, Array]], rng: np.random.Generator
) -> tuple[Array, str]:
    """A cut of a sound over a background; also gives the background's name."""
    cut = _cut(sound.samples, rng)
    name, bed = "", synth.background_bed(rng, cut.size, RATE_HZ)
    if rng.random() < REAL_SHARE:
        name, whole = beds[int(rng.integers(len(beds)))]
        start = int(rng.integers(0, max(1, whole.size - cut.size)))
        bed = np.resize(whole[start : start + cut.size], cut.size)
    snr_db = float(rng.uniform(*SNR_DB))
    fainter = over(cut, bed, snr_db) * 10 ** (rng.uniform(*GAIN_DB) / 20)
    return np.clip(fainter, -1.0, 1.0).astype(np.float32), name


def mixed(samples: Array, snr_db: float, rng: np.random.Generator) -> Array:
    """Lay a sound over a synthesised bed."""
    return over(samples, synth.background_bed(rng, samples.size, RATE_HZ), snr_db)


def over(samples: Array, bed: Array, snr_db: float) -> Array:
    """Lay a sound over a bed that is ``snr_db`` below the sound's loud tenths of a second."""
    powers = _powers(samples)
    loud = powers[powers >= 0.03 * powers.max()].mean()
    ratio = np.sqrt(loud / max(float(np.square(bed).mean()), 1e-12)) * 10 ** (-snr_db / 20)
    found: Array = (samples + bed * ratio).astype(np.float32)
    return found


def _cut(samples: Array, rng: np.random.Generator) -> Array:
    """The part of a sound that is loud enough, or at times a part of that."""
    powers = _powers(samples)
    loud = np.flatnonzero(powers >= 1e-3 * powers.max())
    first, last = int(loud[0]), int(loud[-1]) + 1
    if last - first > 15 and rng.random() < CUT_SHARE:
        length = int(rng.uniform(10, last - first))
        first += int(rng.integers(0, last - first - length + 1))
        last = first + length
    first, last = max(0, first - int(rng.integers(0, 4))), last + int(rng.integers(0, 4))
    part = samples[first * _BLOCK : last * _BLOCK]
    return np.pad(part, (0, max(0, SHORTEST - part.size)))


def _powers(samples: Array) -> Floats:
    """Mean squares of tenths of a second."""
    padded = np.pad(samples, (0, -samples.size % _BLOCK))
    found: Floats = np.square(padded, dtype=np.float64).reshape(-1, _BLOCK).mean(axis=1)
    return found


def fit(backbone: Backbone, given: Examples, *, header: dict[str, Any]) -> Head:
    """Train the head on examples: multinomial regression beside the tags, with both penalised.

    ``header`` names the backbone and its hash; see `Head`.
    """
    types = types_of_head()
    embeddings = np.stack(given.embeddings)
    mean, spread = embeddings.mean(axis=0), embeddings.std()
    tags = tagger.of_types(backbone.tags(embeddings), types)
    prior = tags.mean(axis=0)
    right = np.zeros((len(given.types), len(types)), dtype=bool)
    for row, (name, also) in enumerate(zip(given.types, given.also, strict=True)):
        right[row, [types.index(each) for each in (name, *also) if each in types]] = True
    counts = Counter(given.types)
    weights = np.array([counts[name] ** -BALANCE for name in given.types])
    learns = np.array([name in counts for name in types])
    scale, bias, learnt = _descend(
        (embeddings - mean) / spread, tags - prior, right, weights / weights.sum(), learns
    )
    return Head(
        types,
        {"version": VERSION, "temperature": 1.0, **header},
        {
            "mean": mean.astype(np.float32),
            "spread": np.array(spread, dtype=np.float32),
            "prior": prior.astype(np.float32),
            "scale": np.array(scale, dtype=np.float32),
            "bias": bias.astype(np.float32),
            "weights": learnt.astype(np.float32),
        },
    )


def _descend(
    embeddings: Floats,
    tags: Floats,
    right: NDArray[np.bool_],
    weights: Floats,
    learns: NDArray[np.bool_],
) -> tuple[float, Floats, Floats]:
    """Minimise the penalised cross-entropy; gives scale, bias and weights."""
    inputs, tagged = torch.from_numpy(embeddings).double(), torch.from_numpy(tags).double()
    wrong = torch.from_numpy(np.where(right, 0.0, -np.inf))
    of_rows, learnt = torch.from_numpy(weights), torch.from_numpy(learns).double()
    scale = torch.ones((), dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(tags.shape[1], dtype=torch.float64, requires_grad=True)
    weight = torch.zeros(
        (tags.shape[1], embeddings.shape[1]), dtype=torch.float64, requires_grad=True
    )
    descent = torch.optim.LBFGS([scale, bias, weight], max_iter=150, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        descent.zero_grad()
        logits = scale * tagged + learnt * (bias + inputs @ weight.T)
        surprise = -torch.logsumexp(torch.log_softmax(logits, dim=1) + wrong, dim=1)
        penalty = WEIGHT_PENALTY * weight.square().sum() + BIAS_PENALTY * bias.square().mean()
        found = (of_rows * surprise).sum() + penalty
        found.backward()  # type: ignore[no-untyped-call]
        return found

    descent.step(loss)  # type: ignore[no-untyped-call]
    masked = learnt[:, None] * weight
    return scale.item(), (learnt * bias).detach().numpy(), masked.detach().numpy()


def _group_of(author: str) -> str:
    """A group for an author whom ESC-10 does not have: by a hash, the same each time."""
    return str(hashlib.sha256(author.encode()).digest()[0] % N_GROUPS + 1)


def header_of(data: bytes) -> dict[str, Any]:
    """Name the backbone of a weight file in a head's header."""
    return {"backbone": "mn04_as", "backbone_sha256": hashlib.sha256(data).hexdigest()}


def material(folder: Path, data: bytes) -> tuple[Backbone, Examples, list[Sound]]:
    """Read a backbone, and embed all that there is to learn from; the recordings come with it."""
    backbone, rng = Backbone.from_bytes(data), np.random.default_rng(SEED)
    given = [*sounds(folder), *synthesised(rng)]
    print(f"{len(given)} sounds; embedding copies of them", flush=True)
    learnt = examples(backbone, given, backgrounds(folder), rng)
    print(f"{len(learnt.types)} examples in {len(set(learnt.groups))} groups", flush=True)
    return backbone, learnt, given


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="tagging", description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the recordings")
    parser.add_argument("--backbone", type=Path, required=True, help="the weights of mn04_as")
    parser.add_argument("--head", type=Path, help="write the head to this file")
    options = parser.parse_args(arguments)
    data = options.backbone.read_bytes()
    backbone, learnt, _ = material(options.data, data)
    header = header_of(data)
    groups = sorted(set(learnt.groups))
    for group in groups:
        head = fit(backbone, learnt.where({*groups} - {group}), header=header)
        share = accuracy(head, backbone, learnt.where({group}))
        print(f"without group {group}: {share:.1%} of its examples right", flush=True)
    if options.head is not None:
        options.head.write_bytes(fit(backbone, learnt, header=header).to_bytes())
        credits_file = options.head.parent / "CREDITS-types.md"
        rows = dataset.read_labels(options.data / "everyday")
        credits_file.write_text(credits_text(rows), encoding="utf-8")
        print(f"wrote {options.head} and {credits_file}", flush=True)
    return 0


def credits_text(rows: Sequence[dict[str, str]]) -> str:
    """Credit whoever recorded the sounds that the head was trained on."""
    lines = [
        "# Credits of the base types",
        "",
        "`types.npz` was trained on the clips of ESC-10 that [CREDITS.md](CREDITS.md) lists, on",
        "the recordings below, and on synthesised sounds. All were cut, resampled, mixed and",
        "changed in level. The network: [CREDITS-backbone.md](CREDITS-backbone.md).",
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
    lines += [f"- {name}: {credit}" for name, credit in BACKGROUND_CREDITS.items()]
    return "\n".join(lines) + "\n"


def accuracy(head: Head, backbone: Backbone, given: Examples) -> float:
    """The share of examples whose likeliest type is right."""
    embeddings = np.stack(given.embeddings)
    best = head.logits(embeddings, backbone.tags(embeddings)).argmax(axis=1)
    hits = [
        head.types[column] in (name, *also)
        for column, name, also in zip(best, given.types, given.also, strict=True)
    ]
    return float(np.mean(hits))


if __name__ == "__main__":
    sys.exit(main())
