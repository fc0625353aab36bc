"""``Idempotency-Key``: a repeated request gets the first response, and nothing is done twice.

Follows the IETF draft (draft-ietf-httpapi-idempotency-key-header). A ``POST`` with the header is
processed in three steps:

1. The request is *claimed*: a row marks it as in progress and reserves the ID of the resource to
   create. This is committed before the responder runs.
2. The responder creates the resource under that ID (:func:`new_id`).
3. The response is stored in the claimed row.

If the process dies before step 2 is committed, nothing was done. If it dies between 2 and 3, a
repetition of the request gets the same ID, finds the resource (``replay``) and answers with it. A
running process renews a lease on its requests.

Only successful responses are stored. A rejected request changed nothing, so its key may be used for
the corrected request; after a server error the same request can be retried.
"""

from __future__ import annotations

import hashlib
import re
import uuid
from contextlib import suppress
from typing import Protocol, runtime_checkable

import falcon
import structlog
from falcon.util import mediatypes
from sqlalchemy.exc import SQLAlchemyError

from db import ids
from db.queries import idempotency_queries
from db.queries.idempotency_queries import Claimed
from db.store import Store
from db.tables.idempotency import MOST_KEY_CHARS, IdempotentRequest
from services.http import operations
from services.http.access import principal
from services.http.bodies import is_form, media_type_of
from services.http.caller_errors import (
    IdempotencyKeyReused,
    InvalidIdempotencyKey,
    RequestUnderWay,
    SecretNotShown,
)
from services.http.hashed_body import HashedBody
from services.http.not_found import NotFound
from services.http.request_leases import RequestLeases

log = structlog.get_logger(__name__)

HEADER = "Idempotency-Key"
#: Marks a replayed response.
REPLAYED = "Idempotent-Replayed"
#: Response headers that are stored, as they describe the resource and not the exchange.
KEPT_HEADERS = ("content-type", "location")
#: Bytes per read of an unread body.
PIECE_BYTES = 256 * 1024

#: A string of a structured field (RFC 8941), or the bare token that many callers send.
_QUOTED = re.compile(r'"((?:[ !#-\[\]-~]|\\["\\])+)"')
_BARE = re.compile(r"[!#-+\--:<-\[\]-~]+")


@runtime_checkable
class Replayable(Protocol):
    """A resource whose ``POST`` creates something under the ID from :func:`new_id`."""

    def replay(self, req: falcon.Request, resp: falcon.Response, made_id: uuid.UUID) -> None:
        """Answer with the result of an earlier attempt; raises `NotFound` if there is none."""


class RequestClaim:
    """A request that this process is handling."""

    def __init__(self, claimed: Claimed, made_id: uuid.UUID, body: HashedBody) -> None:
        self.claimed = claimed
        self.made_id = made_id
        self.body = body


def new_id(req: falcon.Request) -> uuid.UUID:
    """Return the ID for the new resource; a repeated request gets the same one each time."""
    claim: RequestClaim | None = getattr(req.context, "claim", None)
    return ids.new_id() if claim is None else claim.made_id


def key_of(given: str) -> str:
    """Parse the header; raises :class:`InvalidIdempotencyKey`."""
    quoted = _QUOTED.fullmatch(given)
    key = re.sub(r"\\(.)", r"\1", quoted[1]) if quoted else given
    if len(key) > MOST_KEY_CHARS or not (quoted or _BARE.fullmatch(given)):
        raise InvalidIdempotencyKey(
            f'{HEADER} must be one string of 1 to {MOST_KEY_CHARS} characters, such as "a-1"'
        )
    return key


