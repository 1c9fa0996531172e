"""What several parts of a model need: activations and normalisations by name, and the mask of padding."""

from __future__ import annotations

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from textfuse_jax.dropout import dropout, is_number, row_keys

ACTIVATIONS = ("relu", "gelu", "elu", "silu", "tanh", "identity")


def activation(name: str | Callable) -> Callable[[Array], Array]:
    """The activation of that name, or the callable itself.

    Raises:
      ValueError: a name outside ``ACTIVATIONS``.
    """
    if callable(name):
        return name
    if name not in ACTIVATIONS:
        raise ValueError(f"activation must be a callable or one of {', '.join(ACTIVATIONS)}, got {name!r}")
    return (lambda x: x) if name == "identity" else getattr(jax.nn, name)


def normalise(x: Float[Array, "*b d"], norm: str) -> Float[Array, "*b d"]:
    """Layer normalisation for ``norm="layer"``, ``x`` itself for ``"none"``; called inside a compact module.

    Batch normalisation needs to know what is padding: ``batch_norm.BatchNorm``.

    Raises:
      ValueError: any other name.
    """
    if norm not in ("layer", "none"):
        raise ValueError(f'norm must be "layer" or "none", got {norm!r}')
    return nn.LayerNorm()(x) if norm == "layer" else x


def zero_padding(x: Float[Array, "r u d"], document: Int[Array, "r u"], slots: int) -> Float[Array, "r u d"]:
    """``x`` with the rows of padding units set to 0, so that no bias or norm gives padding a value."""
    return jnp.where((document < slots)[..., None], x, 0)


def drop(module: nn.Module, x: Float[Array, "r *b"], rate: int | float | Array, train: bool) -> Float[Array, "r *b"]:
    """Dropout of the rng stream "dropout", switched off without ``train``; called inside a compact module.

    The masks are those of ``textfuse_jax.dropout``: the same on any number of devices, and an order of magnitude
    cheaper than ``nn.Dropout``'s on a CPU. ``rate`` may be traced: trials of a sweep have rates of their own.
    """
    if not train or (is_number(rate) and rate == 0):
        return x
    return dropout(x, rate, row_keys(module.make_rng("dropout"), x.shape[0]))
