"""Dropout whose masks cost next to nothing, and are the same on any number of devices.

Threefry needs about a hundred instructions a draw: on a CPU the masks of attention would cost more than attention.
Here threefry draws one 64-bit key for each row, and a keyed integer hash of an element's index in its row draws
the element: some ten instructions, which XLA fuses into the operation that is masked.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray, UInt32


def row_keys(key: PRNGKeyArray, rows: int) -> UInt32[Array, "r 2"]:
    """Two random words for each row."""
    return jax.random.bits(key, (rows, 2), jnp.uint32)


def keep_mask(keys: UInt32[Array, "r 2"], rate: float, shape: tuple[int, ...]) -> Bool[Array, "r ..."]:
    """True with probability ``1 - rate``, independently for each element.

    ``u = mix(mix(i + k_0) ^ k_1)`` of the element's index i in its row; kept where ``u >= rate 2^32``, so that the
    probability is exact to 2^-32.

    Args:
      keys: the rows' words, from ``row_keys``.
      rate: probability of a False, in [0, 1).
      shape: shape of the mask; its first dimension is that of ``keys``, a row has at most 2^32 elements.
    """
    if not 0 <= rate < 1:
        raise ValueError(f"dropout rate must lie in [0, 1), got {rate}")
    index = jax.lax.iota(jnp.uint32, int(np.prod(shape[1:]))).reshape((1, *shape[1:]))
    first, second = (keys[:, i].reshape((-1,) + (1,) * (len(shape) - 1)) for i in (0, 1))
    return _mix(_mix(index + first) ^ second) >= jnp.uint32(round(rate * 2**32))


def dropout(x: Float[Array, "r ..."], rate: float, keys: UInt32[Array, "r 2"]) -> Float[Array, "r ..."]:
    """Elements are 0 with probability ``rate``, the others divided by ``1 - rate``."""
    if rate == 0:
        return x
    return jnp.where(keep_mask(keys, rate, x.shape), x * (1 / (1 - rate)), 0)


def _mix(x: UInt32[Array, "..."]) -> UInt32[Array, "..."]:
    """A bijection of 32-bit words in which every input bit flips every output bit with probability 1/2.

    Two rounds of xor-shift and multiply; the constants are those of C. Wellons' search for the lowest bias.
    """
    x = (x ^ (x >> 16)) * jnp.uint32(0x21F0AAAD)
    x = (x ^ (x >> 15)) * jnp.uint32(0xD35A2D97)
    return x ^ (x >> 15)
