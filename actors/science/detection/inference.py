"""How a model listens: a quick look at every step, and a long look at each sound that was found.

The first look says, ten times a second, how likely each class is. It decides where something
sounds. A model with a network that hears samples uses that alone; any other model classifies
overlapping chunks of one second.

The second look says what a stretch is that the first one found, by the whole of it: chunks of
about two seconds, on which all members vote. It errs less than any single step or chunk does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from actors.science.detection import cnn, ensemble, features, naming, segmentation, textures
from actors.science.detection.chunks import (
    CHUNK,
    CHUNK_STEP,
    HOP,
    MIN_CHUNK,
    RATE_HZ,
    STEP,
    Grid,
    count_steps,
    plan_chunks,
    plan_spans,
)
from actors.science.detection.classifier import Model
from actors.science.detection.ensemble import Array
from actors.science.detection.second_opinion import SecondOpinion
from actors.science.levels.levels import LevelSeries
from actors.science.levels.meter import LevelMeter
from actors.science.types import Event

#: Samples of context that the first look wants on either side of what it scores, where the
#: recording has them. A multiple of the grid.
CONTEXT = cnn.REACH

#: Samples around a stretch that the second look's features want, where the recording has them.
MARGIN = features.MARGIN

#: The second look takes a stretch in equal parts of about this many samples, and their mean. One
#: look at five seconds errs more often than the mean of two or three looks at parts of them.
PART = 2 * RATE_HZ

#: At most this many parts are looked at, evenly spread over the stretch: more says nothing new of
#: what sounds, and a rain of hours would take minutes.
_MOST_PARTS = 12

_LEAST_PROBABILITY = 1e-4

#: Gives the samples ``[start, stop)`` of a recording at 16 kHz, silent outside of it. They are
#: counted from its beginning, not from that of its grid.
Read = Callable[[int, int], Array]


def first_look(model: Model, samples: Array, *, before: int, n_samples: int) -> Array:
    """Class probabilities at every step of a slice of a recording.

    Parameters
    ----------
    model
        The classifier.
    samples : numpy.ndarray [shape=(n,), dtype=float32]
        The slice at 16 kHz, with up to `CONTEXT` samples of the recording before and after it.
        At the grid's ends there is nothing before and after; it is not made up.
    before
        Samples of context before the slice; a multiple of `STEP`.
    n_samples
        Length of the slice itself.

    Returns
    -------
    numpy.ndarray [shape=(count_steps(n_samples), n_classes), dtype=float32]
        Rows sum to 1.
    """
    n_steps = count_steps(n_samples)
    hearers = [member for member in model.members if isinstance(member, cnn.Convolutional)]
    if not hearers:
        return _by_chunks(model, samples, before=before, n_samples=n_samples)
    # Silence fills a step that the recording's end cuts short, be it only context: it is heard
    # the same from every slice.
    whole = np.pad(samples, (0, -samples.size % STEP))
    first = before // STEP
    frames = cnn.frames_of(whole)
    logits = [member.logits_of(frames)[first : first + n_steps] for member in hearers]
    return ensemble.vote(hearers, logits).astype(np.float32)


def look_at(model: Model, read: Read, start: int, stop: int, *, grid: Grid) -> Array:
    """The first look at the samples ``[start, stop)`` of a grid, with the context it wants.

    Both are multiples of `CHUNK_STEP`, unless ``stop`` is where the grid ends. Gives
    [shape=(count_steps(stop - start), n_classes)].
    """
    first, last = max(0, start - CONTEXT), min(stop + CONTEXT, grid.length)
    samples = read(first - grid.lead, last - grid.lead)
    return first_look(model, samples, before=start - first, n_samples=stop - start)


def listen(model: Model, samples: Array, *, lead: int = 0) -> Array:
    """The first look at a whole recording that is in memory, span by span.

    Takes samples [shape=(n,)] at 16 kHz whose grid begins ``lead`` before them, gives
    [shape=(count_steps(lead + n), n_classes)]. Memory is bounded: an hour takes no more of it
    than a minute.
    """
    grid, read = Grid(samples.size, lead=lead), in_memory(samples)
    return np.concatenate(
        [look_at(model, read, span.start, span.stop, grid=grid) for span in plan_spans(grid.length)]
    )


def hear(
    model: Model,
    samples: Array,
    *,
    levels: LevelSeries | None = None,
    grid: Grid | None = None,
    opinion: SecondOpinion | None = None,
) -> list[Event]:
    """The events of a recording that is in memory: both looks, as the pipeline takes them.

    Parameters
    ----------
    model
        The classifier.
    samples : numpy.ndarray [shape=(n,), dtype=float32]
        Mono at 16 kHz, at least one sample.
    levels
        Levels of the same recording; measured at 16 kHz where there is no more of it.
    grid
        Its grid, as `prepare` tells it; by the loudest sample at 16 kHz where nobody does.
    opinion
        The base types beside the model, where there is a backbone.
    """
    if grid is None:
        loudest = int(np.abs(samples).argmax())
        grid = Grid.hung_on(loudest / RATE_HZ, n_samples=samples.size)
    if levels is None:
        meter = LevelMeter(rate_hz=RATE_HZ, n_channels=1)
        meter.push(samples[:, None])
        levels = meter.finish()
    return find_events(
        model,
        listen(model, samples, lead=grid.lead),
        read=in_memory(samples),
        grid=grid,
        levels=levels,
        opinion=opinion,
    )


def find_events(
    model: Model,
    scores: Array,
    *,
    read: Read,
    grid: Grid,
    levels: LevelSeries,
    thresholds: Mapping[str, float] | None = None,
    opinion: SecondOpinion | None = None,
) -> list[Event]:
    """The events of a recording, by the scores of its first look on its grid.

    ``thresholds`` are least confidences by noise type, in place of the model's own. What is heard
    with less is left out, but it stays heard: it is not unclassified instead. With an ``opinion``
    events may have all base types and their groups, and steady sound is named, too.
    """
    asked = thresholds or {}
    least = naming.least_of(model, with_base_types=opinion is not None)
    least |= {name: min(p, least.get(name, segmentation.THRESHOLD)) for name, p in asked.items()}
    own = looker(model, scores, read=read, grid=grid)
    look, steady_look = naming.looks(own, model, opinion, least, grid)
    found = segmentation.merge(
        scores,
        classes=model.classes,
        look=look,
        levels=levels,
        blur_s=blur_s(model),
        lead_s=grid.lead_s,
        steady_look=steady_look,
    )
    return [event for event in found if event.confidence >= asked.get(event.noise_type, 0.0)]


def name_clip(model: Model, samples: Array) -> Array:
    """Class probabilities of a clip that holds one sound, or none [shape=(n_classes,)].

    The second look at all from where the first look hears something to where it last does. Where
    it hears nothing at all, the whole clip is looked at.
    """
    scores = listen(model, samples)
    found = segmentation.find_stretches(scores, classes=model.classes)
    first, stop = (found[0].first, found[-1].stop) if found else (0, len(scores))
    heard = np.concatenate([scores[each.first : each.stop] for each in found] or [scores])
    read = in_memory(samples)
    return second_look(model, _parts(read, first, stop, grid=Grid(samples.size)), first=heard)


def blur_s(model: Model) -> float:
    """How far the first look may reach beyond a sound, in seconds.

    Half a chunk and a step for a model that classifies chunks; a step for one with a network.
    """
    by_chunks = "samples" not in model.needs
    return (STEP + by_chunks * CHUNK // 2) / RATE_HZ


def looker(model: Model, scores: Array, *, read: Read, grid: Grid) -> naming.Look:
    """The model's second look at stretches of a recording.

    ``scores`` are those of the first look at the whole recording, on its grid.
    """

    def look(first: int, stop: int) -> Array:
        parts = _parts(read, first, stop, grid=grid)
        return second_look(model, parts, first=scores[first:stop])

    return look


def in_memory(samples: Array) -> Read:
    """Reads from a recording that is in memory."""

    def read(start: int, stop: int) -> Array:
        before, behind = max(0, -start), max(0, stop - samples.size)
        return np.pad(samples[max(0, start) : max(0, stop)], (before, behind))

    return read


def second_look(model: Model, parts: Sequence[Array], *, first: Array) -> Array:
    """Class probabilities of a stretch that sounds.

    Parameters
    ----------
    model
        The classifier.
    parts
        The stretch at 16 kHz, or parts of it, as `chunks_of` cuts it, each [shape=(n + 2 *
        MARGIN,)] with `MARGIN` samples around it.
    first : numpy.ndarray [shape=(n_steps, n_classes)]
        What the first look made of its steps.

    Returns
    -------
    numpy.ndarray [shape=(n_classes,), dtype=float32]
        Sums to 1.
    """
    weights = [member.weight for member in model.members]
    looks = {
        view: np.stack([extract(part) for part in parts])
        for view, extract in VIEWS.items()
        if view in model.needs
    }
    opinions = [
        _pooled(first)
        if member.needs == "samples"
        else _pooled(ensemble.vote([member], [member.logits(looks[member.needs])]))
        for member in model.members
    ]
    voted = np.average(opinions, axis=0, weights=weights)
    sharpened = np.maximum(voted, _LEAST_PROBABILITY) ** (1.0 / model.vote_temperature)
    return np.asarray(sharpened / sharpened.sum(), dtype=np.float32)


def chunks_of(start: int, stop: int, *, n_samples: int) -> list[tuple[int, int]]:
    """The chunks that the second look takes of a stretch, as sample ranges ``[start, stop)``.

    Equal parts of about `PART`, of which at most `_MOST_PARTS` are taken. A stretch that is
    shorter than `MIN_CHUNK` is heard with what lies around it; a recording that is shorter, whole.
    """
    lacking = max(0, MIN_CHUNK - (stop - start))
    start = max(0, min(start - lacking // 2, n_samples - MIN_CHUNK))
    stop = min(max(stop, start + MIN_CHUNK), n_samples)
    n_parts = max(1, -(-(stop - start - MIN_CHUNK) // PART))
    length = (stop - start) // n_parts
    taken = np.linspace(0, n_parts - 1, min(n_parts, _MOST_PARTS)).round().astype(int)
    return [(start + part * length, start + (part + 1) * length) for part in taken.tolist()]


def chunk_features(samples: Array) -> Array:
    """Features [shape=(N_FEATURES,)] of a chunk with `MARGIN` samples around it."""
    padded = _filled(samples)
    length = (padded.size - 2 * MARGIN) // HOP * HOP
    found: Array = features.extract(padded, [(0, length)])[0]
    return found


def chunk_textures(samples: Array) -> Array:
    """Textures [shape=(N_TEXTURES,)] of a chunk with `MARGIN` samples around it."""
    padded = _filled(samples)
    return textures.extract(padded[MARGIN : padded.size - MARGIN])


#: What the second look can take of a chunk with `MARGIN` samples around it.
VIEWS: Mapping[str, Callable[[Array], Array]] = {
    "features": chunk_features,
    "textures": chunk_textures,
}


def _filled(samples: Array) -> Array:
    """A recording may be shorter than the shortest chunk: silence fills it."""
    return np.pad(samples, (0, max(0, MIN_CHUNK + 2 * MARGIN - samples.size)))


def _parts(read: Read, first: int, stop: int, *, grid: Grid) -> list[Array]:
    """The chunks of the steps ``[first, stop)``, each with its margin."""
    return [
        read(start - grid.lead - MARGIN, end - grid.lead + MARGIN)
        for start, end in chunks_of(first * STEP, stop * STEP, n_samples=grid.length)
    ]


def _pooled(rows: NDArray[np.floating]) -> NDArray[np.float64]:
    """One opinion of many: the mean of the logarithms, normalised."""
    mean = np.log(np.maximum(rows, _LEAST_PROBABILITY), dtype=np.float64).mean(axis=0)
    shares: NDArray[np.float64] = np.exp(mean - mean.max())
    shares /= shares.sum()
    return shares


def _by_chunks(model: Model, samples: Array, *, before: int, n_samples: int) -> Array:
    """The first look of a model that knows nothing but features of chunks."""
    # Chunks begin up to half a chunk before the slice.
    shift = CHUNK // 2
    ranges = [(chunk.start + shift, chunk.stop + shift) for chunk in plan_chunks(n_samples)]
    begin = before - shift
    window = in_memory(samples)(begin - MARGIN, begin + ranges[-1][1] + MARGIN)
    scores = model.scores(features.extract(window, ranges))
    return np.repeat(scores, CHUNK_STEP // STEP, axis=0)[: count_steps(n_samples)]
