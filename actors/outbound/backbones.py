"""Select, store and fetch the weight file of the backbone.

The weights are not part of the package. `fetch` downloads them from their official address or
from ``CLAMOR_BACKBONE_URL`` and stores them under their hash, in the user's data folder or beside
the shipped model. A file whose size or hash differs is never used.

Light: the HTTP process imports this. `actors.science.detection.tagging.backbone` parses the bytes.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath
from urllib.parse import urlsplit

import httpx
import structlog

from db.blobs import durable
from db.setting_parsers import BACKBONE_MARK
from db.settings import BACKBONE_OFF, home_folder

log = structlog.get_logger(__name__)

#: The largest file of the family, `mn40`, has 274 MB.
MOST_BYTES = 300 * 1024**2
#: Read timeout of a download.
SILENCE_S = 20.0
MOST_REDIRECTS = 5
#: An unfinished file that has not grown for this long belongs to a fetch that was killed.
ABANDONED_S = 3_600.0
_PIECE_BYTES = 64 * 1024

#: The folder of the shipped model. A container image keeps the weights there.
BESIDE_MODEL = Path(__file__).parents[1] / "science" / "model"
#: A folder beside a checkout, checked before any source.
BESIDE_CHECKOUT = Path(__file__).parents[3] / "shared" / "models"

#: Called with the number of bytes fetched so far, and the total if it is known.
OnBytes = Callable[[int, int | None], object]
#: Called with a file that is not used, and the reason.
Complain = Callable[[Path, str], object]


class FetchError(Exception):
    """The weights could not be fetched. The message gives the reason and the remedy."""


def log_refused(path: Path, reason: str) -> None:
    """Log that a file is not used."""
    log.warning("backbone_file_refused", path=str(path), reason=reason)


@dataclass(frozen=True, slots=True)
class WeightsSource:
    """A weight file and the place it is fetched from.

    Attributes
    ----------
    place
        An http(s) address, a file or a folder.
    file_name
        The name of the file in a folder.
    sha256
        In lower case.
    n_bytes
        None if only the hash is known.
    """

    place: str = field(repr=False)
    file_name: str
    sha256: str
    n_bytes: int | None = None

    @property
    def name(self) -> str:
        """The name of the network: ``mn04_as``."""
        return re.sub(r"(_mAP_\d+)?\.pt$", "", self.file_name)

    @property
    def kept_name(self) -> str:
        """The name under which the file is stored."""
        return f"{self.sha256}.pt"

    @property
    def is_remote(self) -> bool:
        """Whether the place is an http(s) address."""
        return "://" in self.place

    @property
    def shown(self) -> str:
        """The place without parts that may be secret: user, password and query."""
        if not self.is_remote:
            return self.place
        parts = urlsplit(self.place)
        return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="").geturl()


#: The weights that the shipped base types were trained on.
PUBLISHED = WeightsSource(
    place="https://github.com/fschmid56/EfficientAT/releases/download/v0.0.1/mn04_as_mAP_432.pt",
    file_name="mn04_as_mAP_432.pt",
    sha256="899a8c6217063f6941793102a2780b3dd788ab11fce468d9cf5f0577c453321c",
    n_bytes=4_066_513,
)


def source(setting: str) -> WeightsSource | None:
    """Return the file that a value of ``CLAMOR_BACKBONE_URL`` stands for; None for ``off``."""
    if setting.lower() == BACKBONE_OFF:
        return None
    place, marked, sha256 = setting.partition(BACKBONE_MARK)
    if not marked:
        return replace(PUBLISHED, place=setting) if setting else PUBLISHED
    last = PurePath(urlsplit(place).path if "://" in place else place).name
    # A folder does not name the file.
    file_name = last if last.endswith(".pt") else f"{sha256[:12].lower()}.pt"
    return WeightsSource(place=place, file_name=file_name, sha256=sha256.lower())


def data_folder() -> Path:
    """Return the folder for weights that are not stored beside the shipped model."""
    return home_folder() / "models"


def places(wanted: WeightsSource) -> list[Path]:
    """Return the paths where a weight file may be, in the order of the search."""
    return [folder / wanted.kept_name for folder in (BESIDE_MODEL, data_folder())]


def is_there(wanted: WeightsSource) -> bool:
    """Whether a file with this name and size exists. Its content is not read."""
    return any(_fits_by_size(wanted, path) for path in places(wanted))


def find(wanted: WeightsSource) -> bytes | None:
    """Return the stored weights, or None if there are none. Log a file that does not match."""
    found = (read(path, wanted) for path in places(wanted))
    return next((data for data in found if data is not None), None)


def read(path: Path, wanted: WeightsSource, *, complain: Complain = log_refused) -> bytes | None:
    """Return the content of a file; None if it is missing or its size or hash differs."""
    try:
        if not path.is_file():
            return None
        reason = _wrong_size(wanted, path.stat().st_size)
        data = path.read_bytes() if reason is None else b""
    except OSError as error:
        reason = error.strerror or "it cannot be read"
    reason = reason or _misfit(wanted, len(data), hashlib.sha256(data).hexdigest())
    if reason is None:
        return data
    complain(path, reason)
    return None


def fetch(
    wanted: WeightsSource,
    folder: Path,
    *,
    on_bytes: OnBytes = lambda _n_bytes, _total: None,
    complain: Complain = log_refused,
    limit_s: float,
) -> Path:
    """Fetch a weight file into a folder, and return its path.

    The folder beside a checkout is checked first, then the source. The file appears under its name
    once it is complete, verified and on disk; several processes may fetch at once.

    Raises
    ------
    FetchError
        If the file is unavailable, cannot be written, differs, or takes longer than ``limit_s``.
    """
    path = folder / wanted.kept_name
    beside = BESIDE_CHECKOUT / wanted.file_name
    try:
        durable.make_folder(folder)
        _remove_unfinished(path)
        data = read(beside, wanted, complain=complain)
        if data is not None:
            _keep(wanted, path, [data], lambda n_bytes: on_bytes(n_bytes, len(data)))
            return path
        with _opened(wanted, deadline=time.monotonic() + limit_s) as (total, pieces):
            _keep(wanted, path, pieces, lambda n_bytes: on_bytes(n_bytes, total))
    except _Unfit as error:
        reason = f"{wanted.shown}: {error}"
    except OSError as error:
        reason = f"it could not be written ({error.strerror or error})"
    else:
        return path
    raise FetchError(
        f"{wanted.name} was not fetched: {reason}. Set CLAMOR_BACKBONE_URL to a mirror, a file or "
        f"a folder that has it, or put the file there by hand: {path}"
    )


class _Unfit(Exception):
    """A source does not have the weight file. The message says why."""


def _keep(
    wanted: WeightsSource, path: Path, pieces: Iterable[bytes], on_bytes: Callable[[int], object]
) -> None:
    """Write a file piece by piece; it appears under its name only if its hash matches."""
    digest, n_bytes, most_bytes = hashlib.sha256(), 0, _most_bytes(wanted)
    with durable.create(path.parent, path.name) as file:
        for piece in pieces:
            n_bytes += len(piece)
            if n_bytes > most_bytes:
                raise _Unfit(f"it has more than {most_bytes} bytes")
            digest.update(piece)
            file.write(piece)
            on_bytes(n_bytes)
        reason = _misfit(wanted, n_bytes, digest.hexdigest())
        if reason is not None:
            raise _Unfit(reason)


@contextmanager
def _opened(
    wanted: WeightsSource, *, deadline: float
) -> Iterator[tuple[int | None, Iterator[bytes]]]:
    """Open a source. Yield its size, if that is known, and an iterator over its bytes."""
    if wanted.is_remote:
        try:
            with _answered(wanted.place, deadline=deadline) as (total, pieces):
                if total is not None:
                    _check_size(wanted, total)
                yield total, pieces
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise _Unfit(str(error).rstrip(".") or type(error).__name__) from error
        return
    named = Path(wanted.place).expanduser()
    candidates = [named / wanted.file_name, named / wanted.kept_name] if named.is_dir() else [named]
    path = next((each for each in candidates if each.is_file()), None)
    if path is None:
        raise _Unfit(f"there is no file {' or '.join(str(each) for each in candidates)}")
    try:
        file = path.open("rb")
    except OSError as error:
        raise _Unfit(f"{path} cannot be read: {error.strerror}") from error
    with file:
        total = path.stat().st_size
        _check_size(wanted, total)
        yield total, iter(lambda: file.read(_PIECE_BYTES), b"")


@contextmanager
def _answered(url: str, *, deadline: float) -> Iterator[tuple[int | None, Iterator[bytes]]]:
    """GET a URL. Yield the length of the response, if the server sends it, and its bytes.

    Uses the proxies of the environment, as pip does. Compressed responses are not unpacked: a few
    bytes may expand to any number.
    """
    try:
        client = httpx.Client(
            follow_redirects=True,
            max_redirects=MOST_REDIRECTS,
            timeout=min(SILENCE_S, max(0.1, deadline - time.monotonic())),
            headers={"Accept-Encoding": "identity"},
        )
    except (ValueError, ImportError) as error:
        raise _Unfit("the proxy that the environment names cannot be used") from error
    with client, client.stream("GET", url) as response:
        if response.status_code != httpx.codes.OK:
            raise _Unfit(f"the server answered {response.status_code}")
        length = response.headers.get("Content-Length", "")
        yield int(length) if length.isdecimal() else None, _until(deadline, response.iter_raw())


def _until(deadline: float, pieces: Iterable[bytes]) -> Iterator[bytes]:
    for piece in pieces:
        if time.monotonic() > deadline:
            raise _Unfit("it takes too long")
        yield piece


def _most_bytes(wanted: WeightsSource) -> int:
    return MOST_BYTES if wanted.n_bytes is None else wanted.n_bytes


def _check_size(wanted: WeightsSource, n_bytes: int) -> None:
    """Reject a source by its announced size, before it is read."""
    reason = _wrong_size(wanted, n_bytes)
    if reason is not None:
        raise _Unfit(reason)


def _misfit(wanted: WeightsSource, n_bytes: int, sha256: str) -> str | None:
    """Return why a file is not the wanted one; None if it is."""
    reason = _wrong_size(wanted, n_bytes)
    if reason is None and sha256 != wanted.sha256:
        return f"its sha256 is {sha256} instead of {wanted.sha256}"
    return reason


def _wrong_size(wanted: WeightsSource, n_bytes: int) -> str | None:
    if wanted.n_bytes not in (None, n_bytes):
        return f"it has {n_bytes} bytes instead of {wanted.n_bytes}"
    return f"it has more than {MOST_BYTES} bytes" if n_bytes > MOST_BYTES else None


def _fits_by_size(wanted: WeightsSource, path: Path) -> bool:
    try:
        n_bytes = path.stat().st_size if path.is_file() else 0
    except OSError:
        return False
    return n_bytes > 0 and _wrong_size(wanted, n_bytes) is None


def _remove_unfinished(path: Path) -> None:
    """Remove unfinished files of fetches that were killed."""
    for part in path.parent.glob(f"{path.name}#*"):
        with suppress(FileNotFoundError):
            if time.time() - part.stat().st_mtime > ABANDONED_S:
                part.unlink()
