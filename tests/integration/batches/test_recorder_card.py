"""The card of a recorder as a batch, and its sound in the report of the day."""

from __future__ import annotations

import numpy as np
import pytest

from actors.execution.runtime import Runtime
from tests.integration.analytics.reported import made
from tests.integration.batches.calls import form, items, send, work
from tests.support.api import Api
from tests.support.recorder_files import bext, guano, info, wav

pytestmark = pytest.mark.integration

#: A second of a quiet tone at 8 kHz.
TONE = (3_000 * np.sin(np.arange(8_000) * 0.7)).astype("<i2").tobytes()
COMMENT = "Recorded at {} 02/07/2024 (UTC+2) by AudioMoth 24F3190361DA3578 at medium gain"


def test_the_sound_of_a_card_is_in_the_report_of_its_day(api: Api, runtime: Runtime) -> None:
    audio = (b"data", TONE)
    card = [
        ("20240702_064404.WAV", wav(audio, guano("2024-07-02T06:44:04+02:00"))),
        ("20240702_074404.WAV", wav(info(COMMENT.format("07:44:04")), audio)),
        ("take 3.wav", wav(bext("2024-07-02", "08:44:04"), audio)),
        ("SM4_20240702$094404.wav", wav(audio)),
        ("20240702_104404T.WAV", wav(audio)),
    ]
    posted = send(api, form(card), params={"time_zone": "Europe/Berlin"})
    assert posted.status_code == 202, posted.text
    work(runtime)
    times = [item["recorded_at"] for item in items(api, posted.json)]
    assert times == [f"2024-07-02T{hour:02d}:44:04Z" for hour in range(4, 9)]
    report = made(api, runtime, day="2024-07-02")["report"]
    assert report["sessions"]["by_state"] == {"completed": 5}
    assert report["sessions"]["without_recorded_at"] == 0
    [sound] = report["sound"]
    heard = [hour for hour, found in enumerate(sound["hours"]) if found["laeq_db"] is not None]
    assert heard == [6, 7, 8, 9, 10]
    assert sound["lday_db"] is not None
