"""Asks language models: many requests at a time, within limits and budget, every answer stored as it arrives.

``ask`` takes what the cache holds and sends the rest: a call goes when a place is free (``concurrency``), the pace allows it
(requests and tokens a minute), nobody else asks the same (claims in the cache) and the budget covers it. A fault puts the
request back, to be sent again after a wait; the SDK's own retries are off, so that these rules hold for every call.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import heapq
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from textfuse_jax.llm import replay
from textfuse_jax.llm.budget import Budget, Estimate, dry_run, expected_tokens, most_usage
from textfuse_jax.llm.cache import Cache, end_owner, new_owner
from textfuse_jax.llm.keys import key_of
from textfuse_jax.llm.limits import Gate, Pace, backoff
from textfuse_jax.llm.progress import Bar, bars
from textfuse_jax.llm.protocol import Malformed, Problem, message_list, parameters, problem_of, read_body, sdk
from textfuse_jax.llm.providers import ProviderError, Settings
from textfuse_jax.llm.types import Answer, Report, Request, Usage

__all__ = ["Budget", "Estimate", "ProviderError", "ask", "ask_async", "ask_many", "dry_run"]

_GRACE = 15.0  # seconds that a claim outlives the call it is for
_POLL = 0.05  # seconds after which somebody else's answer is looked for; longer each time, up to a second


def ask(
    requests: Sequence[Request],
    settings: Settings,
    cache: Cache,
    *,
    budget: Budget | None = None,
    progress: bool = True,
    say: Callable[[str], None] = print,
) -> list[Answer]:
    """One answer a request, in order; what can't be answered has a ``fault`` and is counted in what is said.

    Args:
      requests: may repeat; equal ones are one call.
      settings: of the model; provider "replay" reads its file instead of asking.
      cache: what it holds isn't asked; every answer that was paid for goes into it at once.
      budget: what may be spent; shared by all that is asked with it.
      progress: show calls a second, cost and time left on stderr.
      say: takes one line at the end, and warnings.

    Raises:
      ProviderError: the provider can't be used: no SDK, no key, a wrong one, no credit, an unknown model, a budget without
        prices. Answers that came before are in the cache.
      replay.ReplayError: the file of "replay" is missing, can't be read or contradicts itself or the requests.
    """
    return ask_many({settings.label: (requests, settings)}, cache, budget=budget, progress=progress, say=say)[settings.label]


def ask_many(
    jobs: Mapping[str, tuple[Sequence[Request], Settings]],
    cache: Cache,
    *,
    budget: Budget | None = None,
    progress: bool = True,
    say: Callable[[str], None] = print,
) -> dict[str, list[Answer]]:
    """As ``ask`` for several models side by side, each at its own pace: name -> (requests, settings) to name -> answers."""
    return _run(lambda: _many(jobs, cache, budget, progress, say))


async def ask_async(requests: Sequence[Request], settings: Settings, cache: Cache, **options: Any) -> list[Answer]:
    """``ask`` inside a running event loop; the same options."""
    options = {"budget": None, "progress": True, "say": print} | options
    answers = await _many({settings.label: (requests, settings)}, cache, **options)
    return answers[settings.label]


def _run(job: Callable[[], Any]) -> Any:
    """The coroutine's result; in a thread of its own where an event loop runs already (a notebook)."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(job())
    held: dict[str, Any] = {}

    def work() -> None:
        try:
            held["result"] = asyncio.run(job())
        except BaseException as error:
            held["error"] = error

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    if "error" in held:
        raise held["error"]
    return held["result"]


async def _many(jobs, cache: Cache, budget: Budget | None, progress: bool, say) -> dict[str, list[Answer]]:
    if budget is not None:
        for name, (_, settings) in jobs.items():
            if settings.cost(Usage()) is None and settings.provider != "replay":
                raise ProviderError(
                    f"{name}: a budget needs prices; set price_input and price_output per million tokens, 0 where nothing is paid"
                )
        budget.open(cache)
    with bars(progress) as shown:
        parts = [_one(name, requests, settings, cache, budget, shown) for name, (requests, settings) in jobs.items()]
        done = await asyncio.gather(*parts, return_exceptions=True)
    for result in done:
        if isinstance(result, BaseException):
            raise result
    for name, (answers, seconds) in zip(jobs, done):
        _tell(name, Report.of(answers), seconds, say)
    return {name: answers for name, (answers, _) in zip(jobs, done)}


