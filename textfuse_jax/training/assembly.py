"""The model of a config, its first parameters, and which of them are trained."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from textfuse_jax.encoders.architecture import Architecture
from textfuse_jax.encoders.encoder import CachedEncoder, Encoder
from textfuse_jax.encoders.linear import product_dtype
from textfuse_jax.models.classifier import TextGraphClassifier, build_model, taps_of
from textfuse_jax.training.optimizer import depth_of
from textfuse_jax.training.step import flatten


def make_model(config, architecture: Architecture, classes: int, mode: str | None = None) -> TextGraphClassifier:
    """The model of a config; ``mode`` overrides ``config.encoder.mode``."""
    e, taps = config.encoder, taps_of(config.model)
    mode = mode or e.mode
    if mode == "cached":
        encoder = CachedEncoder(taps=taps)
    else:
        frozen = architecture.layers + 1 if mode == "frozen" else e.tuned_from
        encoder = Encoder(
            architecture=architecture,
            taps=taps,
            frozen_layers=frozen,
            dtype=product_dtype(e.dtype),
            remat=e.remat,
            hidden_dropout=e.dropout,
            attention_dropout=e.attention_dropout,
            fused=e.fused_attention,
        )
    return build_model(config.model, encoder, classes)


def is_frozen(config, name: str) -> bool:
    """Whether the parameter of this flat name is kept as it is: embeddings and encoder layers below ``tuned_from``."""
    if not name.startswith("encoder/"):
        return False
    return config.encoder.mode != "tuned" or depth_of(name) < config.encoder.tuned_from


def init_params(model: TextGraphClassifier, example, seed: int, pretrained: dict[str, Any] | None) -> dict[str, jax.Array]:
    """Flat parameters: random from the seed, then the pretrained encoder's in their place.

    Raises:
      ValueError: a pretrained tensor that the model doesn't have, or of another shape.
    """
    init = jax.jit(functools.partial(model.init, train=False))
    params = flatten(init(jax.random.key(seed), example).get("params", {}))
    for name, value in flatten({"encoder": pretrained} if pretrained else {}).items():
        if name not in params or params[name].shape != value.shape:
            there = params[name].shape if name in params else "none"
            raise ValueError(
                f"pretrained {name} has shape {value.shape}, the model's is {there}; is config.json that of these weights?"
            )
        params[name] = jnp.asarray(value)
    return params


def predictor(model: TextGraphClassifier) -> Callable:
    """``(params nested, rows) -> (logits, out)`` without dropout."""
    return lambda params, rows: model.apply({"params": params}, rows, train=False)
