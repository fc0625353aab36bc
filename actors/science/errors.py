"""Errors of recordings and model files."""

from __future__ import annotations


class ScienceError(Exception):
    """Something given to the science package cannot be used.

    ::

        ScienceError
        |-- RecordingError            the recording itself is at fault; a retry cannot help
        |   |-- UnknownAudioFormat    no known audio container
        |   |-- Undecodable           a known container whose audio cannot be decoded
        |   |-- EmptyRecording        no samples
        |   |-- NonFiniteSamples      NaN, infinity, or values beyond any audio scale
        |   |-- UnsupportedLayout     a rate or a number of channels outside the limits
        |   |-- NoSuchChannel         the requested channel does not exist
        |   `-- NoCalibratorTone      unsuitable for calibration; the code says why
        `-- ModelError                a model file that is damaged or does not fit this release

    The first paragraph of a class's docstring is its default message. Messages are shown to the
    user who sent the recording, so they contain no file names and no text of a library.
    """

    #: A short stable identifier of the failure, for programs.
    code = "science-error"

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or self.default_message())

    @classmethod
    def default_message(cls) -> str:
        """Return the first paragraph of the docstring as one line without the full stop."""
        paragraph = (cls.__doc__ or cls.__name__).strip().split("\n\n")[0]
        return " ".join(paragraph.split()).rstrip(".")


class RecordingError(ScienceError):
    """The recording cannot be used."""

    code = "bad-recording"


class UnknownAudioFormat(RecordingError):
    """The file is not in a known audio format."""

    code = "unknown-format"


class Undecodable(RecordingError):
    """The audio in the file cannot be decoded."""

    code = "undecodable"


class EmptyRecording(RecordingError):
    """The recording contains no audio."""

    code = "empty-recording"


class NonFiniteSamples(RecordingError):
    """The recording contains samples that are not finite numbers."""

    code = "non-finite-samples"


class UnsupportedLayout(RecordingError):
    """The sample rate or the number of channels is not supported."""

    code = "unsupported-layout"


class NoSuchChannel(RecordingError):
    """The recording does not have the requested channel."""

    code = "no-such-channel"


class NoCalibratorTone(RecordingError):
    """The recording is not one of a calibrator.

    ::

        NoCalibratorTone
        |-- ToneMissing       no tone at a calibrator's frequency, or hardly more than noise
        |-- ToneTooShort      the tone does not last long enough
        |-- ToneUnsteady      the level of the tone varies
        |-- ToneClipped       the tone reaches full scale
        |-- ToneTooFaint      the tone is too weak relative to noise and distortion
        `-- ToneChannels      the channels do not contain the same tone
    """

    code = "no-calibrator-tone"


class ToneMissing(NoCalibratorTone):
    """The recording contains no steady tone of 250 Hz or 1 kHz."""

    code = "tone-missing"


class ToneTooShort(NoCalibratorTone):
    """The calibrator's tone is too short: record at least five seconds of it."""

    code = "tone-too-short"


class ToneUnsteady(NoCalibratorTone):
    """The level of the calibrator's tone varies."""

    code = "tone-unsteady"


class ToneClipped(NoCalibratorTone):
    """The calibrator's tone is clipped: record it with less gain."""

    code = "tone-clipped"


class ToneTooFaint(NoCalibratorTone):
    """The calibrator's tone is too weak relative to noise and distortion."""

    code = "tone-too-faint"


class ToneChannels(NoCalibratorTone):
    """The tones of the channels differ: name that of the calibrated microphone with ``channel``."""

    code = "tone-channels"


class ModelError(ScienceError):
    """The model file is damaged or does not fit this release."""

    code = "bad-model"
