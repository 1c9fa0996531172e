"""Batch normalisation over the nodes that are there: padding, and documents of weight 0, never enter its statistics."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from textfuse_jax.dropout import ROWS
from textfuse_jax.types import Out

RUNNING = ("running_mean", "running_variance")
"""Names of parameters that no gradient moves: each step moves them to what the module puts out as ``statistics/<their name>``."""


def is_running(name: str) -> bool:
    """Whether the parameter of this flat name is a running statistic."""
    return name.rpartition("/")[2] in RUNNING


class BatchNorm(nn.Module):
    """y = g (x - m) / sqrt(v + epsilon) + b  (Ioffe and Szegedy 2015), with mean m and variance v over the nodes inside.

    Training takes those of the batch, over all of its rows on all devices; otherwise the running ones are taken, which follow
    with ``momentum``. As in PyTorch the running variance is the unbiased one. Without any node inside, m = 0 and v = 1, and
    the running ones stay.

    Running statistics are parameters (``RUNNING``), so that they lie in checkpoints, trials and finished models where all others
    do; the pure step keeps them apart from what gradients move. There is no second, mutable collection.

    Attributes:
      momentum: share of the running statistics that a step keeps, in [0, 1).
      epsilon: added to the variance.
    """

    momentum: float = 0.9
    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, x: Float[Array, "r u d"], inside: Bool[Array, "r u"], *, train: bool) -> tuple[Float[Array, "r u d"], Out]:
        """Normalised nodes, anything in padding; ``out`` has in training ``statistics/.../running_mean`` and ``_variance``."""
        d = x.shape[-1:]
        running = [self.param(name, start, d) for name, start in zip(RUNNING, (nn.initializers.zeros, nn.initializers.ones))]
        scale, bias = self.param("scale", nn.initializers.ones, d), self.param("bias", nn.initializers.zeros, d)
        mean, variance = running
        out: Out = {}
        if train:
            here = inside[..., None].astype(x.dtype)
            count = _total(here.sum())
            some = jnp.maximum(count, 1)
            mean = _total((x * here).sum((0, 1))) / some
            variance = jnp.where(count > 0, _total((jnp.square(x - mean[None, None]) * here).sum((0, 1))) / some, 1)
            seen = (mean, variance * some / jnp.maximum(some - 1, 1))
            for name, old, new in zip(RUNNING, running, map(jax.lax.stop_gradient, seen)):
                kept = jnp.where(count > 1, self.momentum, 1)
                out["/".join(("statistics", *self.path, name))] = kept * old + (1 - kept) * new
        inverse = scale * jax.lax.rsqrt(variance + self.epsilon)
        return (x - mean[None, None]) * inverse[None, None] + bias[None, None], out


def _total(x: Array) -> Array:
    """The sum over the devices among which rows are divided by ``jax.pmap``; a mesh sums by itself."""
    try:
        return jax.lax.psum(x, ROWS)
    except NameError:  # JAX's answer for an axis that isn't mapped
        return x
