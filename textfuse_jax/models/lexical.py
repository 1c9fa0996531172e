"""The words themselves beside their meaning: n-grams of tokens, hashed, summed over the document.

Of cascades the document is the source post (``source_tokens``).
"""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, UInt

from textfuse_jax.models.layers import drop
from textfuse_jax.models.replies import of_source
from textfuse_jax.segments import segment_count, segment_sum
from textfuse_jax.types import CascadeRows, Out, TokenRows

NO_WORD = 2**31 - 1
"""In the place of a word where a text has no more; every word's number is below."""


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
        return _summed(self, table, rows, train), {}


class NgramLogits(nn.Module):
    """logits = scale * sum_g W[hash(g)] / sqrt(n)  over the n n-grams g of a document: a linear classifier of its words.

    For the slot ``wide``, beside the network. Unlike those of Cheng et al. (2016, "Wide & Deep Learning") the two are trained
    apart and then averaged. W is 0 at first, so that n-grams training hasn't seen say nothing. An L2 penalty d on W over N
    documents is that of a logistic regression with C = scale^2 / (N d) on bags of unit length.

    Attributes:
      classes: c, >= 1.
      scale: > 0; under Adam W learns so many times as fast.
      buckets, orders, dropout: as in ``BagOfNgrams``.
    """

    classes: int
    scale: int | float | Array = 32.0
    buckets: int = 1 << 16
    orders: tuple[int, ...] = (1, 2)
    dropout: int | float | Array = 0.0

    @nn.compact
    def __call__(self, rows: TokenRows, *, train: bool) -> tuple[Float[Array, "r s c"], Out]:
        """Logits of each slot, 0 for one without words; ``out`` has them as ``wide/logits``."""
        table = self.param("table", nn.initializers.zeros, (self.buckets, self.classes))
        logits = self.scale * _summed(self, table, rows, train)
        return logits, {"wide/logits": logits}


def source_tokens(rows: CascadeRows) -> TokenRows:
    """The words of each cascade's source, ``rows.inputs["source"]`` i [r, u, l], as the tokens of its document.

    Raises:
      ValueError: the rows hold none.
    """
    if "source" not in rows.inputs:
        raise ValueError('model.lexical and model.wide read the words of the source; add "source" to config.cascades.inputs')
    words = of_source(rows.inputs["source"], rows.nodes, fill=NO_WORD)
    slot = jnp.arange(rows.slots, dtype=rows.document.dtype)[None, :, None]
    document = jnp.where(words < NO_WORD, slot, rows.slots)
    tokens, document = (x.reshape(x.shape[0], -1) for x in (words, document))
    return TokenRows(tokens, jnp.zeros_like(tokens), document, {}, {}, rows.label, rows.weight, rows.example)


def _summed(bag: BagOfNgrams | NgramLogits, table: Float[Array, "b d"], rows: TokenRows, train: bool) -> Float[Array, "r s d"]:
    """Sum of the table's rows of a document's n-grams, over the root of their number; called inside a compact method."""
    total, count = 0.0, 0.0
    for n in bag.orders:
        bucket = (_hash(rows.tokens, n) % jnp.uint32(bag.buckets)).astype(jnp.int32)
        whole = _runs(rows.document, n)
        ids = jnp.where(whole, rows.document, rows.slots)
        kept = drop(bag, jnp.ones((*ids.shape, 1)), bag.dropout, train)
        total += segment_sum(table[bucket] * kept, ids, rows.slots)
        count += segment_count(ids, rows.slots)
    return total / jnp.sqrt(jnp.maximum(count, 1))[..., None]


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
