"""``train_noise_classifier``: train a model on labelled recordings, and register it."""

from __future__ import annotations

import hashlib
import uuid
from collections import Counter
from collections.abc import Sequence
from functools import partial

import numpy as np
from sqlalchemy.orm import Session

from actors.execution import runner
from actors.execution.failures import Permanent
from actors.execution.lease import Lease
from actors.execution.progress import Bar
from actors.execution.runtime import Runtime
from actors.messaging.messages import Nudge, TrainNoiseClassifier
from actors.science.detection import cards
from actors.science.detection.classifier import Classifier
from actors.science.detection.tagging.tagger import Tagger
from actors.science.errors import ScienceError
from actors.science.plotting import confusion
from actors.science.types import JsonDict
from actors.training import learn, recordings
from actors.training.dataset import LabelledClip
from actors.training.learn import Learnt
from actors.training.needed import needed_backbone
from actors.training.recordings import Wanted
from db.blobs.keys import training_prefix
from db.queries import model_queries
from db.queries.model_queries import JobDone, JobWork
from db.queue import claims
from db.tables.base import StoredProblem
from db.tables.training import TrainingClip, TrainingJob

#: Progress at the end of reading, and at the end of training.
READ_SHARE, LEARNT_SHARE = 0.2, 0.95


def train_noise_classifier(runtime: Runtime, nudge: TrainNoiseClassifier) -> None:
    """Read the clips, train, and register the model; unusable clips are listed with a reason."""
    take = partial(claims.this, JobWork(job=TrainingJob, id=nudge.job_id))
    runner.run(runtime, nudge, take, partial(_train, runtime))


def _train(runtime: Runtime, work: JobWork) -> runner.Task:
    refused: dict[int, str] = {}

    def perform(lease: Lease) -> runner.Result:
        with runtime.store.transaction() as tx:
            job = model_queries.get_training(tx, work.id)
            rows = model_queries.clips_of(tx, work.id)
        assert job is not None
        algorithm = _algorithm(job)
        beside = needed_backbone(runtime, algorithm) if learn.needs_backbone(algorithm) else None
        bar = Bar(runtime, work, lease)
        clips = _read(runtime, rows, learn.rate_hz(algorithm), bar, refused)
        learnt = _learn(job, clips, beside, bar, refused)
        bar.tell(LEARNT_SHARE, "writing the model card")
        card = _card(learnt, clips)
        card["refused"] = [
            {"file": rows[index].file_name, "reason": refused[index]} for index in sorted(refused)
        ]
        outcomes = {row.clip_index: refused.get(row.clip_index) for row in rows}
        return _result(
            runtime,
            work,
            lease,
            model=learnt.model,
            card=card,
            outcomes=outcomes,
            user_id=job.user_id,
        )

    def give_up(tx: Session, attempt: int, problem: StoredProblem) -> Sequence[Nudge] | None:
        nudges = runner.fail(work)(tx, attempt, problem)
        if nudges is not None:
            model_queries.note_outcomes(tx, work.id, refused)
        return nudges

    return runner.Task(name="train", work=work, perform=perform, give_up=give_up)


def _algorithm(job: TrainingJob) -> str:
    algorithm = job.algorithm or learn.DEFAULT_ALGORITHM
    if algorithm not in learn.ALGORITHMS:
        raise Permanent(
            "unknown-algorithm",
            f"there is no algorithm {algorithm!r}; there is {', '.join(sorted(learn.ALGORITHMS))}",
        )
    return algorithm


def _read(
    runtime: Runtime,
    rows: Sequence[TrainingClip],
    rate_hz: int,
    bar: Bar,
    refused: dict[int, str],
) -> list[LabelledClip]:
    tell = bar.part(0.0, READ_SHARE)
    read = recordings.read(
        runtime,
        [Wanted(row.blob_key, row.session_id, row.start_s or 0.0, row.end_s) for row in rows],
        rate_hz=rate_hz,
        on_progress=lambda fraction: tell(fraction, "reading the clips"),
    )
    refused |= read.refused
    return [
        LabelledClip(_name(rows[index]), rows[index].label, rows[index].source, samples)
        for index, samples in sorted(read.samples.items())
    ]


def _name(row: TrainingClip) -> str:
    """Return a name that is unique among the clips of the job."""
    place = "" if row.end_s is None else f" {row.start_s:g}-{row.end_s:g} s"
    return f"{row.clip_index}: {row.file_name}{place}"


def _learn(
    job: TrainingJob,
    clips: list[LabelledClip],
    beside: Tagger | None,
    bar: Bar,
    refused: dict[int, str],
) -> Learnt:
    if not clips:
        raise Permanent("no-clips", f"none of the {len(refused)} clips can be used")
    try:
        return learn.learn(
            clips,
            algorithm=_algorithm(job),
            name=job.name,
            version=str(job.version),
            seed=job.seed,
            beside=beside,
            on_progress=bar.part(READ_SHARE, LEARNT_SHARE),
        )
    except ScienceError as error:
        counts = sorted(Counter(clip.label for clip in clips).items())
        told = ", ".join(f"{label}: {count}" for label, count in counts)
        more = f"; {len(refused)} more were refused, each with its reason" if refused else ""
        raise Permanent(error.code, f"{error} (clips: {told}{more})") from error


def _card(learnt: Learnt, clips: Sequence[LabelledClip]) -> JsonDict:
    # Hash contents, so that the hash is independent of the names and the order of clips.
    hashes = sorted(
        hashlib.sha256(f"{clip.label}\n{clip.group}\n".encode() + clip.samples.tobytes()).digest()
        for clip in clips
    )
    return cards.build(
        learnt.model,
        columns=learnt.columns,
        truth=learnt.truth,
        scores=learnt.scores,
        sources=[clip.group for clip in clips],
        data_sha256=hashlib.sha256(b"".join(hashes)).hexdigest(),
    )


def _result(
    runtime: Runtime,
    work: JobWork,
    lease: Lease,
    *,
    model: Classifier,
    card: JsonDict,
    outcomes: dict[int, str | None],
    user_id: uuid.UUID | None,
) -> runner.Result:
    """Store the model and its confusion matrix; they take effect with the commit of the row."""
    prefix = training_prefix(work.id)
    model_key = lease.own(f"{prefix}model-{lease.attempt}")
    picture_key = lease.own(f"{prefix}confusion-{lease.attempt}.png")
    runtime.blobs.put(model_key, model.to_bytes())
    picture = confusion.draw(
        np.array(card["confusion"]),
        [each["name"] for each in card["classes"]],
        title=f"{card['name']} {card['version']}: {card['clip_accuracy']:.1%} of clips, held out",
    )
    runtime.blobs.put(picture_key, picture)
    move_on = runner.move_on(work, to="completed", values=JobDone(percent=100, stage="done"))

    def write(tx: Session, attempt: int) -> Sequence[Nudge] | None:
        nudges = move_on(tx, attempt)
        if nudges is not None:
            model_queries.note_outcomes(tx, work.id, outcomes)
            model_id = model_queries.register_model(
                tx,
                name=card["name"],
                version=card["version"],
                sha256=model.sha256,
                header=dict(model.header),
                blob_key=model_key,
                card=card,
                confusion_key=picture_key,
                user_id=user_id,
            )
            model_queries.name_model(tx, work, model_id)
        return nudges

    return runner.Result(write)
