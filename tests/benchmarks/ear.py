"""Benchmark audio analysis on one core, with and without the backbone: `make bench`.

Prints the speed from a 44.1 kHz FLAC to detections and of each step, as times real time (seconds of
audio per second of work) and in milliseconds per second of audio. Times are CPU times of this
process, to reduce the effect of other load. The steps run in turns, and each figure is the median
of its runs, so that a temporary load does not distort comparisons.
"""

from __future__ import annotations

import argparse
import io
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table
from threadpoolctl import threadpool_limits

from actors.science.audio_io import decode, spectrogram
from actors.science.audio_io.prepare import MonoResampler, Prepared, pcm_to_float, prepare
from actors.science.audio_io.spectrogram import Spectrogram
from actors.science.detection import chunks, classifier, cnn, features, inference
from actors.science.detection.second_opinion import SecondOpinion
from actors.science.detection.tagging import tagger
from actors.science.detection.tagging.backbone import RATE_HZ as WIDE_RATE_HZ
from actors.science.detection.tagging.backbone import BackboneNetwork
from actors.science.detection.tagging.tagger import Tagger
from actors.science.levels.meter import LevelMeter
from actors.science.types import Event
from tests.benchmarks import scene

#: The two rows to compare.
WITHOUT, WITH = "the whole, without the backbone", "the whole, with the backbone"

Samples = NDArray[np.float32]


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("file", nargs="?", type=Path, help="(default: a generated recording)")
    parser.add_argument("--data", type=Path, help="folder with everyday/ and backgrounds/")
    parser.add_argument("--backbone", type=Path, help="weights of the backbone")
    parser.add_argument("--runs", type=int, default=7, help="runs of each step (%(default)s)")
    options = parser.parse_args()
    console = Console()
    if options.file is None:
        content, what = scene.recording(options.data)
    else:
        content, what = options.file.read_bytes(), options.file.name
    beside = None
    if options.backbone is not None and options.backbone.is_file():
        network = BackboneNetwork.from_bytes(options.backbone.read_bytes())
        beside = Tagger(network, tagger.shipped_head())
    else:
        console.print("Without the backbone: its weights are missing; see `clamor model fetch`")
    with threadpool_limits(1):
        bench = Bench(content, beside)
        taken = _in_turns(bench.stages, runs=options.runs)
        one_chunk_s = _median_s(bench.one_chunk, runs=50 * options.runs)
    title = f"{what}: {bench.duration_s:.0f} s of audio, one core, median of {options.runs}"
    console.print(_table(title, taken, duration_s=bench.duration_s))
    if beside is not None:
        ratio = statistics.median(
            slow / fast for slow, fast in zip(taken[WITH], taken[WITHOUT], strict=True)
        )
        console.print(
            f"with the backbone it takes {ratio:.2f} times as long; it embeds {len(bench.pieces)} "
            f"pieces, {sum(map(len, bench.pieces)) / WIDE_RATE_HZ:.0f} s in total"
        )
    console.print(f"classification of a single chunk: {1e3 * one_chunk_s:.2f} ms")
    return 0


