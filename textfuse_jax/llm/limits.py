"""Pace and patience: at most so many requests and tokens in any minute, and how long to wait after a fault.

An account's limits are kept by all that a process asks of it, one request after another or in many threads (``traffic_of``).
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable

from textfuse_jax.llm.providers import Settings

MARGIN = 0.03  # of a limit that is left unused: calls that leave evenly arrive unevenly
BURST = 0.01  # of a limit that may go at once after a pause
CALM = 4.0  # times the mean first wait: the longest wait while most calls are answered
MEMORY = 0.05  # weight of the newest call in the share of calls that fault


class Pace:
    """At most ``per_minute`` units in any 60 seconds, spread evenly (generic cell rate algorithm).

    In a window of w seconds at most ``(1 - MARGIN + BURST) per_minute w / 60`` units go, and one call more.

    Args:
      per_minute: the limit; 0 = none.
      clock: seconds, never going back.
    """

    def __init__(self, per_minute: float, clock: Callable[[], float] = time.monotonic):
        self._limit, self._clock = per_minute, clock
        self._free = clock()  # when all that was booked has been used up at the even rate
        self._largest = 1.0

    @property
    def _rate(self) -> float:
        """Units a second; the largest single call is subtracted, for it may fall on the window's end."""
        return max((1 - MARGIN) * self._limit - (self._largest - 1), self._limit / 4) / 60

    def delay(self, units: float = 1.0) -> float:
        """Seconds until a call of so many units may go; books nothing."""
        self._largest = max(self._largest, units)
        return 0.0 if not self._limit else max(self._free - BURST * self._limit / self._rate - self._clock(), 0.0)

    def book(self, units: float = 1.0) -> None:
        """A call of so many units goes now."""
        if self._limit:
            self._free = max(self._free, self._clock()) + units / self._rate

    def correct(self, units: float) -> None:
        """So many units more (less, if negative) than booked were used."""
        if self._limit:
            self._free += units / self._rate


class Gate:
    """Closed for all calls while a provider refuses every one of them: after ``in_a_row`` refusals without an answer between.

    A single refusal delays its own call alone: where many are under way, one in ten may be refused without the limit being hit.
    """

    def __init__(self, in_a_row: int = 4, clock: Callable[[], float] = time.monotonic):
        self._needed, self._clock = in_a_row, clock
        self._refused = 0
        self._opens = clock()

    def refused(self, wait: float) -> None:
        """A call was refused, to be sent again after ``wait`` seconds."""
        self._refused += 1
        if self._refused >= self._needed:
            self._opens = max(self._opens, self._clock() + wait)

    def passed(self) -> None:
        """A call wasn't refused."""
        self._refused = 0

    def delay(self) -> float:
        """Seconds until calls may go."""
        return max(self._opens - self._clock(), 0.0)


class Weather:
    """Whether a provider answers most calls, of about the last twenty, and how many it has answered.

    A request that faults again while others are answered is unlucky: long waits would spare the provider nothing, and the last
    requests of a list would be waited for alone. Where most calls fault, or nothing was answered in between, waits grow up to
    the most.
    """

    def __init__(self):
        self._faults, self.answers = 0.0, 0

    def called(self, fault: bool) -> None:
        """A call was answered, or faulted."""
        self._faults += MEMORY * (fault - self._faults)
        self.answers += not fault

    def longest(self, mean: float, most: float, answers: int) -> float:
        """Seconds that a request waits at most, jitter aside, whose first wait is ``mean``; ``answers``: at its last fault."""
        return min(CALM * mean, most) if self._faults < 0.5 and self.answers > answers else most


class Traffic:
    """What a process may send to one account: its pace in requests and in tokens, its gate and weather. Threads share it."""

    def __init__(self, requests_per_minute: float, tokens_per_minute: float):
        self._calls, self._tokens, self._gate = Pace(requests_per_minute), Pace(tokens_per_minute), Gate()
        self._weather = Weather()
        self._lock = threading.Lock()

    def take(self, tokens: float) -> float:
        """Books a call of so many tokens and returns 0, or books nothing and returns the seconds to wait."""
        with self._lock:
            delay = max(self._calls.delay(), self._tokens.delay(tokens), self._gate.delay())
            if delay <= 0:
                self._calls.book()
                self._tokens.book(tokens)
            return delay

    def give_back(self, tokens: float) -> None:
        """A booked call isn't sent."""
        with self._lock:
            self._calls.correct(-1)
            self._tokens.correct(-tokens)

    def answered(self, tokens: float) -> None:
        """A call was answered and used so many tokens more than booked."""
        with self._lock:
            self._gate.passed()
            self._weather.called(False)
            self._tokens.correct(tokens)

    def faulted(self, mean: float, most: float, answers: int) -> tuple[float, int]:
        """A call faulted, when ``answers`` calls had been answered at the last fault of its request.

        Returns:
          The longest wait before it is sent again, of ``most`` seconds where the first is ``mean``; the calls answered by now.
        """
        with self._lock:
            self._weather.called(True)
            return self._weather.longest(mean, most, answers), self._weather.answers

    def refused(self, wait: float) -> None:
        """A call was refused, to be sent again after ``wait`` seconds."""
        with self._lock:
            self._gate.refused(wait)


_traffic: dict[tuple, Traffic] = {}
_lock = threading.Lock()


def traffic_of(settings: Settings) -> Traffic:
    """The traffic of this process with the server, model and key of these settings, at their limits."""
    limits = settings.requests_per_minute, settings.tokens_per_minute
    with _lock:
        return _traffic.setdefault((settings.url, settings.model, settings.key_variable, *limits), Traffic(*limits))


def backoff(faults: int, mean: float, most: float, asked: float | None, rng: random.Random) -> float:
    """Seconds to wait before the next attempt: ``mean 2^(faults - 1)``, at most ``most``, times a number drawn from [0.5, 1.5);
    never less than the provider asked for."""
    wait = min(mean * 2 ** min(faults - 1, 30), most) * (0.5 + rng.random())
    return wait if asked is None else max(asked * (1 + 0.1 * rng.random()), wait if faults > 1 else 0.0)
