"""``Idempotency-Key``: a request that is sent again is answered again, and nothing is done twice.

As the draft of the IETF has it (draft-ietf-httpapi-idempotency-key-header). A ``POST`` that bears
the header goes this way:

1. It is *claimed*: a row says that it is under way, and which id the thing will have that it makes.
   That is committed before the responder runs.
2. The responder makes its row under that id (:func:`new_id`).
3. The answer is written to the claimed row.

If the process dies before 2 is committed, nothing was done. If it dies between 2 and 3, whoever
repeats the request gets the same id, finds the row made (``made`` of the resource), and answers
with it. While a process lives it holds on to its requests by a lease that it renews.

Only what succeeded is kept. A refusal changed nothing, and its key is free for the mended request;
after an error of the server's the same request can be made again.
"""

from __future__ import annotations

import hashlib
import re
import threading
import uuid
from collections.abc import Iterator
from typing import Protocol, runtime_checkable

import falcon
import structlog
from falcon.typing import ReadableIO
from falcon.util import mediatypes
from sqlalchemy.exc import SQLAlchemyError

from db.queries import idempotency_queries
from db.queries.idempotency_queries import Claimed
from db.store import Store
from db.tables.idempotency import MOST_KEY_CHARS, IdempotentRequest
from services.http import operations
from services.http.access import principal
from services.http.bodies import is_form, media_type_of
from services.http.errors import (
    IdempotencyKeyReused,
    InvalidIdempotencyKey,
    RequestUnderWay,
    SecretNotShown,
)

log = structlog.get_logger(__name__)

HEADER = "Idempotency-Key"
#: Says of an answer that it is an earlier one.
REPLAYED = "Idempotent-Replayed"
#: Headers of an answer that belong to what was done, and not to this one exchange.
KEPT_HEADERS = ("content-type", "location")
#: What is read at once of a body that nobody needs.
PIECE_BYTES = 256 * 1024

#: A string of a structured field (RFC 8941), or a bare word, as many callers send it.
_QUOTED = re.compile(r'"((?:[ !#-\[\]-~]|\\["\\])+)"')
_BARE = re.compile(r"[!#-+\--:<-\[\]-~]+")


@runtime_checkable
class Maker(Protocol):
    """A resource whose ``POST`` makes something, under the id that :func:`new_id` gives."""

    def made(self, req: falcon.Request, resp: falcon.Response, made_id: uuid.UUID) -> bool:
        """Answer with what an earlier attempt made; whether there is something."""


class Claim:
    """A request that this process works on."""

    def __init__(self, claimed: Claimed, made_id: uuid.UUID, body: _Hashed) -> None:
        self.claimed = claimed
        self.made_id = made_id
        self.body = body


def new_id(req: falcon.Request) -> uuid.UUID:
    """An id for what a request makes: of a request that is repeated the same each time."""
    claim: Claim | None = getattr(req.context, "claim", None)
    return uuid.uuid4() if claim is None else claim.made_id


def key_of(given: str) -> str:
    """The key that a header bears; raises :class:`InvalidIdempotencyKey`."""
    quoted = _QUOTED.fullmatch(given)
    key = re.sub(r"\\(.)", r"\1", quoted[1]) if quoted else given
    if len(key) > MOST_KEY_CHARS or not (quoted or _BARE.fullmatch(given)):
        raise InvalidIdempotencyKey(
            f'{HEADER} must be one string of 1 to {MOST_KEY_CHARS} characters, such as "a-1"'
        )
    return key


