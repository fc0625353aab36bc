"""Training by Clamor's own processes over real servers: HTTP in, a working model out."""

from __future__ import annotations

from pathlib import Path

import pytest

from actors.science.detection import classifier
from db.settings import Settings
from services.client import ApiError
from tests.acceptance.test_pipeline import clamor
from tests.support import labelled, recordings
from tests.support.cluster import Cluster, eventually

pytestmark = pytest.mark.acceptance


def write_set(folder: Path, *, seed: int = 0) -> tuple[Path, dict[str, Path]]:
    """Write a manifest with its clips beside it."""
    manifest, files = labelled.clips(seed=seed)
    paths = {name: folder / name for name in files}
    for name, path in paths.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        recordings.write(path, files[name])
    return recordings.write(folder / "manifest.csv", manifest.encode()), paths


def test_a_model_trained_over_http_hears_the_sessions_after_its_promotion(
    rabbit_settings: Settings, tmp_path: Path
) -> None:
    manifest, clips = write_set(tmp_path / "train")
    held_out, _ = write_set(tmp_path / "held-out", seed=50)
    file = recordings.write(tmp_path / "demo.flac", recordings.encode(recordings.demo()))
    with Cluster(rabbit_settings, tmp_path) as cluster, cluster.api() as client:
        workers = [cluster.worker(), cluster.worker()]
        before = client.wait(client.upload(file))
        assert before.summary is not None
        assert before.summary.model["name"] == "clamor-base"

        percents: list[int] = []
        training = client.train(
            manifest.read_bytes(), clips, options={"name": "hums", "algorithm": "random_forest"}
        )
        training = client.wait_for_training(
            training, on_change=lambda seen: percents.append(seen.percent)
        )
        assert training.state == "completed", training
        assert percents == sorted(percents)
        assert training.model_id is not None
        report = clamor("validate", training.model_id, held_out, "--api", client.url)
        assert "clip accuracy" in report

        refused = clamor("promote", training.model_id, "--api", client.url, exit_code=1)
        assert "no longer be detected" in refused
        assert "--force" in refused
        record = client.promote(training.model_id, force=True)
        assert record.forced
        # More uploads than workers, so each worker gets one; none was restarted.
        for _ in range(4):
            after = client.wait(client.upload(file))
            assert after.summary is not None
            model = {"name": "hums", "version": "1", "backbone": None}
            assert after.summary.model == model
        assert "* " in clamor("models", "--api", client.url)
        assert all(worker.popen.poll() is None for worker in workers)

        # The shipped model's file is recognised; a modified one is refused.
        file = recordings.write(tmp_path / "base.clamor", classifier.shipped().to_bytes())
        shipped = clamor("validate", file, "--api", client.url)
        [known] = [model for model in client.models() if model.is_shipped]
        assert str(known.id) in shipped
        assert "Promoted" in clamor("promote", known.id, "--force", "--api", client.url)
        changed = recordings.write(tmp_path / "changed.clamor", file.read_bytes()[:-1] + b"?")
        assert "checksum" in clamor("validate", changed, "--api", client.url, exit_code=1)
        with pytest.raises(ApiError, match="no model has the ID"):
            client.promote("00000000-0000-0000-0000-000000000000")


def test_a_worker_killed_while_it_trains_is_made_good(
    rabbit_settings: Settings, tmp_path: Path
) -> None:
    """kill -9 in the middle of a training: another worker repeats it, once."""
    manifest, clips = write_set(tmp_path / "train")
    with Cluster(rabbit_settings, tmp_path) as cluster, cluster.api() as client:
        doomed = cluster.worker()
        training = client.train(
            manifest.read_bytes(), clips, options={"algorithm": "random_forest"}
        )
        eventually(lambda: client.training(training.id).percent, what="a training under way")
        doomed.kill()
        assert not client.training(training.id).finished
        cluster.worker()
        training = client.wait_for_training(training, on_change=lambda _: None)
        assert training.state == "completed", training
        assert [(model.version, model.is_shipped) for model in client.models()] == [
            ("1", False),
            (classifier.shipped().header["version"], True),
        ]


def test_the_command_line_trains_from_nothing(tmp_path: Path) -> None:
    """The command starts a separate service, and the model stays in its home."""
    manifest, _ = write_set(tmp_path / "train")
    home = tmp_path / "home"
    forest = ("--algorithm", "random_forest", "--home", home)
    shown = clamor("train", manifest, "--name", "hums", "--promote", "--force", *forest)
    assert "mains_hum" in shown
    assert "Promoted" in shown
    assert "*  hums 1" in clamor("models", "--home", home)
    nothing = recordings.write(tmp_path / "bad.csv", b"file,label\nx.wav,\n")
    clamor("train", nothing, "--home", home, exit_code=2)
    one = "\n".join(line for line in manifest.read_text().splitlines() if "siren" not in line)
    only = recordings.write(tmp_path / "train" / "one.csv", one.encode())
    clamor("train", only, "--home", home, exit_code=1)
