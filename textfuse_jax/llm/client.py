"""Asks language models: many requests at a time, several models side by side, every answer stored as it arrives.

``ask`` takes what the cache holds and sends the rest (``asking.py`` says by which rules).
"""

from __future__ import annotations

import asyncio
import dataclasses
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from textfuse_jax.llm import replay
from textfuse_jax.llm.asking import Asking
from textfuse_jax.llm.budget import Budget, Estimate, dry_run
from textfuse_jax.llm.cache import Cache
from textfuse_jax.llm.keys import key_of
from textfuse_jax.llm.progress import bars
from textfuse_jax.llm.providers import ProviderError, Settings
from textfuse_jax.llm.types import Answer, Report, Request, Usage

__all__ = ["Budget", "Estimate", "ProviderError", "ask", "ask_async", "ask_many", "dry_run"]


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
    made = await Asking(todo, settings, cache, budget, shown.add(name, len(todo))).run() if todo else {}
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
