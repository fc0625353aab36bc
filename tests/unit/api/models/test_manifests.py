"""Manifests: which are accepted, and the errors for the others."""

from __future__ import annotations

import io
import uuid
from pathlib import Path

import pytest

from services.api.models import manifests
from services.api.models.manifests import ClipRow, ManifestError, Recording
from tests.support import golden

SESSION = uuid.UUID("6f0b8f1e-5f5b-4f5a-9d0e-2f6f3c7d1a11")

SENTENCES = golden.read(Path(__file__).parent / "golden" / "manifests.txt")


def parse_clips(data: bytes) -> list[ClipRow]:
    return manifests.parse_clips(io.BytesIO(data))


def parse_set(data: bytes) -> list[ClipRow] | list[Recording]:
    return manifests.parse_set(io.BytesIO(data))


def test_the_shortest_manifest() -> None:
    [row] = parse_clips(b"file,label\na/b.wav,dog_bark\n")
    assert row == ClipRow("a/b.wav", "dog_bark", "a/b.wav", None, None, None)


def test_columns_in_any_order_with_quotes_spaces_and_a_byte_order_mark() -> None:
    text = '\ufeff Label ,end_s,start_s,FILE,group\r\n"rain",2.5,1," a, b.wav ",roof\r\n\r\n'
    [row] = parse_clips(text.encode())
    assert row == ClipRow("a, b.wav", "rain", "roof", 1.0, 2.5, None)


def test_stretches_of_a_session_are_of_one_source_and_need_no_file() -> None:
    data = f"session_id,file,label,start_s,end_s\n{SESSION},,rain,0,1\n".encode()
    [row] = parse_clips(data)
    assert row == ClipRow(str(SESSION), "rain", str(SESSION), 0.0, 1.0, SESSION)
    assert list(manifests.files([row])) == []


def test_a_file_is_asked_for_once() -> None:
    rows = parse_clips(b"file,label,start_s,end_s\na,x,0,1\na,y,1,2\nb,x,,\n")
    assert list(manifests.files(rows)) == ["a", "b"]


def test_events_of_a_recording_come_together_and_a_bare_line_holds_none() -> None:
    rows = parse_set(b"file,onset_s,offset_s,label\na,3,4,x\nb,,,\na,1,2.5,y\n")
    assert rows == [
        Recording("a", None, ((1.0, 2.5, "y"), (3.0, 4.0, "x"))),
        Recording("b", None, ()),
    ]


def test_a_set_without_onsets_is_one_of_clips() -> None:
    assert parse_set(b"file,label\na,x\n") == parse_clips(b"file,label\na,x\n")


#: Lists of clips that cannot be used.
CLIPS = {
    "nothing": b"",
    "a header alone": b"file,label",
    "no text": b"\xff\xfe\x00",
    "no CSV": b'file,label\n"a,x\n',
    "a column that is missing": b"file,name\na,x",
    "a column that comes twice": b"file,label,label\na,x,x",
    "lines of other lengths": b"file,label\na,x,y\nb,x\nc",
    "no file": b"file,label\n,x",
    "no label": b"file,label\na,\nb,y\nc,",
    "a label with a control character": b"file,label\na,\x07x",
    "a start alone": b"file,label,start_s,end_s\na,x,1,",
    "a start before the file": b"file,label,start_s,end_s\na,x,-1,2",
    "an end without bounds": b"file,label,start_s,end_s\na,x,1,inf",
    "a start that is no number": b"file,label,start_s,end_s\na,x,nan,2",
    "a session that is none": b"file,label,session_id\na,x,nobody",
    "too many errors": b"file,label\n" + b"a,\n" * 40,
    "too many lines": b"file,label\n" + b"a,x\n" * (manifests.MOST_ROWS + 1),
}


@pytest.mark.parametrize("name", CLIPS)
def test_what_cannot_be_used_is_told_by_its_line(name: str) -> None:
    with pytest.raises(ManifestError) as caught:
        parse_clips(CLIPS[name])
    assert str(caught.value) == SENTENCES[name]


#: Lists of events that cannot be used.
EVENTS = {
    "an event without times": "a,,,x",
    "an event without a label": "a,1,2,",
    "events that overlap": "a,0,2,x\na,1,3,x",
}


@pytest.mark.parametrize("name", EVENTS)
def test_events_that_cannot_be_used(name: str) -> None:
    with pytest.raises(ManifestError) as caught:
        parse_set(f"file,onset_s,offset_s,label\n{EVENTS[name]}".encode())
    assert str(caught.value) == SENTENCES[name]


def test_no_sentence_is_without_a_case() -> None:
    assert SENTENCES.keys() == {*CLIPS, *EVENTS}


def test_events_of_two_labels_may_overlap_and_of_one_may_touch() -> None:
    [row] = parse_set(b"file,onset_s,offset_s,label\na,0,2,x\na,1,3,y\na,2,3,x\n")
    assert isinstance(row, Recording)
    assert len(row.events) == 3
