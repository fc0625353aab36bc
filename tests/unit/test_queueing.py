"""The simulation of waiting recordings agrees with queueing theory."""

from __future__ import annotations

import random
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.benchmarks.queueing import poisson_arrivals_s, waits_s

SERVICE_S = 1.0


@pytest.mark.parametrize("load", [0.5, 0.8])
@pytest.mark.parametrize("is_constant", [True, False])
def test_the_mean_wait_for_one_worker_is_that_of_pollaczek_and_khinchine(
    load: float, is_constant: bool
) -> None:
    n, chance = 200_000, random.Random(1)
    arrivals = poisson_arrivals_s(n, per_s=load / SERVICE_S, chance=chance)
    services = [SERVICE_S if is_constant else chance.expovariate(1 / SERVICE_S) for _ in range(n)]
    mean_square = SERVICE_S**2 * (1 if is_constant else 2)
    expected = load / SERVICE_S * mean_square / (2 * (1 - load))
    assert statistics.mean(waits_s(arrivals, services, n_workers=1)) == pytest.approx(
        expected, rel=0.08
    )


def test_the_mean_wait_for_two_workers_is_that_of_erlang() -> None:
    n, load, chance = 200_000, 0.8, random.Random(2)
    arrivals = poisson_arrivals_s(n, per_s=2 * load / SERVICE_S, chance=chance)
    services = [chance.expovariate(1 / SERVICE_S) for _ in range(n)]
    # The probability to wait is 2 r^2 / (1 + r), and the mean wait of those who do 1 / (2 (1 - r)).
    expected = 2 * load**2 / (1 + load) * SERVICE_S / (2 * (1 - load))
    assert statistics.mean(waits_s(arrivals, services, n_workers=2)) == pytest.approx(
        expected, rel=0.08
    )


times = st.lists(st.tuples(st.floats(0, 10), st.floats(0, 10)), max_size=30)


@given(times, st.integers(1, 4))
def test_one_more_worker_lets_nobody_wait_longer(
    recordings: list[tuple[float, float]], n_workers: int
) -> None:
    arrivals = sorted(arrival for arrival, _ in recordings)
    services = [service for _, service in recordings]
    fewer = waits_s(arrivals, services, n_workers=n_workers)
    more = waits_s(arrivals, services, n_workers=n_workers + 1)
    assert all(after <= before + 1e-9 for before, after in zip(fewer, more, strict=True))


def test_work_without_workers_is_refused() -> None:
    with pytest.raises(ValueError, match="worker"):
        waits_s([0.0], [1.0], n_workers=0)
