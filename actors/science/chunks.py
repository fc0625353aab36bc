"""The plan of a recording: which samples make a chunk, which chunks make a span.

A plan is a pure rule of the number of samples. Whoever holds a span's bounds and the chunk size
derives the very chunks that whoever planned the whole recording derives, so chunks need not be
stored and a span can be planned again after a crash.
"""

from __future__ import annotations

from actors.science.types import Chunk, Span

#: The rate that chunks are counted in.
RATE_HZ = 16_000

#: Chunks shorter than this say too little; a shorter recording is padded to it with zeros.
MIN_CHUNK = 8_000

#: Chunks longer than this blur the events in them.
MAX_CHUNK = 80_000

#: Samples between two feature frames. Every chunk starts on this grid, so that features do not
#: depend on how a recording is cut into spans.
HOP = 200

#: About how much audio a message carries: long enough that the message's cost disappears in the
#: work, short enough that one recording spreads over many workers.
SPAN_SAMPLES = 60 * RATE_HZ

#: The size of a chunk until recordings get long: one second.
USUAL_CHUNK = 16_000

#: The largest planned size. It leaves room for a tail of up to ``MIN_CHUNK - 1`` samples to join
#: its neighbour within ``MAX_CHUNK``.
LARGEST_CHUNK = 72_000

#: About how many chunks a recording has at most; chunks grow with the recording beyond that.
MOST_CHUNKS = 7_200


def chunk_samples(n_samples: int) -> int:
    """The chunk size of a recording of ``n_samples`` samples at 16 kHz.

    One second up to two hours, then as long as needed for about `MOST_CHUNKS` chunks, at most
    `LARGEST_CHUNK`; always a multiple of `HOP`.

    Raises
    ------
    ValueError
        When there are no samples.
    """
    if n_samples < 1:
        raise ValueError("a recording has at least one sample")
    share = -(-n_samples // MOST_CHUNKS)
    on_grid = -(-share // HOP) * HOP
    return min(max(on_grid, USUAL_CHUNK), LARGEST_CHUNK)


def plan_chunks(start: int, stop: int, *, chunk: int) -> list[Chunk]:
    """Cut ``[start, stop)`` into consecutive chunks of ``chunk`` samples.

    What is left at the end is a chunk of its own, or joins its neighbour when it is shorter than
    `MIN_CHUNK`. A stretch of less than `MIN_CHUNK` samples is one chunk: whoever computes its
    features pads it with zeros to `MIN_CHUNK`. All other chunks hold between `MIN_CHUNK` and
    `MAX_CHUNK` samples.

    Raises
    ------
    ValueError
        When the stretch is empty, or the chunk size is off the grid or outside the bounds.
    """
    if not 0 <= start < stop:
        raise ValueError("a stretch of audio starts at 0 or later and is not empty")
    if not MIN_CHUNK <= chunk <= LARGEST_CHUNK or chunk % HOP:
        raise ValueError(f"a chunk is {MIN_CHUNK} to {LARGEST_CHUNK} samples, in steps of {HOP}")
    n_chunks = _n_chunks(stop - start, chunk=chunk)
    starts = [start + index * chunk for index in range(n_chunks)]
    return [Chunk(*bounds) for bounds in zip(starts, [*starts[1:], stop], strict=True)]


def plan_spans(n_samples: int, *, chunk: int) -> list[Span]:
    """Group the chunks of a whole recording into spans of about `SPAN_SAMPLES`.

    Spans are contiguous and cover everything. `plan_chunks` of each span, one after the other,
    is `plan_chunks` of the whole recording: a span boundary is always a chunk boundary, and a
    tail that joins its neighbour joins it in the same span.

    Raises
    ------
    ValueError
        As `plan_chunks`.
    """
    planned = plan_chunks(0, n_samples, chunk=chunk)
    per_span = max(1, round(SPAN_SAMPLES / chunk))
    firsts = range(0, len(planned), per_span)
    return [
        Span(
            index=index,
            start=planned[first].start,
            stop=planned[min(first + per_span, len(planned)) - 1].stop,
        )
        for index, first in enumerate(firsts)
    ]


def _n_chunks(length: int, *, chunk: int) -> int:
    whole, tail = divmod(length, chunk)
    return max(1, whole + (tail >= MIN_CHUNK))
