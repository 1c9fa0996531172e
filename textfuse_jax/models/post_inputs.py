"""What a model sees of each post: features of a frozen encoder, words, and what an LLM made of it, fused.

``rows.inputs`` may hold, [r, u, ...]: ``encoder`` f [d], ``words`` i [L] (hashed words; one past the last bucket in padding),
``augmented`` f [a] and ``selected`` bool [], ``time`` f [2].
"""

from __future__ import annotations

from collections.abc import Callable

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from textfuse_jax.models.layers import drop, zero_padding
from textfuse_jax.types import CascadeRows, Out

BUCKETS = 1 << 14
"""Rows of the table of words, and of what ``words`` may point at."""


class WordBag(nn.Module):
    """z = sum_w E[w] / sqrt(n)  over the n words w of a post: a linear map of its bag of words, at the price of its length.

    Attributes:
      width: of z.
      dropout: rate in [0, 1) at which words are left out in training.
    """

    width: int = 64
    dropout: int | float | Array = 0.0

    @nn.compact
    def __call__(self, words: Int[Array, "r u l"], *, train: bool) -> Float[Array, "r u w"]:
        """The vector of each post, 0 for one without words."""
        table = self.param("table", nn.initializers.normal(0.1), (BUCKETS, self.width))
        there = drop(self, (words < BUCKETS).astype(jnp.float32), self.dropout, train)
        found = table.at[words].get(mode="fill", fill_value=0)
        count = jnp.maximum((words < BUCKETS).sum(-1), 1)
        return (found * there[..., None]).sum(2) / jnp.sqrt(count)[..., None]


class PostInputs(nn.Module):
    """Features of the nodes of cascades.

    base h = [encoder; words; time], whichever of them the rows hold; with ``fusion`` x = fusion(h, augmented, selected), else x = h.

    Attributes:
      fusion: one of ``models.fusion``; None: no rewritten text is read.
      words_width: width of the bag of words.
      word_dropout: rate at which words are left out in training.
      dropout: rate on the features in training.
    """

    fusion: Callable | None = None
    words_width: int = 64
    word_dropout: int | float | Array = 0.0
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
            parts.append(WordBag(self.words_width, self.word_dropout, name="words")(held["words"], train=train))
        if "time" in held:
            parts.append(held["time"])
        if not parts:
            raise ValueError('the posts have no features; config.cascades.inputs must name one, e.g. ("encoder",)')
        x, out = drop(self, jnp.concatenate(parts, axis=-1), self.dropout, train), {}
        if self.fusion is not None:
            if "augmented" not in held:
                raise ValueError("a fusion needs rewritten texts; set config.cascades.augmentation.source, or model.fusion to ''")
            x, out = self.fusion(x, held["augmented"].astype(jnp.float32), held["selected"], train=train)
        return zero_padding(x, rows.document, rows.slots), out
