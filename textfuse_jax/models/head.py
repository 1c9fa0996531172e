"""The head: document vectors -> logits."""

from __future__ import annotations

from collections.abc import Callable

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from textfuse_jax.models.layers import activation, drop
from textfuse_jax.types import Out


class Head(nn.Module):
    """logits = W z + b, or with a hidden layer  W phi(V z + c) + b; dropout before each linear map.

    Attributes:
      classes: c, >= 1 (1: one yes/no label).
      hidden: width of the hidden layer; 0: none.
      dropout: rate in [0, 1).
      activation: phi, a name of ``layers.ACTIVATIONS`` or a callable.
    """

    classes: int
    hidden: int = 0
    dropout: int | float | Array = 0.0
    activation: str | Callable = "gelu"

    @nn.compact
    def __call__(self, z: Float[Array, "r s d"], *, train: bool) -> tuple[Float[Array, "r s c"], Out]:
        """Logits, float32 whatever the dtype of ``z``; those of empty slots mean nothing."""
        z = drop(self, z.astype(jnp.float32), self.dropout, train)
        if self.hidden:
            z = activation(self.activation)(nn.Dense(self.hidden, name="hidden")(z))
            z = drop(self, z, self.dropout, train)
        # From zero: the first prediction is uniform, whatever the scale of z, and no random logits need unlearning.
        return nn.Dense(self.classes, kernel_init=nn.initializers.zeros, name="logits")(z), {}
