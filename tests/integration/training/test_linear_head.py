"""Types learnt from a handful of examples, from form to session, with random weights."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from actors.execution.failures import Permanent
from actors.execution.runtime import Runtime
from actors.science import synth
from actors.science.detection import classifier
from actors.science.detection.classifier import Classifier
from actors.science.detection.tagging.backbone import RATE_HZ, BackboneNetwork
from actors.science.detection.tagging.tagger import Tagger
from actors.science.errors import ModelError
from actors.training import linear_head
from actors.training import recordings as training_recordings
from actors.training.dataset import LabelledClip
from actors.training.recordings import Wanted
from tests.integration.audio.test_base_types import use
from tests.integration.training.models import (
    assert_problem,
    post,
    promote,
    train,
    validate,
    work,
)
from tests.support import labelled, recordings, weights
from tests.support.api import Api

pytestmark = pytest.mark.integration

NETWORK = BackboneNetwork.from_bytes(weights.file_of(weights.random_state(width=0.4)))
OURS = "our_pump"


def tagger() -> Tagger:
    """Random base types, scaled to a random network's embeddings as trained ones would be."""
    rng = np.random.default_rng(0)
    sounds = [
        LabelledClip(name, name, name, (0.1 * make(rng, RATE_HZ, RATE_HZ)).astype(np.float32))
        for name, make in synth.SOUNDS.items()
    ]
    embeddings = linear_head.embed(sounds, NETWORK, seed=0, tell=lambda _: None).embeddings
    mean = embeddings.mean(axis=0)
    spread = np.array((embeddings - mean).std(), dtype=np.float32)
    head = weights.random_head()
    # Most types are unlikely, as with trained weights.
    smaller = {name: head.arrays[name] * np.float32(0.02) for name in ("scale", "weights")}
    scaled = smaller | {"mean": mean, "spread": spread, "bias": head.arrays["bias"] - np.float32(4)}
    return Tagger(NETWORK, replace(head, arrays={**head.arrays, **scaled}))


TAGGER = tagger()


@pytest.fixture(autouse=True)
def backbone(runtime: Runtime) -> None:
    """Give the worker the backbone."""
    use(runtime, TAGGER)


def clips(*, each: int = 4) -> tuple[str, dict[str, bytes]]:
    """Return a manifest of hums of a new type, two from each source, and its files."""
    lines, files = ["file,label,group"], {}
    for number in range(each):
        name = f"{number}.flac"
        lines.append(f"{name},{OURS},{number // 2}")
        files[name] = recordings.encode(labelled.sound("mains_hum", seed=number), rate_hz=16_000)
    return "\n".join(lines), files


def learnt(admin: Api, runtime: Runtime, **how: Any) -> Any:
    return train(admin, runtime, *clips(**how), algorithm=linear_head.ALGORITHM, name="site-7")


def hear(admin: Api, runtime: Runtime, *, query: str = "") -> Any:
    """Return the finished session of a hum and a siren, and the types of its detections."""
    samples = np.concatenate(
        [
            1e-3 * labelled.sound("background", seconds=3),
            labelled.sound("mains_hum", seconds=4, seed=50),
            1e-3 * labelled.sound("background", seconds=3),
            labelled.sound("siren_sweep", seconds=4, seed=50),
        ]
    )
    posted = admin.simulate_post(
        f"/v1/sessions{query}",
        body=recordings.encode(samples, rate_hz=16_000),
        headers={"Content-Type": "audio/flac"},
    )
    assert posted.status_code == 202, posted.text
    work(runtime)
    session = admin.simulate_get(posted.headers["location"]).json
    events = admin.simulate_get(f"{posted.headers['location']}/detections").json["items"]
    return session, [event["noise_type"] for event in events]


def test_a_type_from_four_clips_joins_the_others(admin: Api, runtime: Runtime) -> None:
    done = learnt(admin, runtime)
    assert (done["state"], done["percent"], done["problem"]) == ("completed", 100, None)
    [warning] = done["warnings"]
    assert f"{OURS} (4)" in warning
    model = admin.simulate_get(f"/v1/models/{done['model_id']}").json
    assert model["classes"] == list(classifier.shipped().classes)
    assert model["trained_types"] == [OURS]
    assert model["card"]["warnings"] == done["warnings"]
    assert model["card"]["n_sources"] == 2
    assert OURS in [each["name"] for each in model["card"]["classes"]]
    assert admin.simulate_get(f"/v1/models/{done['model_id']}/confusion.png").status_code == 200
    # Every type that the shipped model detects is kept.
    shipped_id = str(runtime.shipped_model_id)
    assert promote(admin, done["model_id"]).json["comparison"]["lost_noise_types"] == []
    assert promote(admin, done["model_id"], force=True).status_code == 200
    session, found = hear(admin, runtime, query=f"?threshold={OURS}:0.3")
    assert session["state"] == "completed"
    assert session["summary"]["model"]["name"] == "site-7"
    assert session["summary"]["unused_types"] == []
    assert OURS in found
    # Promoting the old model back would lose the type.
    refused = promote(admin, shipped_id)
    assert OURS in assert_problem(refused, 409, "regression")


