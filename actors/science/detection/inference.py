"""Inference in two passes: framewise scoring, then segment classification.

Framewise scoring gives class probabilities ten times a second; they decide where there is sound. If
the model has networks over samples, only these are used; any other model classifies overlapping
chunks of one second.

Segment classification decides what a segment is, from the whole of it: all estimators vote on
chunks of about two seconds. It errs less than any single frame or chunk.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from actors.science.detection import cnn, ensemble, features, naming, segmentation
from actors.science.detection.chunks import (
    CHUNK,
    CHUNK_STEP,
    RATE_HZ,
    STEP,
    Grid,
    count_steps,
    plan_chunks,
    plan_spans,
)
from actors.science.detection.classifier import Classifier
from actors.science.detection.contrast import Surroundings
from actors.science.detection.decoding import find_segments
from actors.science.detection.ensemble import Array, Estimator
from actors.science.detection.holes import Interval
from actors.science.detection.second_opinion import SecondOpinion
from actors.science.detection.segment_views import (
    MARGIN,
    Read,
    Views,
    views_by_frames,
)
from actors.science.detection.silence import QUIET_DB
from actors.science.levels.levels import LevelHistory
from actors.science.levels.meter import LevelMeter
from actors.science.types import Event

#: Samples of context on either side for framewise scoring, where the recording has them. A multiple
#: of the grid.
CONTEXT = cnn.REACH

_LEAST_PROBABILITY = 1e-4


def score_frames(model: Classifier, samples: Array, *, before: int, n_samples: int) -> Array:
    """Compute the class probabilities of every frame of a slice of a recording.

    Parameters
    ----------
    model
        The classifier.
    samples : numpy.ndarray [shape=(n,), dtype=float32]
        The slice at 16 kHz, with up to `CONTEXT` samples of the recording before and after it.
        There is no context beyond the ends of the grid; it is not padded.
    before
        Samples of context before the slice; a multiple of `STEP`.
    n_samples
        Length of the slice, without context.

    Returns
    -------
    numpy.ndarray [shape=(count_steps(n_samples), n_classes), dtype=float32]
        Rows sum to 1.
    """
    n_steps = count_steps(n_samples)
    networks = [member for member in model.members if isinstance(member, cnn.Convolutional)]
    if not networks:
        return _by_chunks(model, samples, before=before, n_samples=n_samples)
    # Pad a frame that the end of the recording cuts short, even in the context, so that its score
    # is the same from every slice.
    whole = np.pad(samples, (0, -samples.size % STEP))
    first = before // STEP
    frames = cnn.frames_of(whole)
    logits = [member.logits_of(frames)[first : first + n_steps] for member in networks]
    return ensemble.vote(networks, logits).astype(np.float32)


def score_span(model: Classifier, read: Read, start: int, stop: int, *, grid: Grid) -> Array:
    """Score the samples ``[start, stop)`` of a grid framewise, with the context this needs.

    Both are multiples of `CHUNK_STEP`, unless ``stop`` is the end of the grid. Returns
    [shape=(count_steps(stop - start), n_classes)].
    """
    first, last = max(0, start - CONTEXT), min(stop + CONTEXT, grid.length)
    samples = read(first - grid.lead, last - grid.lead)
    return score_frames(model, samples, before=start - first, n_samples=stop - start)


def score_recording(model: Classifier, samples: Array, *, lead: int = 0) -> Array:
    """Score a whole recording in memory framewise, span by span.

    Takes samples [shape=(n,)] at 16 kHz whose grid begins ``lead`` samples before them, returns
    [shape=(count_steps(lead + n), n_classes)]. Memory is bounded: an hour takes no more than a
    minute.
    """
    grid, read = Grid(samples.size, lead=lead), in_memory(samples)
    return np.concatenate(
        [
            score_span(model, read, span.start, span.stop, grid=grid)
            for span in plan_spans(grid.length)
        ]
    )


def detect(
    model: Classifier,
    samples: Array,
    *,
    levels: LevelHistory | None = None,
    grid: Grid | None = None,
    opinion: SecondOpinion | None = None,
    quiet_db: float = QUIET_DB,
) -> list[Event]:
    """Detect the events of a recording in memory, by the same two passes as the pipeline.

    Parameters
    ----------
    model
        The classifier.
    samples : numpy.ndarray [shape=(n,), dtype=float32]
        Mono at 16 kHz, at least one sample.
    levels
        Levels of the same recording; measured from ``samples`` if omitted.
    grid
        Its grid, as `prepare` returns it; by default aligned to the loudest sample at 16 kHz.
    opinion
        The base types, where there is a backbone.
    quiet_db
        The level below which sound is silence.
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
        score_recording(model, samples, lead=grid.lead),
        read=in_memory(samples),
        grid=grid,
        levels=levels,
        opinion=opinion,
        quiet_db=quiet_db,
    )


