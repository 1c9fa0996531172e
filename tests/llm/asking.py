"""Requests and settings that the tests of the client share."""

from __future__ import annotations

from typing import Any

from textfuse_jax.llm import prompts
from textfuse_jax.llm.providers import Settings
from textfuse_jax.llm.types import Request

TASK = prompts.Task(("World", "Sports", "Business"))


def questions(n: int, start: int = 0) -> list[Request]:
    """The question for the label of texts ``start`` to ``start + n - 1``."""
    texts = [f"text number {i}" for i in range(start, start + n)]
    return prompts.label([str(i) for i in range(start, start + n)], texts, TASK)


def settings_for(url: str, **changed: Any) -> Settings:
    """Quick settings of a loopback server; prices 1 and 2 per million tokens."""
    quick: dict[str, Any] = {"structured": "schema", "timeout_seconds": 2.0, "backoff_seconds": 0.02, "attempts": 12}
    quick |= {"price_input": 1.0, "price_output": 2.0}
    return Settings("compatible", "model", base_url=url, **quick | changed)


def silent(line: str) -> None:
    """Says nothing."""
