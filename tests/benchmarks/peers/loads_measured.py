"""Throughput, latency and cold starts of the programs, in turns."""

from __future__ import annotations

import statistics
from contextlib import ExitStack

from tests.benchmarks.peers.figures import Section
from tests.benchmarks.peers.loads import Load
from tests.benchmarks.peers.stage import Stage

#: Numbers of workers, and how tables name them.
WORKERS = {1: "one worker", 2: "two workers"}
LATENCY_CLIP_S = 10.0


def throughput(stage: Stage, load: Load) -> Section:
    """Measure seconds, CPU seconds and memory of a load on one and on two workers."""
    section = Section(load.name)
    for n_workers, workers in WORKERS.items():
        with ExitStack() as stack:
            programs = stage.programs(stack)
            for program in programs:
                stage.said.print(f"{load.name}, {workers}: {program.name} starts")
                stack.enter_context(program.running(n_workers, warm=stage.warm()))
            for number in range(stage.rounds):
                for program in stage.rotated(programs, number):
                    figures = stage.run(program, load.files)
                    stage.said.print(f"  round {number + 1}: {program.name} {figures.took_s:.2f} s")
                    section.add(f"{workers}: s", program.name, figures.took_s)
                    section.add(f"{workers}: CPU s", program.name, figures.cpu_s)
            for program in programs:
                peak_mb = program.peak_bytes() / 1e6
                section.add(f"{workers}: peak MB of a process", program.name, peak_mb)
    one, two = (f"{workers}: s" for workers in WORKERS.values())
    for name in section.rows[one]:
        ratio = section.median(one, name) / section.median(two, name)
        section.add("times as fast on two", name, ratio)
    return section


def latency(stage: Stage, *, n: int) -> Section:
    """Measure the time of single clips, one after the other, with an idle worker."""
    section = Section(f"a single clip of {LATENCY_CLIP_S:g} s, one worker, of {n}")
    clips = stage.recordings.clips(n, seconds=LATENCY_CLIP_S)
    with ExitStack() as stack:
        programs = stage.programs(stack)
        for program in programs:
            stage.said.print(f"latency: {program.name} starts")
            stack.enter_context(program.running(1, warm=clips[0]))
        taken_ms: dict[str, list[float]] = {program.name: [] for program in programs}
        for number, clip in enumerate(clips):
            for program in stage.rotated(programs, number):
                taken_ms[program.name].append(1e3 * program.single_s(clip))
    for name, values in taken_ms.items():
        section.add("p50 in ms", name, statistics.median(values))
        section.add("p95 in ms", name, statistics.quantiles(values, n=20)[-1])
    return section


def cold(stage: Stage) -> Section:
    """Measure the time from the start of a worker to its first answer."""
    section = Section("from the start of a worker to its first answer")
    with ExitStack() as stack:
        programs = stage.programs(stack)
        for number in range(stage.rounds):
            for program in stage.rotated(programs, number):
                took_s = program.cold_s(stage.warm())
                stage.said.print(f"cold start: {program.name} {took_s:.2f} s")
                section.add("s", program.name, took_s)
    return section
