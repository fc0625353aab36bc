"""Types from a handful of examples: learning, unchanged base types, and warnings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from actors.facts import noise_types
from actors.science import synth
from actors.science.detection import classifier, second_opinion
from actors.science.detection.classifier import Classifier
from actors.science.detection.tagging import tagger
from actors.science.detection.tagging.backbone import RATE_HZ, BackboneNetwork
from actors.science.detection.tagging.tagger import Tagger
from actors.science.types import BACKGROUND
from actors.training import learn, linear_head, negatives
from actors.training.clip_checks import OneClassOnly, TooFewExamples
from actors.training.dataset import LabelledClip
from actors.training.learn import Learnt
from actors.training.linear_head import NotAType
from actors.training.shipped_model import base_type_examples
from actors.training.shipped_model.base_type_examples import EmbeddedSounds
from actors.training.shipped_model.base_types import types_of_head
from actors.training.sounds import Sound
from tests.support import weights

NETWORK = BackboneNetwork.from_bytes(weights.file_of(weights.random_state(width=0.4)))


def sounds_of(make: Any, how_many: int, *, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [(0.1 * make(rng, 2 * RATE_HZ, RATE_HZ)).astype(np.float32) for _ in range(how_many)]


def clips_of(label: str, make: Any, how_many: int, *, per_group: int = 1) -> list[LabelledClip]:
    return [
        LabelledClip(f"{label}-{number}", label, f"{label}-{number // per_group}", samples)
        for number, samples in enumerate(sounds_of(make, how_many))
    ]


#: A new type and a base type.
CLIPS = [
    *clips_of("our_pump", synth.mains_hum, 6, per_group=2),
    *clips_of("broadband_hiss", synth.broadband_hiss, 6, per_group=2),
]


def base_types() -> Tagger:
    """Random base types, scaled to a random network's embeddings as trained ones would be."""
    head = weights.random_head()
    embeddings = linear_head.embed(CLIPS, NETWORK, seed=5, tell=lambda _: None).embeddings
    mean = embeddings.mean(axis=0)
    spread = np.array((embeddings - mean).std(), dtype=np.float32)
    # Most types are unlikely, as with trained weights.
    smaller = {name: head.arrays[name] * np.float32(0.02) for name in ("scale", "weights")}
    scaled = smaller | {"mean": mean, "spread": spread, "bias": head.arrays["bias"] - np.float32(4)}
    return Tagger(NETWORK, replace(head, arrays={**head.arrays, **scaled}))


TAGGER = base_types()


@pytest.fixture(scope="module", autouse=True)
def _others() -> Iterator[None]:
    """Use other sounds, as embedded by this network, as the negatives of new types."""
    others = EmbeddedSounds()
    for name, make in (("hammering", synth.hammering), (BACKGROUND, synth.background_bed)):
        types = () if name == BACKGROUND else (name,)
        for number, samples in enumerate(sounds_of(make, 8, seed=1)):
            others.add(NETWORK, Sound(name, types, str(number), samples))
    against = base_type_examples.choose_negatives(others, TAGGER.types, backbone_sha256="")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(negatives, "shipped", lambda: against)
        yield


def learnt(clips: list[LabelledClip], **options: Any) -> Learnt:
    given = {"algorithm": linear_head.ALGORITHM, "name": "ours", "version": "1", "beside": TAGGER}
    return learn.learn(clips, **{**given, **options})


@pytest.fixture(scope="module")
def result() -> Learnt:
    return learnt(CLIPS)


def head_of(model: Classifier) -> tagger.Head:
    assert model.head is not None
    return model.head


def test_held_out_clips_get_their_types(result: Learnt) -> None:
    assert {"our_pump", "broadband_hiss"} <= set(result.columns)
    found = np.array(result.columns)[result.scores.argmax(axis=1)]
    assert (found == result.truth).mean() > 0.9


def test_new_sounds_get_the_trained_type(result: Learnt) -> None:
    trained = Tagger(NETWORK, head_of(result.model))
    for make, name in ((synth.mains_hum, "our_pump"), (synth.broadband_hiss, "broadband_hiss")):
        for samples in sounds_of(make, 3, seed=7):
            assert (
                trained.types[trained.probabilities(NETWORK.embed(samples)[None]).argmax()] == name
            )


def test_the_base_types_keep_their_rows(result: Learnt) -> None:
    base, head = TAGGER.head, head_of(result.model)
    assert head.types == (*base.types, "our_pump")
    kept = [column for column, name in enumerate(base.types) if name != "broadband_hiss"]
    for name in ("bias", "scale", "weights", "prior"):
        np.testing.assert_array_equal(head.arrays[name][kept], base.arrays[name][kept])
    hiss = base.types.index("broadband_hiss")
    assert np.abs(head.arrays["weights"][hiss] - base.arrays["weights"][hiss]).max() > 0


def test_the_new_types_join_the_shipped_model(result: Learnt) -> None:
    shipped, model = classifier.shipped(), Classifier.from_bytes(result.model.to_bytes())
    assert model.classes == shipped.classes
    assert [each.kind for each in model.members] == [each.kind for each in shipped.members]
    assert model.trained_types == ("broadband_hiss", "our_pump")
    assert model.thresholds["our_pump"] == second_opinion.LEAST_OF_TYPE
    assert {*types_of_head(), "our_pump"} == {*head_of(model).types}
    assert noise_types.unknown(["our_pump"], noise_types.of_model(model.header)) is None
    harm = model.header["training"]["base_types"]
    assert harm["n_embeddings"] == 8
    assert 0 <= harm["right_after"] <= 1


