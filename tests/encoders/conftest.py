"""Small architectures and hand-packed rows."""

import jax.numpy as jnp
import numpy as np
import pytest

from textfuse_jax.encoders.architecture import Architecture
from textfuse_jax.types import TokenRows, Units


@pytest.fixture
def tiny() -> Architecture:
    return Architecture("bert", vocabulary=50, width=16, layers=2, heads=2, feed_forward=32, positions=40)


def pack(rows: list[list[list[int]]], t: int, s: int) -> TokenRows:
    """Documents (lists of token ids) of each row, end to end; a phrase is two tokens, a sentence a document."""
    r, u = len(rows), t
    tokens, position = np.zeros((r, t), np.int32), np.zeros((r, t), np.int32)
    document, phrase, owner = np.full((r, t), s, np.int32), np.full((r, t), u, np.int32), np.full((r, u), s, np.int32)
    example = np.full((r, s), -1, np.int32)
    count = 0
    for i, documents in enumerate(rows):
        at = units = 0
        for slot, ids in enumerate(documents):
            n = len(ids)
            tokens[i, at : at + n], position[i, at : at + n], document[i, at : at + n] = ids, np.arange(n), slot
            phrase[i, at : at + n] = units + np.arange(n) // 2
            owner[i, units : units + -(-n // 2)] = slot
            example[i, slot] = count
            at, units, count = at + n, units + -(-n // 2), count + 1
    slots = Units(jnp.where(example >= 0, jnp.arange(s)[None], s), jnp.zeros((r, s), jnp.int32))
    return TokenRows(
        tokens=jnp.array(tokens),
        position=jnp.array(position),
        document=jnp.array(document),
        unit={"phrase": jnp.array(phrase), "sentence": jnp.array(document)},
        units={"phrase": Units(jnp.array(owner), jnp.array(owner)), "sentence": slots},
        label=jnp.zeros((r, s), jnp.int32),
        weight=jnp.array(example >= 0, jnp.float32),
        example=jnp.array(example),
    )
