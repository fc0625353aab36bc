"""The wire contract."""

from __future__ import annotations

import uuid

import dramatiq
import msgspec
import pytest
from dramatiq.brokers.stub import StubBroker

from actors.messaging import messages

SESSION = uuid.UUID("6f0b8f1e-5f5b-4f5a-9d0e-2f6f3c7d1a11")


def test_what_lies_in_a_queue_is_small_json_of_identifiers() -> None:
    broker = StubBroker(middleware=[])
    broker.declare_queue("here.audio.detect")
    messages.send(
        messages.DetectSpan(session_id=SESSION, span_index=4), broker=broker, prefix="here"
    )
    message = dramatiq.Message.decode(broker.queues["here.audio.detect"].get())
    assert message.actor_name == "detect_span"
    assert message.kwargs == {"session_id": str(SESSION), "span_index": 4}
    assert message.args == ()


@pytest.mark.parametrize(
    "payload",
    [{}, {"session_id": "nobody", "span_index": 1}, {"session_id": str(SESSION)}],
)
def test_what_is_not_a_message_is_refused(payload: dict[str, object]) -> None:
    with pytest.raises(msgspec.ValidationError):
        messages.DetectSpan.parse(payload)


def test_a_field_that_a_newer_release_added_is_passed_over() -> None:
    payload = {"session_id": str(SESSION), "of_tomorrow": True}
    assert messages.SplitRecording.parse(payload).session_id == SESSION