def test_the_same_clips_and_seed_give_the_same_model() -> None:
    clips = clips_of("our_pump", synth.mains_hum, 3)
    first, again, other = (learnt(clips, seed=seed).model.sha256 for seed in (0, 0, 1))
    assert first == again != other


def test_one_type_is_enough_and_progress_goes_forward() -> None:
    told: list[tuple[float, str]] = []
    clips = clips_of("our_pump", synth.mains_hum, 3)
    learnt(clips, on_progress=lambda part, stage: told.append((part, stage)))
    parts = [part for part, _ in told]
    assert parts == sorted(parts)
    assert told[-1] == (1.0, "done")


def test_clips_of_one_group_are_held_out_one_by_one_with_a_warning(result: Learnt) -> None:
    assert len(result.model.header["warnings"]) == 1
    assert "broadband_hiss (6), our_pump (6)" in result.model.header["warnings"][0]
    alone = learnt(clips_of("our_pump", synth.mains_hum, 8, per_group=8)).model.header["warnings"]
    assert len(alone) == 1
    assert "one group" in alone[0]
    ungrouped = learnt(clips_of("our_pump", synth.mains_hum, 8)).model.header["warnings"]
    assert len(ungrouped) == 1
    assert "by itself" in ungrouped[0]
    assert not learnt(clips_of("our_pump", synth.mains_hum, 8, per_group=2)).model.header[
        "warnings"
    ]


def pump_share(head: tagger.Head, samples: np.ndarray) -> float:
    trained = Tagger(NETWORK, head)
    return float(
        trained.probabilities(NETWORK.embed(samples)[None])[trained.types.index("our_pump")]
    )


def test_sounds_of_base_types_hold_the_new_type_back() -> None:
    clips, every = clips_of("our_pump", synth.mains_hum, 4), negatives.shipped()
    without = every.where(every.labels != every.types.index("hammering"))
    held, free = (
        linear_head.teach(clips, beside=TAGGER, against=each).head for each in (every, without)
    )
    for samples in sounds_of(synth.hammering, 3, seed=9):
        assert pump_share(held, samples) < pump_share(free, samples)


def test_clips_of_background_hold_the_new_type_back() -> None:
    pump = clips_of("our_pump", synth.mains_hum, 4)
    tones = clips_of(BACKGROUND, synth.alarm_tone, 6)
    held, free = (linear_head.teach(clips, beside=TAGGER).head for clips in ([*pump, *tones], pump))
    for samples in sounds_of(synth.alarm_tone, 3, seed=9):
        assert pump_share(held, samples) < pump_share(free, samples)


def test_a_long_clip_is_embedded_in_pieces() -> None:
    rng = np.random.default_rng(0)
    long = (0.1 * synth.mains_hum(rng, 25 * RATE_HZ, RATE_HZ)).astype(np.float32)
    clips = [LabelledClip("long", "our_pump", "long", long)]
    found = linear_head.embed(clips, NETWORK, seed=0, tell=lambda _: None)
    assert len(found.of_clip(0)) == 3
    assert found.is_copy.sum() == 3 * linear_head.COPIES


def test_silence_teaches_nothing() -> None:
    clips = clips_of("our_pump", synth.mains_hum, 4)
    silent = LabelledClip("silent", "our_pump", "silent", np.zeros(RATE_HZ, dtype=np.float32))
    half = replace(
        clips[0], name="half", samples=np.pad(clips[0].samples, (0, 10 * RATE_HZ)), group="half"
    )
    found = linear_head.embed([*clips, silent, half], NETWORK, seed=0, tell=lambda _: None)
    assert len(found.of_clip(4)) == 0
    assert len(found.of_clip(5)) == 1
    with_silence = learnt([*clips, silent])
    row = with_silence.scores[-1]
    assert row.max() < 0.1, "nothing can be said of it"


@pytest.mark.parametrize(
    ("clips", "error", "told"),
    [
        (clips_of("our_pump", synth.mains_hum, 2), TooFewExamples, "3 clips"),
        (clips_of("traffic", synth.mains_hum, 4), NotAType, "traffic"),
        (clips_of("unclassified", synth.mains_hum, 4), NotAType, "unclassified"),
        (clips_of(BACKGROUND, synth.background_bed, 4), OneClassOnly, "one class"),
    ],
    ids=["few", "group", "unclassified", "background"],
)
def test_what_cannot_be_trained_is_refused(
    clips: list[LabelledClip], error: type[Exception], told: str
) -> None:
    with pytest.raises(error, match=told):
        learnt(clips)


def test_the_backbone_is_given_to_whom_needs_it() -> None:
    with pytest.raises(ValueError, match="backbone"):
        learnt(CLIPS, beside=None)
    with pytest.raises(ValueError, match="backbone"):
        learnt(CLIPS, algorithm="lda")
    assert learn.rate_hz(linear_head.ALGORITHM) == RATE_HZ
    assert learn.rate_hz("lda") == 16_000
