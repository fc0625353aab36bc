"""The grid of a recording: frames, chunks and spans, all counted in samples at 16 kHz.

Scores are on a `Grid` of `STEP` samples that is aligned to the recording's loudest sample. The
scores of a frame depend only on the sound around it. The division into spans therefore changes no
score, since each span includes its neighbours' sound as context; and a recording that begins
earlier or later is classified in the same windows, since its grid moves with it.
"""

from __future__ import annotations

from dataclasses import dataclass

from actors.science.types import Chunk, Span

#: The sample rate of all counts here.
RATE_HZ = 16_000

#: Samples between two feature frames. Every chunk starts on this grid.
HOP = 200

#: The hop of the scores: 0.1 s. A smaller one costs storage and decoding, a larger one blurs
#: onsets.
STEP = 1_600

#: The same in seconds.
STEP_S = STEP / RATE_HZ

#: Shortest chunk; shorter ones contain too little information. Shorter sound is zero-padded.
MIN_CHUNK = 8_000

#: Longest chunk; longer ones blur their content.
MAX_CHUNK = 80_000

#: The chunks of framewise scoring: windows of one second, each shared by two frames.
CHUNK = 16_000
CHUNK_STEP = 2 * STEP

#: Audio per message: long enough that the overhead of a message is negligible, short enough that
#: one recording spreads over many workers.
SPAN_SAMPLES = 60 * RATE_HZ

#: A remainder at the end of a recording joins the last span if it is shorter than this.
MIN_SPAN = 10 * RATE_HZ


@dataclass(frozen=True, slots=True)
class Grid:
    """The positions of the frames of a recording of ``n_samples`` samples.

    The first frame begins ``lead`` samples before the recording, which are silent. Positions on the
    grid are counted from there: sample ``k`` of the recording is sample ``lead + k`` of the grid.
    """

    n_samples: int
    lead: int = 0

    @classmethod
    def hung_on(cls, loudest_s: float, *, n_samples: int) -> Grid:
        """Return the grid with the recording's loudest sample, at ``loudest_s``, in mid-frame.

        Determine the loudest sample at the recording's own rate: after resampling, it depends on
        how the new samples fall between the old ones.
        """
        return cls(n_samples, lead=(STEP // 2 - round(loudest_s * RATE_HZ)) % CHUNK_STEP)

    @property
    def length(self) -> int:
        """Samples that the grid covers, including its lead."""
        return self.lead + self.n_samples

    @property
    def lead_s(self) -> float:
        """Time from the start of the grid to that of the recording, in seconds."""
        return self.lead / RATE_HZ


def count_steps(n_samples: int) -> int:
    """Return the number of frames that cover ``n_samples`` samples; the last may be incomplete."""
    return -(-n_samples // STEP)


def plan_spans(n_samples: int) -> list[Span]:
    """Cut ``n_samples`` samples of a grid into spans of `SPAN_SAMPLES`.

    Spans are contiguous, cover everything and start on the grid of `CHUNK_STEP`.

    Raises
    ------
    ValueError
        If there are no samples.
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
    """Return the overlapping chunks of a slice that starts on the grid of `CHUNK_STEP`.

    Chunk ``k`` is centred on the frames ``2 k`` and ``2 k + 1``: the first begins before the slice
    and the last ends after it, so that every frame has as much sound before it as after.
    """
    reach = (CHUNK - CHUNK_STEP) // 2
    return [Chunk(start, start + CHUNK) for start in range(-reach, n_samples - reach, CHUNK_STEP)]
