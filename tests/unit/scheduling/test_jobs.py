"""The table of periodic jobs, and its consequences."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import dramatiq
import pendulum
import periodiq
import pytest
from dramatiq.broker import MessageProxy
from dramatiq.brokers.stub import StubBroker
from dramatiq.middleware import SkipMessage
from hypothesis import given
from hypothesis import strategies as st
from periodiq import cron

from actors.messaging import broker, kinds, messages
from actors.scheduling import jobs
from actors.scheduling.jobs import JOBS, SATURDAY, SUNDAY, PeriodicJob

EXAMPLES = (
    PeriodicJob(nudge=messages.CheckHealth, why="hourly"),
    PeriodicJob(nudge=messages.CheckHealth, minute=5, why="hourly"),
    PeriodicJob(nudge=messages.CheckHealth, hour=1, why="daily"),
    PeriodicJob(nudge=messages.CheckHealth, hour=3, minute=23, why="daily"),
    *(
        PeriodicJob(nudge=messages.CheckHealth, hour=2, weekday=day, why="weekly")
        for day in range(1, 8)
    ),
)
TIMES = st.datetimes(
    min_value=datetime(2024, 1, 1), max_value=datetime(2027, 12, 31), timezones=st.just(UTC)
)


@given(st.sampled_from(EXAMPLES), TIMES)
def test_a_slot_is_a_time_of_the_schedule(job: PeriodicJob, now: datetime) -> None:
    latest, following = job.latest_slot(now), job.next_slot(now)
    assert latest <= now < following
    assert following - latest == job.period
    for slot in (latest, following):
        # By the scheduler's own validation.
        assert cron(job.cron).validate(pendulum.instance(slot))
    # No time between them is a slot.
    assert job.latest_slot(following - timedelta(microseconds=1)) == latest
    assert job.latest_slot(latest) == latest


@given(st.sampled_from(EXAMPLES), TIMES, st.integers(0, 12))
def test_what_was_missed_is_made_good_as_far_as_it_matters(
    job: PeriodicJob, now: datetime, n_missed: int
) -> None:
    newest = job.latest_slot(now) - n_missed * job.period
    patient = PeriodicJob(
        **{name: getattr(job, name) for name in ("nudge", "minute", "hour", "weekday")},
        why=job.why,
        catch_up=5,
    )
    missed = patient.missed(newest, now=now)
    assert missed == [job.latest_slot(now) - i * job.period for i in range(min(n_missed, 5))][::-1]
    assert job.missed(newest, now=now) == missed[-1:]
    # For a job without known runs, only the latest slot counts.
    assert patient.missed(None, now=now) == [job.latest_slot(now)]


def test_the_days_of_the_week_are_those_that_the_scheduler_fires_on() -> None:
    saturday, sunday = datetime(2026, 11, 28, tzinfo=UTC), datetime(2026, 11, 29, tzinfo=UTC)
    assert (saturday.isoweekday(), sunday.isoweekday()) == (SATURDAY, SUNDAY)
    # The traps: these never fire.
    for never in ("0 0 * * 0", "0 0 * * sun", "@weekly"):
        assert not any(
            cron(never).validate(pendulum.instance(sunday + timedelta(days=day)))
            for day in range(7)
        )


def test_every_job_is_known_and_may_take_its_time() -> None:
    assert len({job.name for job in JOBS}) == len(JOBS)
    for job in JOBS:
        assert jobs.job_named(job.name) is job
        assert kinds.kind_of(job.nudge).deadline_s < job.period.total_seconds()
        assert jobs.options_for(job.nudge)
        assert job.why
    assert jobs.job_named("no such job") is None
    assert jobs.options_for(messages.DetectSpan) == {}


def test_slots_are_the_same_in_any_zone() -> None:
    now = pendulum.datetime(2026, 3, 29, 1, 30, tz="Europe/Berlin")
    for job in EXAMPLES:
        assert job.latest_slot(now) == job.latest_slot(now.in_timezone("UTC"))


class FastClock:
    """A clock that advances when the scheduler waits, up to an end."""

    def __init__(self, start: datetime, end: datetime) -> None:
        self.now = pendulum.instance(start)
        self.end = end

    def pass_time(self, seconds: float) -> None:
        self.now = self.now.add(microseconds=round(seconds * 1e6))


def test_the_scheduler_itself_ticks_at_every_slot_and_at_no_other_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Runs periodiq's own scheduler over nine days that pass in an instant."""
    start, end = datetime(2026, 2, 20, 12, 30, tzinfo=UTC), datetime(2026, 3, 1, 12, tzinfo=UTC)
    time = FastClock(start + timedelta(seconds=1), end)
    ticking = StubBroker(middleware=broker.middleware())
    actors = [
        dramatiq.actor(
            broker=ticking,
            actor_name=job.name,
            queue_name=job.nudge.queue,
            **jobs.options_for(job.nudge),
        )(lambda: None)
        for job in JOBS
    ]
    scheduler = periodiq.Scheduler(actors=actors)

    def alarm(seconds: int) -> None:
        time.pass_time(seconds)
        scheduler.alarm_q.put(time.now < time.end)

    monkeypatch.setattr(periodiq.pendulum, "now", lambda: time.now)
    monkeypatch.setattr(periodiq, "sleep", time.pass_time)
    monkeypatch.setattr(periodiq, "alarm", alarm)
    monkeypatch.setattr(periodiq, "signal", lambda *_: None)
    scheduler.schedule()
    scheduler.loop()
    for job in JOBS:
        queue = ticking.queues[job.nudge.queue].queue
        messages_sent = [dramatiq.Message.decode(data) for data in queue]
        ticks = [
            datetime.fromisoformat(message.options["scheduled_at"])
            for message in messages_sent
            if message.actor_name == job.name
        ]
        wanted = []
        slot = job.next_slot(start)
        while slot < end:
            wanted.append(slot)
            slot += job.period
        assert ticks == wanted, job.name
        assert ticks, job.name


def test_a_tick_that_comes_late_is_dropped_by_the_worker() -> None:
    """This is why recovery fills slots."""
    late = broker.middleware()[-1]
    ticking = StubBroker(middleware=[])
    ticking.add_middleware(late)
    [job] = [job for job in JOBS if job.nudge is messages.CheckHealth]
    actor = dramatiq.actor(broker=ticking, actor_name=job.name, **jobs.options_for(job.nudge))(
        lambda: None
    )
    for age_s, is_dropped in ((0, False), (120, True)):
        at = pendulum.now("UTC").subtract(seconds=age_s)
        message = MessageProxy(actor.message_with_options(scheduled_at=str(at)))
        if is_dropped:
            with pytest.raises(SkipMessage):
                late.before_process_message(ticking, message)
        else:
            late.before_process_message(ticking, message)
