"""How much of a recording may be decoded: its longest duration, and the quota of its user.

The API reserves what a header or the size of a file promises. Neither has to be true: an hour of
silence without its length is 180 kB of FLAC, and a recorder may skip hours within a file. So a
recording that turns out to cost more than was reserved asks for more while it is decoded, and is
refused when its user has nothing left. A user then exceeds the quota by one recording at most,
however many were accepted.
"""

from __future__ import annotations

import math

from actors.audio import limits
from actors.execution.failures import Permanent
from actors.execution.runtime import Runtime
from actors.facts import audio_cost
from db.queries import usage_limit_queries
from db.tables.sessions import AudioSession

#: How many times the cost so far is reserved next. More asks less often; less reserves less that is
#: not used, which other recordings of the user lack until this one is counted.
GROWTH = 2.0


class Allowance:
    """The allowance of one recording, which is checked with each block that is decoded."""

    def __init__(self, runtime: Runtime, session: AudioSession, *, most_s: float) -> None:
        self._runtime = runtime
        self._session = session
        self._most_s = most_s
        self._reserved_s = self._certain_s()

    def check(self, decoded_s: float) -> None:
        """Check the duration so far.

        Raises
        ------
        Permanent
            ``too-long`` if it is above the longest one, ``quota-exceeded`` if it costs more than
            was reserved and its user has nothing left. Then the part so far is counted.
        """
        limits.check_duration(decoded_s, most_s=self._most_s)
        rate_hz, n_channels = self._session.rate_hz, self._session.n_channels
        assert rate_hz is not None
        assert n_channels is not None
        cost_s = audio_cost.cost_s(decoded_s, rate_hz=rate_hz, n_channels=n_channels)
        if cost_s > self._reserved_s:
            self._reserved_s = self._extended_s(cost_s)

    def _certain_s(self) -> float:
        """Return a cost up to which the database need not be asked: what a post reserves by size.

        For recordings at an address or in the inbox, nothing, or an estimate, was reserved.
        """
        session = self._session
        # One that was decoded, given up and then retried has already been counted.
        if session.user_id is None or session.duration_s is not None:
            return math.inf
        if session.source_key or session.source_url or session.batch_id:
            return 0.0
        return (session.size_bytes or 0) / audio_cost.ASSUMED_BYTES_S

    def _extended_s(self, cost_s: float) -> float:
        """Return what is reserved for the recording, which may be more than before."""
        session = self._session
        assert session.user_id is not None
        with self._runtime.store.transaction() as tx:
            limit_s = usage_limit_queries.audio_limit_s(tx, session.user_id)
            limit_s = self._runtime.settings.max_audio_s_per_month if limit_s is None else limit_s
            if limit_s is None:
                return math.inf
            usage_limit_queries.lock_user(tx, session.user_id)
            reserved_s = usage_limit_queries.reserved_s(tx, session.id)
            if reserved_s >= cost_s:
                return reserved_s
            month = usage_limit_queries.audio_this_month(tx, session.user_id)
            if month.used_s + month.reserved_s - reserved_s < limit_s:
                usage_limit_queries.reserve(tx, session.id, audio_s=GROWTH * cost_s)
                return GROWTH * cost_s
            if reserved_s:
                # Once: with nothing reserved, an earlier attempt has counted it.
                usage_limit_queries.count_audio(tx, session.id, audio_s=cost_s)
        raise Permanent(
            "quota-exceeded",
            "the recording is longer than its header or its size promised, and nothing of the"
            f" {limit_s:.0f} seconds of audio a month is left",
        )
