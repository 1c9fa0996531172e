"""The chat-completions protocol: what a call carries, what a body must hold to be an answer, what each error means."""

from __future__ import annotations

import email.utils
import functools
import json
import time
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from textfuse_jax.llm.providers import PROVIDERS, ProviderError, Settings
from textfuse_jax.llm.types import Request, Usage, canonical

LONGEST_WAIT = 600.0
"""A provider that asks for a longer wait, seconds, means a quota of the day: the run stops and says so."""
_NO_CREDIT = ("insufficient_quota", "billing", "insufficient balance", "insufficient_balance")
_RETRIED = (408, 409, 425, 429)  # besides all from 500 on
_FATAL = {401: "the key is wrong", 402: "there is no credit", 403: "the key may not use this model", 404: "no such model or url"}


def parameters(request: Request, settings: Settings) -> dict[str, Any]:
    """What the body of a call holds beside model and messages; all of it is part of the cache key."""
    provider = PROVIDERS[settings.provider]
    held: dict[str, Any] = {provider.limit_parameter: settings.max_output_tokens}
    if settings.temperature >= 0:
        held["temperature"] = settings.temperature
    if request.schema and settings.form == "schema":
        schema = {"name": "answer", "strict": True, "schema": _parsed(request.schema)}
        held["response_format"] = {"type": "json_schema", "json_schema": schema}
    elif request.schema and settings.form == "json":
        held["response_format"] = {"type": "json_object"}
    if request.labels and settings.alternatives:
        held |= {"logprobs": True, "top_logprobs": settings.alternatives}
    return held | _parsed(settings.extra)


@functools.lru_cache(maxsize=256)
def _parsed(text: str) -> Any:
    """JSON that thousands of requests share; read only."""
    return json.loads(text)


def message_list(request: Request) -> list[dict[str, str]]:
    """The messages in the protocol's form."""
    return [{"role": role, "content": content} for role, content in request.messages]


class Reply(NamedTuple):
    """A whole body, read: ``fault`` is "" or one of ``types.PAID_FAULTS``; ``usage`` is None where the body tells none."""

    text: str
    fault: str
    usage: Usage | None
    model: str
    logprobs: str


class Malformed(ValueError):
    """A body with status 200 that is no chat completion."""


def read_body(body: str) -> Reply:
    """The answer in the body of a response.

    Raises:
      Malformed: it is no JSON, or doesn't have the protocol's form; the message names what is missing.
    """
    try:
        held = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Malformed(f"the body is no JSON ({type(error).__name__}), {len(body)} characters") from None
    choices = held.get("choices") if isinstance(held, dict) else None
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise Malformed("the body has no choices[0]")
    message = choices[0].get("message")
    if not isinstance(message, dict):
        raise Malformed("the body has no choices[0].message")
    content, finish = message.get("content"), choices[0].get("finish_reason")
    if content is not None and not isinstance(content, str):
        raise Malformed(f"choices[0].message.content is a {type(content).__name__}, not text")
    text = _storable(content or "")
    refused = bool(message.get("refusal")) or finish == "content_filter"
    fault = "refused" if refused else "cut" if finish == "length" else "" if text.strip() else "empty"
    model = held.get("model")
    return Reply(
        text=text or (_storable(message["refusal"]) if isinstance(message.get("refusal"), str) else ""),
        fault=fault,
        usage=_usage(held.get("usage")),
        model=_storable(model) if isinstance(model, str) else "",
        logprobs=_logprobs(choices[0].get("logprobs")),
    )


def _storable(text: str) -> str:
    """Text without lone surrogates, which no file and no database holds."""
    return text.encode("utf-8", "replace").decode()


