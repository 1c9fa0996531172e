"""Pooling: nodes -> one vector for each document, ``pool(nodes, slots, *, train) -> (z [r, s, d], out)``.

A document without nodes gets zeros. ``levels`` restricts a pooling to the nodes of some levels (0 the finest node scale);
None takes all. ``out["pool/beta"]`` [r, u] is the share of each node in its document; it is 0 where a node takes no part.
With self-attention that is the share of H', in which each node is a mixture; ``out["pool/looks"]`` [r, u] is that of the node.
"""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from textfuse_jax.dropout import is_number
from textfuse_jax.encoders.linear import dense_product
from textfuse_jax.segments import gather, segment_count, segment_max, segment_mean, segment_softmax, segment_sum
from textfuse_jax.types import NodeRows, Out

Levels = tuple[int, ...] | None


def segments_of(nodes: NodeRows, slots: int, levels: Levels = None) -> Int[Array, "r u"]:
    """The document slot of each node that takes part, ``slots`` for padding and for nodes of other levels."""
    if levels is None:
        return nodes.document
    if not levels:
        raise ValueError("pooling levels must name at least one level, e.g. (0,), or be None for all, got ()")
    return jnp.where(jnp.isin(nodes.level, jnp.array(levels)), nodes.document, slots)


class Mean(nn.Module):
    """z = mean of the document's nodes."""

    levels: Levels = None

    def __call__(self, nodes: NodeRows, slots: int, *, train: bool) -> tuple[Float[Array, "r s d"], Out]:
        """``out`` has ``pool/beta``, one over the number of nodes."""
        ids = segments_of(nodes, slots, self.levels)
        return segment_mean(nodes.features, ids, slots), {"pool/beta": _uniform(ids, slots)}


class Max(nn.Module):
    """z = maximum of the document's nodes, feature by feature."""

    levels: Levels = None

    def __call__(self, nodes: NodeRows, slots: int, *, train: bool) -> tuple[Float[Array, "r s d"], Out]:
        """``out`` is empty: a maximum has no one share for a node."""
        return segment_max(nodes.features, segments_of(nodes, slots, self.levels), slots), {}


class First(nn.Module):
    """z = the document's first node: over tokens that is [CLS], as BERT's fine-tuning reads it (Devlin et al. 2019)."""

    levels: Levels = None

    def __call__(self, nodes: NodeRows, slots: int, *, train: bool) -> tuple[Float[Array, "r s d"], Out]:
        """``out`` has ``pool/beta``, 1 for the first node of each document that has nodes."""
        ids = segments_of(nodes, slots, self.levels)
        u = ids.shape[1]
        ahead = jnp.broadcast_to(jnp.arange(u, 0, -1, dtype=jnp.float32), ids.shape)  # how many nodes from each to the row's end
        place = (u - segment_max(ahead[..., None], ids, slots)[..., 0]).astype(jnp.int32)  # u where a slot is empty
        beta = gather(place, ids, fill=-1) == jnp.arange(u)[None]
        return gather(nodes.features, place), {"pool/beta": beta.astype(jnp.float32)}


class Attention(nn.Module):
    """Scaled dot-product attention with a learned query:  z = sum_i beta_i h_i,  beta = softmax_i(q . W_K h_i / sqrt(d_k)).

    Attributes:
      key_width: d_k; None: the width of the nodes.
      levels: see the module.
    """

    key_width: int | None = None
    levels: Levels = None

    @nn.compact
    def __call__(self, nodes: NodeRows, slots: int, *, train: bool) -> tuple[Float[Array, "r s d"], Out]:
        """``out`` has ``pool/beta``, which sums to 1 over each document that has nodes."""
        ids = segments_of(nodes, slots, self.levels)
        d_k = self.key_width or nodes.features.shape[-1]
        query = self.param("query", nn.initializers.normal(1.0), (d_k,))
        key = self.param("key", nn.initializers.lecun_normal(), (nodes.features.shape[-1], d_k))
        score = nodes.features @ (key @ query)  # q . W_K h without ever forming W_K h
        beta = segment_softmax(score[..., None] / jnp.sqrt(d_k), ids, slots)
        return segment_sum(beta * nodes.features, ids, slots), {"pool/beta": beta[..., 0]}


def self_attend(
    h: Float[Array, "r u d"], ids: Int[Array, "r u"], slots: int, key_width: int | None
) -> tuple[Float[Array, "r u d"], Float[Array, "r u u"]]:
    """H' = A V among the nodes of each document, and A = softmax(Q K^T / sqrt(d_k)); called inside a compact module."""
    d_k = key_width or h.shape[-1]
    query, key, value = (
        nn.Dense(width, dot_general=dense_product, name=f"self_{name}")(h)
        for name, width in (("query", d_k), ("key", d_k), ("value", h.shape[-1]))
    )
    together = (ids[..., None] == ids[:, None]) & (ids < slots)[..., None]
    logits = jnp.einsum("rvk,ruk->rvu", query, key) / jnp.sqrt(d_k)
    weight = nn.softmax(jnp.where(together, logits, jnp.finfo(logits.dtype).min), axis=-1)
    weight = jnp.where(together, weight, 0)
    return jnp.einsum("rvu,rud->rvd", weight, value), weight


