"""The graphs of a report's sample documents, from the finished model: what messages passed along, and what pooling looked at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
from matplotlib.figure import Figure

from textfuse_jax.data.packing import assemble, plan
from textfuse_jax.data.tokenize import Encoded
from textfuse_jax.evaluation.graph_drawing import document_graph, draw_document_graph, share_of
from textfuse_jax.training.inference import chosen
from textfuse_jax.training.step import unflatten
from textfuse_jax.types import SCALES, parse_tap


def text_graphs(
    config: Any, material: Any, model: Any, params: Mapping[str, Any], probabilities: np.ndarray
) -> Iterator[tuple[str, Figure]]:
    """The unit graphs of the first test documents that have at least three units: caption and figure of each.

    Of a document that is read in windows, which have a graph each, it is the first window's.
    """
    corpus, encoded = material.corpus, material.encoded["test"]
    if config.model.edges is None or not config.evaluation.graphs:
        return
    nodes = [scale for scale in SCALES if scale in config.model.nodes]
    units = sum(encoded.counts[scale] for scale in nodes)
    first = np.diff(encoded.example, prepend=-1) != 0
    pieces = np.flatnonzero((units >= 3) & (units <= 40) & first)[: config.evaluation.graphs]
    if not len(pieces):
        return
    few = encoded.take(pieces)
    rows = plan(
        few, row_lengths=(max(config.data.row_lengths),), tokens_per_batch=max(config.data.row_lengths) * len(few), packed=False
    )
    features = take_features(material.features.get("test"), encoded, pieces)
    batch = assemble(few, corpus.test.labels, rows, 0, features=features)
    _, out = jax.jit(lambda p, b: model.apply({"params": p}, b, train=False))(unflatten(dict(params)), batch)
    if "graph" not in out:  # a model without pyramid
        return
    graph, share = out["graph"], share_of(out)
    for piece in pieces:
        example = int(encoded.example[piece])
        row = int(np.flatnonzero((batch.example == example).any(1))[0])
        slot = int(np.flatnonzero(batch.example[row] == example)[0])
        beta = np.asarray(out[share][row]) if share else None
        cut = document_graph(
            slot,
            *(np.asarray(getattr(graph, f)[row]) for f in ("document", "level", "parent", "senders", "receivers", "weight")),
            beta,
        )
        texts = [text for scale in nodes for text in encoded.unit_text(int(piece), scale, corpus.test.texts)]
        if len(texts) != len(cut.level):
            return  # a pyramid of another kind, whose nodes aren't the units of config.model.nodes
        p = probabilities[example]
        figure = draw_document_graph(
            texts,
            cut,
            title=corpus.test.texts[example],
            label=name_of(corpus, corpus.test.labels[example]),
            predicted=name_of(corpus, chosen(p[None], corpus.multi_label)[0]),
            probability=float(p.max()),
            level_names=nodes,
            share=share or "pool/beta",
        )
        part = "" if encoded.weight[piece] == 1 else "the first window of "
        yield f"Graph of {part}test document {corpus.test.ids[example]}", figure


def take_features(
    features: Mapping[str, np.ndarray] | None, encoded: Encoded, pieces: np.ndarray
) -> Mapping[str, np.ndarray] | None:
    """Cached features of some pieces, for ``encoded.take(pieces)``."""
    if features is None:
        return None
    taken = {}
    for tap, values in features.items():
        bounds = encoded.unit_bounds(parse_tap(tap)[1])
        taken[tap] = np.concatenate([values[bounds[i] : bounds[i + 1]] for i in pieces])
    return taken


def name_of(corpus: Any, label: np.ndarray) -> str:
    """The name of a class, or the names of multi-hot labels joined by "; "."""
    if corpus.multi_label:
        return "; ".join(name for name, is_on in zip(corpus.class_names, label) if is_on > 0.5)
    return corpus.class_names[int(label)]
