"""What a model sees of each post: features of a frozen encoder, words, and what an LLM made of it, fused.

``rows.inputs`` may hold, [r, u, ...]: ``encoder`` f [d], ``words`` i [L] (hashed words; one past the last bucket in padding),
``augmented`` f [a] and ``selected`` bool [], ``time`` f [2]; ``source``, the words of the source, is for ``models.lexical``.
"""

from __future__ import annotations

from collections.abc import Callable

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from textfuse_jax.encoders.linear import dense_product
from textfuse_jax.models.layers import drop, zero_padding
from textfuse_jax.types import CascadeRows, Out

BUCKETS = 1 << 12
"""Rows of the table of words, and of what ``words`` may point at."""
MOST_COUNTS = 1 << 26
"""Entries of a matrix of counts, 256 MB; larger batches go word by word."""


class WordBag(nn.Module):
    """z = sum_w E[w] / sqrt(n)  over the n words w of a post: a linear map of its bag of words.

    The counts of all words are one matrix, which a sweep's trials share, and z is its product with E: on a CPU five times as fast
    as to add up a vector a word, whose gradient is a scatter.

    Attributes:
      width: of z.
    """

    width: int = 32

    @nn.compact
    def __call__(self, words: Int[Array, "r u l"], *, train: bool) -> Float[Array, "r u w"]:
        """The vector of each post, 0 for one without words."""
        table = self.param("table", nn.initializers.normal(0.1), (BUCKETS, self.width))
        r, u, _ = words.shape
        scale = 1 / jnp.sqrt(jnp.maximum((words < BUCKETS).sum(-1), 1))[..., None]
        if r * u * BUCKETS > MOST_COUNTS:
            return table.at[words].get(mode="fill", fill_value=0).sum(2) * scale
        post = jnp.arange(r * u)[:, None]
        counts = jnp.zeros((r * u, BUCKETS)).at[post, words.reshape(r * u, -1)].add(1, mode="drop")
        return (counts @ table).reshape(r, u, self.width) * scale


class PostInputs(nn.Module):
    """Features of the nodes of cascades.

    base h = [encoder; words; time], whichever of them the rows hold; with ``fusion``
    x = fusion(h, augmented, selected), else x = W_base h + b.

    Attributes:
      fusion: one of ``models.fusion``; None: no rewritten text is read.
      width: of x without a fusion; 0: x = h.
      words_width: width of the bag of words.
      dropout: rate on the features in training.
    """

    fusion: Callable | None = None
    width: int = 64
    words_width: int = 32
    dropout: int | float | Array = 0.0

    @nn.compact
    def __call__(self, rows: CascadeRows, *, train: bool) -> tuple[Float[Array, "r u d"], Out]:
        """Features of each node, 0 in padding; ``out`` has what the fusion puts out.

        Raises:
          ValueError: the rows hold no features; a fusion without rewritten texts.
        """
        held, parts = rows.inputs, []
        if "encoder" in held:
            parts.append(held["encoder"].astype(jnp.float32))
        if "words" in held:
            parts.append(WordBag(self.words_width, name="words")(held["words"], train=train))
        if "time" in held:
            parts.append(held["time"])
        if not parts:
            raise ValueError('the posts have no features; config.cascades.inputs must name one, e.g. ("encoder",)')
        x, out = drop(self, jnp.concatenate(parts, axis=-1), self.dropout, train), {}
        if self.fusion is not None:
            if "augmented" not in held:
                raise ValueError("a fusion needs rewritten texts; set config.cascades.augmentation.source, or model.fusion to ''")
            x, out = self.fusion(x, held["augmented"].astype(jnp.float32), held["selected"], train=train)
        elif self.width:
            x = nn.Dense(self.width, dot_general=dense_product, name="base")(x)
        return zero_padding(x, rows.document, rows.slots), out
