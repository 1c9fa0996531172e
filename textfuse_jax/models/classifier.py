"""The classifier that joins the parts, and its construction from a config."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float
from ml_collections import ConfigDict

from textfuse_jax.compose import arguments, build
from textfuse_jax.models import edges as edge_kinds
from textfuse_jax.models.pyramid import Taps, resample
from textfuse_jax.types import OPINIONS, NodeRows, Out, TokenRows, parse_tap


class TextGraphClassifier(nn.Module):
    """Text -> encoder -> pyramid -> edges -> message passing -> pooling -> head -> logits.

    The slots' signatures stand in ``docs/architecture.md``. Parameters are named by slot (``params["pyramid"]``...).

    Attributes:
      encoder: None: the taps are ``rows.features``, cached before.
      pyramid: None: no graph; the document's own encoder features alone are classified (``document_taps`` are needed).
      edges: one kind of edges, or a tuple of kinds that are joined; None or (): none.
      propagate: None: the nodes are pooled as the pyramid made them.
      pooling: needed where there is a pyramid.
      head: None: the result is the document vectors instead of logits.
      self_loops: whether every node gets one self-loop of weight 1, after all other edges.
      document_taps: taps whose means over the document are joined to the pooled graph, so that the graph only adds; ():
        the graph alone.
      lexical: None: the encoder's features are all that is seen; else vectors of the document's words join them.
      wide: None: the logits are those of the head; else a linear model of the document's words learns beside the network, each
        from a loss of its own (``types.OPINIONS``), and the logits are the mean of theirs.
      edge_tap: the tap whose features the edges are made from, e.g. ``"06/phrase"``: behind a frozen encoder a static graph;
        None: the nodes' own features, so that the graph changes as the pyramid learns.
    """

    encoder: Callable | None
    pyramid: Callable | None
    edges: Callable | tuple[Callable, ...] | None
    propagate: Callable | None
    pooling: Callable | None
    head: Callable | None
    self_loops: bool = True
    document_taps: tuple[str, ...] = ()
    lexical: Callable | None = None
    wide: Callable | None = None
    edge_tap: str | None = None

    def __call__(self, rows: TokenRows, *, train: bool) -> tuple[Float[Array, "r s c"], Out]:
        """Logits of each slot, and what every part put out.

        Besides there are ``graph``, the nodes with the edges that messages passed along (NodeRows), ``nodes``, the same after
        the messages, and ``pool/z``, what the head saw. Empty slots get logits that mean nothing.

        Raises:
          ValueError: slots that don't go together (the message says which).
        """
        taps, out = (rows.features, {}) if self.encoder is None else self.encoder(rows, train=train)
        out = dict(out)
        vectors = []
        if self.pyramid is not None:
            if self.pooling is None:
                raise ValueError("a classifier with a pyramid needs a pooling, got None; e.g. textfuse_jax.models.pooling:Mean")
            nodes, made = self.pyramid(taps, rows, saliency=out.get("encoder/saliency"), train=train)
            out |= made
            nodes, made = self._join_edges(nodes, self._edge_features(nodes, taps, rows), "encoder/saliency" in out)
            out |= made | {"graph": nodes}
            if self.propagate is not None:
                nodes, made = self.propagate(nodes, train=train)
                out |= made
            out["nodes"] = nodes
            z, made = self.pooling(nodes, rows.slots, train=train)
            out |= made
            vectors.append(z)
        vectors += [_document_mean(taps, rows, tap) for tap in self.document_taps]
        if self.lexical is not None:
            z, made = self.lexical(rows, train=train)
            out |= made
            vectors.append(z)
        if not vectors:
            raise ValueError("a classifier without pyramid needs document_taps, e.g. ('06/document',), got ()")
        out["pool/z"] = z = jnp.concatenate(vectors, axis=-1)
        if self.head is None:
            return z, out
        logits, made = self.head(z, train=train)
        out |= made
        if self.wide is not None:
            beside, made = self.wide(rows, train=train)
            logits, out = (logits + beside) / 2, out | made | {OPINIONS: (logits, beside)}
        return logits, out

    def _edge_features(self, nodes: NodeRows, taps: Taps, rows: TokenRows) -> Array:
        """What the similarity of nodes is taken of [r, u, d]."""
        if self.edge_tap is None:
            return nodes.features
        if self.edge_tap not in taps:
            raise ValueError(f"edge_tap {self.edge_tap!r} is not among the encoder's taps {sorted(taps)}; add it to them")
        scales = getattr(self.pyramid, "nodes", None)
        if scales is None:
            raise ValueError(f"edge_tap {self.edge_tap!r} needs a pyramid that tells its node scales in an attribute nodes")
        seen = [resample(taps[self.edge_tap], rows, parse_tap(self.edge_tap)[1], scale) for scale in scales]
        return jnp.concatenate(seen, axis=1).astype(nodes.features.dtype)

    def _join_edges(self, nodes: NodeRows, seen: Array, has_saliency: bool) -> tuple[NodeRows, Out]:
        kinds = self.edges if isinstance(self.edges, tuple) else () if self.edges is None else (self.edges,)
        for kind in kinds:
            function = getattr(kind, "func", kind)  # of a functools.partial
            if function is edge_kinds.hierarchy and len(getattr(self.pyramid, "nodes", (0, 1))) < 2:
                raise ValueError(
                    f"hierarchy edges need two node scales, got nodes={self.pyramid.nodes}; add one, e.g. ('phrase', 'sentence')"
                )
            if function is edge_kinds.saliency and not has_saliency:
                raise ValueError(
                    "saliency edges need an encoder that puts out 'encoder/saliency'; "
                    "use textfuse_jax.models.edges:LearnedSaliency with this one"
                )
        linked, out = edge_kinds.union(*kinds)(nodes.replace(features=seen))
        nodes = linked.replace(features=nodes.features)
        return (edge_kinds.add_self_loops(nodes) if self.self_loops else nodes), out


def build_model(config: ConfigDict | Mapping[str, Any], encoder: Callable | None, classes: int) -> TextGraphClassifier:
    """The classifier that ``config.model`` describes.

    Args:
      config: a ConfigDict or dict with the fields ``levels``, ``nodes``, ``width``; for each slot of pyramid, propagate, pooling,
        lexical, head and wide its name and ``<slot>_args``; ``edges``, a tuple of names, and ``edges_args``, keyed by what
        follows the colon; ``document_taps``; ``edge_tap``; ``self_loops``.
      encoder: what fills the encoder slot.
      classes: number of logits.

    Unless its ``<slot>_args`` say otherwise, the pyramid is given those it takes of ``levels``, ``nodes``, ``width`` and ``tap``
    (the last of levels), the propagation ``width``, the head and the wide part ``classes``.

    Raises:
      ValueError: a name that can't be found, or an argument that its part doesn't take.
    """
    levels = tuple(config["levels"])
    known = {
        "pyramid": {"levels": levels, "nodes": tuple(config["nodes"]), "width": config["width"], "tap": levels[-1]},
        "propagate": {"width": config["width"]},
        "head": {"classes": classes},
        "wide": {"classes": classes},
    }

    def part(slot: str) -> Callable | None:
        spec, args = config.get(slot) or None, dict(config.get(f"{slot}_args") or {})
        takes = () if spec is None else arguments(spec) or ()
        return build(spec, {name: value for name, value in known.get(slot, {}).items() if name in takes} | args)

    if str(config.get("head")).endswith(":PerClassMix"):
        joined = bool(config.get("document_taps") or config.get("lexical"))
        if joined or not str(config.get("pooling")).endswith(":MeanAndAttention"):
            raise ValueError("PerClassMix mixes the halves of pooling MeanAndAttention; no document_taps, no lexical beside it")
    return TextGraphClassifier(
        encoder=encoder,
        pyramid=part("pyramid"),
        edges=_build_edges(tuple(config.get("edges") or ()), dict(config.get("edges_args") or {})),
        propagate=part("propagate"),
        pooling=part("pooling"),
        head=part("head"),
        self_loops=config.get("self_loops", True),
        document_taps=tuple(config.get("document_taps") or ()),
        lexical=part("lexical"),
        wide=part("wide"),
        edge_tap=config.get("edge_tap") or None,
    )


def taps_of(config: ConfigDict | Mapping[str, Any]) -> tuple[str, ...]:
    """The taps that the model of ``config.model`` reads, which the encoder must give, sorted."""
    taps: set[str] = set()
    if config.get("pyramid"):
        args = dict(config.get("pyramid_args") or {})
        takes = arguments(config["pyramid"]) or ()
        if "tap" in takes and "levels" not in takes:
            taps.add(args.get("tap", config["levels"][-1]))
        else:
            taps.update(args.get("levels", config["levels"]))
    taps.update(config.get("document_taps") or ())
    if config.get("edge_tap"):
        taps.add(config["edge_tap"])
    return tuple(sorted(taps))


def _build_edges(names: tuple[str, ...], args: Mapping[str, Any]) -> tuple[Callable, ...]:
    kinds = [name.rpartition(":")[2] for name in names]
    for kind in args:
        if args[kind] and kind not in kinds:
            raise ValueError(f"edges_args has {kind!r}, which is none of the edges {kinds}; remove it or add the edges")
    return tuple(build(name, dict(args.get(kind) or {})) for name, kind in zip(names, kinds))


def _document_mean(taps: Taps, rows: TokenRows, tap: str) -> Float[Array, "r s d"]:
    if tap not in taps:
        raise ValueError(f"document tap {tap!r} is not among the encoder's taps {sorted(taps)}; add it to them")
    return resample(taps[tap], rows, parse_tap(tap)[1], "document").astype(jnp.float32)
