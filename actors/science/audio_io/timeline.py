"""Gaps in the audio of a file, by the times of its frames."""

from __future__ import annotations

#: Containers whose packets have times. Files that begin with video, such as those of phones, often
#: have audio from a moment later, and a recorder that drops packets continues with later times.
TIMED = frozenset(
    {
        *("mp4", "webm", "matroska", "avi", "ts", "ps", "asf", "flv", "ogg"),
        *("wavpack", "tta", "caf", "flac"),
    }
)

#: The container whose times are exact, since its packets count samples.
_EXACT = "flac"

#: Containers whose times may restart, where broadcasts are joined.
_MAY_RESTART = frozenset({"ts", "ps", "flv"})

#: A shorter distance between a frame and the end of the one before is inaccuracy: some containers
#: round to milliseconds. Longer than that, and below the shortest packet (20 ms), it is a loss.
_LEAST_JUMP_S = 0.015

#: Lost packets are replaced as soon as they add up to this. More would shift the times of events
#: noticeably; less would find gaps where times are only irregular.
LEAST_GAP_S = 0.1

#: Where times are exact, every lost packet is replaced: it has a sample at least.
_LEAST_EXACT_S = 1e-6

#: Where times may restart, a jump beyond this is a restart (as FFmpeg's ``dts_delta_threshold``).
_RESTART_S = 10.0

#: No gap in a recording is longer; a damaged time may be anything.
_LONGEST_GAP_S = 24 * 3600.0


class Timeline:
    """Compares the time of each frame with the end of the audio so far.

    Slow drift between the times and the number of samples does not count: only audio after a jump
    is moved to its time.

    Parameters
    ----------
    container
        The container's name; without times there, no gap is found.
    begin_s
        The time at which the file begins; that of its first frame of audio or video.
    """

    def __init__(self, container: str, *, begin_s: float | None) -> None:
        self._is_exact = container == _EXACT
        if self._is_exact:
            # FFmpeg believes that a file begins with its first undamaged packet.
            begin_s = 0.0
        self._is_timed = container in TIMED and begin_s is not None
        self._may_restart = container in _MAY_RESTART
        self._begin_s = begin_s or 0.0
        self._last_end_s: float | None = None

    def gap_s(self, time_s: float | None, *, lasts_s: float, audio_s: float) -> float:
        """Return the seconds that are missing before a frame; mostly 0.

        Parameters
        ----------
        time_s, lasts_s
            The time of the frame, if it has one, and its duration.
        audio_s
            The duration of the audio before it, with all gaps so far.
        """
        if not self._is_timed or time_s is None:
            return 0.0
        late_s = time_s - (self._begin_s + audio_s)
        jump_s = late_s if self._last_end_s is None else time_s - self._last_end_s
        is_first, self._last_end_s = self._last_end_s is None, time_s + lasts_s
        # A FLAC file that was cut from another continues its count.
        may_restart = self._is_exact if is_first else self._may_restart
        restarts = may_restart and abs(jump_s) > _RESTART_S
        if restarts or not -_RESTART_S < late_s < _LONGEST_GAP_S:
            self._begin_s += late_s
            return 0.0
        if self._is_exact:
            return late_s if jump_s > _LEAST_EXACT_S else 0.0
        return late_s if jump_s > _LEAST_JUMP_S and late_s > LEAST_GAP_S else 0.0
