"""Do edges find what belongs together? Pairs of documents of different topics are joined, and edges are counted that stay in one.

Inside a news text of one topic every edge joins units of that topic, so nothing can be told there, and the labels of units by
a trained probe would err as the probe does. Here the truth is known: two neighbouring documents of a row become one, the graph
is built on it anew, and an edge is *same-topic* if both its ends come from the same of the two. The encoder saw each document
alone, so that only the making of edges is judged, not what attention would have carried across. An edge drawn at random is
same-topic about as often as not; that is what the control is for.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from textfuse_jax.segments import gather, units_of
from textfuse_jax.types import NodeRows, TokenRows


def join_neighbours(rows: TokenRows) -> TokenRows:
    """Slots 2k and 2k + 1 as one document in slot k; features of scale document become the mean of the two."""
    slots = rows.slots

    def slot(document: Array) -> Array:
        return jnp.where(document < slots, document // 2, slots)

    units = {scale: unit.replace(document=slot(unit.document)) for scale, unit in rows.units.items()}
    if slots % 2:
        raise ValueError(f"joining neighbours needs an even number of slots a row, got {slots}")
    there = (rows.example >= 0).astype(jnp.float32)

    def mean(x: Float[Array, "r s d"]) -> Float[Array, "r s d"]:
        weight = there.reshape(there.shape[0], -1, 2)[..., None]
        pair = (x.reshape(x.shape[0], -1, 2, x.shape[-1]) * weight).sum(2) / jnp.maximum(weight.sum(2), 1)
        return jnp.concatenate([pair, jnp.zeros_like(pair)], axis=1).astype(x.dtype)

    features = {tap: mean(x) if tap.endswith("/document") else x for tap, x in rows.features.items()}
    halved = {name: jnp.concatenate([getattr(rows, name)[:, ::2], fill], axis=1) for name, fill in _filled(rows).items()}
    return rows.replace(document=slot(rows.document), units=units, features=features, **halved)


def _filled(rows: TokenRows) -> dict[str, Array]:
    """What stands in the slots that joining has emptied."""
    half = rows.slots // 2
    return {
        "label": jnp.zeros_like(rows.label[:, :half]),
        "weight": jnp.zeros_like(rows.weight[:, :half]),
        "example": jnp.full_like(rows.example[:, :half], -1),
    }


def same_topic_counts(rows: TokenRows, graph: NodeRows, scales: Sequence[str]) -> tuple[Int[Array, ""], ...]:
    """Numbers, which batches add up: of edges that join units of one topic, of all edges, of pairs of one topic, of all pairs.

    Args:
      rows: before ``join_neighbours``; labels are classes.
      graph: of the joined rows; self-loops don't count.
      scales: of its nodes, fine to coarse; nodes of scale document, which belong to both, don't count.
    """
    own = jnp.concatenate([units_of(rows, scale).document for scale in scales if scale != "document"], axis=1)
    u = graph.document.shape[1]
    own = jnp.pad(own, ((0, 0), (0, u - own.shape[1])), constant_values=rows.slots)
    counted = _mixed(rows, own)
    ends = [
        (gather(own, index, fill=rows.slots), gather(counted, index, fill=False)) for index in (graph.senders, graph.receivers)
    ]
    (a, inside_a), (b, inside_b) = ends
    edge = inside_a & inside_b & (graph.senders != graph.receivers)
    together = (
        counted[:, :, None] & counted[:, None] & (own[:, :, None] // 2 == own[:, None] // 2) & ~jnp.eye(u, dtype=bool)[None]
    )
    same = together & (own[:, :, None] == own[:, None])
    return (edge & (a == b)).sum(), edge.sum(), same.sum(), together.sum()


def _mixed(rows: TokenRows, own: Int[Array, "r u"]) -> Bool[Array, "r u"]:
    """Whether a unit lies in a pair of documents of different topics."""
    label = jnp.where(rows.example >= 0, rows.label, -1)
    pairs = label.reshape(label.shape[0], -1, 2)
    mixed = (pairs[..., 0] != pairs[..., 1]) & (pairs >= 0).all(-1)
    return gather(jnp.repeat(mixed, 2, axis=1), own, fill=False)