class Bench:
    """The steps from a file to detections, separately and all together."""

    def __init__(self, content: bytes, beside: Tagger | None) -> None:
        self._content = content
        self._model = classifier.shipped()
        self._beside = beside
        with decode.open_recording(io.BytesIO(content)) as decoder:
            self._rate_hz, self._n_channels = decoder.format.rate_hz, decoder.format.n_channels
            self._blocks = list(decoder.blocks())
        self.duration_s = sum(map(len, self._blocks)) / self._rate_hz
        self._prepared, self._samples, self._wide = self._prepare(is_wide=True)
        self._scores = self._look()
        self._padded = np.pad(self._samples, features.MARGIN)
        self._chunk = features.extract(
            self._padded[: chunks.CHUNK + 2 * features.MARGIN], [(0, chunks.CHUNK)]
        )
        #: The parts of the recording that the backbone embeds, at 32 kHz.
        self.pieces: list[Samples] = []
        if beside is not None:
            with _noted(self.pieces):
                self._name(beside)
        self.stages: dict[str, Callable[[], object]] = {
            "decoding": self._decode,
            "levels": self._measure,
            "resampling to 16 kHz": lambda: self._resample(chunks.RATE_HZ),
            "spectrogram": self._draw,
            "log-mel for framewise scoring": lambda: cnn.log_mel(self._samples),
            "features of chunks of 1 s": self._extract,
            "framewise scoring": self._look,
            "segment classification, without the backbone": lambda: self._name(None),
        }
        if beside is not None:
            self.stages |= {
                "backbone: resampling to 32 kHz": lambda: self._resample(WIDE_RATE_HZ),
                "backbone: embedding": lambda: [
                    beside.backbone.frames(piece) for piece in self.pieces
                ],
                "segment classification, with the backbone": lambda: self._name(beside),
            }
        self.stages[WITHOUT] = lambda: self._whole(None)
        if beside is not None:
            self.stages[WITH] = lambda: self._whole(beside)

    def one_chunk(self) -> object:
        """Classify a chunk with precomputed features."""
        return self._model.scores(self._chunk)

    def _decode(self) -> None:
        with decode.open_recording(io.BytesIO(self._content)) as decoder:
            for _ in decoder.blocks():
                pass

    def _measure(self) -> object:
        meter = LevelMeter(rate_hz=self._rate_hz, n_channels=self._n_channels)
        for block in self._blocks:
            meter.push(block)
        return meter.finish()

    def _resample(self, to_hz: int) -> None:
        used = range(self._n_channels)
        resampler = MonoResampler(rate_hz=self._rate_hz, used=used, to_hz=to_hz)
        for block in self._blocks:
            resampler.push(block)
        resampler.finish()

    def _draw(self) -> object:
        picture = Spectrogram()
        picture.push(self._samples)
        return spectrogram.to_png(picture.finish())

    def _extract(self) -> object:
        ranges = [
            (start, start + chunks.CHUNK)
            for start in range(0, self._samples.size - chunks.CHUNK, chunks.CHUNK)
        ]
        return features.extract(self._padded, ranges)

    def _look(self) -> Samples:
        return inference.score_recording(self._model, self._samples, lead=self._prepared.grid.lead)

    def _name(self, beside: Tagger | None) -> list[Event]:
        return inference.find_events(
            self._model,
            self._scores,
            read=inference.in_memory(self._samples),
            grid=self._prepared.grid,
            levels=self._prepared.levels,
            opinion=_opinion(beside, self._wide),
        )

    def _prepare(self, *, is_wide: bool) -> tuple[Prepared, Samples, Samples]:
        """Run the split step: levels, decoded audio at one rate or both, and the spectrogram."""
        pcm, wide, picture = bytearray(), bytearray(), Spectrogram()
        with decode.open_recording(io.BytesIO(self._content)) as decoder:
            prepared = prepare(
                decoder,
                write=pcm.extend,
                write_wide=wide.extend if is_wide else None,
                spectrogram=picture,
            )
        spectrogram.to_png(picture.finish())
        return prepared, pcm_to_float(bytes(pcm)), pcm_to_float(bytes(wide))

    def _whole(self, beside: Tagger | None) -> list[Event]:
        prepared, samples, wide = self._prepare(is_wide=beside is not None)
        return inference.detect(
            self._model,
            samples,
            levels=prepared.levels,
            grid=prepared.grid,
            opinion=_opinion(beside, wide),
        )


def _opinion(beside: Tagger | None, wide: Samples) -> SecondOpinion | None:
    return None if beside is None else SecondOpinion(beside, inference.in_memory(wide), wide.size)


@contextmanager
def _noted(pieces: list[Samples]) -> Iterator[None]:
    """Collect the samples that are embedded within the block."""
    frames = BackboneNetwork.frames

    def noting(self: BackboneNetwork, samples: Samples) -> Samples:
        pieces.append(samples)
        return frames(self, samples)

    BackboneNetwork.frames = noting  # type: ignore[method-assign]
    try:
        yield
    finally:
        BackboneNetwork.frames = frames  # type: ignore[method-assign]


def _in_turns(stages: Mapping[str, Callable[[], object]], *, runs: int) -> dict[str, list[float]]:
    """Return the CPU seconds of all runs of each stage, except the first run."""
    taken: dict[str, list[float]] = {name: [] for name in stages}
    for _ in track(range(runs + 1), "in turns", console=Console(file=sys.stderr)):
        for name, stage in stages.items():
            began = time.process_time()
            stage()
            taken[name].append(time.process_time() - began)
    return {name: times[1:] for name, times in taken.items()}


def _table(title: str, taken: Mapping[str, list[float]], *, duration_s: float) -> Table:
    table = Table(title=title)
    table.add_column("step")
    table.add_column("ms per second", justify="right")
    table.add_column("times real time", justify="right")
    for name, times in taken.items():
        seconds = statistics.median(times)
        table.add_row(name, f"{1e3 * seconds / duration_s:.2f}", f"{duration_s / seconds:,.0f}")
    return table


def _median_s(stage: Callable[[], object], *, runs: int) -> float:
    taken = _in_turns({"": stage}, runs=runs)
    return statistics.median(taken[""])


if __name__ == "__main__":
    sys.exit(main())
