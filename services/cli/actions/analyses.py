"""``clamor analyze``: the analysis of a session, as tables."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from services.api.analyses.errors import NoAnalysis
from services.client import ApiError, Client
from services.client.wire.analyses import AnalysisResult
from services.http.errors import UserError


def show(
    client: Client, session_id: uuid.UUID, *, limits: Sequence[tuple[str, float]], as_json: bool
) -> int:
    """Print a session's analysis. It is computed if limits are given or if there is none."""
    result = _result(client, session_id, limits)
    if as_json:
        print(msgspec.json.encode(result).decode())
    else:
        for table in _tables(result):
            Console().print(table)
    return 0


def _result(
    client: Client, session_id: uuid.UUID, limits: Sequence[tuple[str, float]]
) -> AnalysisResult:
    limits_db: dict[str, list[float]] = {}
    for level, limit_db in limits:
        limits_db.setdefault(level, []).append(limit_db)
    if limits:
        analysis = client.analyze(session_id, limits_db=limits_db)
    else:
        try:
            analysis = client.wait_for_analysis(client.analysis(session_id))
        except ApiError as error:
            if error.problem != NoAnalysis.name:
                raise
            analysis = client.analyze(session_id, limits_db={})
    if analysis.result is None:
        told = analysis.problem.detail if analysis.problem else "it was not computed"
        raise UserError(f"the session has no analysis: {told}")
    return analysis.result


def _tables(result: AnalysisResult) -> Iterable[Table | str]:
    yield (
        f"{result.events} events in {result.duration_s:.1f} s; noise was detected for "
        f"{result.heard_s:.1f} s ({result.heard_share:.1%})"
    )
    yield _types(result)
    if result.loudest:
        yield _loudest(result)
    if result.exceedances:
        yield _exceedances(result)
    yield _processing(result)
    went = result.processing
    fast = "" if went.times_real_time is None else f"{went.times_real_time:g} times real time; "
    yield (
        f"{fast}{went.retries} retries, {went.spans_failed} of {went.spans_total} spans failed, "
        f"{went.missing_s:.1f} s missing"
    )


def _types(result: AnalysisResult) -> Table:
    """Return a table of the shares of time and energy of each noise type and the background."""
    reference = result.level_reference
    energy = result.energy
    parts = {each.noise_type: each for each in energy.noise_types} if energy else {}
    table = _table(
        "noise type",
        "events",
        "detected",
        "of the time",
        "confidence",
        "of the energy",
        f"LAeq alone, {reference}",
        title="Noise types, by time and by sound energy",
    )
    for each in result.noise_types:
        part = parts.get(each.noise_type)
        table.add_row(
            escape(each.noise_type),
            f"{each.events}",
            f"{each.heard_s:.1f} s",
            f"{each.heard_share:.1%}",
            f"{each.mean_confidence:.0%} ({each.min_confidence:.0%} to {each.max_confidence:.0%})",
            f"{part.share:.1%}" if part else "",
            _level(part.laeq_db if part else None),
        )
    if energy is not None:
        rest = [("background", energy.background)]
        rest += [("not analysed", energy.unheard)] if energy.unheard.share else []
        for name, left in rest:
            table.add_row(name, "", "", "", "", f"{left.share:.1%}", _level(left.laeq_db))
    return table


def _loudest(result: AnalysisResult) -> Table:
    reference = result.level_reference
    table = _table(
        "noise type",
        "start",
        "end",
        f"LAFmax {reference}",
        f"LAeq {reference}",
        title="The loudest events",
    )
    for event in result.loudest:
        table.add_row(
            escape(event.noise_type),
            f"{event.start_s:.1f} s",
            f"{event.end_s:.1f} s",
            _level(event.lafmax_db),
            _level(event.laeq_db),
        )
    return table


def _exceedances(result: AnalysisResult) -> Table:
    table = _table(
        "limit", "above", "times", "longest", "detected meanwhile", title="Above the limits"
    )
    for over in result.exceedances or ():
        most_first = sorted(over.heard_s.items(), key=lambda each: -each[1])
        heard = ", ".join(f"{name} {during_s:.1f} s" for name, during_s in most_first)
        table.add_row(
            f"{over.level} {over.limit_db:g} {result.level_reference}",
            f"{over.above_s:.1f} s ({over.above_share:.1%})",
            f"{over.exceedances}",
            f"{over.longest_s:.1f} s",
            escape(heard),
        )
    return table


def _processing(result: AnalysisResult) -> Table:
    went = result.processing
    table = _table("step", "runs", "work", "longest", "times real time", title="Processing")
    for stage in went.stages:
        runs = ", ".join(f"{count} {name}" for name, count in stage.runs.items())
        table.add_row(
            stage.step,
            runs,
            f"{stage.total_s:.2f} s",
            f"{stage.longest_s:.2f} s",
            "" if stage.times_real_time is None else f"{stage.times_real_time:g}",
        )
    return table


def _table(first: str, *headings: str, title: str) -> Table:
    """Return a table whose columns are right-aligned, except for the first."""
    table = Table(title=title, title_justify="left", title_style="bold")
    table.add_column(first)
    for heading in headings:
        table.add_column(heading, justify="right")
    return table


def _level(level_db: float | None) -> str:
    return "" if level_db is None else f"{level_db:.1f}"
