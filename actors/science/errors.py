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
        |   `-- UnsupportedLayout     a rate or a number of channels outside the limits
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


class ModelError(ScienceError):
    """The model file is damaged or does not fit this release."""

    code = "bad-model"
