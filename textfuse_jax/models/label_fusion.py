"""Class scores of several members -> logits: a log-linear pool that a small network corrects; members may be missing."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from textfuse_jax.models.layers import activation, drop
from textfuse_jax.types import OpinionRows, Out


class FusionMLP(nn.Module):
    """logits = b + sum_m present_m (1 + w_m) * x_m + V phi(U [standardised x; present; vector] + c).

    x_m is the evidence of member m, calibrated log-odds of the classes. With w, b and V at zero, where training starts and
    weight decay pulls, it is the product of the members' probabilities, which is right where they err independently
    (Hinton 2002, products of experts). The hidden layer is LabelFusion's: which member to believe may depend on what the
    others say. A missing member is zero evidence and a presence of 0; in training those of ``droppable`` are made missing at
    random, so that one model serves none, some and all opinions.

    Attributes:
      classes: c.
      hidden: width of the hidden layer; 0: the pool alone.
      dropout: rate in [0, 1), of the network's inputs.
      drop_members: probability with which a droppable member is hidden in training.
      droppable: of each member; none by default.
      activation: phi, a name of ``layers.ACTIVATIONS``.
    """

    classes: int
    hidden: int = 32
    dropout: int | float | Array = 0.0
    drop_members: float = 0.0
    droppable: tuple[bool, ...] = ()
    activation: str = "gelu"

    @nn.compact
    def __call__(self, rows: OpinionRows, *, train: bool) -> tuple[Float[Array, "r s c"], Out]:
        """Logits; ``out`` has ``fusion/present`` [r, s, m], ``fusion/pool`` and ``fusion/correction`` [r, s, c].

        A slot without any opinion gets ``b`` and what the network says of zeros: the prior. The parameters ``mean`` and ``scale``
        [m, c] standardise what the network reads; they are statistics of the training documents, set once, not learned.
        """
        r, s, m, c = rows.evidence.shape
        present = rows.present
        if train and self.drop_members and any(self.droppable):
            hidden = jax.random.bernoulli(self.make_rng("dropout"), self.drop_members, present.shape)
            present = present & ~(hidden & jnp.asarray(self.droppable)[None, None])
        seen = present[..., None].astype(jnp.float32)
        weight = self.param("weight", nn.initializers.zeros, (m, c))
        bias = self.param("bias", nn.initializers.zeros, (c,))
        pool = (seen * rows.evidence * (1 + weight)[None, None]).sum(2) + bias[None, None]
        out = {"fusion/present": present, "fusion/pool": pool}
        if not self.hidden:
            return pool, out
        mean, scale = self.param("mean", nn.initializers.zeros, (m, c)), self.param("scale", nn.initializers.ones, (m, c))
        standard = seen * (rows.evidence - mean[None, None]) / scale[None, None]
        read = jnp.concatenate([standard.reshape(r, s, m * c), seen[..., 0], rows.vector], axis=-1)
        h = activation(self.activation)(nn.Dense(self.hidden, name="hidden")(drop(self, read, self.dropout, train)))
        correction = nn.Dense(self.classes, kernel_init=nn.initializers.zeros, use_bias=False, name="correction")(h)
        return pool + correction, out | {"fusion/correction": correction}
