"""The optimizer: two learning rates (encoder, everything behind it), layer-wise decay, warm-up and a schedule, by optax."""

from __future__ import annotations

import re
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

LAYER = re.compile(r"layer_(\d+)")


def schedule(peak: float, total_steps: int | Array, kind: str, warmup_fraction: float) -> optax.Schedule:
    """Learning rate of each step: linear warm-up from 0, then cosine or linear to 0, or constant.

    Args:
      peak: highest rate.
      total_steps: steps of the whole run; may be traced, so that runs that differ in it alone share a program.
      kind: ``"cosine"``, ``"linear"`` or ``"constant"``.
      warmup_fraction: share of all steps spent warming up, in [0, 1).
    """
    fall = {"cosine": lambda x: 0.5 * (1 + jnp.cos(jnp.pi * x)), "linear": lambda x: 1 - x, "constant": jnp.ones_like}[kind]
    warmup = jnp.round(warmup_fraction * total_steps)
    rest = jnp.maximum(total_steps - warmup, 1)

    def rate(step: int | Array) -> Array:
        # A first step at rate 0 would be wasted, so the warm-up starts one step up.
        after = fall(jnp.clip((step - warmup) / rest, 0, 1))
        return peak * jnp.where(step < warmup, (step + 1) / jnp.maximum(warmup, 1), after)

    return rate


def depth_of(name: str) -> int:
    """Depth of an encoder parameter by its flat name: 0 for the embeddings, l for ``.../layer_l/...``, l >= 1."""
    numbers = [int(match[1]) for part in name.split("/") if (match := LAYER.fullmatch(part))]
    return numbers[0] if numbers else 0


def groups(params: dict[str, Any]) -> dict[str, str]:
    """Group of each flat parameter: ``"head"``, or ``"encoder/<depth>"``."""
    return {name: f"encoder/{depth_of(name)}" if name.startswith("encoder/") else "head" for name in params}


def decayed(params: Any) -> Any:
    """Which parameters weight decay applies to: matrices; no biases, norms or scalars."""
    return jax.tree.map(lambda p: p.ndim > 1, params)


def make_optimizer(config, params: dict[str, Any], total_steps: int | Array, layers: int) -> optax.GradientTransformation:
    """The optimizer that ``config.optimizer`` describes.

    ``adamw`` decouples the decay (Loshchilov and Hutter 2019); ``adam`` adds it to the gradient (L2), as the graph papers do.
    Encoder layer l of L learns at ``encoder_learning_rate * layer_decay ** (L - l)``.
    """

    def rule(peak: float) -> optax.GradientTransformation:
        rate = schedule(peak, total_steps, config.schedule, config.warmup_fraction)
        if config.name == "adamw":
            return optax.adamw(rate, b1=config.b1, b2=config.b2, weight_decay=config.weight_decay, mask=decayed)
        return optax.chain(
            optax.add_decayed_weights(config.weight_decay, mask=decayed), optax.adam(rate, b1=config.b1, b2=config.b2)
        )

    labels = groups(params)
    rules = {"head": rule(config.learning_rate)}
    for label in set(jax.tree.leaves(labels)) - {"head"}:
        depth = int(label.split("/")[1])
        rules[label] = rule(config.encoder_learning_rate * config.layer_decay ** (layers - depth))
    clip = optax.clip_by_global_norm(config.clip_norm) if config.clip_norm > 0 else optax.identity()
    return optax.chain(clip, optax.multi_transform(rules, labels))
