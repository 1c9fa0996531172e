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

ROWS = "rows"
"""Name of the mapped axis (``jax.pmap``) over which the rows of a batch are divided."""


def row_keys(key: PRNGKeyArray, rows: int) -> UInt32[Array, "r 2"]:
    """Two random words for each row.

    Where the rows are a device's share, that is under a mapped axis named ``ROWS``, these are its share of the words of
    the whole batch.
    """
    try:
        device, devices = jax.lax.axis_index(ROWS), jax.lax.axis_size(ROWS)
    except NameError:  # JAX's answer for an axis that isn't mapped
        return jax.random.bits(key, (rows, 2), jnp.uint32)
    return jax.lax.dynamic_slice_in_dim(jax.random.bits(key, (devices * rows, 2), jnp.uint32), device * rows, rows)


def keep_mask(keys: UInt32[Array, "r 2"], rate: int | float | Array, shape: tuple[int, ...]) -> Bool[Array, "r ..."]:
    """True with probability ``1 - rate``, independently for each element.

    ``u = mix(mix(i + k_0) ^ k_1)`` of the element's index i in its row; kept where ``u >= rate 2^32``; the
    probability is exact to 2^-24.

    Args:
      keys: the rows' words, from ``row_keys``.
      rate: probability of a False, in [0, 1); a traced scalar (a trial's own rate) gives the same mask as its number.
      shape: shape of the mask; its first dimension is that of ``keys``, a row has at most 2^32 elements.
    """
    if is_number(rate) and not 0 <= rate < 1:
        raise ValueError(f"dropout rate must lie in [0, 1), got {rate}")
    index = jax.lax.iota(jnp.uint32, int(np.prod(shape[1:]))).reshape((1, *shape[1:]))
    first, second = (keys[:, i].reshape((-1,) + (1,) * (len(shape) - 1)) for i in (0, 1))
    return _mix(_mix(index + first) ^ second) >= (jnp.float32(rate) * jnp.float32(2**32)).astype(jnp.uint32)


def is_number(rate: int | float | Array) -> bool:
    """Whether the rate is a number known now, not a traced one."""
    return isinstance(rate, (int, float))


def dropout(x: Float[Array, "r ..."], rate: int | float | Array, keys: UInt32[Array, "r 2"] | None) -> Float[Array, "r ..."]:
    """Elements are 0 with probability ``rate``, the others divided by ``1 - rate``; with rate 0 ``keys`` isn't read."""
    if is_number(rate) and rate == 0:
        return x
    return jnp.where(keep_mask(keys, rate, x.shape), x * (1 / (1 - rate)), 0)


def _mix(x: UInt32[Array, "..."]) -> UInt32[Array, "..."]:
    """A bijection of 32-bit words in which every input bit flips every output bit with probability 1/2.

    Two rounds of xor-shift and multiply; the constants are those of C. Wellons' search for the lowest bias.
    """
    x = (x ^ (x >> 16)) * jnp.uint32(0x21F0AAAD)
    x = (x ^ (x >> 15)) * jnp.uint32(0xD35A2D97)
    return x ^ (x >> 15)