class Idempotency:
    """Middleware that wraps the responder, after all middleware that may reject the request."""

    def __init__(self, store: Store, *, lease_s: float) -> None:
        self._store = store
        self._lease_s = lease_s
        self._leases = RequestLeases(store, lease_s=lease_s)

    def process_resource(
        self, req: falcon.Request, resp: falcon.Response, resource: object, _params: object
    ) -> None:
        """Claim a request with a key, or replay its response.

        Raises
        ------
        InvalidIdempotencyKey, IdempotencyKeyReused, RequestUnderWay, SecretNotShown
        """
        given = req.get_header(HEADER)
        if given is None:
            return
        operation = operations.operation_of(req, resource)
        if operation is None or not operation.keyed:
            return
        key, user_id, head = key_of(given), principal(req).user_id, _head_sha256(req)
        # Hash everything that is read of the body from here on.
        req.stream = req.env["wsgi.input"] = body = HashedBody(req.stream, _boundary(req))
        with self._store.transaction() as tx:
            row = idempotency_queries.claim_request(
                tx,
                user_id,
                key,
                head_sha256=head,
                made_id=ids.new_id(),
                lease_s=self._lease_s,
            )
            known = None
            if row is None:
                known = idempotency_queries.known_request(tx, user_id, key)
        if row is None:
            _replay(req, resp, known, head=head, body=body)
            return
        claim = RequestClaim(Claimed(user_id, key, row.attempt), row.made_id, body)
        self._leases.hold(claim.claimed)
        req.context.claim = claim
        if row.attempt > 1 and isinstance(resource, Replayable):
            # If the earlier attempt created nothing, the responder runs.
            with suppress(NotFound):
                resource.replay(req, resp, row.made_id)
                resp.set_header(REPLAYED, "true")
                resp.complete = True

    def process_response(
        self, req: falcon.Request, resp: falcon.Response, resource: object, is_served: bool
    ) -> None:
        """Store the response, or release the claim."""
        claim: RequestClaim | None = getattr(req.context, "claim", None)
        if claim is None:
            return
        try:
            if is_served and resp.status_code < 400 and resp.stream is None:
                _drain(req)
                operation = operations.operation_of(req, resource)
                is_secret = operation is not None and operation.secret
                self._keep(req, resp, claim, is_secret=is_secret)
            else:
                with self._store.transaction() as tx:
                    idempotency_queries.release_request(
                        tx, claim.claimed, was_refused=400 <= resp.status_code < 500
                    )
        except (SQLAlchemyError, OSError, falcon.HTTPError) as error:
            # The work is done, so still send the response. The next attempt finds the result.
            log.warning("answer_not_kept", error=type(error).__name__)
        finally:
            self._leases.drop(claim.claimed)

    def _keep(
        self, req: falcon.Request, resp: falcon.Response, claim: RequestClaim, *, is_secret: bool
    ) -> None:
        headers = resp.headers
        with self._store.transaction() as tx:
            idempotency_queries.answer_request(
                tx,
                claim.claimed,
                head_sha256=_head_sha256(req),
                body_sha256=claim.body.digest(),
                status=resp.status_code,
                headers={name: headers[name] for name in KEPT_HEADERS if name in headers},
                body=None if is_secret else resp.data or b"",
            )


def _replay(
    req: falcon.Request,
    resp: falcon.Response,
    known: IdempotentRequest | None,
    *,
    head: bytes,
    body: HashedBody,
) -> None:
    """Replay the stored response if the request is the same."""
    if known is None:
        # The row was removed between the two queries.
        raise RequestUnderWay("the earlier request was just removed; retry")
    if known.head_sha256 not in (None, head):
        raise IdempotencyKeyReused("this key was used with another method, path or query")
    if known.status is None:
        raise RequestUnderWay("a request with this key is in progress")
    _drain(req)
    if known.body_sha256 != body.digest():
        raise IdempotencyKeyReused("this key was used with another body")
    for name, value in (known.headers or {}).items():
        resp.set_header(name, value)
    resp.set_header(REPLAYED, "true")
    if known.body is None:
        raise SecretNotShown("the secret was in the first response to this request")
    resp.status = known.status
    resp.data = known.body
    resp.complete = True


def _head_sha256(req: falcon.Request) -> bytes:
    """Hash what identifies a request before its body is read. The boundary of a form is left out,
    as it differs each time.
    """
    told = "\n".join((req.method, req.path, req.query_string, media_type_of(req)))
    return hashlib.sha256(told.encode(errors="surrogatepass")).digest()


def _boundary(req: falcon.Request) -> bytes:
    """Return the boundary of a form; empty if the body is not a form."""
    if not is_form(req):
        return b""
    _, options = mediatypes.parse_header(req.content_type or "")
    return f"--{options.get('boundary', '')}".encode("latin-1", "replace")


def _drain(req: falcon.Request) -> None:
    """Read the rest of the body, so that all of it is hashed."""
    is_chunked = req.content_length is None and req.env.get("wsgi.input_terminated")
    rest = req.stream if is_chunked else req.bounded_stream
    while rest.read(PIECE_BYTES):
        pass