def looks(beta: Float[Array, "r u"], attention: Float[Array, "r u u"] | None) -> Out:
    """What pooling looks at through self-attention A: sum_i beta_i A_ij of each node j, so that z = sum_j looks_j V_j."""
    return {} if attention is None else {"pool/looks": jnp.einsum("rv,rvu->ru", beta, attention)}


class Hybrid(nn.Module):
    """Mean and attention in one (arXiv 2512.09444):  z = alpha mean(h) + (1 - alpha) sum_i beta_i h_i.

    beta is that of ``Attention``. With ``self_attention`` the nodes of a document first see one another, and h is
    H' = softmax(Q K^T / sqrt(d_k)) V, at a memory of u^2 a row.

    Attributes:
      alpha: share of the mean, in [0, 1]; ``"learned"``: sigmoid of a scalar that starts at 0; ``"per_dimension"``: of a vector.
      self_attention: whether H' replaces the nodes.
      key_width: d_k; None: the width of the nodes.
      levels: see the module.
    """

    alpha: int | float | str | Array = 0.5
    self_attention: bool = False
    key_width: int | None = None
    levels: Levels = None

    @nn.compact
    def __call__(self, nodes: NodeRows, slots: int, *, train: bool) -> tuple[Float[Array, "r s d"], Out]:
        """``out`` has ``pool/beta`` = alpha / n + (1 - alpha) beta_i (with alpha's mean over dimensions), which sums to 1 over
        each document, ``pool/alpha`` ([] or, per dimension, [d]), and with ``self_attention`` ``pool/looks``.

        Raises:
          ValueError: ``alpha`` is neither in [0, 1] nor one of the two words.
        """
        ids = segments_of(nodes, slots, self.levels)
        alpha = self._alpha(nodes.features.shape[-1])
        seen = None
        if self.self_attention:
            h, seen = self_attend(nodes.features, ids, slots, self.key_width)
            nodes = nodes.replace(features=h)
        mean = segment_mean(nodes.features, ids, slots)
        attended, out = Attention(self.key_width, self.levels, name="attention")(nodes, slots, train=train)
        share = jnp.mean(alpha)
        beta = share * _uniform(ids, slots) + (1 - share) * out["pool/beta"]
        weight = jnp.broadcast_to(alpha, mean.shape[-1:])[None, None]
        return weight * mean + (1 - weight) * attended, {"pool/beta": beta, "pool/alpha": alpha} | looks(beta, seen)

    def _alpha(self, d: int) -> Array:
        if isinstance(self.alpha, str):
            if self.alpha not in ("learned", "per_dimension"):
                raise ValueError(f'Hybrid alpha must be in [0, 1], "learned" or "per_dimension", got {self.alpha!r}')
            shape = () if self.alpha == "learned" else (d,)
            return nn.sigmoid(self.param("alpha", nn.initializers.zeros, shape))
        if is_number(self.alpha) and not 0 <= self.alpha <= 1:
            raise ValueError(f'Hybrid alpha must be in [0, 1], "learned" or "per_dimension", got {self.alpha}')
        return jnp.asarray(self.alpha, jnp.float32)


class MeanAndAttention(nn.Module):
    """z = [mean(h), sum_i beta_i h_i]: both halves of ``Hybrid``, for a head that mixes them (``head.PerClassMix``).

    Attributes: as in ``Hybrid``.
    """

    self_attention: bool = False
    key_width: int | None = None
    levels: Levels = None

    @nn.compact
    def __call__(self, nodes: NodeRows, slots: int, *, train: bool) -> tuple[Float[Array, "r s d"], Out]:
        """``out`` has ``pool/beta`` of the attention, and with ``self_attention`` ``pool/looks`` of the same."""
        ids = segments_of(nodes, slots, self.levels)
        seen = None
        if self.self_attention:
            h, seen = self_attend(nodes.features, ids, slots, self.key_width)
            nodes = nodes.replace(features=h)
        mean = segment_mean(nodes.features, ids, slots)
        attended, out = Attention(self.key_width, self.levels, name="attention")(nodes, slots, train=train)
        return jnp.concatenate([mean, attended], axis=-1), out | looks(out["pool/beta"], seen)


def _uniform(ids: Int[Array, "r u"], slots: int) -> Float[Array, "r u"]:
    return gather(1 / jnp.maximum(segment_count(ids, slots), 1), ids)
