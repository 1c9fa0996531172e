"""Reductions and gathers between the units of packed rows: the only place where tokens, units and documents meet.

Every index array follows the rule of ``types``: indices are local to their row, padding points one past the end.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from textfuse_jax.types import TokenRows, Units


def segment_sum(x: Float[Array, "r k d"], ids: Int[Array, "r k"], n: int) -> Float[Array, "r n d"]:
    """Sum of the items of each segment, row by row; items with ``ids == n`` are dropped, an empty segment is 0.

    Written as a product with the one-hot assignment: on TPUs, GPUs and CPUs alike this beats a scatter at the
    sizes of a row, its gradient is again a product, and it adds in a fixed order, so runs repeat bit by bit.
    """
    onehot = (ids[:, None, :] == jnp.arange(n, dtype=ids.dtype)[None, :, None]).astype(x.dtype)
    return jnp.einsum("rnk,rkd->rnd", onehot, x, preferred_element_type=x.dtype)


def segment_count(ids: Int[Array, "r k"], n: int, dtype=jnp.float32) -> Float[Array, "r n"]:
    """Number of items of each segment."""
    return (ids[:, None, :] == jnp.arange(n, dtype=ids.dtype)[None, :, None]).sum(-1).astype(dtype)


def segment_mean(x: Float[Array, "r k d"], ids: Int[Array, "r k"], n: int) -> Float[Array, "r n d"]:
    """Mean of the items of each segment; an empty segment is 0."""
    return segment_sum(x, ids, n) / jnp.maximum(segment_count(ids, n, x.dtype), 1)[..., None]


def segment_max(x: Float[Array, "r k d"], ids: Int[Array, "r k"], n: int) -> Float[Array, "r n d"]:
    """Maximum of the items of each segment, feature by feature; an empty segment is 0."""
    lowest = jnp.finfo(x.dtype).min
    highest = jax.vmap(lambda xs, i: jax.ops.segment_max(xs, i, num_segments=n + 1))(x, ids)[:, :n]
    return jnp.where(segment_count(ids, n)[..., None] > 0, jnp.maximum(highest, lowest), 0)


def segment_softmax(logits: Float[Array, "r k h"], ids: Int[Array, "r k"], n: int) -> Float[Array, "r k h"]:
    """Softmax within each segment, one for each of h heads; items with ``ids == n`` get 0."""
    logits = logits - jax.lax.stop_gradient(gather(segment_max(logits, ids, n), ids))
    exp = jnp.where((ids < n)[..., None], jnp.exp(jnp.where((ids < n)[..., None], logits, 0)), 0)
    return exp / jnp.maximum(gather(segment_sum(exp, ids, n), ids), jnp.finfo(exp.dtype).tiny)


def gather(x: Float[Array, "r n d"], ids: Int[Array, "r k"]) -> Float[Array, "r k d"]:
    """The segment's value for each item, the transpose of ``segment_sum``; items with ``ids == n`` get 0."""
    onehot = (ids[:, :, None] == jnp.arange(x.shape[1], dtype=ids.dtype)).astype(x.dtype)
    return jnp.einsum("rkn,rnd->rkd", onehot, x, preferred_element_type=x.dtype)


def assignment(rows: TokenRows, scale: str) -> Int[Array, "r t"]:
    """The unit of ``scale`` that holds each token, ``u`` for tokens in none."""
    if scale == "token":
        t = rows.tokens.shape[1]
        return jnp.where(rows.document < rows.slots, jnp.arange(t, dtype=rows.document.dtype)[None], t)
    return rows.document if scale == "document" else rows.unit[scale]


def units_of(rows: TokenRows, scale: str) -> Units:
    """The units of any scale: those of phrase and sentence lie in ``rows``, token and document follow from it."""
    if scale in rows.units:
        return rows.units[scale]
    if scale == "token":
        return Units(document=rows.document, parent=assignment(rows, "phrase"))
    slot = jnp.arange(rows.slots, dtype=rows.document.dtype)[None]
    return Units(document=jnp.where(rows.example >= 0, slot, rows.slots), parent=jnp.zeros_like(rows.example))


def lift(rows: TokenRows, fine: str, coarse: str) -> Int[Array, "r u"]:
    """For each unit of scale ``fine`` the unit of the coarser (or same) scale that holds it, one past the end for none."""
    units = units_of(rows, fine)
    if fine == coarse:
        u = units.document.shape[1]
        return jnp.where(units.document < rows.slots, jnp.arange(u, dtype=units.document.dtype)[None], u)
    if fine == "token":
        return assignment(rows, coarse)
    return units.document if coarse == "document" else units.parent
