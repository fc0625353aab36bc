"""``clamor model fetch`` and its callers: one line each, and an exit code."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from actors.outbound import backbones
from deploy import bootstrap
from services.cli import main as cli
from tests.support.web import Request, Web, serving

DATA = b"weights" * 10_000
SHA256 = hashlib.sha256(DATA).hexdigest()
MARK = f"#sha256={SHA256}"


@pytest.fixture
def web() -> Iterator[Web]:
    with serving() as web:
        web.pages["/mn10_as_mAP_471.pt"] = lambda request: request.answer(DATA)
        yield web


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CLAMOR_HOME", str(tmp_path / "home"))
    # No installation is needed.
    monkeypatch.delenv("DATABASE_URL", raising=False)
    return tmp_path / "home"


def use(setting: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLAMOR_BACKBONE_URL", setting)


def test_it_is_fetched_once(
    web: Web, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    use(web.url("/mn10_as_mAP_471.pt") + MARK, monkeypatch)
    path = home / "models" / f"{SHA256}.pt"
    assert cli.main(["model", "fetch"]) == 0
    printed = capsys.readouterr()
    assert "fetched" in printed.out
    assert str(path) in printed.out
    # Without a terminal: lines instead of a moving bar.
    assert "mn10_as: 100 %  0.1 MB" in printed.err
    assert "\x1b" not in printed.err
    assert path.read_bytes() == DATA
    assert cli.main(["model", "fetch"]) == 0
    printed = capsys.readouterr()
    assert "already" in printed.out
    assert str(path) in printed.out
    assert len(web.asked) == 1


def test_a_damaged_one_is_named_and_replaced(
    web: Web, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    use(web.url("/mn10_as_mAP_471.pt") + MARK, monkeypatch)
    path = home / "models" / f"{SHA256}.pt"
    path.parent.mkdir(parents=True)
    path.write_bytes(DATA[:-1])
    assert cli.main(["model", "fetch"]) == 0
    assert f"clamor: {path} is not used" in capsys.readouterr().err
    assert path.read_bytes() == DATA


def test_an_image_keeps_it_beside_the_model(
    web: Web, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(web.url("/mn10_as_mAP_471.pt") + MARK, monkeypatch)
    monkeypatch.setattr(backbones, "BESIDE_MODEL", tmp_path / "package")
    assert cli.main(["model", "fetch"]) == 0
    # A user's copy does not count for the image.
    assert cli.main(["model", "fetch", "--beside-model"]) == 0
    assert (tmp_path / "package" / f"{SHA256}.pt").read_bytes() == DATA
    (home / "models" / f"{SHA256}.pt").unlink()
    assert cli.main(["model", "fetch"]) == 0
    assert not (home / "models" / f"{SHA256}.pt").exists()


def test_off_is_said(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    use("off", monkeypatch)
    assert cli.main(["model", "fetch"]) == 0
    assert "CLAMOR_BACKBONE_URL" in capsys.readouterr().out
    assert not home.exists()


@pytest.mark.parametrize("source", ["/nowhere.pt" + MARK, "s3://bucket/x.pt"])
def test_a_failure_is_a_line_and_2(
    source: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    use(source, monkeypatch)
    assert cli.main(["model", "fetch"]) == cli.USAGE_ERROR
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("clamor: ")
    assert "CLAMOR_BACKBONE_URL" in last


def test_two_processes_fetch_at_once(web: Web, home: Path) -> None:
    both = threading.Barrier(2)

    def together(request: Request) -> None:
        request.raw(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(DATA), DATA[:1_000])
        # Each has started its file before one can finish.
        both.wait(timeout=60)
        request.raw(DATA[1_000:])

    web.pages["/x.pt"] = together
    running = [
        subprocess.Popen(
            [sys.executable, "-m", "services.cli", "model", "fetch"],
            env=os.environ | {"CLAMOR_BACKBONE_URL": web.url("/x.pt") + MARK},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for _ in range(2)
    ]
    for each in running:
        printed, _ = each.communicate(timeout=120)
        assert each.returncode == 0, printed
        assert "x was fetched" in printed
    assert (home / "models" / f"{SHA256}.pt").read_bytes() == DATA
    assert len(os.listdir(home / "models")) == 1


# -- make setup --------------------------------------------------------------------------------


def test_setup_fetches_it(
    web: Web, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    use(web.url("/mn10_as_mAP_471.pt") + MARK, monkeypatch)
    bootstrap.fetch_backbone()
    assert "mn10_as was fetched" in capsys.readouterr().out
    bootstrap.fetch_backbone()
    assert "already" in capsys.readouterr().out


def test_setup_goes_on_without_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    use("/nowhere.pt" + MARK, monkeypatch)
    bootstrap.fetch_backbone()
    printed = capsys.readouterr().out.strip()
    assert "no backbone" in printed
    assert "\n" not in printed


def test_setup_does_not_wait_for_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bin").mkdir()
    hangs = tmp_path / "bin" / "clamor"
    hangs.write_text("#!/bin/sh\nexec sleep 60\n")
    hangs.chmod(0o755)
    monkeypatch.setattr(bootstrap, "VENV", tmp_path)
    monkeypatch.setattr(bootstrap, "FETCH_S", 0.05)
    bootstrap.fetch_backbone()
    assert "no backbone" in capsys.readouterr().out
    hangs.unlink()
    bootstrap.fetch_backbone()
    assert "no backbone" in capsys.readouterr().out
