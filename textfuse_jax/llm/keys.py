"""What an answer depends on, and the key made of it: change any part, and the cache doesn't know the answer."""

from __future__ import annotations

import hashlib
from typing import Any

from textfuse_jax.llm.protocol import parameters
from textfuse_jax.llm.providers import Settings
from textfuse_jax.llm.types import Request, canonical


def key_parts(request: Request, settings: Settings) -> dict[str, Any]:
    """All that an answer depends on, by name; pace, patience, prices and the document's id are not among it."""
    return {
        "provider": settings.provider,
        "url": settings.base_url.rstrip("/"),  # "" for the provider's own
        "model": settings.model,
        "parameters": parameters(request, settings),
        "system": [content for role, content in request.messages if role == "system"],
        "messages": request.messages,
        "template": request.template,
        "shots": request.shots,
        "labels": request.labels,
        "text": request.text,
        "schema": request.schema,
        "sample": request.sample,
    }


def key_of(request: Request, settings: Settings) -> str:
    """SHA-256, in hex, of ``key_parts``."""
    return digest(key_parts(request, settings))


def digest(parts: dict[str, Any]) -> str:
    """SHA-256, in hex, of the canonical JSON text."""
    return hashlib.sha256(canonical(parts).encode("utf-8", "surrogatepass")).hexdigest()