def _usage(held: Any) -> Usage | None:
    def count(part: Any, *names: str) -> int:
        for name in names:
            part = part.get(name) if isinstance(part, dict) else None
        return part if isinstance(part, int) and not isinstance(part, bool) and 0 <= part < 1 << 40 else 0

    if not isinstance(held, dict):
        return None
    read, written = count(held, "prompt_tokens"), count(held, "completion_tokens")
    cached = count(held, "prompt_tokens_details", "cached_tokens") or count(held, "prompt_cache_hit_tokens")  # DeepSeek's name
    return Usage(read, min(cached, read), written) if read or written else None


def _logprobs(held: Any) -> str:
    """[[token, [[alternative, log-probability], ...]], ...] as JSON text; "" where it isn't there or not of this form."""
    try:
        tokens = [[t["token"], [[a["token"], float(a["logprob"])] for a in t["top_logprobs"]]] for t in held["content"]]
        return _storable(canonical(tokens)) if tokens else ""
    except (TypeError, KeyError, ValueError):
        return ""


class Problem(NamedTuple):
    """What an error means: "retry" it (after ``wait`` seconds, where the provider says so), "rejected" or "fatal".

    ``limited`` tells that the provider asked to slow down; ``uncertain`` that the call may have been paid for.
    """

    action: Literal["retry", "rejected", "fatal"]
    message: str
    wait: float | None = None
    limited: bool = False
    uncertain: bool = False


def problem_of(error: Exception) -> Problem:
    """What is to be done about an error of the SDK or of reading a body; its message may still hold the key."""
    import openai  # where this is called the SDK is there

    if isinstance(error, Malformed):
        return Problem("retry", str(error), uncertain=True)
    if isinstance(error, UnicodeEncodeError):  # before anything was sent
        return Problem("rejected", f"the text is no Unicode and can't be sent ({error.reason})")
    if isinstance(error, TimeoutError | openai.APITimeoutError):
        return Problem("retry", "time-out", uncertain=True)
    if isinstance(error, openai.APIStatusError):
        return _status(error.status_code, _told(error), error.response.headers)
    cause = error.__cause__ or error
    unsent = "connect" in type(cause).__name__.lower()  # ConnectError, ConnectTimeout: nothing was sent
    return Problem("retry", f"connection: {type(cause).__name__}: {str(cause)[:200]}", uncertain=not unsent)


def _status(status: int, told: str, headers: Mapping[str, str]) -> Problem:
    message = f"HTTP {status}: {told}"
    if status in _FATAL or (status == 429 and any(word in told.lower() for word in _NO_CREDIT)):
        return Problem("fatal", f"{_FATAL.get(status, _FATAL[402])} ({message})")
    wait = retry_after(headers)
    if wait is not None and wait > LONGEST_WAIT:
        return Problem("fatal", f"it asks to wait {wait:.0f} s; start again then ({message})")
    if status in _RETRIED or status >= 500:
        return Problem("retry", message, wait=wait, limited=status == 429)
    return Problem("rejected", message)


def _told(error: Any) -> str:
    """The code and message in an error's body, or its first words."""
    body = error.body
    if isinstance(body, dict):
        return " ".join(str(body[name])[:300] for name in ("code", "type", "message") if body.get(name))
    return str(body if body is not None else error.message)[:300]


def retry_after(headers: Mapping[str, str], now: float | None = None) -> float | None:
    """Seconds that a response asks to wait: ``retry-after-ms``, or ``retry-after`` in seconds or as an HTTP date."""
    for name, scale in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        try:
            wait = float(headers[name]) * scale
        except (KeyError, ValueError):
            continue
        return max(wait, 0.0) if wait == wait else None
    date = email.utils.parsedate_tz(headers.get("retry-after", "") or "")
    if date is None:
        return None
    return max(email.utils.mktime_tz(date) - (time.time() if now is None else now), 0.0)


def sdk():
    """The openai package.

    Raises:
      ProviderError: it isn't installed.
    """
    try:
        import openai
    except ImportError as error:
        raise ProviderError(f"asking a language model needs the package openai: pip install openai ({error})") from None
    return openai
