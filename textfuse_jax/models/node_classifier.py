"""The classifier of graphs whose node features are given: cascades, or any text graph that needs no encoder."""

from __future__ import annotations

from collections.abc import Callable

import flax.linen as nn
from jaxtyping import Array, Float

from textfuse_jax.models.edges import add_self_loops
from textfuse_jax.types import CascadeRows, Out


def gather_features(rows: CascadeRows, features: Float[Array, "k d"]) -> CascadeRows:
    """``rows`` with the features of their posts, from those of all posts; padding gets zeros.

    In a training, ``features`` are best a frozen parameter of the run: on the device, once, and no constant of the program.
    """
    return rows.replace(nodes=rows.nodes.replace(features=features.at[rows.post].get(mode="fill", fill_value=0)))


class NodeClassifier(nn.Module):
    """Nodes and edges -> message passing -> pooling -> head -> logits.

    The slots' signatures stand in ``docs/architecture.md``. Parameters are named by slot (``params["propagate"]``...).

    Attributes:
      propagate: None: the nodes are pooled as they are.
      pooling: nodes -> one vector for each document.
      head: None: the result is the document vectors instead of logits.
      edges: None: the edges that the rows have, those of the replies; else one kind of ``models.edges`` in their place.
      self_loops: whether every node gets one self-loop of weight 1, after all other edges.
    """

    propagate: Callable | None
    pooling: Callable
    head: Callable | None
    edges: Callable | None = None
    self_loops: bool = True

    def __call__(self, rows: CascadeRows, *, train: bool) -> tuple[Float[Array, "r s c"], Out]:
        """Logits of each slot, and what every part put out: besides, ``graph``, the nodes with the edges that messages
        passed along (NodeRows), and ``pool/z``, what the head saw. Empty slots get logits that mean nothing.
        """
        nodes, out = (rows.nodes, {}) if self.edges is None else self.edges(rows.nodes)
        nodes = add_self_loops(nodes) if self.self_loops else nodes
        out = out | {"graph": nodes}
        if self.propagate is not None:
            nodes, made = self.propagate(nodes, train=train)
            out |= made
        z, made = self.pooling(nodes, rows.slots, train=train)
        out |= made | {"pool/z": z}
        if self.head is None:
            return z, out
        logits, made = self.head(z, train=train)
        return logits, out | made
