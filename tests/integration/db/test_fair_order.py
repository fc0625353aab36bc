"""The fair order: by priority, in turns, and each work item once."""

from __future__ import annotations

import threading
import uuid
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import text

from db.queries import session_queries, span_queries
from db.queue import claims, fair_order
from db.queue.claims import Claim, SessionWork
from db.store import Store
from db.tables.sessions import PRIORITIES
from tests.support.pipeline import put_into

pytestmark = pytest.mark.integration

HIGH, NORMAL, LOW = range(len(PRIORITIES))


@pytest.fixture(autouse=True)
def strict(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the highest priority the only one that a draw can put first, except in tests of it."""
    if "by_chance" not in request.keywords:
        monkeypatch.setattr(fair_order, "EXCEPTION_IN", 1)


@pytest.fixture
def lanes() -> list[uuid.UUID]:
    return sorted(uuid.uuid4() for _ in range(4))


def add(
    store: Store,
    lane: uuid.UUID | None = None,
    *,
    priority: int = NORMAL,
    state: str = "queued",
    spans: int = 0,
) -> uuid.UUID:
    """Add a session to a tenant's lane; each is younger than the one before."""
    session_id = uuid.uuid4()
    with store.transaction() as tx:
        session_queries.add_session(
            tx, id=session_id, file_name="a", size_bytes=1, recording_key="k", priority=priority
        )
        placed = {} if lane is None else {"lane": lane}
        put_into(tx, session_id, state, work=placed, spans_total=spans)
        if spans:
            tx.add_all(
                span_queries.new_spans(session_id, [(i, i * 10, i * 10 + 10) for i in range(spans)])
            )
    return session_id


def take(
    store: Store, *, state: str = "queued", lease_s: float = 30.0
) -> Claim[SessionWork] | None:
    """Claim the next session in a state, or the next span for `detecting`."""
    with store.transaction() as tx:
        if state == "detecting":
            return fair_order.next_span(tx, lease_s=lease_s)
        return fair_order.next_session(tx, state=state, lease_s=lease_s)


def drain(store: Store, *, state: str = "queued") -> Iterator[SessionWork]:
    """Yield all work in order."""
    while claim := take(store, state=state):
        assert claim.attempt == 1
        yield claim.work


def test_lanes_take_turns_and_each_is_served_by_age(store: Store, lanes: list[uuid.UUID]) -> None:
    many = [add(store, lanes[2]) for _ in range(5)]
    few = [add(store, lanes[0]) for _ in range(2)]
    one = add(store, lanes[3])
    nobodys = [add(store) for _ in range(2)]
    order = [work.session_id for work in drain(store)]
    # The lane without an owner has the lowest ID, but it counts as served last at first.
    assert order == [
        few[0],
        many[0],
        one,
        nobodys[0],
        few[1],
        many[1],
        nobodys[1],
        *many[2:],
    ]


def test_one_upload_behind_a_batch_is_the_next_but_one(
    store: Store, lanes: list[uuid.UUID]
) -> None:
    for _ in range(50):
        add(store, lanes[1])
    for _ in range(7):
        assert take(store)
    one = add(store, lanes[2])
    assert one in [claim.work.session_id for claim in (take(store), take(store)) if claim]


def test_priorities_come_first_and_each_has_its_own_turns(
    store: Store, lanes: list[uuid.UUID]
) -> None:
    low = [add(store, lanes[0], priority=LOW) for _ in range(2)]
    normal = [add(store, lane, priority=NORMAL) for lane in lanes[:2]]
    high = [add(store, lanes[3], priority=HIGH) for _ in range(3)]
    assert [work.session_id for work in drain(store)] == [*high, *normal, *low]


def test_spans_of_one_session_take_turns_with_those_of_another(
    store: Store, lanes: list[uuid.UUID]
) -> None:
    long = add(store, lanes[0], state="detecting", spans=6)
    short = add(store, lanes[1], state="detecting", spans=2)
    behind = add(store, lanes[0], state="detecting", spans=1)
    order = [(work.session_id, work.span_index) for work in drain(store, state="detecting")]
    assert order == [
        (long, 0),
        (short, 0),
        (long, 1),
        (short, 1),
        *((long, i) for i in range(2, 6)),
        (behind, 0),
    ]


def test_a_cancelled_session_takes_its_spans_along(store: Store, lanes: list[uuid.UUID]) -> None:
    cancelled = add(store, lanes[0], state="detecting", spans=3)
    other = add(store, lanes[0], state="detecting", spans=1)
    with store.transaction() as tx:
        assert session_queries.cancel_session(tx, cancelled)
    assert [work.session_id for work in drain(store, state="detecting")] == [other]


def test_a_row_that_is_held_or_not_yet_due_is_passed_over(
    store: Store, lanes: list[uuid.UUID]
) -> None:
    for _ in range(3):
        add(store, lanes[0])
    first = take(store)
    assert first is not None
    with store.transaction() as tx:
        claims.retry_later(tx, first.work, attempt=1, delay_s=600, error="away")
    second = take(store, lease_s=0)
    assert second is not None
    # Its lease ended at once, so it is claimed again before the one behind it.
    again = take(store)
    assert again is not None
    assert (again.work, again.attempt) == (second.work, 2)
    third = take(store)
    assert third is not None
    assert len({claim.work for claim in (first, second, third)}) == 3
    assert take(store) is None


def test_one_stage_is_not_the_next(store: Store, lanes: list[uuid.UUID]) -> None:
    splitting = add(store, lanes[0], state="splitting")
    assert take(store) is None
    assert take(store, state="aggregating") is None
    claim = take(store, state="splitting")
    assert claim is not None
    assert claim.work == SessionWork(session_id=splitting, state="splitting")
    assert claim.attempt == 1


@pytest.mark.by_chance
def test_low_gets_on_behind_a_high_that_never_ends(store: Store, lanes: list[uuid.UUID]) -> None:
    """With a chance of 1 in 20, all 400 claims miss it once in a thousand million runs."""
    add(store, lanes[0], priority=LOW)
    add(store, lanes[1], priority=NORMAL)
    for _ in range(400):
        add(store, lanes[2], priority=HIGH)
    with store.transaction() as tx:
        tx.execute(text("CREATE TEMPORARY TABLE seen (priority int) ON COMMIT DROP"))
        for _ in range(400):
            claim = fair_order.next_session(tx, state="queued", lease_s=600)
            assert claim is not None
            tx.execute(
                text("INSERT INTO seen SELECT priority FROM audio_sessions WHERE id = :id"),
                {"id": claim.work.session_id},
            )
        seen = Counter(tx.execute(text("SELECT priority FROM seen")).scalars())
    assert seen == {HIGH: 398, NORMAL: 1, LOW: 1}


@pytest.mark.parametrize("state", ["queued", "detecting"])
def test_eight_workers_claim_each_unit_once(
    store: Store, lanes: list[uuid.UUID], state: str
) -> None:
    """As many nudges as work items get all of them done."""
    wanted: set[tuple[uuid.UUID, int | None]]
    if state == "queued":
        wanted = {(add(store, lane), None) for lane in lanes for _ in range(20)}
    else:
        ids = [add(store, lane, state=state, spans=5) for lane in lanes for _ in range(4)]
        wanted = {(session_id, index) for session_id in ids for index in range(5)}
    start = threading.Barrier(8)

    def work(_: int) -> list[tuple[uuid.UUID, int | None]]:
        start.wait()
        found = [take(store, state=state) for _ in range(10)]
        return [(each.work.session_id, each.work.span_index) for each in found if each]

    with ThreadPoolExecutor(8) as pool:
        claimed = [unit for units in pool.map(work, range(8)) for unit in units]
    assert Counter(claimed) == Counter(wanted)


def test_a_worker_that_claims_does_not_wait_for_one_that_has_not_committed(store: Store) -> None:
    first, second = add(store), add(store)
    with store.transaction() as one, store.transaction() as other:
        other.execute(text("SET LOCAL lock_timeout = '1ms'"))
        found = [fair_order.next_session(tx, state="queued", lease_s=30) for tx in (one, other)]
        assert [claim.work.session_id for claim in found if claim] == [first, second]


def test_a_claim_beside_others_is_of_another_lane(store: Store, lanes: list[uuid.UUID]) -> None:
    open_, _same, later = add(store, lanes[0]), add(store, lanes[0]), add(store, lanes[2])
    add(store, lanes[1], state="splitting")
    ended = uuid.uuid4()
    found: list[uuid.UUID] = []
    with store.transaction() as tx:
        while claim := fair_order.next_session(
            tx, state="queued", lease_s=30, beside=[open_, ended]
        ):
            found.append(claim.work.session_id)
    assert found == [later]
    # It counts as the turn of its lane.
    first_of_next_lane = add(store, lanes[3])
    assert next(drain(store)).session_id == first_of_next_lane


def test_a_session_that_waits_beside_others_is_found(store: Store, lanes: list[uuid.UUID]) -> None:
    open_, _same = add(store, lanes[0]), add(store, lanes[0])

    def waiting(*, for_s: float) -> uuid.UUID | None:
        with store.transaction() as tx:
            return fair_order.waiting_session(tx, state="queued", beside=[open_], for_s=for_s)

    assert waiting(for_s=0) is None
    other = add(store, lanes[1])
    assert waiting(for_s=0) == other
    assert waiting(for_s=60) is None
    with store.transaction() as tx:
        tx.execute(text("UPDATE unfinished_sessions SET due_at = now() - interval '61 s'"))
    assert waiting(for_s=60) == other
    assert take(store)
    assert take(store)
    assert waiting(for_s=0) is None


def test_a_row_that_another_one_refers_to_meanwhile_can_be_claimed(store: Store) -> None:
    """Writing a run locks the key of its session; the claim must not skip the session for that."""
    session_id = add(store)
    work = SessionWork(session_id=session_id, state="queued")
    with store.transaction() as tx:
        session_queries.add_runs(tx, work, [session_queries.StepRun("x", "done", 1.0)], attempt=1)
        claim = take(store)
    assert claim is not None
    assert claim.work == work


#: Adds sessions in a hundred lanes.
QUEUE = text("""
    WITH added AS (
        INSERT INTO audio_sessions (id, state, file_name, recording_key)
        SELECT gen_random_uuid(), 'queued', 'a', 'k' FROM generate_series(1, :n)
        RETURNING id, created_at
    )
    INSERT INTO unfinished_sessions (session_id, state, created_at, lane)
    SELECT id, 'queued', created_at, md5((row_number() OVER () % 100)::text)::uuid FROM added
""")


def test_a_claim_reads_no_more_pages_behind_a_long_queue(store: Store) -> None:
    explain = text("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) " + fair_order.NEXT_SESSION.text)
    parameters = {"state": "queued", "lease_s": 30.0, "priorities": fair_order.priorities()}
    read: list[int] = []
    for n in (300, 20_000):
        with store.transaction() as tx:
            tx.execute(QUEUE, {"n": n})
            tx.execute(text("ANALYZE unfinished_sessions"))
        with store.transaction() as tx:
            [plan] = tx.execute(explain, parameters).scalar_one()
        read.append(plan["Plan"]["Shared Hit Blocks"] + plan["Plan"]["Shared Read Blocks"])
    assert read[1] <= read[0] + 10, read
