"""``validate_model``: check a model's file, and measure its accuracy on a labelled set."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Sequence
from functools import partial

from sqlalchemy.orm import Session

from actors.execution import runner
from actors.execution.failures import Permanent
from actors.execution.lease import Lease
from actors.execution.progress import Bar
from actors.execution.runtime import Runtime
from actors.messaging.messages import Nudge, ValidateModel
from actors.science.detection import integrity
from actors.science.detection.classifier import Classifier
from actors.science.detection.integrity import Check
from actors.science.types import JsonDict
from actors.training import evaluation, recordings
from actors.training.evaluation import EvaluatedModel
from actors.training.needed import needed_backbone
from actors.training.recordings import Wanted
from db.blobs.errors import BlobMissing
from db.queries import model_queries
from db.queries.model_queries import JobWork, ValidateDone
from db.queue import claims
from db.tables.models import NoiseModel
from db.tables.training import LabelledRecording, LabelledSet, Validation

#: Progress at the end of reading.
READ_SHARE = 0.3


def validate_model(runtime: Runtime, nudge: ValidateModel) -> None:
    """Write a report of a model; register an unknown model's file that passes the checks."""
    take = partial(claims.this, JobWork(job=Validation, id=nudge.validation_id))
    runner.run(runtime, nudge, take, partial(_validate, runtime))


def _validate(runtime: Runtime, work: JobWork) -> runner.Task:
    def perform(lease: Lease) -> runner.Result:
        with runtime.store.transaction() as tx:
            row = model_queries.get_validation(tx, work.id)
            assert row is not None
            registered = model_queries.get_model(tx, row.model_id) if row.model_id else None
        bar = Bar(runtime, work, lease)
        bar.tell(0.0, "checking the file")
        checks, model = _checks(runtime, row, registered)
        passed = model is not None and all(check.passed is not False for check in checks)
        report: JsonDict = {
            "passed": passed,
            "checks": [dataclasses.asdict(check) for check in checks],
        }
        if model is not None and passed and row.labelled is not None:
            report |= _quality(runtime, model, row.labelled, bar)
        return runner.Result(_ending(work, row, report, model if passed else None))

    return runner.Task(name="validate", work=work, perform=perform, give_up=runner.fail(work))


def _checks(
    runtime: Runtime, row: Validation, registered: NoiseModel | None
) -> tuple[list[Check], Classifier | None]:
    key = row.file_key if registered is None else registered.blob_key
    assert key
    try:
        data = runtime.blobs.get(key)
    except BlobMissing:
        return [Check("hash", False, "the file is not stored")], None
    if registered is None:
        return integrity.check(data)
    return integrity.check(
        data,
        sha256=registered.sha256,
        classes=registered.header["classes"],
        card=registered.card,
    )


def _quality(runtime: Runtime, model: Classifier, labelled: LabelledSet, bar: Bar) -> JsonDict:
    """Return the part of the report on a labelled set."""
    every, evaluated = labelled["recordings"], _evaluated(runtime, model)
    tell_read, tell_heard = bar.part(0.0, READ_SHARE), bar.part(READ_SHARE, 1.0)
    read = recordings.read(
        runtime,
        [_wanted(each) for each in every],
        rate_hz=evaluated.rate_hz,
        longest_s=recordings.MOST_TOTAL_S,
        on_progress=lambda fraction: tell_read(fraction, "reading the recordings"),
    )
    refused = [
        {"file": every[index]["file"], "reason": reason}
        for index, reason in sorted(read.refused.items())
    ]
    if not read.samples:
        raise Permanent(
            "nothing-to-hear",
            f"none of the {len(every)} recordings can be used; "
            f"{refused[0]['file']}: {refused[0]['reason']}",
        )
    measure = evaluation.of_events if labelled["kind"] == "events" else evaluation.of_clips
    measured = measure(
        evaluated,
        {index: every[index] for index in read.samples},
        read.samples,
        on_progress=lambda fraction: tell_heard(fraction, "listening"),
    )
    return measured | {"n_recordings": len(read.samples), "refused": refused}


def _evaluated(runtime: Runtime, model: Classifier) -> EvaluatedModel:
    """Return the model, with its head if it has one."""
    if model.head is None:
        return EvaluatedModel(model)
    tagger = needed_backbone(runtime, f"the model {model.header['name']}")
    if tagger.head.header["backbone_sha256"] != model.head.header["backbone_sha256"]:
        raise Permanent(
            "no-backbone",
            f"the model {model.header['name']} was trained on another backbone than this worker "
            "has: train it again, or set CLAMOR_BACKBONE_URL to the one that it was trained on",
        )
    return EvaluatedModel(model, runtime.tagger_for(model))


def _wanted(recording: LabelledRecording) -> Wanted:
    session_id = recording.get("session_id")
    return Wanted(
        recording.get("blob_key"),
        uuid.UUID(session_id) if session_id else None,
        recording.get("start_s") or 0.0,
        recording.get("end_s"),
    )


def _ending(
    work: JobWork, row: Validation, report: JsonDict, passed: Classifier | None
) -> runner.Write:
    values = ValidateDone(percent=100, stage="done", report=report)
    move_on = runner.move_on(work, to="completed", values=values)

    def write(tx: Session, attempt: int) -> Sequence[Nudge] | None:
        nudges = move_on(tx, attempt)
        if nudges is not None and passed is not None and row.model_id is None:
            assert row.file_key
            model_id = model_queries.register_model(
                tx,
                name=str(passed.header["name"]),
                version=str(passed.header["version"]),
                sha256=passed.sha256,
                header=dict(passed.header),
                blob_key=row.file_key,
                user_id=row.user_id,
            )
            model_queries.name_model(tx, work, model_id)
        return nudges

    return write