async def _one(name: str, requests: Sequence[Request], settings: Settings, cache: Cache, budget: Budget | None, shown) -> tuple:
    begun = time.monotonic()
    if settings.provider == "replay":
        return replay.answers(requests, settings), time.monotonic() - begun
    if settings.provider == "local":
        raise ProviderError(f"{name}: the local provider writes no text; it gives class scores, see llm.opinions")
    keys = [key_of(request, settings) for request in requests]
    found = cache.read(list(dict.fromkeys(keys)))
    todo = {key: request for key, request in zip(keys, requests) if key not in found}
    made = await _Asking(todo, settings, cache, budget, shown.add(name, len(todo))).run() if todo else {}
    answers, counted = [], set()
    for key, request in zip(keys, requests):
        answer = found.get(key) or made[key]
        if key in counted and not answer.cached:  # an equal request of this list: its call is counted once
            answer = dataclasses.replace(answer, cached=not answer.fault, attempts=0)
        counted.add(key)
        answers.append(dataclasses.replace(answer, id=request.id))
    return answers, time.monotonic() - begun


def _tell(name: str, report: Report, seconds: float, say: Callable[[str], None]) -> None:
    missing = "".join(f", {count:,} {fault}" for fault, count in report.missing.items())
    cost = "unknown" if report.cost is None else f"{report.cost:.4f}"
    say(
        f"{name}: {report.present:,} of {report.answers:,} answered{missing}; {report.from_cache:,} from the cache, "
        f"{report.calls:,} calls in {seconds:.1f} s, {report.usage.input_tokens:,} + {report.usage.output_tokens:,} tokens, "
        f"cost {cost}"
    )
    if len(report.models) > 1:
        told = ", ".join(f"{model} ({count:,})" for model, count in report.models.items())
        say(f"warning: {name}: the answers are of several models: {told}; the provider changed it, ask all anew in another cache")


@dataclasses.dataclass
class _Item:
    """A request on its way."""

    key: str
    request: Request
    tokens: float
    most: float  # highest cost of a call
    attempts: int = 0
    polls: int = 0
    tokens_booked: float = 0.0


