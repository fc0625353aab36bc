"""The structure of an example, and the IDs shared by all examples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

SESSION_ID = "018f9c1e-7c3b-4a57-9d35-6d1f0f6d2a41"
BATCH_ID = "5f0c3a52-2d63-4b8a-8e0b-5b1f4a3f9c10"
MODEL_ID = "c0a8f2de-7e0d-4c8e-9d2a-1f6b8b1f4a77"
JOB_ID = "9a4f6f0c-3d0e-4b55-8a35-0e2f1c9d7b60"
VALIDATION_ID = "e7d0b8a4-5b1d-4f7e-a1c2-93b7f5d2c480"
USER_ID = "3b9d7a10-8c5e-4f3b-b0a6-2e4c6d8f1a35"
KEY_ID = "8d2f4a6c0b1e3957"
WEBHOOK_ID = "0b0f6f1e-4c1d-4f0a-9a53-7f2f0d1c5e62"
EXPORT_ID = "2f6d9b3e-1a47-4c58-9e0d-7b5a3c1f8e24"
REPORT_ID = "a1d4c7f0-6b2e-4d59-8c3a-7e5f90b1d264"
DELIVERY_ID = "6c7b1f0a-58d4-4b1e-8f37-2f9d4c0a7e13"
#: That of the first detection of the session.
DETECTION_ID = "e51968ae-d5c6-8d06-81e3-8cd286c1fead"

#: Values of path parameters.
PARAMETERS: dict[str, str] = {
    "session_id": SESSION_ID,
    "batch_id": BATCH_ID,
    "model_id": MODEL_ID,
    "job_id": JOB_ID,
    "validation_id": VALIDATION_ID,
    "user_id": USER_ID,
    "key_id": KEY_ID,
    "webhook_id": WEBHOOK_ID,
    "delivery_id": DELIVERY_ID,
    "export_id": EXPORT_ID,
    "detection_id": DETECTION_ID,
    "report_id": REPORT_ID,
    "name": "not-finished",
    "job": "health_check",
}


@dataclass(frozen=True, kw_only=True)
class Example:
    """An example call. A binary answer has no example."""

    query: Mapping[str, object] = field(default_factory=dict)
    #: The JSON body.
    request: Mapping[str, object] | None = None
    #: The fields of a form; a file is named ``@file``, as curl does.
    form: Mapping[str, object] | None = None
    #: The JSON or text of the answer.
    answer: object = None
