"""Who is asked, how, at which pace and price: providers by name, and the settings of one model.

Every provider that speaks the chat-completions protocol is reached through the openai SDK by its ``base_url``. Keys are
read from the environment by a variable's name and never stored. Prices come from the user: they change, and none is invented.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from textfuse_jax.llm.types import Usage, canonical


class ProviderError(RuntimeError):
    """A provider can't be used at all: no SDK, no key, a wrong key, no credit, an unknown model. What was paid is kept."""


class Provider(NamedTuple):
    """What is known of a provider.

    Attributes:
      base_url: of its chat-completions protocol; "" = the user gives it.
      key_variable: environment variable that holds the key; "" = none is needed.
      structured: how an answer's form is asked for: "schema" (JSON schema), "json" (any JSON object) or "text" (in words).
      logprobs: whether log-probabilities are offered.
      limit_parameter: the name of its limit of output tokens.
    """

    base_url: str
    key_variable: str
    structured: str
    logprobs: bool
    limit_parameter: str


PROVIDERS = {
    "openai": Provider("https://api.openai.com/v1", "OPENAI_API_KEY", "schema", True, "max_completion_tokens"),
    "deepseek": Provider("https://api.deepseek.com", "DEEPSEEK_API_KEY", "json", True, "max_tokens"),
    "gemini": Provider(
        "https://generativelanguage.googleapis.com/v1beta/openai", "GEMINI_API_KEY", "schema", False, "max_tokens"
    ),
    "compatible": Provider("", "", "text", False, "max_tokens"),  # vLLM, Ollama, llama.cpp, any server of the protocol
    "replay": Provider("", "", "text", False, "max_tokens"),  # answers from a file: llm/replay.py
    "local": Provider("", "", "text", False, "max_tokens"),  # no language model: llm/local.py
}
STRUCTURED = ("auto", "schema", "json", "text")


class Secret:
    """A key that shows itself to nobody: not in a repr, a log or a traceback with local variables."""

    def __init__(self, value: str):
        self._value = value

    def reveal(self) -> str:
        """The key, for the one place that sends it."""
        return self._value

    def scrub(self, text: str) -> str:
        """``text`` with the key replaced: providers and proxies repeat it in messages."""
        return text.replace(self._value, "***") if len(self._value) >= 4 else text

    def __repr__(self) -> str:
        return "Secret(***)"


@dataclasses.dataclass(frozen=True)
class Settings:
    """One model of one provider, and how it is asked.

    Attributes:
      provider: one of ``PROVIDERS``.
      model: its name at the provider, e.g. "gpt-4o-mini"; for replay and local a label of the reader's choice.
      base_url: of the server; "" = the provider's own. Needed by "compatible".
      key_variable: environment variable with the key; "" = the provider's own.
      replay_path: of "replay": JSONL or CSV of id or text -> answer.
      temperature: of sampling; below 0 = not sent (some models refuse it).
      max_output_tokens: most tokens of an answer, hidden reasoning included.
      structured: one of ``STRUCTURED``; "auto" = what the provider has.
      logprobs: alternatives a token to ask log-probabilities for, 0 = none, -1 = 10 where the provider offers them.
      extra: further parameters of the call, as JSON text of an object, e.g. '{"reasoning_effort": "low"}'.
      concurrency: most calls in flight.
      requests_per_minute, tokens_per_minute: of the account; 0 = no limit.
      timeout_seconds: of one call, from sending to its last byte.
      attempts: most calls for one answer.
      backoff_seconds, backoff_most_seconds: mean wait after the first fault, doubled with each, up to the most.
      price_input, price_cached_input, price_output: per million tokens; below 0 = unknown (cached: as input).
    """

    provider: str
    model: str
    base_url: str = ""
    key_variable: str = ""
    replay_path: str = ""
    temperature: float = 0.0
    max_output_tokens: int = 256
    structured: str = "auto"
    logprobs: int = -1
    extra: str = "{}"
    concurrency: int = 16
    requests_per_minute: int = 0
    tokens_per_minute: int = 0
    timeout_seconds: float = 60.0
    attempts: int = 10
    backoff_seconds: float = 1.0
    backoff_most_seconds: float = 60.0
    price_input: float = -1.0
    price_cached_input: float = -1.0
    price_output: float = -1.0
