"""What goes to a language model and what comes back.

A *request* is all that is asked of a model about one document; an *answer* is what came back, or why nothing did. Answers
keep the order of their requests. An answer with a ``fault`` is missing: it is counted by its fault and never becomes a class.
"""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

FAULTS = {
    "refused": "the model refused, or a content filter withheld the answer (paid)",
    "cut": "the answer reached max_output_tokens before its end (paid)",
    "empty": "an answer without text (paid)",
    "rejected": "the provider rejects this request, e.g. a text longer than its context, or it can't be sent (not paid)",
    "failed": "every attempt failed: rate limits, server errors, time-outs, broken bodies",
    "budget": "not sent: the budget would not have covered it",
    "absent": "a replay file holds no answer for this document",
}
"""Why an answer is missing; what is marked paid is kept in the cache like any answer."""
PAID_FAULTS = ("refused", "cut", "empty")


@dataclasses.dataclass(frozen=True)
class Request:
    """One question to a model. Made by ``prompts``; everything but ``id`` is part of the cache key.

    Attributes:
      id: of the document, e.g. ``Split.ids[i]``; given back in the answer, free to repeat.
      text: the document itself, as it stands in the last message.
      messages: (role, content) of each message; roles are "system", "user", "assistant".
      template: name and version of the template, e.g. "zero_shot/1".
      labels: class names in the order shown to the model; () for free text.
      shots: ids of the examples shown, in order.
      schema: JSON schema of the answer as JSON text with sorted keys; "" for free text.
      sample: 0, 1, ...: further answers to the same question, for votes of n samples.
    """

    id: str
    text: str
    messages: tuple[tuple[str, str], ...]
    template: str
    labels: tuple[str, ...] = ()
    shots: tuple[str, ...] = ()
    schema: str = ""
    sample: int = 0


@dataclasses.dataclass(frozen=True)
class Usage:
    """Tokens that a provider counted for one call.

    Attributes:
      input_tokens: of all messages, those served from the provider's own prompt cache included.
      cached_tokens: of these, served from the provider's prompt cache.
      output_tokens: of the answer, hidden reasoning included.
    """

    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(*(a + b for a, b in zip(dataclasses.astuple(self), dataclasses.astuple(other))))


@dataclasses.dataclass(frozen=True)
class Answer:
    """What came back for one request.

    Attributes:
      id: the request's.
      text: what the model wrote; "" where nothing came (see ``fault``).
      fault: "" for a whole answer, else one of ``FAULTS``.
      detail: the last error of a missing answer, API keys removed.
      usage: tokens; of an answer from the cache those of the call that once made it.
      cost: what the call cost in the currency of ``Settings`` prices; None where prices are unknown.
      cached: whether it came from the cache or a replay file, so that nothing was paid now.
      attempts: calls that were sent for it now, 0 from the cache.
      seconds: from sending the last attempt to its answer.
      model: the name of the model as the provider reports it, e.g. a dated version of the one asked for.
      logprobs: JSON text [[token, [[alternative, log-probability], ...]], ...] of the answer's tokens; "" where not offered.
    """

    id: str
    text: str = ""
    fault: str = ""
    detail: str = ""
    usage: Usage = Usage()
    cost: float | None = None
    cached: bool = False
    attempts: int = 0
    seconds: float = 0.0
    model: str = ""
    logprobs: str = ""


@dataclasses.dataclass(frozen=True)
class Report:
    """What a list of answers amounts to.

    Attributes:
      answers: number of requests answered or not; ``present`` of them whole.
      calls: attempts that were sent now.
      from_cache: answers for which nothing was sent.
      missing: fault -> number of answers.
      usage: tokens of the calls made now.
      cost: of the calls made now; None where prices are unknown.
      models: names the provider reported, each with its number of answers; more than one means that the model changed.
    """

    answers: int
    present: int
    calls: int
    from_cache: int
    missing: Mapping[str, int]
    usage: Usage
    cost: float | None
    models: Mapping[str, int]

    @classmethod
    def of(cls, answers: Iterable[Answer]) -> Report:
        """The report of these answers."""
        answers = list(answers)
        paid = [answer for answer in answers if not answer.cached and answer.fault in ("", *PAID_FAULTS)]
        costs = [answer.cost for answer in paid]
        return cls(
            answers=len(answers),
            present=sum(not answer.fault for answer in answers),
            calls=sum(answer.attempts for answer in answers),
            from_cache=sum(answer.cached for answer in answers),
            missing=dict(sorted(Counter(answer.fault for answer in answers if answer.fault).items())),
            usage=sum((answer.usage for answer in paid), Usage()),
            cost=None if any(cost is None for cost in costs) else float(sum(costs)),
            models=dict(sorted(Counter(answer.model for answer in answers if answer.model).items())),
        )


def canonical(value: Any) -> str:
    """JSON text with sorted keys: equal values have equal texts."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
