"""Who is asked, how, at which pace and price: providers by name, and the settings of one model.

Every provider that speaks the chat-completions protocol is reached through the openai SDK by its ``base_url``. Keys are
read from the environment by a variable's name and never stored. Prices come from the user: they change, and none is invented.
"""

from __future__ import annotations

import dataclasses
import json
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
      backoff_seconds, backoff_most_seconds: mean wait after the first fault, doubled with each, up to the most, before
        jitter; up to four times the first while most calls of the account are answered.
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

    @property
    def url(self) -> str:
        """Where calls go."""
        return (self.base_url or PROVIDERS[self.provider].base_url).rstrip("/")

    @property
    def label(self) -> str:
        """Provider and model in one name, e.g. "openai/gpt-4o-mini"."""
        return f"{self.provider}/{self.model}"

    @property
    def form(self) -> str:
        """How the form of an answer is asked for: "schema", "json" or "text"."""
        return PROVIDERS[self.provider].structured if self.structured == "auto" else self.structured

    @property
    def alternatives(self) -> int:
        """Log-probabilities asked for at each token; 0 = none."""
        return (10 if PROVIDERS[self.provider].logprobs else 0) if self.logprobs < 0 else self.logprobs

    def cost(self, usage: Usage) -> float | None:
        """What a call of this usage costs; None where a price is unknown."""
        if self.price_input < 0 or self.price_output < 0:
            return None
        cached = self.price_input if self.price_cached_input < 0 else self.price_cached_input
        fresh = usage.input_tokens - usage.cached_tokens
        return (fresh * self.price_input + usage.cached_tokens * cached + usage.output_tokens * self.price_output) / 1e6

    def key(self) -> Secret:
        """The API key from the environment; of servers that need none a word that stands for it.

        Raises:
          ProviderError: the variable is unset or empty, or what it holds can't be a key.
        """
        variable = self.key_variable or PROVIDERS[self.provider].key_variable
        if not variable:
            return Secret("no-key")
        value = os.environ.get(variable, "").strip()
        if not value:
            raise ProviderError(
                f"{self.label} needs an API key in the environment variable {variable}, which is not set; "
                f'export {variable}=..., or take llm.provider = "local", "replay" or a server of your own'
            )
        if not value.isascii() or not value.isprintable() or " " in value:
            raise ProviderError(f"the environment variable {variable} holds no API key: a key is ASCII without spaces")
        return Secret(value)


def settings_faults(settings: Settings) -> list[tuple[str, str]]:
    """(field, what it must be) of every field that is wrong; what ``config_checks.validate`` says of ``config.llm``."""
    s, faults = settings, []

    def need(field: str, ok: bool, must: str) -> None:
        if not ok:
            faults.append((field, must))

    need("provider", s.provider in PROVIDERS, f"one of {', '.join(PROVIDERS)}")
    need("structured", s.structured in STRUCTURED, f"one of {', '.join(STRUCTURED)}")
    need("model", bool(s.model), "the name of a model at the provider (of replay and local: a label of your choice)")
    need("base_url", s.provider != "compatible" or s.base_url.startswith("http"), "http(s)://... of the server")
    need("replay_path", s.provider != "replay" or bool(s.replay_path), "the file of answers, JSONL or CSV")
    need("temperature", s.temperature <= 2, "<= 2; below 0 = not sent")
    need("logprobs", -1 <= s.logprobs <= 20, "in 0..20, or -1")
    for field in ("max_output_tokens", "concurrency", "attempts"):
        need(field, getattr(s, field) >= 1, ">= 1")
    for field in ("requests_per_minute", "tokens_per_minute"):
        need(field, getattr(s, field) >= 0, ">= 0, 0 = no limit")
    for field in ("timeout_seconds", "backoff_seconds", "backoff_most_seconds"):
        need(field, 0 < getattr(s, field) < math.inf, "> 0")
    need("extra", isinstance(_object(s.extra), dict), "JSON text of an object")
    return faults


def _object(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def settings_of(llm: Mapping[str, Any]) -> dict[str, Settings]:
    """The models that ``config.llm`` names, by name: its own fields alone, or ``members``, each with what it changes.

    Args:
      llm: ``config.llm``; without provider and members no model is asked, and {} comes back.

    Raises:
      ValueError: a member with a field that settings don't have.
    """
    names = [field.name for field in dataclasses.fields(Settings)]
    base = {name: llm[name] for name in names} | {"extra": canonical(dict(llm["extra"]))}
    if not llm["members"]:
        return {base["model"] or base["provider"]: Settings(**base)} if base["provider"] else {}
    made = {}
    for member, changed in llm["members"].items():
        unknown = [field for field in changed if field not in names]
        if unknown:
            raise ValueError(f"config.llm.members.{member}.{unknown[0]} is no field of a member; there are {', '.join(names)}")
        changed = {k: canonical(dict(v)) if k == "extra" else v for k, v in changed.items()}
        made[member] = Settings(**base | changed)
    return made
