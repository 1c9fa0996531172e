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


class PerClassMix(nn.Module):
    """An alpha for each class:  logit_c = w_c . (alpha_c m + (1 - alpha_c) a) + b_c,  alpha_c = sigmoid(theta_c).

    m and a are the mean and the attended sum of a document's nodes, as ``pooling.MeanAndAttention`` gives them: hybrid pooling
    (arXiv 2512.09444) whose share of the mean a class chooses for itself.

    Attributes:
      classes: c, >= 1.
      dropout: rate in [0, 1), before the linear map.
    """

    classes: int
    dropout: int | float | Array = 0.0

    @nn.compact
    def __call__(self, z: Float[Array, "r s d"], *, train: bool) -> tuple[Float[Array, "r s c"], Out]:
        """Logits; ``out`` has ``head/alpha`` [c].

        Raises:
          ValueError: z is not two vectors of one width (document taps or words were joined to it).
        """
        if z.shape[-1] % 2:
            raise ValueError(f"PerClassMix needs pooling MeanAndAttention alone, got vectors of odd width {z.shape[-1]}")
        mean, attended = jnp.split(drop(self, z.astype(jnp.float32), self.dropout, train), 2, axis=-1)
        alpha = nn.sigmoid(self.param("alpha", nn.initializers.zeros, (self.classes,)))
        weight = self.param("weight", nn.initializers.zeros, (mean.shape[-1], self.classes))
        bias = self.param("bias", nn.initializers.zeros, (self.classes,))
        share = alpha[None, None]
        return share * (mean @ weight) + (1 - share) * (attended @ weight) + bias[None, None], {"head/alpha": alpha}
