"""How fast the ear is on one core: `make bench`.

Prints a table of times real time (how many seconds of audio a second of work gets through), each
the median of several runs, from a 44.1 kHz FLAC to events, and what one chunk costs. Time is
that which the processor spent on this process: other work on the machine counts less.
"""

from __future__ import annotations

import argparse
import io
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table
from threadpoolctl import threadpool_limits

from actors.science import chunks, classifier, cnn, decode, ear, features, synth
from actors.science.meter import LevelMeter
from actors.science.prepare import MonoResampler, pcm_to_float, prepare

#: Length of the recording that is made when none is given.
MINUTES = 2


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("file", nargs="?", type=Path, help="a recording; else one is made")
    parser.add_argument("--runs", type=int, default=7, help="runs of each stage (%(default)s)")
    options = parser.parse_args()
    content = _recording() if options.file is None else options.file.read_bytes()
    bench = Bench(content)
    found: list[tuple[str, float]] = []
    console = Console()
    with threadpool_limits(1):
        for name, stage in track(bench.stages.items(), console=Console(file=sys.stderr)):
            found.append((name, _median_s(stage, runs=options.runs)))
        one_chunk_s = _median_s(bench.one_chunk, runs=50 * options.runs)
    table = Table(title=f"{bench.duration_s:.0f} s of audio, one core, median of {options.runs}")
    table.add_column("stage")
    table.add_column("times real time", justify="right")
    table.add_column("ms for a second", justify="right")
    for name, seconds in found:
        table.add_row(
            name, f"{bench.duration_s / seconds:,.0f}", f"{1e3 * seconds / bench.duration_s:.2f}"
        )
    console.print(table)
    console.print(f"classification of a single chunk: {1e3 * one_chunk_s:.2f} ms")
    return 0


class Bench:
    """The stages of the way from a file to events, each on its own and all in a row."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._model = classifier.shipped()
        with decode.open_recording(io.BytesIO(content)) as decoder:
            self._rate_hz, self._n_channels = decoder.format.rate_hz, decoder.format.n_channels
            self._blocks = list(decoder.blocks())
        self.duration_s = sum(map(len, self._blocks)) / self._rate_hz
        pcm = bytearray()
        with decode.open_recording(io.BytesIO(content)) as decoder:
            self._prepared = prepare(decoder, write=pcm.extend)
        self._samples = pcm_to_float(bytes(pcm))
        self._scores = self._look()
        self._padded = np.pad(self._samples, features.MARGIN)
        self._chunk = features.extract(
            self._padded[: chunks.CHUNK + 2 * features.MARGIN], [(0, chunks.CHUNK)]
        )
        self.stages: dict[str, Callable[[], object]] = {
            "decoding": self._decode,
            "levels": self._measure,
            "resampling": self._resample,
            "features: log-mel": lambda: cnn.log_mel(self._samples),
            "features: chunks of 1 s": self._extract,
            "first look": self._look,
            "second look and events": self._name,
            "the whole": self._whole,
        }

    def one_chunk(self) -> object:
        """The vote on a chunk whose features are there."""
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

    def _resample(self) -> None:
        resampler = MonoResampler(rate_hz=self._rate_hz)
        for block in self._blocks:
            resampler.push(block)
        resampler.finish()

    def _extract(self) -> object:
        ranges = [
            (start, start + chunks.CHUNK)
            for start in range(0, self._samples.size - chunks.CHUNK, chunks.CHUNK)
        ]
        return features.extract(self._padded, ranges)

    def _look(self) -> NDArray[np.float32]:
        return ear.listen(self._model, self._samples, lead=self._prepared.grid.lead)

    def _name(self) -> object:
        return ear.find_events(
            self._model,
            self._scores,
            read=ear.in_memory(self._samples),
            grid=self._prepared.grid,
            levels=self._prepared.levels,
        )

    def _whole(self) -> object:
        pcm = bytearray()
        with decode.open_recording(io.BytesIO(self._content)) as decoder:
            prepared = prepare(decoder, write=pcm.extend)
        samples = pcm_to_float(bytes(pcm))
        return ear.hear(self._model, samples, levels=prepared.levels, grid=prepared.grid)


def _recording() -> bytes:
    parts = [synth.demo_recording(seed)[0] for seed in range(1, 1 + 2 * MINUTES)]
    file = io.BytesIO()
    soundfile.write(file, np.concatenate(parts), synth.DEMO_RATE_HZ, format="FLAC")
    return file.getvalue()


def _median_s(stage: Callable[[], object], *, runs: int) -> float:
    stage()
    taken: list[float] = []
    for _ in range(runs):
        began = time.process_time()
        stage()
        taken.append(time.process_time() - began)
    return statistics.median(taken)


if __name__ == "__main__":
    sys.exit(main())