class _Asking:
    """One list of distinct requests to one model, from the first call to the last answer."""

    def __init__(self, todo: Mapping[str, Request], settings: Settings, cache: Cache, budget: Budget | None, bar: Bar):
        self.settings, self.cache, self.budget, self.bar = settings, cache, budget, bar
        self.fresh = deque(todo.items())
        self.again: list[tuple[float, int, _Item]] = []  # heap of (when, tie, item)
        self.left, self.tie = len(todo), 0
        self.answers: dict[str, Answer] = {}
        self.fatal: ProviderError | None = None
        self.wake = asyncio.Event()
        self.places = asyncio.Semaphore(settings.concurrency)
        self.calls, self.tokens = Pace(settings.requests_per_minute), Pace(settings.tokens_per_minute)
        self.gate = Gate()
        self.rng = random.Random()
        self.dearest: float | None = None
        self.counted, self.guessed, self.written = 1.0, 1.0, float(settings.max_output_tokens)  # what corrects guessed tokens
        self.run_name = budget.run if budget else ""

    async def run(self) -> dict[str, Answer]:
        """key -> answer."""
        openai = sdk()
        self.secret = self.settings.key()
        self.owner = new_owner()
        self.client = openai.AsyncOpenAI(
            api_key=self.secret.reveal(), base_url=self.settings.url, max_retries=0, timeout=None, organization=None
        )
        try:
            async with self.client, asyncio.TaskGroup() as group:
                while (item := await self._next()) is not None:
                    group.create_task(self._attempt(item))
        finally:
            end_owner(self.owner)
            with contextlib.suppress(Exception):
                self.cache.release(self.owner)
        if self.fatal is not None:
            raise self.fatal
        return self.answers

    async def _next(self) -> _Item | None:
        """The next request that may be sent now, claimed, booked and with a place; None when there is nothing more to send."""
        while True:
            await self.places.acquire()
            item = await self._ready()
            if item is None:
                return None
            if await self._may_go(item):
                return item
            self.places.release()

    async def _ready(self) -> _Item | None:
        while self.left and self.fatal is None:
            now = time.monotonic()
            if self.again and self.again[0][0] <= now:
                return heapq.heappop(self.again)[2]
            if self.fresh:
                key, request = self.fresh.popleft()
                most = self.settings.cost(most_usage(request, self.settings)) or 0.0
                return _Item(key, request, expected_tokens(request), most)
            self.wake.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.wake.wait(), self.again[0][0] - now if self.again else None)
        return None

    async def _may_go(self, item: _Item) -> bool:
        """Whether the request goes now; else it is answered, or put back."""
        tokens = item.tokens * self.counted / self.guessed + self.written
        while (delay := max(self.calls.delay(), self.tokens.delay(tokens), self.gate.delay())) > 0:
            await asyncio.sleep(min(delay, 1.0))
        if self.budget is not None and not await self.budget.take(item.most):
            self._done(item, Answer("", fault="budget", attempts=item.attempts))
            return False
        held = self.cache.claim(item.key, self.owner, self.settings.timeout_seconds + _GRACE)
        if held is True and self.fatal is None:
            self.calls.book()
            self.tokens.book(tokens)
            item.tokens_booked = tokens
            return True
        if self.budget is not None:
            self.budget.book(item.most, 0.0)
        if isinstance(held, Answer):
            self._done(item, dataclasses.replace(held, attempts=item.attempts))
        else:  # somebody else asks for it
            item.polls += 1
            self._put_back(item, min(_POLL * 1.5**item.polls, 1.0))
        return False

    async def _attempt(self, item: _Item) -> None:
        item.attempts += 1
        begun = time.monotonic()
        try:
            async with asyncio.timeout(self.settings.timeout_seconds):
                response = await self.client.chat.completions.with_raw_response.create(
                    model=self.settings.model,
                    messages=message_list(item.request),
                    extra_body=parameters(item.request, self.settings),
                )
                body = response.text
            reply = read_body(self.secret.scrub(body))
        except (sdk().OpenAIError, TimeoutError, OSError, Malformed) as error:
            self._fault(item, problem_of(error))
        else:
            self._answered(item, reply, time.monotonic() - begun)
        finally:
            self.places.release()
            self.wake.set()

    def _answered(self, item: _Item, reply, seconds: float) -> None:
        usage = reply.usage or Usage(round(item.tokens), 0, round(len(reply.text.encode()) / 4))
        cost = self.settings.cost(usage)
        answer = Answer("", reply.text, reply.fault, "", usage, cost, False, item.attempts, seconds, reply.model, reply.logprobs)
        self.cache.put(item.key, item.request, self.settings, answer, self.run_name)
        if self.budget is not None:
            self.budget.book(item.most, cost)
        self.dearest = max(self.dearest or 0.0, cost or 0.0)
        self.gate.passed()
        self.tokens.correct(usage.input_tokens + usage.output_tokens - item.tokens_booked)
        self.counted, self.guessed = self.counted + usage.input_tokens, self.guessed + item.tokens
        self.written += 0.05 * (usage.output_tokens - self.written)
        self._done(item, answer)

    def _fault(self, item: _Item, problem: Problem) -> None:
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
        elif problem.action == "rejected" or item.attempts >= self.settings.attempts:
            fault = "rejected" if problem.action == "rejected" else "failed"
            self._done(item, Answer("", fault=fault, detail=message, attempts=item.attempts))
        else:
            s = self.settings
            wait = backoff(item.attempts, s.backoff_seconds, s.backoff_most_seconds, problem.wait, self.rng)
            if problem.limited:
                self.gate.refused(wait)
            self._put_back(item, wait)

    def _put_back(self, item: _Item, wait: float) -> None:
        self.tie += 1
        heapq.heappush(self.again, (time.monotonic() + wait, self.tie, item))

    def _done(self, item: _Item, answer: Answer) -> None:
        self.answers[item.key] = answer
        self.left -= 1
        self.bar.answer(answer)
