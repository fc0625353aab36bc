"""What can be wrong with a recording or a model file."""

from __future__ import annotations


class ScienceError(Exception):
    """Something given to the science package cannot be used.

    ::

        ScienceError
        |-- RecordingError            the recording itself is at fault; trying again cannot help
        |   |-- UnknownFormat         no audio container that is known
        |   |-- Undecodable           a known container whose audio cannot be decoded
        |   |-- EmptyRecording        not one sample
        |   |-- NonFiniteSamples      NaN, infinity, or values beyond any audio scale
        |   |-- UnsupportedLayout     a rate or a number of channels outside the limits
        |   `-- NoCalibratorTone      not fit to calibrate by: the code says what is the matter
        `-- ModelError                a model file that is damaged or does not fit this release

    The first paragraph of a class's docstring is its default message. Messages are shown to
    whoever sent the recording: they hold no file names and no text of a library.
    """

    #: A short stable name of the failure, for programs.
    code = "science-error"

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or self.default_message())

    @classmethod
    def default_message(cls) -> str:
        """The first paragraph of the class's docstring on one line, without the full stop."""
        paragraph = (cls.__doc__ or cls.__name__).strip().split("\n\n")[0]
        return " ".join(paragraph.split()).rstrip(".")


class RecordingError(ScienceError):
    """The recording cannot be used."""

    code = "bad-recording"


class UnknownFormat(RecordingError):
    """The file is of no known audio format."""

    code = "unknown-format"


class Undecodable(RecordingError):
    """The audio in the file cannot be decoded."""

    code = "undecodable"


class EmptyRecording(RecordingError):
    """The recording holds no audio."""

    code = "empty-recording"


class NonFiniteSamples(RecordingError):
    """The recording holds samples that are not finite numbers."""

    code = "non-finite-samples"


class UnsupportedLayout(RecordingError):
    """The sample rate or the number of channels is not supported."""

    code = "unsupported-layout"


class NoCalibratorTone(RecordingError):
    """The recording is not that of a calibrator.

    ::

        NoCalibratorTone
        |-- ToneMissing       no tone of a calibrator's frequency, or little else than noise
        |-- ToneTooShort      the tone does not last long enough
        |-- ToneUnsteady      its level wanders
        |-- ToneClipped       it reaches full scale
        |-- ToneTooFaint      too little above its own noise and distortion
        `-- ToneChannels      the channels do not hear the same tone
    """

    code = "no-calibrator-tone"


class ToneMissing(NoCalibratorTone):
    """There is no steady tone of 250 Hz or 1 kHz in the recording."""

    code = "tone-missing"


class ToneTooShort(NoCalibratorTone):
    """The calibrator's tone does not last long enough: record five seconds of it or more."""

    code = "tone-too-short"


class ToneUnsteady(NoCalibratorTone):
    """The level of the calibrator's tone is not steady."""

    code = "tone-unsteady"


class ToneClipped(NoCalibratorTone):
    """The calibrator's tone reaches full scale: record it with less gain."""

    code = "tone-clipped"


class ToneTooFaint(NoCalibratorTone):
    """The calibrator's tone is too faint over its noise and distortion."""

    code = "tone-too-faint"


class ToneChannels(NoCalibratorTone):
    """The channels differ: send the channel of the calibrated microphone alone."""

    code = "tone-channels"


class ModelError(ScienceError):
    """The model file is damaged or does not fit this release."""

    code = "bad-model"
