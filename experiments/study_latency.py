"""Milliseconds from a text to its probabilities: tokenising, encoder and model, batch by batch, without compilation."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from textfuse_jax.data.pipeline import evaluation_batches
from textfuse_jax.training import setup
from textfuse_jax.training.inference import predict_logits, to_probabilities
from textfuse_jax.training.parallel import make_mesh
from textfuse_jax.training.step import flatten, unflatten

BATCHES = (1, 64)
REPEATS = 7
Predict = Callable[[Sequence[str]], np.ndarray]
"""Texts -> probabilities [n, c]."""


def predictor(config: ConfigDict, encoder: setup.TextEncoder, params: dict[str, Any], classes: int) -> Predict:
    """A trained model of one label a document, from text on; on cached features the frozen encoder runs too.

    Args:
      config: of the model.
      encoder: its tokenizer and architecture; where features were cached its weights too.
      params: all others, flat, of one trial.
    """
    cached = config.encoder.mode == "cached"
    params = params | (flatten({"encoder": encoder.params}) if cached else {})
    model = setup.make_model(config, encoder.architecture, classes, "frozen" if cached else None)
    forward = jax.jit(lambda params, rows: setup.predictor(model)(unflatten(params), rows)[0])
    params, mesh, longest = jax.device_put(params), make_mesh(1), max(config.data.row_lengths)

    def predict(texts: Sequence[str]) -> np.ndarray:
        encoded = setup.encode_split(config, encoder.tokenizer, texts)
        tokens = longest if len(texts) == 1 else config.data.eval_tokens_per_batch
        batches = evaluation_batches(
            encoded, np.zeros(len(texts), np.int32), row_lengths=config.data.row_lengths, tokens_per_batch=tokens, prefetch=0
        )
        return to_probabilities(predict_logits(forward, params, batches, len(texts), classes, mesh), False)

    return predict


def latency(predict: Predict, texts: Sequence[str], sizes: Sequence[int] = BATCHES) -> dict[str, float]:
    """Milliseconds a text for each batch size; ``texts``: at least as many as the largest, else the batch is what is there."""
    return {str(size): milliseconds(predict, texts, size) for size in sizes}


def milliseconds(predict: Predict, texts: Sequence[str], size: int, repeats: int = REPEATS) -> float:
    """Median over ``repeats`` of the time that ``predict`` takes for ``size`` texts, in milliseconds a text.

    One text a call: another each time, all seen once before, so that nothing compiles on the clock.
    """
    batches = [[texts[i % len(texts)]] for i in range(repeats)] if size == 1 else [list(texts[:size])] * repeats
    for batch in batches if size == 1 else batches[:1]:
        predict(batch)
    taken = []
    for batch in batches:
        start = time.perf_counter()
        predict(batch)
        taken.append((time.perf_counter() - start) / len(batch))
    return round(1000 * float(np.median(taken)), 3)
