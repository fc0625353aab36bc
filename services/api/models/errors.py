"""Problems of models and of labelled sets."""

from __future__ import annotations

from typing import Any

from services.http.errors import InvalidFields, ServiceError


class InvalidManifest(InvalidFields):
    """The manifest of a labelled set is not CSV, lacks a column, or has invalid lines."""

    status, name, title = 400, "invalid-manifest", "Invalid manifest"
    advice = (
        "Correct the lines listed in ``errors`` (``manifest[3]`` is the third line of the file). "
        "At most ten are listed at a time."
    )


class InvalidOptions(InvalidFields):
    """The form field ``options`` is not a valid JSON object of options."""

    status, name, title = 400, "invalid-options", "Invalid options"
    advice = "Correct each field listed in ``errors`` by its path in the options."


class ModelDamaged(ServiceError):
    """The model's file is missing, or its hash differs from the registered one."""

    status, name, title = 409, "model-damaged", "The model's file is damaged"
    advice = "Train the model again, or ask an operator to restore the file from a backup."


class ModelInUse(ServiceError):
    """The model cannot be deleted: it is the one in use, it came with a release, or unfinished work
    needs it.
    """

    status, name, title = 409, "model-in-use", "The model is in use"
    advice = (
        "Promote another model, or wait until the sessions and validations with this one have "
        "finished. Models of a release stay."
    )


class Regression(ServiceError):
    """The model was not put to use. It cannot detect noise types that the one in use can
    (``lost_noise_types``), or figures that both models have are worse than those of the one in use.
    ``comparison`` has all of them.
    """

    status, name, title = 409, "regression", "The model is worse than the one in use"
    advice = 'Check ``comparison``. To use the model all the same, send ``{"force": true}``.'

    def __init__(self, detail: str, *, comparison: dict[str, Any]) -> None:
        super().__init__(detail)
        self.extension = {"comparison": comparison}
