"""What ``clamor promote`` shows and asks when a model is worse than the one in use."""

from __future__ import annotations

import io
import sys

import httpx
import pytest
from rich.console import Console

from services.cli.actions.models import put_to_use
from tests.unit.client.test_client import RECORD, Server, client_of

COMPARISON = {
    "basis": "nothing in common",
    "in_use": "clamor-base 2.1.0",
    "set_sha256": None,
    "figures": [{"name": "clip_accuracy", "candidate": 0.925, "in_use": 0.94, "is_worse": True}],
    "lost_noise_types": ["rain", "rooster"],
}
REFUSED = httpx.Response(
    409, json={"type": "/problems/regression", "title": "worse", "comparison": COMPARISON}
)
PROMOTED = httpx.Response(200, json=RECORD | {"forced": True, "comparison": COMPARISON})


class Keyboard(io.StringIO):
    """A person's standard input."""

    def isatty(self) -> bool:
        return True


def promote(
    monkeypatch: pytest.MonkeyPatch,
    *answers: httpx.Response,
    typed: str | None,
    force: bool = False,
) -> tuple[int, str, list[bytes]]:
    """Return the exit code, the output, and the bodies of the requests."""
    keyboard = io.StringIO() if typed is None else Keyboard(typed)
    monkeypatch.setattr(sys, "stdin", keyboard)
    server, shown = Server(*answers), io.StringIO()
    out = Console(file=shown, width=200, force_terminal=typed is not None, color_system=None)
    code = put_to_use(client_of(server, monkeypatch), "some-id", force=force, out=out)
    return code, shown.getvalue(), [request.content for request in server.seen]


def test_without_a_terminal_it_says_what_is_lost_and_needs_force(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    code, shown, sent = promote(monkeypatch, REFUSED, typed=None)
    assert (code, len(sent)) == (1, 1)
    assert "0.925 (worse)" in shown
    assert "0.940" in shown
    assert "(2): rain, rooster" in shown
    assert "clamor promote some-id --force" in shown


@pytest.mark.parametrize("typed", ["n\n", "\n", ""], ids=["no", "return", "end"])
def test_at_a_terminal_it_asks_and_does_nothing_without_a_yes(
    monkeypatch: pytest.MonkeyPatch, typed: str
) -> None:
    code, shown, sent = promote(monkeypatch, REFUSED, typed=typed)
    assert (code, len(sent)) == (1, 1)
    assert "Promote it anyway?" in shown


def test_a_yes_promotes_by_force(monkeypatch: pytest.MonkeyPatch) -> None:
    code, shown, sent = promote(monkeypatch, REFUSED, PROMOTED, typed="y\n")
    assert code == 0
    assert "lost" in shown
    assert sent == [b'{"force":false}', b'{"force":true}']


def test_force_does_not_ask_and_shows_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    code, shown, sent = promote(monkeypatch, PROMOTED, typed="", force=True)
    assert (code, sent) == (0, [b'{"force":true}'])
    assert "(2)" in shown
    assert "?" not in shown
