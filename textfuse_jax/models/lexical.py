"""The words themselves beside their meaning: n-grams of tokens, hashed, summed over the document."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, UInt

from textfuse_jax.models.layers import drop
from textfuse_jax.segments import segment_count, segment_sum
from textfuse_jax.types import Out, TokenRows


class BagOfNgrams(nn.Module):
    """z = sum_g E[hash(g)] / sqrt(n)  over the n n-grams g of a document (Joulin et al. 2017, "Bag of Tricks").

    What a frozen encoder has blurred, the exact words, joins the graph's vector; no word order beyond the n-grams.

    Attributes:
      width: of z.
      buckets: rows of E; n-grams that share a bucket share a row.
      orders: the n of the n-grams.
      dropout: rate in [0, 1) at which n-grams are left out in training.
    """

    width: int = 16
    buckets: int = 1 << 16
    orders: tuple[int, ...] = (1, 2)
    dropout: int | float | Array = 0.0

    @nn.compact
    def __call__(self, rows: TokenRows, *, train: bool) -> tuple[Float[Array, "r s d"], Out]:
        """The vector of each slot; ``out`` is empty."""
        table = self.param("table", nn.initializers.normal(0.1), (self.buckets, self.width))
        total, count = 0.0, 0.0
        for n in self.orders:
            bucket = (_hash(rows.tokens, n) % jnp.uint32(self.buckets)).astype(jnp.int32)
            whole = _runs(rows.document, n)
            ids = jnp.where(whole, rows.document, rows.slots)
            kept = drop(self, jnp.ones((*ids.shape, 1)), self.dropout, train)
            total += segment_sum(table[bucket] * kept, ids, rows.slots)
            count += segment_count(ids, rows.slots)
        return total / jnp.sqrt(jnp.maximum(count, 1))[..., None], {}


def _hash(tokens: Int[Array, "r t"], n: int) -> UInt[Array, "r t"]:
    """A hash of the n tokens from each place on, with MurmurHash3's finaliser."""
    x = jnp.full(tokens.shape, n, jnp.uint32)
    for offset in range(n):
        x = x * jnp.uint32(0x9E3779B1) + _shifted(tokens, offset, 0).astype(jnp.uint32)
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35), (16, 1)):
        x = (x ^ (x >> shift)) * jnp.uint32(factor)
    return x


def _runs(document: Int[Array, "r t"], n: int) -> Array:
    """Whether the n tokens from each place on lie in one document (padding counts as one: its slot drops it)."""
    return _shifted(document, n - 1, -1) == document


def _shifted(x: Int[Array, "r t"], offset: int, fill: int) -> Int[Array, "r t"]:
    return jnp.pad(x, ((0, 0), (0, offset)), constant_values=fill)[:, offset:]
