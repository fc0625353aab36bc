"""The grid of a recording: steps, chunks and spans, all counted in samples at 16 kHz.

Scores lie on a `Grid` of `STEP` samples that hangs on the recording's loudest sample. What is
heard at a step depends on the sound around it and on nothing else: how a recording is cut into
spans changes no score, since each span brings its neighbours' sound as context; and a recording
that begins earlier or later is heard through the same windows, since its grid moves with it.
"""

from __future__ import annotations

from dataclasses import dataclass

from actors.science.types import Chunk, Span

#: The rate that everything here is counted in.
RATE_HZ = 16_000

#: Samples between two feature frames. Every chunk starts on this grid.
HOP = 200

#: The grid of the scores: 0.1 s. Finer stores and decodes more, coarser blurs onsets.
STEP = 1_600

#: Seconds of a step.
STEP_S = STEP / RATE_HZ

#: Chunks shorter than this say too little; a shorter sound is padded to it with zeros.
MIN_CHUNK = 8_000

#: Chunks longer than this blur what is in them.
MAX_CHUNK = 80_000

#: The chunks of the first look: windows of one second, each shared by two steps.
CHUNK = 16_000
CHUNK_STEP = 2 * STEP

#: About how much audio a message carries: long enough that the message's cost disappears in the
#: work, short enough that one recording spreads over many workers.
SPAN_SAMPLES = 60 * RATE_HZ

#: What is left at the end of a recording joins the last span if it is shorter than this.
MIN_SPAN = 10 * RATE_HZ


@dataclass(frozen=True, slots=True)
class Grid:
    """Where the steps of a recording of ``n_samples`` samples lie.

    The first one begins ``lead`` samples before the recording, which are silent. Positions on the
    grid are counted from there: sample ``k`` of the recording is sample ``lead + k`` of the grid.
    """

    n_samples: int
    lead: int = 0

    @classmethod
    def hung_on(cls, loudest_s: float, *, n_samples: int) -> Grid:
        """The grid that has the recording's loudest sample, at ``loudest_s``, in mid-step.

        Which sample that is must be told at the recording's own rate: after resampling, the
        greatest of them depends on how the new samples fall between the old ones.
        """
        return cls(n_samples, lead=(STEP // 2 - round(loudest_s * RATE_HZ)) % CHUNK_STEP)

    @property
    def length(self) -> int:
        """Samples that the grid covers, with its lead."""
        return self.lead + self.n_samples

    @property
    def lead_s(self) -> float:
        """How much earlier than the recording the grid begins, in seconds."""
        return self.lead / RATE_HZ


def count_steps(n_samples: int) -> int:
    """How many steps it takes to cover ``n_samples`` samples; the last may be cut short."""
    return -(-n_samples // STEP)


def plan_spans(n_samples: int) -> list[Span]:
    """Cut ``n_samples`` samples of a grid into spans of `SPAN_SAMPLES`.

    Spans are contiguous, cover everything and start on the grid of `CHUNK_STEP`.

    Raises
    ------
    ValueError
        When there are no samples.
    """
    if n_samples < 1:
        raise ValueError("a recording has at least one sample")
    whole, tail = divmod(n_samples, SPAN_SAMPLES)
    n_spans = max(1, whole + (tail >= MIN_SPAN))
    starts = [index * SPAN_SAMPLES for index in range(n_spans)]
    stops = [*starts[1:], n_samples]
    return [
        Span(index=index, start=start, stop=stop)
        for index, (start, stop) in enumerate(zip(starts, stops, strict=True))
    ]


def plan_chunks(n_samples: int) -> list[Chunk]:
    """The overlapping chunks of a stretch that starts on the grid of `CHUNK_STEP`.

    Chunk ``k`` is centred on the steps ``2 k`` and ``2 k + 1``: the first begins before the
    stretch and the last ends behind it, so that every step is heard with as much sound before
    it as after.
    """
    reach = (CHUNK - CHUNK_STEP) // 2
    return [Chunk(start, start + CHUNK) for start in range(-reach, n_samples - reach, CHUNK_STEP)]