class Idempotency:
    """Middleware: behind whatever may refuse a request, and around its responder."""

    def __init__(self, store: Store, *, lease_s: float) -> None:
        self._store = store
        self._lease_s = lease_s
        self._leases = _Leases(store, lease_s=lease_s)

    def process_resource(
        self, req: falcon.Request, resp: falcon.Response, resource: object, _params: object
    ) -> None:
        """Claim a request that bears a key, or answer it as it was answered before.

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
        # All that is read of the body from here on is seen.
        req.stream = req.env["wsgi.input"] = body = _Hashed(req.stream, _boundary(req))
        with self._store.transaction() as db:
            row = idempotency_queries.claim_request(
                db, user_id, key,
                head_sha256=head, made_id=uuid.uuid4(), lease_s=self._lease_s,
            )  # fmt: skip
            known = None
            if row is None:
                known = idempotency_queries.known_request(db, user_id, key)
        if row is None:
            _replay(req, resp, known, head=head, body=body)
            return
        claim = Claim(Claimed(user_id, key, row.attempt), row.made_id, body)
        self._leases.hold(claim.claimed)
        req.context.claim = claim
        is_repeated = row.attempt > 1
        if is_repeated and isinstance(resource, Maker) and resource.made(req, resp, row.made_id):
            resp.set_header(REPLAYED, "true")
            resp.complete = True

    def process_response(
        self, req: falcon.Request, resp: falcon.Response, resource: object, is_served: bool
    ) -> None:
        """Write down what was answered."""
        claim: Claim | None = getattr(req.context, "claim", None)
        if claim is None:
            return
        try:
            if is_served and resp.status_code < 400 and resp.stream is None:
                _drain(req)
                operation = operations.operation_of(req, resource)
                is_secret = operation is not None and operation.secret
                self._keep(req, resp, claim, is_secret=is_secret)
            else:
                with self._store.transaction() as db:
                    idempotency_queries.release_request(
                        db, claim.claimed, was_refused=400 <= resp.status_code < 500
                    )
        except (SQLAlchemyError, OSError, falcon.HTTPError) as error:
            # What was done is done, and can be told now. The next attempt finds it made.
            log.warning("answer_not_kept", error=type(error).__name__)
        finally:
            self._leases.drop(claim.claimed)

    def _keep(
        self, req: falcon.Request, resp: falcon.Response, claim: Claim, *, is_secret: bool
    ) -> None:
        headers = resp.headers
        with self._store.transaction() as db:
            idempotency_queries.answer_request(
                db,
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
    body: _Hashed,
) -> None:
    """Answer a request as it was answered before, if it is the same."""
    if known is None:
        # It was removed between two looks.
        raise RequestUnderWay("send it again")
    if known.head_sha256 not in (None, head):
        raise IdempotencyKeyReused("the key is known from another method, path or query")
    if known.status is None:
        raise RequestUnderWay("a request with this key is being worked on")
    _drain(req)
    if known.body_sha256 != body.digest():
        raise IdempotencyKeyReused("the key is known from a request with another body")
    for name, value in (known.headers or {}).items():
        resp.set_header(name, value)
    resp.set_header(REPLAYED, "true")
    if known.body is None:
        raise SecretNotShown("the first answer to this request told the secret")
    resp.status = known.status
    resp.data = known.body
    resp.complete = True


def _head_sha256(req: falcon.Request) -> bytes:
    """What tells requests apart before their bodies have been read. A form's boundary does not:
    it is another one each time.
    """
    told = "\n".join((req.method, req.path, req.query_string, media_type_of(req)))
    return hashlib.sha256(told.encode(errors="surrogatepass")).digest()


def _boundary(req: falcon.Request) -> bytes:
    """What stands between the parts of a form; nothing where the body is no form."""
    if not is_form(req):
        return b""
    _, options = mediatypes.parse_header(req.content_type or "")
    return f"--{options.get('boundary', '')}".encode("latin-1", "replace")


def _drain(req: falcon.Request) -> None:
    """Read what nobody has read of a body, so that all of it has been seen."""
    is_chunked = req.content_length is None and req.env.get("wsgi.input_terminated")
    rest = req.stream if is_chunked else req.bounded_stream
    while rest.read(PIECE_BYTES):
        pass


class _Hashed:
    """A request's body, hashed as it is read; the boundaries of a form count as one and the same,
    wherever the pieces in which it comes are cut.
    """

    _MARK = b"\0boundary\0"

    def __init__(self, body: ReadableIO, boundary: bytes) -> None:
        self._body = body
        self._boundary = boundary
        self._sha256 = hashlib.sha256()
        #: What may be the beginning of a boundary.
        self._held = b""

    def read(self, *size: int | None) -> bytes:
        return self._seen(self._body.read(*size))

    def readline(self, *size: int) -> bytes:
        return self._seen(self._body.readline(*size))  # type: ignore[attr-defined]

    def readlines(self, *hint: int) -> list[bytes]:
        return [self._seen(line) for line in self._body.readlines(*hint)]  # type: ignore[attr-defined]

    def __iter__(self) -> Iterator[bytes]:
        return map(self._seen, self._body)  # type: ignore[no-any-return, call-overload]

    def digest(self) -> bytes:
        """The hash of all that was read."""
        whole = self._sha256.copy()
        whole.update(self._held)
        return whole.digest()

    def _seen(self, piece: bytes) -> bytes:
        if not self._boundary:
            self._sha256.update(piece)
            return piece
        *parts, last = (self._held + piece).split(self._boundary)
        for part in parts:
            self._sha256.update(part)
            self._sha256.update(self._MARK)
        cut = max(len(last) - len(self._boundary) + 1, 0)
        self._sha256.update(last[:cut])
        self._held = last[cut:]
        return piece


class _Leases:
    """Holds on to the requests that this process works on, all of them by one thread, which lives
    while there are any.
    """

    def __init__(self, store: Store, *, lease_s: float) -> None:
        self._store = store
        self._lease_s = lease_s
        self._lock = threading.Lock()
        self._held: set[Claimed] = set()
        self._is_renewing = False

    def hold(self, claimed: Claimed) -> None:
        """Renew a lease until it is dropped."""
        with self._lock:
            self._held.add(claimed)
            begins = not self._is_renewing
            self._is_renewing = True
        if begins:
            threading.Thread(target=self._renew, name="idempotency-leases", daemon=True).start()

    def drop(self, claimed: Claimed) -> None:
        """Hold on to a request no longer."""
        with self._lock:
            self._held.discard(claimed)

    def _renew(self) -> None:
        pause = threading.Event()
        while True:
            pause.wait(self._lease_s / 3)
            with self._lock:
                held = list(self._held)
                if not held:
                    self._is_renewing = False
                    return
            try:
                with self._store.transaction() as db:
                    idempotency_queries.renew_requests(db, held, lease_s=self._lease_s)
            except SQLAlchemyError as error:
                log.warning("leases_not_renewed", error=type(error).__name__)
