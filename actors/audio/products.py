"""The keys of what the stages of a session write to the blob store."""

from __future__ import annotations

from actors.execution.lease import Lease
from db.blobs.keys import product_key
from db.queue.claims import SessionWork

#: The products that only the stages themselves need, as one claim holds them in memory.
TEMPORARY = ("pcm", "wide-pcm", "bands")
#: Marks the names of packed audio. Workers of the release before wrote raw audio without it.
_PACKED = ".zst"
#: The small products that last.
LASTING = ("levels", "levels-answer", "spectrogram")


def new_key(work: SessionWork, lease: Lease, name: str) -> str:
    """Return the key of a product of this attempt, which is removed if the attempt fails."""
    return lease.own(key_of(work, lease, name))


def key_of(work: SessionWork, lease: Lease, name: str) -> str:
    """Return the key of a product of this attempt."""
    return product_key(
        work.session_id,
        name,
        attempt=lease.attempt,
        resplits=work.resplits,
        in_one_claim=_in_one_claim(work),
    )


def decoded_names(work: SessionWork) -> tuple[str, str]:
    """Return the names of decoded audio at 16 kHz and at 32 kHz.

    It is packed to be stored. In one claim it stays in memory for a moment.
    """
    suffix = "" if _in_one_claim(work) else _PACKED
    return f"pcm{suffix}", f"wide-pcm{suffix}"


def is_packed(key: str) -> bool:
    """Whether the decoded audio under a key is packed, and not raw."""
    return f"{_PACKED}-" in key


def _in_one_claim(work: SessionWork) -> bool:
    return work.state == "queued"
