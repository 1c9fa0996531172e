"""One list of distinct requests to one model: which goes when, and what becomes of it.

A request goes when a place is free, the pace allows it, nobody else asks the same, and the budget covers it. A fault puts it
back, to be sent again after a wait. The SDK's own retries are off, so that these rules hold for every call.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import heapq
import logging
import random
import time
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from textfuse_jax.llm.budget import Budget, expected_tokens, most_usage
from textfuse_jax.llm.cache import Cache, end_owner, new_owner
from textfuse_jax.llm.limits import backoff, traffic_of
from textfuse_jax.llm.progress import Bar
from textfuse_jax.llm.protocol import Malformed, Problem, Reply, message_list, parameters, problem_of, read_body, sdk
from textfuse_jax.llm.providers import ProviderError, Settings
from textfuse_jax.llm.types import Answer, Request, Usage

_GRACE = 15.0  # seconds that a claim outlives the call it is for
_POLL = 0.05  # seconds after which somebody else's answer is looked for; longer each time, up to a second


@dataclasses.dataclass
class Item:
    """A request on its way."""

    key: str
    request: Request
    tokens: float
    most: float  # highest cost of a call
    attempts: int = 0
    polls: int = 0
    tokens_booked: float = 0.0
    answers: int = 0  # that the account had given at its last fault


class Asking:
    """One list of distinct requests to one model, from the first call to the last answer."""

    def __init__(self, todo: Mapping[str, Request], settings: Settings, cache: Cache, budget: Budget | None, bar: Bar):
        self.settings, self.cache, self.budget, self.bar = settings, cache, budget, bar
        self.fresh = deque(todo.items())
        self.again: list[tuple[float, int, Item]] = []  # heap of (when, tie, item)
        self.left, self.tie = len(todo), 0
        self.answers: dict[str, Answer] = {}
        self.fatal: ProviderError | None = None
        self.wake = asyncio.Event()
        self.places = asyncio.Semaphore(settings.concurrency)
        self.traffic = traffic_of(settings)
        self.rng = random.Random()
        self.dearest: float | None = None
        self.counted, self.guessed, self.written = 1.0, 1.0, float(settings.max_output_tokens)  # what corrects guessed tokens
        self.run_name = budget.run if budget else ""

    async def run(self) -> dict[str, Answer]:
        """key -> answer."""
        sdk()
        self.secret = self.settings.key()
        self.owner = new_owner()
        try:
            async with asyncio.TaskGroup() as group:
                while (item := await self._next()) is not None:
                    group.create_task(self._attempt(item))
        finally:
            end_owner(self.owner)
            if "create" in self.__dict__:
                await self.client.close()
            with contextlib.suppress(Exception):
                self.cache.release(self.owner)
        if self.fatal is not None:
            raise self.fatal
        return self.answers

    @functools.cached_property
    def create(self) -> Callable[..., Coroutine[Any, Any, Any]]:
        """The SDK's call, made when the first is sent: all its parts are loaded before a clock runs."""
        for name in ("httpx", "httpx2"):  # they tell every call; who wants that sets a level
            if logging.getLogger(name).level == logging.NOTSET:
                logging.getLogger(name).setLevel(logging.WARNING)
        key, url = self.secret.reveal(), self.settings.url
        self.client = sdk().AsyncOpenAI(api_key=key, base_url=url, max_retries=0, timeout=None)
        return self.client.chat.completions.with_raw_response.create

    async def _next(self) -> Item | None:
        """The next request that may be sent now, claimed, booked and with a place; None when there is nothing more to send."""
        while True:
            await self.places.acquire()
            item = await self._ready()
            if item is None:
                return None
            if await self._may_go(item):
                return item
            self.places.release()

    async def _ready(self) -> Item | None:
        while self.left and self.fatal is None:
            now = time.monotonic()
            if self.again and self.again[0][0] <= now:
                return heapq.heappop(self.again)[2]
            if self.fresh:
                key, request = self.fresh.popleft()
                most = self.settings.cost(most_usage(request, self.settings)) or 0.0
                return Item(key, request, expected_tokens(request), most)
            self.wake.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.wake.wait(), self.again[0][0] - now if self.again else None)
        return None

    async def _may_go(self, item: Item) -> bool:
        """Whether the request goes now; else it is answered, or put back."""
        if self.budget is not None and not await self.budget.take(item.most):
            self._done(item, Answer("", fault="budget", attempts=item.attempts))
            return False
        tokens = item.tokens * self.counted / self.guessed + self.written
        while (delay := self.traffic.take(tokens)) > 0:
            await asyncio.sleep(min(delay, 1.0))
        held = self.cache.claim(item.key, self.owner, self.settings.timeout_seconds + _GRACE)
        if held is True and self.fatal is None:
            item.tokens_booked = tokens
            return True
        self.traffic.give_back(tokens)
        if self.budget is not None:
            self.budget.book(item.most, 0.0)
        if isinstance(held, Answer):
            self._done(item, dataclasses.replace(held, attempts=item.attempts))
        else:  # somebody else asks for it
            item.polls += 1
            self._put_back(item, min(_POLL * 1.5**item.polls, 1.0))
        return False

    async def _attempt(self, item: Item) -> None:
        item.attempts += 1
        begun = time.monotonic()
        try:
            messages, held = message_list(item.request), parameters(item.request, self.settings)
            call = self.create(model=self.settings.model, messages=messages, extra_body=held)
            response = await _within(call, self.settings.timeout_seconds)
            reply = read_body(self.secret.scrub(response.text))
        except (sdk().OpenAIError, TimeoutError, OSError, UnicodeEncodeError, Malformed) as error:
            self._fault(item, problem_of(error))
        else:
            self._answered(item, reply, time.monotonic() - begun)
        finally:
            self.places.release()
            self.wake.set()

    def _answered(self, item: Item, reply: Reply, seconds: float) -> None:
        usage = reply.usage or Usage(round(item.tokens), 0, round(len(reply.text.encode()) / 4))
        cost = self.settings.cost(usage)
        answer = Answer("", reply.text, reply.fault, "", usage, cost, False, item.attempts, seconds, reply.model, reply.logprobs)
        self.cache.put(item.key, item.request, self.settings, answer, self.run_name)
        if self.budget is not None:
            self.budget.book(item.most, cost)
        self.dearest = max(self.dearest or 0.0, cost or 0.0)
        self.traffic.answered(usage.input_tokens + usage.output_tokens - item.tokens_booked)
        self.counted, self.guessed = self.counted + usage.input_tokens, self.guessed + item.tokens
        self.written += 0.05 * (usage.output_tokens - self.written)
        self._done(item, answer)

    def _fault(self, item: Item, problem: Problem) -> None:
        message = self.secret.scrub(problem.message)
        lost = 0.0
        if problem.uncertain:
            lost = item.most if self.dearest is None else self.dearest
            priced = self.settings.cost(Usage()) is not None
            self.cache.lost(self.settings, message[:200], lost if priced else None, self.run_name)
        if self.budget is not None:
            self.budget.book(item.most, lost)
        self.cache.release(self.owner, item.key)
        self.bar.fault()
        if problem.action == "fatal":
            self.fatal = self.fatal or ProviderError(f"{self.settings.label} at {self.settings.url}: {message}")
            return
        if problem.action == "rejected":
            self._done(item, Answer("", fault="rejected", detail=message, attempts=item.attempts))
            return
        s = self.settings
        most, item.answers = self.traffic.faulted(s.backoff_seconds, s.backoff_most_seconds, item.answers)
        if item.attempts >= s.attempts:
            self._done(item, Answer("", fault="failed", detail=message, attempts=item.attempts))
            return
        wait = backoff(item.attempts, s.backoff_seconds, most, problem.wait, self.rng)
        if problem.limited:
            self.traffic.refused(wait)
        self._put_back(item, wait)

    def _put_back(self, item: Item, wait: float) -> None:
        self.tie += 1
        heapq.heappush(self.again, (time.monotonic() + wait, self.tie, item))

    def _done(self, item: Item, answer: Answer) -> None:
        self.answers[item.key] = answer
        self.left -= 1
        self.bar.answer(answer)


async def _within(call: Coroutine[Any, Any, Any], seconds: float) -> Any:
    """The result of ``call``.

    A little longer is waited where it isn't there in time: this process may have been too busy to read what has arrived.

    Raises:
      TimeoutError: it isn't there then either; the call is given up.
    """
    task = asyncio.ensure_future(call)
    try:
        for wait in (seconds, min(0.1 * seconds, 1.0)):
            done, _ = await asyncio.wait({task}, timeout=wait)
            if done:
                return task.result()
        raise TimeoutError
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait({task})
