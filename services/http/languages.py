"""Choose the language of a response by ``Accept-Language`` (RFC 9110 and RFC 4647)."""

from __future__ import annotations

import re
from collections.abc import Sequence

import falcon

#: A language range, ``*`` or ``de-AT``, and its weight.
_RANGE = re.compile(
    r"\s*(?P<tag>\*|[a-z]{1,8}(?:-[a-z0-9*]{1,8})*)"
    r"\s*(?:;\s*q\s*=\s*(?P<weight>0(?:\.\d{0,3})?|1(?:\.0{0,3})?)\s*)?",
    re.IGNORECASE,
)


def choose(header: str | None, languages: Sequence[str]) -> str:
    """Return the language that a header prefers; the first one if none of them is requested.

    A range that is not available is shortened from its end, so ``de-AT`` finds ``de``. ``*`` is
    any language that the header does not name. Invalid parts are ignored.

    Parameters
    ----------
    languages
        The available languages as lower-case tags without a region; the default comes first.
    """
    weights: dict[str, float] = {}
    for part in (header or "").split(","):
        read = _RANGE.fullmatch(part)
        if read is not None:
            weights.setdefault(read["tag"].lower(), float(read["weight"] or 1))
    # The sort is stable: of equal weights, the first range wins.
    for tag in sorted(weights, key=lambda tag: -weights[tag]):
        main = tag.partition("-")[0]
        if weights[tag] == 0 or weights.get(main) == 0:
            continue
        if main in languages:
            return main
        if main == "*":
            return next((each for each in languages if each not in weights), languages[0])
    return languages[0]


def negotiate(req: falcon.Request, resp: falcon.Response, languages: Sequence[str]) -> str:
    """Return the language of a response and set the headers for it."""
    chosen = choose(req.get_header("Accept-Language"), languages)
    resp.set_header("Content-Language", chosen)
    # Caches must store one response per language.
    resp.append_header("Vary", "Accept-Language")
    return chosen
