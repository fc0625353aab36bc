"""Manifests: which are accepted, and the errors for the others."""

from __future__ import annotations

import uuid

import pytest

from services.api.models import manifests
from services.api.models.manifests import ClipRow, ManifestError, Recording

SESSION = uuid.UUID("6f0b8f1e-5f5b-4f5a-9d0e-2f6f3c7d1a11")


def test_the_shortest_manifest() -> None:
    [row] = manifests.parse_clips(b"file,label\na/b.wav,dog_bark\n")
    assert row == ClipRow("a/b.wav", "dog_bark", "a/b.wav", None, None, None)


def test_columns_in_any_order_with_quotes_spaces_and_a_byte_order_mark() -> None:
    text = '\ufeff Label ,end_s,start_s,FILE,group\r\n"rain",2.5,1," a, b.wav ",roof\r\n\r\n'
    [row] = manifests.parse_clips(text.encode())
    assert row == ClipRow("a, b.wav", "rain", "roof", 1.0, 2.5, None)


def test_stretches_of_a_session_are_of_one_source_and_need_no_file() -> None:
    data = f"session_id,file,label,start_s,end_s\n{SESSION},,rain,0,1\n".encode()
    [row] = manifests.parse_clips(data)
    assert row == ClipRow(str(SESSION), "rain", str(SESSION), 0.0, 1.0, SESSION)
    assert list(manifests.files([row])) == []


def test_a_file_is_asked_for_once() -> None:
    rows = manifests.parse_clips(b"file,label,start_s,end_s\na,x,0,1\na,y,1,2\nb,x,,\n")
    assert list(manifests.files(rows)) == ["a", "b"]


def test_events_of_a_recording_come_together_and_a_bare_line_holds_none() -> None:
    rows = manifests.parse_set(b"file,onset_s,offset_s,label\na,3,4,x\nb,,,\na,1,2.5,y\n")
    assert rows == [
        Recording("a", None, ((1.0, 2.5, "y"), (3.0, 4.0, "x"))),
        Recording("b", None, ()),
    ]


def test_a_set_without_onsets_is_one_of_clips() -> None:
    assert manifests.parse_set(b"file,label\na,x\n") == manifests.parse_clips(b"file,label\na,x\n")


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "a header and at least one line"),
        (b"file,label", "a header and at least one line"),
        (b"\xff\xfe\x00", "must be UTF-8"),
        (b'file,label\n"a,x\n', "not valid CSV"),
        (b"file,name\na,x", "required are file, label"),
        (b"file,label,label\na,x,x", "columns"),
        (b"file,label\na,x,y\nb,x\nc", "lines 2, 4 of the manifest do not have 2 columns"),
        (b"file,label\n,x", "line 2: file must not be empty"),
        (b"file,label\na,\nb,y\nc,", "line 2: label must not be empty; line 4: label must"),
        (b"file,label\na,\x07x", "line 2: label must be a single line"),
        (b"file,label,start_s,end_s\na,x,1,", "line 2: start_s and end_s must be seconds"),
        (b"file,label,start_s,end_s\na,x,-1,2", "line 2: start_s must be 0 or more"),
        (b"file,label,start_s,end_s\na,x,1,inf", "line 2: start_s must be 0 or more"),
        (b"file,label,start_s,end_s\na,x,nan,2", "line 2: start_s must be 0 or more"),
        (b"file,label,session_id\na,x,nobody", "line 2: session_id must be a UUID"),
        (b"file,label\n" + b"a,\n" * 40, "and 30 more"),
        (b"file,label\n" + b"a,x\n" * (manifests.MOST_ROWS + 1), "at most 5000 lines"),
    ],
)
def test_what_cannot_be_used_is_told_by_its_line(data: bytes, told: str) -> None:
    with pytest.raises(ManifestError) as caught:
        manifests.parse_clips(data)
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ("a,,,x", "an event requires onset_s and offset_s"),
        ("a,1,2,", "label must not be empty"),
        ("a,0,2,x\na,1,3,x", "two x events overlap at 1 s"),
    ],
)
def test_events_that_cannot_be_used(lines: str, told: str) -> None:
    with pytest.raises(ManifestError, match=told):
        manifests.parse_set(f"file,onset_s,offset_s,label\n{lines}".encode())


def test_events_of_two_labels_may_overlap_and_of_one_may_touch() -> None:
    [row] = manifests.parse_set(b"file,onset_s,offset_s,label\na,0,2,x\na,1,3,y\na,2,3,x\n")
    assert isinstance(row, Recording)
    assert len(row.events) == 3
