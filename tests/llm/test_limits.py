"""Pace, gate and back-off, with a clock of the test's own."""

import random

import numpy as np
import pytest

from textfuse_jax.llm.limits import CALM, Gate, Pace, Traffic, backoff
from textfuse_jax.llm.protocol import retry_after


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def sent(pace: Pace, clock: Clock, seconds: float, units) -> tuple[np.ndarray, np.ndarray]:
    """(times, units) of calls that go as soon as they may."""
    times, held = [], []
    end = clock.now + seconds
    while clock.now < end:
        cost = units()
        while (delay := pace.delay(cost)) > 0:
            clock.now += delay + 1e-9
        pace.book(cost)
        times.append(clock.now)
        held.append(cost)
    return np.array(times), np.array(held)


def most_in_a_minute(times: np.ndarray, units: np.ndarray) -> float:
    total = np.concatenate([[0.0], np.cumsum(units)])
    first = np.searchsorted(times, times - 60.0, side="right")
    return float((total[1:] - total[first]).max())


@pytest.mark.parametrize("limit", [1, 3, 10, 60, 600, 6000])
def test_no_minute_holds_more_requests_than_the_limit_and_hardly_less(limit):
    clock = Clock()
    times, units = sent(Pace(limit, clock), clock, 600.0, lambda: 1.0)
    most = most_in_a_minute(times, units)
    assert most <= limit
    assert len(times) >= 0.95 * limit * 10 or limit < 10


def test_no_minute_holds_more_tokens_than_the_limit_with_calls_of_any_size():
    clock, rng = Clock(), random.Random(0)
    times, units = sent(Pace(100_000, clock), clock, 1200.0, lambda: rng.choice([10, 500, 4000]))
    assert most_in_a_minute(times, units) <= 100_000
    assert units.sum() >= 0.9 * 100_000 * 20


def test_a_pause_saves_up_one_percent_and_no_more():
    clock = Clock()
    pace = Pace(6000, clock)
    clock.now += 3600
    at_once = 0
    while pace.delay() == 0:
        pace.book()
        at_once += 1
    assert at_once in (60, 61)  # 1 % of 6,000, and, but for rounding, the one that goes at the even pace


def test_tokens_are_corrected_by_what_was_used():
    clock = Clock()
    pace = Pace(6000, clock)
    pace.book(600)
    booked = pace.delay(100)
    pace.correct(-500)
    assert pace.delay(100) < booked - 4.5  # 500 tokens are 5 s


def test_no_limit_is_no_delay():
    pace = Pace(0)
    pace.book(1e9)
    pace.correct(5)
    assert pace.delay(1e9) == 0


def test_the_gate_closes_after_four_refusals_in_a_row():
    clock = Clock()
    gate = Gate(clock=clock)
    for _ in range(3):
        gate.refused(5.0)
    gate.passed()
    for _ in range(3):
        gate.refused(5.0)
    assert gate.delay() == 0
    gate.refused(5.0)
    assert gate.delay() == 5.0
    clock.now += 5
    assert gate.delay() == 0


def test_back_off_doubles_is_jittered_capped_and_never_below_what_was_asked():
    rng = random.Random(0)
    for faults, mean in ((1, 1.0), (2, 2.0), (3, 4.0), (9, 60.0), (500, 60.0)):
        waits = [backoff(faults, 1.0, 60.0, None, rng) for _ in range(400)]
        assert 0.5 * mean <= min(waits) < 0.6 * mean and 1.4 * mean < max(waits) < 1.5 * mean
        assert np.mean(waits) == pytest.approx(mean, rel=0.05)
    assert all(backoff(faults, 1.0, 60.0, 7.0, rng) >= 7.0 for faults in (1, 2, 8) for _ in range(50))


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "3"}, 3.0),
        ({"retry-after": "0.25"}, 0.25),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after": "-4"}, 0.0),
        ({"retry-after": "Thu, 01 Jan 2026 00:00:30 GMT"}, 20.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "nan"}, None),
        ({}, None),
    ],
)
def test_retry_after_in_every_form(headers, seconds):
    assert retry_after(headers, now=1767225610.0) == seconds  # 2026-01-01 00:00:10 UTC


def test_waits_are_short_while_most_calls_are_answered_and_long_in_an_outage():
    traffic, rng = Traffic(0, 0), random.Random(0)
    calm, answers = [], 0
    for _ in range(1000):
        if rng.random() < 0.3:
            calm.append(traffic.faulted(0.5, 60.0, answers)[0])
        else:
            traffic.answered(0.0)
            answers += 1
    assert np.mean(np.array(calm) == 60.0) > 0.9  # nothing was answered since the last fault
    calm = []
    for _ in range(1000):
        if rng.random() < 0.3:
            calm.append(traffic.faulted(0.5, 60.0, answers - 1)[0])
        else:
            traffic.answered(0.0)
            answers += 1
    assert np.mean(np.array(calm) == CALM * 0.5) > 0.97
    longest, known = traffic.faulted(20.0, 60.0, 0)
    assert longest == 60.0 and known == answers  # four times 20 are more than the most that was asked for
    outage = [traffic.faulted(0.5, 60.0, 0)[0] for _ in range(40)]
    assert set(outage[20:]) == {60.0}
    for _ in range(40):
        traffic.answered(0.0)
    assert traffic.faulted(0.5, 60.0, answers)[0] == CALM * 0.5


def test_the_only_request_of_an_account_waits_longer_each_time():
    traffic, answers, waits = Traffic(0, 0), 0, []
    for fault in range(1, 10):
        most, answers = traffic.faulted(1.0, 60.0, answers)
        waits.append(backoff(fault, 1.0, most, None, random.Random(0)))
    np.testing.assert_allclose(np.diff(np.log2(waits[:6])), 1)
    assert sum(waits) > 100
