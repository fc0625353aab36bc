"""The backbone's weights: fetched completely or not at all, and used only if they match."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from actors.outbound import backbones
from actors.outbound.backbones import FetchError, WeightsSource
from tests.support import weights
from tests.support.web import Request, Web, serving

DATA = bytes(range(256)) * 1_000
SHA256 = hashlib.sha256(DATA).hexdigest()
PUBLISHED = WeightsSource(
    place="https://example.invalid/mn04_as_mAP_432.pt",
    file_name="mn04_as_mAP_432.pt",
    sha256=SHA256,
    n_bytes=len(DATA),
)


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Separate folders for each test, and small weights in place of the published ones."""
    monkeypatch.setenv("CLAMOR_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(backbones, "BESIDE_MODEL", tmp_path / "package")
    monkeypatch.setattr(backbones, "BESIDE_CHECKOUT", tmp_path / "shared")
    monkeypatch.setattr(backbones, "PUBLISHED", PUBLISHED)


@pytest.fixture
def web() -> Iterator[Web]:
    with serving() as web:
        yield web


def wanted(setting: object) -> WeightsSource:
    found = backbones.source(str(setting))
    assert found is not None
    return found


def fetch(setting: object, *, limit_s: float = 30.0) -> Path:
    return backbones.fetch(wanted(setting), backbones.data_folder(), limit_s=limit_s)


def left() -> list[str]:
    return os.listdir(backbones.data_folder())


def refused(setting: object, reason: str, *, limit_s: float = 30.0) -> None:
    """Check that a fetch fails, names the reason and the remedy, and leaves nothing."""
    with pytest.raises(FetchError, match=reason) as caught:
        fetch(setting, limit_s=limit_s)
    assert "Set CLAMOR_BACKBONE_URL to" in str(caught.value)
    assert str(backbones.data_folder() / wanted(setting).kept_name) in str(caught.value)
    assert left() == []


# -- meaning of the setting ------------------------------------------------------------------------


def test_the_published_weights_are_pinned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    published = wanted("")
    assert (published.name, published.n_bytes) == ("mn04_as", 4_066_513)
    data = weights.published()
    assert len(data) == published.n_bytes
    assert hashlib.sha256(data).hexdigest() == published.sha256


def test_off_is_no_source() -> None:
    assert backbones.source("off") is None
    assert backbones.source("OFF") is None


@pytest.mark.parametrize("place", ["https://mirror.example/x.pt", "/srv/weights", "weights.pt"])
def test_a_mirror_must_have_the_same_bytes(place: str) -> None:
    assert wanted(place) == replace(PUBLISHED, place=place)


@pytest.mark.parametrize(
    ("place", "name"),
    [
        ("https://mirror.example/v0.0.1/mn10_as_mAP_471.pt?token=x", "mn10_as"),
        ("/srv/mn10_as_mAP_471.pt", "mn10_as"),
        ("/srv/own.pt", "own"),
        ("/srv/weights", SHA256[:12]),
        ("https://mirror.example/", SHA256[:12]),
    ],
)
def test_a_hash_names_another_file(place: str, name: str) -> None:
    found = wanted(f"{place}#sha256={SHA256.upper()}")
    assert (found.place, found.sha256, found.n_bytes) == (place, SHA256, None)
    assert found.name == name


def test_secrets_of_an_address_are_not_shown() -> None:
    found = wanted("https://user:password@mirror.example:8443/x.pt?token=secret")
    assert found.shown == "https://mirror.example:8443/x.pt"
    assert "secret" not in repr(found)
    assert "password" not in repr(found)


# -- where the weights are stored --------------------------------------------------------------


def test_without_a_file_nothing_is_found() -> None:
    assert backbones.find(PUBLISHED) is None
    assert not backbones.is_there(PUBLISHED)


@pytest.mark.parametrize("place", [0, 1])
def test_it_is_found_beside_the_model_and_in_the_data_folder(place: int) -> None:
    path = backbones.places(PUBLISHED)[place]
    path.parent.mkdir(parents=True)
    path.write_bytes(DATA)
    assert backbones.find(PUBLISHED) == DATA
    assert backbones.is_there(PUBLISHED)


@pytest.mark.parametrize("damaged", [DATA[:-1], DATA + b"?", DATA[:-1] + b"?", b""])
def test_a_file_that_does_not_fit_is_not_used(
    damaged: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    beside, kept = backbones.places(PUBLISHED)
    for path in (beside, kept):
        path.parent.mkdir(parents=True)
        path.write_bytes(damaged)
    assert backbones.find(PUBLISHED) is None
    assert capsys.readouterr().out.count("backbone_file_refused") == 2
    # The other file is still tried.
    kept.write_bytes(DATA)
    assert backbones.find(PUBLISHED) == DATA


@pytest.mark.parametrize("damaged", [DATA[:-1], DATA + b"?", b""])
def test_a_file_of_another_size_is_not_there(damaged: bytes) -> None:
    path = backbones.places(PUBLISHED)[1]
    path.parent.mkdir(parents=True)
    path.write_bytes(damaged)
    assert not backbones.is_there(PUBLISHED)


def test_a_folder_that_cannot_be_looked_into_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The system refuses this for root, too.
    monkeypatch.setenv("CLAMOR_HOME", str(tmp_path / ("x" * 300)))
    assert backbones.find(PUBLISHED) is None
    assert not backbones.is_there(PUBLISHED)


# -- files and folders -------------------------------------------------------------------------


def test_a_folder_beside_the_checkout_comes_first(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / PUBLISHED.file_name).write_bytes(DATA)
    # That source would fail.
    assert fetch(tmp_path / "missing").read_bytes() == DATA
    assert left() == [PUBLISHED.kept_name]


def test_what_does_not_fit_there_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / PUBLISHED.file_name).write_bytes(DATA[:-1] + b"?")
    (tmp_path / "mirror.pt").write_bytes(DATA)
    complaints: list[str] = []
    backbones.fetch(
        wanted(tmp_path / "mirror.pt"),
        backbones.data_folder(),
        complain=lambda _path, reason: complaints.append(reason),
        limit_s=30.0,
    )
    assert len(complaints) == 1
    assert backbones.find(PUBLISHED) == DATA


@pytest.mark.parametrize("name", ["", PUBLISHED.file_name, PUBLISHED.kept_name])
def test_a_file_and_a_folder_are_sources(tmp_path: Path, name: str) -> None:
    (tmp_path / "mirror").mkdir()
    path = tmp_path / "mirror" / (name or "any.pt")
    path.write_bytes(DATA)
    assert fetch(path.parent if name else path).read_bytes() == DATA


def test_another_file_of_the_family_fits_by_its_hash(tmp_path: Path) -> None:
    other = DATA * 2
    sha256 = hashlib.sha256(other).hexdigest()
    path = tmp_path / "mn10_as_mAP_471.pt"
    path.write_bytes(other)
    setting = f"{path}#sha256={sha256}"
    assert fetch(setting).name == f"{sha256}.pt"
    assert backbones.find(wanted(setting)) == other
    assert backbones.is_there(wanted(setting))
    assert backbones.find(PUBLISHED) is None


def test_files_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    refused(tmp_path / "nothing.pt", "there is no file")
    refused(tmp_path, "there is no file .* or ")
    path = tmp_path / "x.pt"
    for data, reason in (
        (DATA[:-1], f"{len(DATA) - 1} bytes instead of {len(DATA)}"),
        (DATA + b"?", f"{len(DATA) + 1} bytes instead of {len(DATA)}"),
        (DATA[:-1] + b"?", f"its sha256 is [0-9a-f]{{64}} instead of {SHA256}"),
    ):
        path.write_bytes(data)
        refused(path, reason)
    refused(f"{path}#sha256={SHA256}", "its sha256 is")


def test_a_disk_that_refuses_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.pt"
    path.write_bytes(DATA)
    monkeypatch.setenv("CLAMOR_HOME", str(path))
    with pytest.raises(FetchError, match="could not be written"):
        fetch(path)


def test_a_fetch_that_was_killed_leaves_nothing_for_long(tmp_path: Path) -> None:
    (tmp_path / "x.pt").write_bytes(DATA)
    folder = backbones.data_folder()
    folder.mkdir(parents=True)
    old, running = (folder / f"{PUBLISHED.kept_name}#{number}" for number in (1, 2))
    for part in (old, running):
        part.write_bytes(b"x")
    then = time.time() - 2 * backbones.ABANDONED_S
    os.utime(old, (then, then))
    fetch(tmp_path / "x.pt")
    assert sorted(left()) == sorted([PUBLISHED.kept_name, running.name])


# -- servers -----------------------------------------------------------------------------------


def test_a_server_is_asked(web: Web) -> None:
    web.pages["/x.pt"] = lambda request: request.answer(DATA)
    told: list[tuple[int, int | None]] = []
    path = backbones.fetch(
        wanted(web.url("/x.pt")),
        backbones.data_folder(),
        on_bytes=lambda n_bytes, total: told.append((n_bytes, total)),
        limit_s=30.0,
    )
    assert path.read_bytes() == DATA
    assert told[-1] == (len(DATA), len(DATA))
    assert left() == [PUBLISHED.kept_name]


def test_redirects_are_followed_to_an_end(web: Web) -> None:
    web.pages["/x.pt"] = lambda request: request.answer(status=302, Location="/moved.pt")
    web.pages["/moved.pt"] = lambda request: request.answer(DATA)
    web.pages["/circle.pt"] = lambda request: request.answer(status=302, Location="/circle.pt")
    refused(web.url("/circle.pt"), "redirect")
    assert fetch(web.url("/x.pt")).read_bytes() == DATA


def test_a_redirect_to_a_file_is_not_followed(web: Web, tmp_path: Path) -> None:
    (tmp_path / "x.pt").write_bytes(DATA)
    to = (tmp_path / "x.pt").as_uri()
    web.pages["/x.pt"] = lambda request: request.answer(status=302, Location=to)
    refused(web.url("/x.pt"), "protocol")


def chunked(request: Request, data: bytes, *, ends: bool) -> None:
    end = b"0\r\n\r\n" if ends else b""
    request.raw(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"%x\r\n%s\r\n" % (len(data), data),
        end,
    )


def endless(request: Request) -> None:
    request.raw(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
    while not request.web.ends.is_set():
        request.wfile.write(b"x" * 65_536)


def dripping(request: Request) -> None:
    request.raw(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
    while not request.web.ends.wait(0.05):
        request.raw(b"x")


def silent(request: Request) -> None:
    request.web.ends.wait(30)


SERVERS: dict[str, tuple[Callable[[Request], object], str]] = {
    "not found": (lambda request: request.answer(status=404), "answered 404"),
    "an error": (lambda request: request.answer(b"oops", status=500), "answered 500"),
    "no content": (lambda request: request.answer(status=204), "answered 204"),
    "part of it": (lambda request: request.answer(DATA, status=206), "answered 206"),
    "announced short": (lambda request: request.answer(DATA[:-1]), "bytes instead of"),
    "announced long": (lambda request: request.answer(DATA + b"?"), "bytes instead of"),
    "another": (lambda request: request.answer(DATA[:-1] + b"?"), "its sha256 is"),
    "cut": (
        lambda request: request.raw(
            b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(DATA), DATA[:1_000]
        ),
        "closed",
    ),
    "cut chunks": (lambda request: chunked(request, DATA[:1_000], ends=False), "closed"),
    "short chunks": (lambda request: chunked(request, DATA[:1_000], ends=True), "instead of"),
    "endless": (endless, f"more than {len(DATA)} bytes"),
    "no HTTP": (lambda request: request.raw(b"220 ready\r\n"), "disconnected"),
    "compressed": (
        lambda request: request.answer(b"x" * len(DATA), Content_Encoding="gzip"),
        "its sha256 is",
    ),
}


@pytest.mark.parametrize("how", SERVERS)
def test_a_server_that_answers_otherwise_is_refused(web: Web, how: str) -> None:
    page, reason = SERVERS[how]
    web.pages["/x.pt"] = page
    refused(web.url("/x.pt"), reason)


@pytest.mark.parametrize("page", [dripping, silent])
def test_a_slow_server_is_left(web: Web, page: Callable[[Request], object]) -> None:
    web.pages["/x.pt"] = page
    began = time.monotonic()
    refused(web.url("/x.pt"), "takes too long|timed out", limit_s=0.1)
    assert time.monotonic() - began < 10


def test_an_endless_answer_is_bounded_without_a_known_size(
    web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backbones, "MOST_BYTES", 1_000_000)
    web.pages["/x.pt"] = endless
    refused(f"{web.url('/x.pt')}#sha256={SHA256}", "more than 1000000 bytes")


def test_nobody_listens() -> None:
    refused("http://127.0.0.1:1/x.pt", "refused")


@pytest.mark.parametrize("proxy", ["nonsense", "socks5://127.0.0.1:1"])
def test_a_proxy_that_cannot_be_used_is_named(proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", proxy)
    monkeypatch.setenv("http_proxy", proxy)
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.setenv("no_proxy", "")
    refused("http://mirror.example/x.pt", "proxy|refused|resol|name|Name")
