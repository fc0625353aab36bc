"""The look at known vulnerabilities, which states when it could not look; and the packages."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from deploy import audit, sbom

Answer = Callable[[list[dict[str, Any]]], tuple[int, bytes]]


@pytest.fixture
def osv() -> Iterator[HTTPServer]:
    """A database of vulnerabilities; its ``answer`` decides."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["queries"]
            status, body = self.server.answer(asked)  # type: ignore[attr-defined]
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_arguments: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def code(osv: HTTPServer, answer: Answer) -> int:
    osv.answer = answer  # type: ignore[attr-defined]
    return audit.main(["--url", f"http://127.0.0.1:{osv.server_port}/"])


def test_what_is_known_fails_and_is_named(
    osv: HTTPServer, capsys: pytest.CaptureFixture[str]
) -> None:
    def of_falcon(asked: list[dict[str, Any]]) -> tuple[int, bytes]:
        names = [each["package"]["name"] for each in asked]
        assert {"falcon", "torch", "psycopg-binary", "pytest"} <= set(names)
        assert all(each["package"]["ecosystem"] == "PyPI" and each["version"] for each in asked)
        known = [{"vulns": [{"id": "PYSEC-1"}]} if name == "falcon" else {} for name in names]
        return 200, json.dumps({"results": known}).encode()

    assert code(osv, of_falcon) == 1
    printed = capsys.readouterr().out
    assert "falcon" in printed
    assert "PYSEC-1" in printed


def test_nothing_known_is_good(osv: HTTPServer) -> None:
    assert code(osv, lambda asked: (200, json.dumps({"results": [{}] * len(asked)}).encode())) == 0


@pytest.mark.parametrize(
    "answer",
    [
        lambda _asked: (503, b""),
        lambda _asked: (200, b"<html>"),
        lambda _asked: (200, b"{}"),
        lambda _asked: (200, b"[]"),
        lambda _asked: (200, b'{"results": []}'),
        lambda asked: (200, json.dumps({"results": [None] * len(asked)}).encode()),
    ],
)
def test_no_usable_answer_is_not_a_good_one(
    osv: HTTPServer, answer: Answer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert code(osv, answer) == 2
    assert "Could not look" in capsys.readouterr().err


def test_a_database_that_cannot_be_reached_is_not_a_good_one(osv: HTTPServer) -> None:
    url = f"http://127.0.0.1:{osv.server_port}/"
    osv.server_close()
    assert audit.main(["--url", url]) == 2


def test_the_bill_of_materials_has_the_packages_of_the_image_with_licences() -> None:
    components = {each["name"]: each for each in sbom.document()["components"]}
    assert {"falcon", "torch", "numpy", "psycopg-binary"} <= set(components)
    assert not {"pytest", "ruff", "mypy"} & set(components)
    assert components["falcon"]["licenses"] == [{"license": {"name": "Apache-2.0"}}]
    for each in components.values():
        assert each["version"]
        assert each["purl"].startswith("pkg:pypi/")
        [named] = each["licenses"]
        assert 0 < len(named["license"]["name"]) < 200
