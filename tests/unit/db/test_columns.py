"""The typed dictionaries of columns name columns of their tables, with the types of these."""

from __future__ import annotations

import types
import typing

import pytest

from db.queries import (
    account_queries,
    analysis_queries,
    batch_queries,
    export_queries,
    idempotency_queries,
    job_run_queries,
    model_queries,
    report_queries,
    retention_queries,
    session_queries,
    stage_results,
    webhook_queries,
)
from db.tables.accounts import ApiKey, User
from db.tables.analyses import AnalysisJob
from db.tables.base import Base
from db.tables.batches import AudioBatch, StoredOptions
from db.tables.detections import NoiseDetection
from db.tables.exports import Export
from db.tables.idempotency import IdempotentRequest
from db.tables.job_runs import JobRun
from db.tables.models import NoiseModel
from db.tables.reports import DailyReport
from db.tables.retention import KeptClip
from db.tables.session_results import SessionResult
from db.tables.sessions import AudioSession
from db.tables.spans import SessionSpan
from db.tables.training import TrainingClip, TrainingJob, Validation
from db.tables.webhooks import WebhookDelivery, WebhookEndpoint

COLUMNS = [
    (account_queries.NewUserRow, User),
    (account_queries.NewKeyRow, ApiKey),
    (analysis_queries.AnalysisDone, AnalysisJob),
    (batch_queries.NewBatchRow, AudioBatch),
    (batch_queries.BatchDone, AudioBatch),
    (export_queries.NewExportRow, Export),
    (export_queries.ExportDone, Export),
    (idempotency_queries.StoredAnswer, IdempotentRequest),
    (job_run_queries.RequestedRun, JobRun),
    (job_run_queries.RunDone, JobRun),
    (model_queries.NewTrainingRow, TrainingJob),
    (model_queries.JobDone, TrainingJob),
    (model_queries.NewTrainingClipRow, TrainingClip),
    (model_queries.NewValidationRow, Validation),
    (model_queries.ValidateDone, Validation),
    (model_queries.NewModelRow, NoiseModel),
    (report_queries.ReportDone, DailyReport),
    (retention_queries.NewClipRow, KeptClip),
    (session_queries.NewSessionRow, AudioSession),
    (session_queries.NewDetectionRow, NoiseDetection),
    (stage_results.ProcessDone, AudioSession),
    (stage_results.SplitDone, AudioSession),
    (stage_results.DetectDone, SessionSpan),
    (stage_results.AggregateDone, AudioSession),
    (webhook_queries.NewWebhookRow, WebhookEndpoint),
    (webhook_queries.WebhookValues, WebhookEndpoint),
    (webhook_queries.DeliveryValues, WebhookDelivery),
]


def members(kind: object) -> set[object]:
    """Return the members of a union, without expressions of SQL."""
    union = typing.get_origin(kind) in (typing.Union, types.UnionType)
    parts = typing.get_args(kind) if union else (kind,)
    return {part for part in parts if not str(part).startswith("sqlalchemy.")}


def is_plain(kind: object) -> bool:
    """Whether a member is compared by its type: containers are not."""
    return isinstance(kind, type) and not typing.is_typeddict(kind) and not typing.get_args(kind)


@pytest.mark.parametrize(("columns", "table"), COLUMNS)
def test_each_key_is_a_column_of_its_type(columns: type, table: type[Base]) -> None:
    attributes = {**table.__mapper__.column_attrs}
    if table is AudioSession:
        # What a session ends with is written with it.
        attributes = {**SessionResult.__mapper__.column_attrs, **attributes}
    for name, kind in typing.get_type_hints(columns).items():
        column = attributes[name].columns[0]
        written = members(kind)
        assert column.nullable or type(None) not in written, name
        plain = {each for each in written - {type(None)} if is_plain(each)}
        assert plain <= {column.type.python_type}, name


def test_the_options_of_a_batch_are_those_of_its_sessions() -> None:
    assert (
        StoredOptions.__annotations__.keys() == session_queries.OptionColumns.__annotations__.keys()
    )
