"""Progress bars: without a terminal, one line for each tenth and no more."""

from __future__ import annotations

import io

from rich.console import Console

from services.cli.actions.bars import Bars


def told(*percents: float) -> list[str]:
    out = io.StringIO()
    with Bars(Console(file=out, width=100)) as bars:
        bar = bars.add_task("a.wav", total=100, stage="waiting")
        for percent in percents:
            bars.update(bar, completed=percent, stage="detecting [1]")
    return [line for line in out.getvalue().splitlines() if line.startswith("a.wav: ")]


def test_each_tenth_is_told_once_and_what_was_passed_over_is_not() -> None:
    assert told(1, 9.9, 10, 14, 19, 35, 34, 100, 100) == [
        "a.wav: 10 %  detecting [1]",
        "a.wav: 35 %  detecting [1]",
        "a.wav: 100 %  detecting [1]",
    ]


def test_a_terminal_is_told_nothing_beside_the_bar() -> None:
    out = io.StringIO()
    with Bars(Console(file=out, width=100, force_terminal=True)) as bars:
        bar = bars.add_task("a.wav", total=100, stage="waiting")
        bars.update(bar, completed=50, stage="detecting")
    assert "a.wav: " not in out.getvalue()
