"""What may be spent, and what a list of requests will probably cost."""

from __future__ import annotations

import asyncio
import dataclasses
import pathlib
import threading
from collections.abc import Iterable, Sequence

from textfuse_jax.llm.cache import Cache
from textfuse_jax.llm.keys import key_of
from textfuse_jax.llm.providers import Settings
from textfuse_jax.llm.types import Request, Usage

BYTES_A_TOKEN = 4.0  # of English text, about; corrected by what the provider counts as soon as there are answers
MESSAGE_TOKENS = 4  # that the protocol adds to a message


class DryRun(Exception):
    """``config.llm.dry_run``: what would be asked was said, and there is nothing more to do."""


class Budget:
    """A sum that is never exceeded: before a call its highest possible cost is set aside, after it what it did cost is booked.

    A call that may have been paid for without an answer (time-out, broken body) is booked as the dearest answer so far.

    Args:
      limit: the sum, in the currency of the prices.
      run: name of a run that may be interrupted: what its earlier processes paid (``Cache.spent``) counts, see ``run_of``.
        "" = this object.
    """

    def __init__(self, limit: float, run: str = ""):
        if not limit > 0:
            raise ValueError(f"a budget must be > 0, got {limit}; leave it out for none")
        self.limit, self.run = limit, run
        self.spent = 0.0
        self._aside = 0.0
        self._lock = threading.Lock()
        self._opened = False

    def open(self, cache: Cache) -> None:
        """Counts what earlier processes of the run paid; once."""
        with self._lock:
            if self.run and not self._opened:
                self.spent += cache.spent(self.run)
            self._opened = True

    async def take(self, most: float) -> bool:
        """Sets ``most`` aside; waits while calls in flight may leave enough, False if they can't."""
        while True:
            with self._lock:
                if self.spent + self._aside + most <= self.limit:
                    self._aside += most
                    return True
                if not self._aside or self.spent + most > self.limit:
                    return False
            await asyncio.sleep(0.01)

    def book(self, aside: float, cost: float) -> None:
        """Ends a call: what was set aside is free again, ``cost`` is spent."""
        with self._lock:
            self._aside = max(self._aside - aside, 0.0)
            self.spent += cost


def run_of(folder: str | pathlib.Path | None) -> str:
    """The name of the run of a folder, however its path was typed; "" without one."""
    return "" if folder is None else str(pathlib.Path(folder).resolve())


def expected_tokens(request: Request) -> float:
    """Input tokens, about."""
    return sum(len(content.encode("utf-8", "replace")) for _, content in request.messages) / BYTES_A_TOKEN + (
        MESSAGE_TOKENS * len(request.messages)
    )


def most_usage(request: Request, settings: Settings) -> Usage:
    """Tokens that a call can't exceed: a token is at least one byte of text."""
    held = sum(len(content.encode("utf-8", "replace")) + 4 * MESSAGE_TOKENS for _, content in request.messages)
    return Usage(held + len(request.schema.encode("utf-8", "replace")) + 64, 0, settings.max_output_tokens)


@dataclasses.dataclass(frozen=True)
class Estimate:
    """What asking would take; ``str`` of it is for people.

    Attributes:
      requests, cached, calls: asked for; of these answered by the cache; to be sent (equal ones once).
      input_tokens, output_tokens: of the calls, without faults.
      cost: None where prices are unknown.
      seconds: with the limits and the mean time of earlier answers; None where there are neither.
      basis: what the numbers rest on.
    """

    requests: int
    cached: int
    calls: int
    input_tokens: int
    output_tokens: int
    cost: float | None
    seconds: float | None
    basis: str

    def __str__(self) -> str:
        cost = "unknown (no prices in the settings)" if self.cost is None else f"about {self.cost:.4f}"
        time = "unknown" if self.seconds is None else f"about {self.seconds:,.0f} s"
        return (
            f"{self.requests:,} requests: {self.cached:,} from the cache, {self.calls:,} calls; about {self.input_tokens:,} "
            f"tokens in and {self.output_tokens:,} out; cost {cost}; time {time} ({self.basis})"
        )


def dry_run(requests: Sequence[Request], settings: Settings, cache: Cache) -> Estimate:
    """What ``client.ask`` would send, counted without sending anything or needing a key.

    Output tokens are those of earlier answers of the same model and template, where the cache holds any, else
    ``max_output_tokens``, an upper bound.
    """
    if settings.provider in ("replay", "local"):
        return Estimate(len(requests), 0, 0, 0, 0, 0.0, 0.0, "nothing is sent")
    keys = [key_of(request, settings) for request in requests]
    keyed = dict(zip(keys, requests))
    found = cache.read(list(keyed))
    todo = [request for key, request in keyed.items() if key not in found]
    written, latency, known = _typical(todo, settings, cache)
    usage = Usage(round(sum(map(expected_tokens, todo))), 0, round(written * len(todo)))
    times = [latency * len(todo) / settings.concurrency] if latency else []
    if settings.requests_per_minute:
        times.append(60 * len(todo) / settings.requests_per_minute)
    if settings.tokens_per_minute:
        times.append(60 * (usage.input_tokens + usage.output_tokens) / settings.tokens_per_minute)
    basis = f"output as in {known} earlier answers" if known else "output at its upper bound"
    seconds = 0.0 if not todo else max(times) if times else None
    cached = sum(key in found for key in keys)
    cost = settings.cost(usage)
    return Estimate(len(requests), cached, len(todo), usage.input_tokens, usage.output_tokens, cost, seconds, basis)


def _typical(todo: Iterable[Request], settings: Settings, cache: Cache) -> tuple[float, float, int]:
    """(output tokens an answer, seconds a call, number of answers these rest on)."""
    for template in {request.template for request in todo}:
        usage, count, seconds = cache.typical(settings, template)
        if count:
            return usage.output_tokens / count, seconds / count, count
    return float(settings.max_output_tokens), 0.0, 0
