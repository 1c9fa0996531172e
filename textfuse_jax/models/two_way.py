"""Two-direction convolution (Bian et al. 2020, BiGCN): one network along the replies, another against them, joined."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from textfuse_jax.compose import check, resolve
from textfuse_jax.models.edges import add_self_loops
from textfuse_jax.models.replies import replies, with_root_edges
from textfuse_jax.segments import gather
from textfuse_jax.types import NodeRows, Out


class TwoWay(nn.Module):
    """h_v = [down(top-down edges)_v ; up(bottom-up edges)_v], each with its own parameters and one self-loop a node.

    The edges that come in tell nothing but weights and vectors: the two sets are made from each post's parent, and where the rows
    have an edge for each reply, either way (``replies``, ``Delays``, ``delay_vectors``), both take what it has. Of a virtual root
    both have all edges.
    The output has the width of both networks together.

    Attributes:
      width: of a network's round; layer: name of the network; layer_args: its further arguments, and those below.
      virtual_root: whether the nodes have virtual roots (``replies.add_virtual_root``).
      rounds, residual, norm, activation, dropout, root: as in ``message_passing.GCN``, given to both networks.
    """

    width: int = 64
    rounds: int = 2
    layer: str | Callable = "textfuse_jax.models.message_passing:GCN"
    residual: bool = False
    norm: str = "batch"
    activation: str = "relu"
    dropout: int | float | Array = 0.0
    root: bool = True
    layer_args: Mapping[str, Any] | None = None
    virtual_root: bool = False

    @nn.compact
    def __call__(self, nodes: NodeRows, *, train: bool) -> tuple[NodeRows, Out]:
        """``out`` has what each network puts out, with ``down/`` or ``up/`` before its name (statistics keep theirs)."""
        args = dict(width=self.width, rounds=self.rounds, residual=self.residual, norm=self.norm)
        args |= dict(activation=self.activation, dropout=self.dropout, root=self.root) | dict(self.layer_args or {})
        weight = _of_replies(nodes, nodes.weight, 1)
        edge = None if nodes.edge is None else _of_replies(nodes, nodes.edge, 0)
        layer = resolve(self.layer) if isinstance(self.layer, str) else self.layer
        check(layer, args)
        parts, out = [], {}
        for name, direction in (("down", "top_down"), ("up", "bottom_up")):
            along, _ = replies(nodes, direction)
            along = along.replace(weight=along.weight * weight, edge=edge)
            along = add_self_loops(with_root_edges(along, nodes) if self.virtual_root else along)
            found, made = layer(**args, name=name)(along, train=train)
            parts.append(found.features)
            out |= {key if key.startswith("statistics/") else f"{name}/{key}": value for key, value in made.items()}
        return nodes.replace(features=jnp.concatenate(parts, axis=-1)), out


def _of_replies(nodes: NodeRows, of_edges: Float[Array, "r e *f"], none: int) -> Float[Array, "r u *f"]:
    """What a node's edge from its parent, or that to it, has of ``of_edges``, both the same; ``none`` where there is neither."""
    u = nodes.document.shape[1]
    from_parent = (gather(nodes.parent, nodes.receivers, fill=u) == nodes.senders) & (nodes.senders < u)
    to_parent = (gather(nodes.parent, nodes.senders, fill=u) == nodes.receivers) & (nodes.receivers < u)
    place = jnp.where(from_parent, nodes.receivers, jnp.where(to_parent, nodes.senders, u))
    found = jnp.full((place.shape[0], u, *of_edges.shape[2:]), none, of_edges.dtype)
    return found.at[jnp.arange(place.shape[0])[:, None], place].set(of_edges, mode="drop")