def find_events(
    model: Classifier,
    scores: Array,
    *,
    read: Read,
    grid: Grid,
    levels: LevelHistory,
    thresholds: Mapping[str, float] | None = None,
    opinion: SecondOpinion | None = None,
    holes: Sequence[Interval] = (),
    quiet_db: float = QUIET_DB,
) -> list[Event]:
    """Detect the events of a recording from its framewise scores on its grid.

    ``thresholds`` are minimum confidences by noise type that override the model's own. Detections
    below them are dropped, and do not become unclassified instead. With an ``opinion``, events may
    have all base types and their groups, and steady sound is classified, too. Without one, the gate
    of the model rejects sounds of other types than its classes.
    Nothing is detected in ``holes``, which ``read`` and the ``opinion`` return filled, nor below
    ``quiet_db``; see `silence`.
    """
    asked = thresholds or {}
    least = naming.least_of(model, with_base_types=opinion is not None)
    least |= {name: min(p, least.get(name, segmentation.THRESHOLD)) for name, p in asked.items()}
    views = views_by_frames(read, grid)
    own = segment_classifier(model, scores, views, with_base_types=opinion is not None)
    classify, classify_steady = naming.classifiers(
        own, model, opinion, least, grid, gate_votes(model, scores, views)
    )
    found = segmentation.merge(
        scores,
        classes=model.classes,
        classify=classify,
        levels=levels,
        blur_s=blur_s(model),
        lead_s=grid.lead_s,
        classify_steady=classify_steady,
        stands_out=Surroundings(read, grid, levels).differ,
        holes=holes,
        quiet_db=quiet_db,
    )
    return [event for event in found if event.confidence >= asked.get(event.noise_type, 0.0)]


def classify_clip(model: Classifier, samples: Array) -> Array:
    """Return the class probabilities of a clip with at most one sound [shape=(n_classes,)].

    Classifies the part from the start of the first segment to the end of the last; the whole clip
    if there is no segment.
    """
    scores = score_recording(model, samples)
    found = find_segments(scores, classes=model.classes)
    first, stop = (found[0].first, found[-1].stop) if found else (0, len(scores))
    heard = np.concatenate([scores[each.first : each.stop] for each in found] or [scores])
    views = views_by_frames(in_memory(samples), Grid(samples.size))
    return classify_segment(model, views(first, stop), first=heard)


def blur_s(model: Classifier) -> float:
    """Return how far framewise scores may extend beyond a sound, in seconds.

    Half a chunk and a frame for a model that classifies chunks; a frame for one with a network.
    """
    by_chunks = "samples" not in model.input_kinds
    return (STEP + by_chunks * CHUNK // 2) / RATE_HZ


def segment_classifier(
    model: Classifier,
    scores: Array,
    views: Callable[[int, int], Views],
    *,
    with_base_types: bool = False,
) -> naming.ScoreSegment:
    """Return a function that classifies segments of a recording by the model.

    ``scores`` are the framewise scores of the whole recording, on its grid; ``views`` gives the
    other inputs of a segment. With base types, only the model's `quick_members` vote.
    """
    members = model.quick_members if with_base_types else model.members

    def score(first: int, stop: int) -> Array:
        return classify_segment(model, views(first, stop), first=scores[first:stop], by=members)

    return score


def gate_votes(
    model: Classifier, scores: Array, views: Callable[[int, int], Views]
) -> naming.Votes | None:
    """Return a function that classifies segments by each estimator of the model's gate, if any."""
    gate = model.gate
    if gate is None:
        return None
    return lambda first, stop: votes_on(gate.members, views(first, stop), first=scores[first:stop])


def in_memory(samples: Array) -> Read:
    """Return a reader of a recording in memory."""

    def read(start: int, stop: int) -> Array:
        before, behind = max(0, -start), max(0, stop - samples.size)
        return np.pad(samples[max(0, start) : max(0, stop)], (before, behind))

    return read


def classify_segment(
    model: Classifier, views: Views, *, first: Array, by: Sequence[Estimator] | None = None
) -> Array:
    """Compute the class probabilities of a segment.

    Parameters
    ----------
    model
        The classifier.
    views
        Its inputs; see `segment_views`.
    first : numpy.ndarray [shape=(n_steps, n_classes)]
        Its framewise scores.
    by
        The estimators that vote; all of the model by default.

    Returns
    -------
    numpy.ndarray [shape=(n_classes,), dtype=float32]
        Sums to 1.
    """
    members = model.members if by is None else by
    weights = [member.weight for member in members]
    voted = np.average(votes_on(members, views, first=first), axis=0, weights=weights)
    sharpened = np.maximum(voted, _LEAST_PROBABILITY) ** (1.0 / model.vote_temperature)
    return np.asarray(sharpened / sharpened.sum(), dtype=np.float32)


def votes_on(members: Sequence[Estimator], views: Views, *, first: Array) -> NDArray[np.float64]:
    """Return the class probabilities of a segment by each of some estimators.

    ``views`` and ``first`` are those of `classify_segment`. Returns
    [shape=(n_estimators, n_classes)].
    """
    return np.stack(
        [
            _pooled(first)
            if member.input_kind == "samples"
            else _pooled(ensemble.vote([member], [member.logits(views(member.input_kind))]))
            for member in members
        ]
    )


def _pooled(rows: NDArray[np.floating]) -> NDArray[np.float64]:
    """Pool rows of probabilities: the mean of their logarithms, normalised."""
    mean = np.log(np.maximum(rows, _LEAST_PROBABILITY), dtype=np.float64).mean(axis=0)
    shares: NDArray[np.float64] = np.exp(mean - mean.max())
    shares /= shares.sum()
    return shares


def _by_chunks(model: Classifier, samples: Array, *, before: int, n_samples: int) -> Array:
    """Framewise scores of a model that uses only features of chunks."""
    # Chunks begin up to half a chunk before the slice.
    shift = CHUNK // 2
    ranges = [(chunk.start + shift, chunk.stop + shift) for chunk in plan_chunks(n_samples)]
    begin = before - shift
    window = in_memory(samples)(begin - MARGIN, begin + ranges[-1][1] + MARGIN)
    scores = model.scores(features.extract(window, ranges))
    return np.repeat(scores, CHUNK_STEP // STEP, axis=0)[: count_steps(n_samples)]
