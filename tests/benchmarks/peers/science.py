"""The science of the peers: the functions that Clamor calls, in memory, with Clamor's defaults."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from actors.analytics import analysis_answer
from actors.audio import detection_rows, level_answer
from actors.audio.detect import SCORES
from actors.science.audio_io import decode, spectrogram
from actors.science.audio_io.prepare import Prepared, pcm_to_float, prepare
from actors.science.audio_io.spectrogram import Spectrogram
from actors.science.detection import classifier, inference
from actors.science.detection.chunks import plan_spans
from actors.science.detection.classifier import Classifier
from actors.science.levels import event_levels
from actors.science.summaries.session_analysis import Events
from db.tables.sessions import AudioSession

Samples = NDArray[np.float32]


@dataclass(frozen=True)
class Decoded:
    """A decoded recording: its levels and grid, its samples at 16 kHz, and its spectrogram."""

    prepared: Prepared
    samples: Samples
    picture: bytes


@dataclass(frozen=True)
class Answer:
    """The answer for a recording: its events as rows, and its documents."""

    events: Sequence[dict[str, Any]]
    levels: bytes
    analysis: dict[str, Any]


@cache
def model() -> Classifier:
    """Return the shipped model, loaded once a process."""
    return classifier.shipped()


def decoded(file: Path) -> Decoded:
    """Decode a recording, measure its levels and draw its spectrogram."""
    pcm, picture = bytearray(), Spectrogram()
    with decode.open_recording(io.BytesIO(file.read_bytes())) as decoder:
        prepared = prepare(decoder, write=pcm.extend, spectrogram=picture)
    return Decoded(prepared, pcm_to_float(bytes(pcm)), spectrogram.to_png(picture.finish()))


def scores(samples: Samples, prepared: Prepared, start: int, stop: int) -> Samples:
    """Score a part of the grid, in half precision as Clamor stores scores."""
    read = inference.in_memory(samples)
    found = inference.score_span(model(), read, start, stop, grid=prepared.grid)
    return found.astype(SCORES).astype(np.float32)


def all_scores(of: Decoded) -> Samples:
    """Score a whole recording, a minute at a time."""
    spans = plan_spans(of.prepared.grid.length)
    return np.concatenate(
        [scores(of.samples, of.prepared, span.start, span.stop) for span in spans]
    )


def answer(samples: Samples, prepared: Prepared, framewise: Samples) -> Answer:
    """Find the events of a scored recording, and compute its documents."""
    found = inference.find_events(
        model(),
        framewise,
        read=inference.in_memory(samples),
        grid=prepared.grid,
        levels=prepared.levels,
    )
    measured = event_levels.measured(found, prepared.levels, prepared.totals)
    shown = detection_rows.as_shown(measured, None)
    session = AudioSession(state="completed", duration_s=prepared.duration_s)
    events = Events.of(
        **{
            name: [getattr(event, name) for event in shown]
            for name in ("start_s", "end_s", "noise_type", "confidence", "laeq_db", "lafmax_db")
        }
    )
    analysis = analysis_answer.Given(
        session=session,
        limits_db={},
        events=events,
        levels=prepared.levels,
        runs=[],
        spans_failed=0,
    )
    levels = level_answer.document(session, prepared.levels, prepared.totals)
    return Answer(
        events=[dict(detection_rows.columns(event)) for event in shown],
        levels=msgspec.json.encode(levels),
        analysis=msgspec.to_builtins(analysis_answer.document(analysis)),
    )


def complete(file: Path) -> tuple[Decoded, Answer]:
    """Do all of the work on a recording."""
    of = decoded(file)
    return of, answer(of.samples, of.prepared, all_scores(of))


def write_products(folder: Path, name: str, of: Decoded, found: Answer) -> None:
    """Write the files that Clamor keeps of a recording: levels, their document, the spectrogram."""
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.levels").write_bytes(of.prepared.levels.to_bytes())
    (folder / f"{name}.json").write_bytes(found.levels)
    (folder / f"{name}.png").write_bytes(of.picture)
