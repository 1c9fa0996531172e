"""Fusion of a post's own features with the embedding of what an LLM made of it: ``fuse(base, augmented, selected, *, train)``.

Phase 4 of TAPE. ``base`` h [r, u, d] are the encoder's features of every post, ``augmented`` e [r, u, a] those of its rewritten
text, ``selected`` says which posts have one. Every other post gets x = W_base h, by the same W_base (and bias) as in the
formulas; its e is not read. Each returns ``(x [r, u, width], out)``.
"""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from textfuse_jax.types import Out


class Concat(nn.Module):
    """x = W [h; e]: both end to end (768 + 384 = 1152 with BERT-base beside MiniLM), projected to ``width``."""

    width: int = 64

    @nn.compact
    def __call__(
        self, base: Float[Array, "r u d"], augmented: Float[Array, "r u a"], selected: Bool[Array, "r u"], *, train: bool
    ) -> tuple[Float[Array, "r u w"], Out]:
        """``out`` is empty."""
        joined = nn.Dense(self.width, name="joined")(jnp.concatenate([base, augmented], axis=-1))
        return jnp.where(selected[..., None], joined, nn.Dense(self.width, name="base")(base)), {}


class Weighted(nn.Module):
    """x = alpha W_base h + (1 - alpha) W_aug e,  alpha = sigmoid(a) with a learned scalar a, 0 at first."""

    width: int = 64

    @nn.compact
    def __call__(
        self, base: Float[Array, "r u d"], augmented: Float[Array, "r u a"], selected: Bool[Array, "r u"], *, train: bool
    ) -> tuple[Float[Array, "r u w"], Out]:
        """``out`` has ``fusion/alpha`` []."""
        h, e = nn.Dense(self.width, name="base")(base), nn.Dense(self.width, name="augmented")(augmented)
        alpha = nn.sigmoid(self.param("alpha", nn.initializers.zeros, ()))
        return jnp.where(selected[..., None], alpha * h + (1 - alpha) * e, h), {"fusion/alpha": alpha}


class Gated(nn.Module):
    """x = g * W_base h + (1 - g) * W_aug e,  g = sigmoid(W_g [W_base h; W_aug e] + b_g), a number for each feature."""

    width: int = 64

    @nn.compact
    def __call__(
        self, base: Float[Array, "r u d"], augmented: Float[Array, "r u a"], selected: Bool[Array, "r u"], *, train: bool
    ) -> tuple[Float[Array, "r u w"], Out]:
        """``out`` has ``fusion/gate`` [r, u, w], 1 for posts that aren't selected."""
        h, e = nn.Dense(self.width, name="base")(base), nn.Dense(self.width, name="augmented")(augmented)
        gate = nn.sigmoid(nn.Dense(self.width, name="gate")(jnp.concatenate([h, e], axis=-1)))
        gate = jnp.where(selected[..., None], gate, 1)
        return gate * h + (1 - gate) * e, {"fusion/gate": gate}


class Attention(nn.Module):
    """x = beta W_base h + (1 - beta) W_aug e,  (beta, 1 - beta) = softmax(q . tanh(W_base h), q . tanh(W_aug e)), q learned."""

    width: int = 64

    @nn.compact
    def __call__(
        self, base: Float[Array, "r u d"], augmented: Float[Array, "r u a"], selected: Bool[Array, "r u"], *, train: bool
    ) -> tuple[Float[Array, "r u w"], Out]:
        """``out`` has ``fusion/beta`` [r, u], 1 for posts that aren't selected."""
        h, e = nn.Dense(self.width, name="base")(base), nn.Dense(self.width, name="augmented")(augmented)
        query = self.param("query", nn.initializers.normal(self.width**-0.5), (self.width,))
        beta = nn.sigmoid(jnp.tanh(h) @ query - jnp.tanh(e) @ query)  # a softmax of two
        beta = jnp.where(selected, beta, 1)
        return beta[..., None] * h + (1 - beta[..., None]) * e, {"fusion/beta": beta}