def test_a_session_without_the_backbone_says_which_types_are_not_used(
    admin: Api, runtime: Runtime
) -> None:
    assert promote(admin, learnt(admin, runtime)["model_id"], force=True).status_code == 200
    use(runtime, None)
    session, found = hear(admin, runtime)
    assert session["state"] == "completed"
    assert session["summary"]["unused_types"] == [OURS]
    assert session["summary"]["model"]["backbone"] is None
    assert found == ["mains_hum", "siren_sweep"]


def test_with_another_backbone_the_types_are_not_used(admin: Api, runtime: Runtime) -> None:
    assert promote(admin, learnt(admin, runtime)["model_id"], force=True).status_code == 200
    header = {**TAGGER.head.header, "backbone_sha256": "another"}
    use(runtime, replace(TAGGER, head=replace(TAGGER.head, header=header)))
    session, found = hear(admin, runtime)
    assert session["summary"]["unused_types"] == [OURS]
    assert session["summary"]["model"]["backbone"] == TAGGER.name
    assert OURS not in found


def test_without_the_backbone_nothing_is_trained(admin: Api, runtime: Runtime) -> None:
    use(runtime, None)
    failed = learnt(admin, runtime)
    assert (failed["state"], failed["problem"]["code"]) == ("failed", "no-backbone")
    # It fails before a clip is read.
    assert failed["stage"] == "waiting"


def test_two_clips_are_too_few(admin: Api, runtime: Runtime) -> None:
    failed = learnt(admin, runtime, each=2)
    assert failed["problem"]["code"] == "too-few-examples"


def test_a_model_with_types_of_its_own_is_validated_with_them(admin: Api, runtime: Runtime) -> None:
    model_id = learnt(admin, runtime)["model_id"]
    report = validate(admin, runtime, model_id, *clips())["report"]
    assert report["passed"]
    assert report["unknown_labels"] == []
    assert report["figures"]["clip_accuracy"] == 1.0
    use(runtime, None)
    assert validate(admin, runtime, model_id)["report"]["passed"]
    failed = validate(admin, runtime, model_id, *clips())
    assert failed["problem"]["code"] == "no-backbone"


def test_the_file_of_such_a_model_is_registered_elsewhere(admin: Api, runtime: Runtime) -> None:
    data = admin.simulate_get(f"/v1/models/{learnt(admin, runtime)['model_id']}/file").content
    posted = post(admin, "/v1/validations", {}, model=data)
    assert posted.status_code == 202, posted.text
    work(runtime)
    report = admin.simulate_get(posted.headers["location"]).json["report"]
    assert report["passed"], json.dumps(report)


def test_a_head_that_takes_other_embeddings_is_refused(runtime: Runtime) -> None:
    shipped = classifier.shipped()
    narrow = weights.random_head(n_embedding=8)
    model = Classifier.make(shipped.header, members=shipped.members, head=narrow)
    with pytest.raises(ModelError, match="does not fit the backbone"):
        runtime.tagger_for(model)
    assert runtime.tagger_for(shipped) is TAGGER


def test_clips_are_read_at_the_rate_that_is_asked_for(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = labelled.sound("mains_hum", seconds=3)
    runtime.blobs.put("a", recordings.encode(samples, rate_hz=16_000))
    wanted = [Wanted("a", None, 0.5, 1.25), Wanted("a")]
    read = training_recordings.read(runtime, wanted, rate_hz=RATE_HZ)
    assert [read.samples[index].size for index in (0, 1)] == [24_000, 96_000]
    assert read.total_s == pytest.approx(3.75)
    # At twice the sample rate, half the seconds fit into memory.
    monkeypatch.setattr(training_recordings, "MOST_TOTAL_S", 7.0)
    with pytest.raises(Permanent, match=r"more than 3\.5 s"):
        training_recordings.read(runtime, wanted, rate_hz=RATE_HZ)
