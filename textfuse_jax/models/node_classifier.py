"""The classifier of graphs whose nodes are given: cascades, or any text graph that needs no encoder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from textfuse_jax.compose import arguments, build
from textfuse_jax.models import replies
from textfuse_jax.models.edges import add_self_loops
from textfuse_jax.models.lexical import NO_WORD, source_tokens
from textfuse_jax.models.post_inputs import BUCKETS, PostInputs
from textfuse_jax.segments import gather
from textfuse_jax.types import OPINIONS, CascadeRows, Out


def gather_features(rows: CascadeRows, features: Float[Array, "k d"]) -> CascadeRows:
    """``rows`` with the features of their posts, from those of all posts; padding gets zeros.

    In a training, ``features`` are best a frozen parameter of the run: on the device, once, and no constant of the program.
    """
    return rows.replace(nodes=rows.nodes.replace(features=features.at[rows.post].get(mode="fill", fill_value=0)))


def look_up(rows: CascadeRows, posts: Mapping[str, Array]) -> CascadeRows:
    """``rows`` with what is known of their posts by name, from that of all posts; padding is zeros, or one past the last word."""
    fill = {"words": BUCKETS, "source": NO_WORD}
    found = {name: values.at[rows.post].get(mode="fill", fill_value=fill.get(name, 0)) for name, values in posts.items()}
    return rows.replace(inputs=found)


def without_unweighted(rows: CascadeRows) -> CascadeRows:
    """``rows`` whose documents of weight 0 are padding: held-out cascades that share a batch leave no trace, in no statistic."""
    kept = gather(rows.weight, rows.document, fill=1) > 0
    nodes = rows.nodes
    u, here = rows.document.shape[1], jnp.where(kept, rows.document, rows.slots)
    inside = (gather(kept, nodes.receivers, fill=True)) & (nodes.receivers < u)
    return rows.replace(
        nodes=nodes.replace(
            document=here,
            parent=jnp.where(kept, nodes.parent, u),
            senders=jnp.where(inside, nodes.senders, u),
            receivers=jnp.where(inside, nodes.receivers, u),
            weight=jnp.where(inside, nodes.weight, 0),
        )
    )


class NodeClassifier(nn.Module):
    """Nodes and edges -> message passing -> pooling -> head -> logits.

    The slots' signatures stand in ``docs/architecture.md``. Parameters are named by slot (``params["propagate"]``...).

    Attributes:
      propagate: None: the nodes are pooled as they are.
      pooling: nodes -> one vector for each document.
      head: None: the result is the document vectors instead of logits.
      edges: None: the edges that the rows have, those of the replies; else one kind of ``models.edges`` or ``models.replies`` in
        their place.
      self_loops: whether every node gets one self-loop of weight 1, after all other edges.
      inputs: None: the nodes' features are those of the rows; else what makes them, as ``post_inputs.PostInputs``.
      edge_dropout: rate at which replies lose their parent in training; needs ``edges`` (the rows' own are made beforehand).
      virtual_root: whether a node a document is added, joined to all others; it is taken out before pooling.
      source_vector: whether the source's own features, before any message, are joined to what is pooled.
      lexical: None: the head sees nodes alone; else vectors of the source's words are joined to what is pooled.
      wide: None: the logits are those of the head; else a linear model of the source's words learns beside the network, each from
        a loss of its own (``types.OPINIONS``), and the logits are the mean of theirs.
    """

    propagate: Callable | None
    pooling: Callable
    head: Callable | None
    edges: Callable | None = None
    self_loops: bool = True
    inputs: Callable | None = None
    edge_dropout: float = 0.0
    virtual_root: bool = False
    source_vector: bool = False
    lexical: Callable | None = None
    wide: Callable | None = None

    @nn.compact
    def __call__(self, rows: CascadeRows, *, train: bool) -> tuple[Float[Array, "r s c"], Out]:
        """Logits of each slot, and what every part put out: besides, ``graph``, the nodes with the edges that messages
        passed along (NodeRows), and ``pool/z``, what the head saw. Empty slots get logits that mean nothing.

        In training, documents of weight 0 count as padding.
        """
        rows = without_unweighted(rows) if train else rows
        out: Out = {}
        if self.inputs is not None:
            features, out = self.inputs(rows, train=train)
            rows = rows.replace(nodes=rows.nodes.replace(features=features))
        nodes = given = rows.nodes
        if self.edges is not None:
            nodes = replies.drop_replies(self, nodes, self.edge_dropout, train) if self.edge_dropout else nodes
            nodes, made = self.edges(nodes)
            out |= made
        before = nodes
        nodes = replies.add_virtual_root(nodes) if self.virtual_root else nodes
        nodes = add_self_loops(nodes) if self.self_loops else nodes
        out |= {"graph": nodes}
        if self.propagate is not None:
            nodes, made = self.propagate(nodes, train=train)
            out |= made
        nodes = replies.without_virtual_root(nodes, before) if self.virtual_root else nodes
        z, made = self.pooling(nodes, rows.slots, train=train)
        z = jnp.concatenate([z, replies.of_source(given.features, given)], axis=-1) if self.source_vector else z
        out |= made
        if self.lexical is not None:
            words, made = self.lexical(source_tokens(rows), train=train)
            z, out = jnp.concatenate([z, words], axis=-1), out | made
        out |= {"pool/z": z}
        if self.head is None:
            return z, out
        logits, made = self.head(z, train=train)
        out |= made
        if self.wide is not None:
            beside, made = self.wide(source_tokens(rows), train=train)
            logits, out = (logits + beside) / 2, out | made | {OPINIONS: (logits, beside)}
        return logits, out


def build_node_classifier(config: Any, classes: int) -> NodeClassifier:
    """The classifier of cascades that ``config.model`` describes.

    Args:
      config: with ``fusion``, ``inputs``, ``propagate``, ``pooling``, ``lexical``, ``head``, ``wide`` and their ``_args``,
        ``edges`` (none or one kind) and ``edges_args`` by what follows the colon, ``width``, ``self_loops``, ``edge_dropout``,
        ``virtual_root``, ``source_vector``.
      classes: number of logits.

    Raises:
      ValueError: a name that can't be found, or an argument that its part doesn't take.
    """
    known = {"fusion": {"width": config["width"]}, "propagate": {"width": config["width"]}}
    known |= {slot: {"classes": classes} for slot in ("head", "wide")}
    known["propagate"]["virtual_root"] = config.get("virtual_root", False)

    def part(slot: str) -> Callable | None:
        spec, args = config.get(slot) or None, dict(config.get(f"{slot}_args") or {})
        takes = () if spec is None else arguments(spec) or ()
        return build(spec, {name: value for name, value in known.get(slot, {}).items() if name in takes} | args)

    kinds = tuple(config.get("edges") or ())
    if len(kinds) > 1:
        raise ValueError(
            f"config.model.edges of cascades must name one kind or none, got {len(kinds)}; e.g. models.replies:replies"
        )
    edges = build(kinds[0], dict((config.get("edges_args") or {}).get(kinds[0].rpartition(":")[2]) or {})) if kinds else None
    if config.get("edge_dropout") and edges is None:
        raise ValueError("config.model.edge_dropout needs edges made from the parents: set edges, e.g. models.replies:replies")
    return NodeClassifier(
        propagate=part("propagate"),
        pooling=part("pooling"),
        head=part("head"),
        edges=edges,
        self_loops=config.get("self_loops", True),
        inputs=PostInputs(fusion=part("fusion"), **{"width": config["width"]} | dict(config.get("inputs_args") or {})),
        edge_dropout=config.get("edge_dropout", 0.0),
        virtual_root=config.get("virtual_root", False),
        source_vector=config.get("source_vector", False),
        lexical=part("lexical"),
        wide=part("wide"),
    )
