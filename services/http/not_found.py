"""The 404 for each kind of thing that has an ID: one problem type per noun.

``NotFound.of("session")`` is the type; :func:`or_404` raises it for a query that found nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeVar, get_args

from services.http.errors import ServiceError

Noun = Literal[
    "batch",
    "delivery",
    "detection",
    "export",
    "job",
    "key",
    "model",
    "report",
    "session",
    "training",
    "upload",
    "user",
    "validation",
    "webhook",
]
Row = TypeVar("Row")


class NotFound(ServiceError):
    """Nothing with this ID is visible to the caller; the subclasses name what."""

    status = 404

    @staticmethod
    def of(noun: Noun) -> type[NotFound]:
        """Return the problem type of a noun."""
        return _KINDS[noun]


def or_404(found: Row | None, noun: Noun, row_id: object) -> Row:
    """Return what a query found; raises :class:`NotFound` for None and False.

    Queries are limited to the rows of their caller, so the row of another user is not found either.
    """
    if not found:
        raise NotFound.of(noun)(f"no {noun} has the ID {row_id}")
    return found


@dataclass(frozen=True)
class _Texts:
    """The texts of a problem type: what it means, and what the caller can do about it."""

    meaning: str = (
        "No {noun} with this ID is visible to you.\n\nIt does not exist, has been removed, or"
        " belongs to another user; all three cases get the same answer."
    )
    advice: str = "Check the ID and make sure you are using the right API key."


#: The texts of the nouns that differ from the others.
_OWN_TEXTS: dict[Noun, _Texts] = {
    "delivery": _Texts(
        "The webhook has no delivery with this ID. Deliveries are removed after 30 days.",
        "Check the ID against the list of the webhook's deliveries.",
    ),
    "export": _Texts(advice=f"{_Texts.advice} Exports are removed after some days."),
    "job": _Texts(
        "There is no scheduled job with this name.",
        "List the jobs with ``GET /v1/jobs`` or ``clamor schedule``.",
    ),
    "upload": _Texts(
        "You have not stored a file for this upload, or no session was created from the file in"
        " time and it was removed.",
        "PUT the recording to the upload's ``url`` within the hour, then create the session from"
        " it.",
    ),
}


def _kind(noun: Noun) -> type[NotFound]:
    texts = _OWN_TEXTS.get(noun, _Texts())
    return type(
        f"{noun.title()}NotFound",
        (NotFound,),
        {
            "__doc__": texts.meaning.format(noun=noun),
            "__module__": __name__,
            "name": f"{noun}-not-found",
            "title": f"{noun.title()} not found",
            "advice": texts.advice,
        },
    )


_KINDS: dict[Noun, type[NotFound]] = {noun: _kind(noun) for noun in get_args(Noun)}
