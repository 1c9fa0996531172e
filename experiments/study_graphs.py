"""What a study tells of its graphs: how many edges, how alike the nodes become, whether edges stay in a topic, a sample."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np

from experiments.topic_edges import join_neighbours, same_topic_counts
from textfuse_jax.data.corpus import Split
from textfuse_jax.evaluation.graph_drawing import document_graph, share_of
from textfuse_jax.segments import segment_count, segment_sum
from textfuse_jax.training import setup, sweep
from textfuse_jax.types import SCALES

BATCHES = 8
SAMPLE_UNITS = (3, 24)
SAMPLES = {
    "The harbour town opened its new ferry line on Monday. Shop owners expect more visitors before the summer, the mayor said. "
    "Tickets sold better than planned in the first week, and shares of the company closed four percent higher.": "Business",
    "The home side scored twice in the last minute to win the cup.": "Sports",
    "Talks between the two governments ended without a treaty on Friday. Thousands had marched through the capital and asked "
    "for peace, and soldiers closed the road to the border. The minister said that the talks would go on in spring.": "World",
    "The striker came off the bench after an hour and scored twice. Her coach praised the defence, which had held for the whole "
    "first half. The club now leads the league by four points with two matches left.": "Sports",
    "Researchers have built a chip that needs a tenth of the power. It reads its memory with light, so that phones could search "
    "photos without a network. The code will be free for everyone to download in autumn.": "Sci/Tech",
}
"""Texts that are drawn, with the class they would have: written here, since rows of data sets aren't ours to pass on."""


def graph_facts(program: sweep.Trials) -> dict[str, list[float]]:
    """Of some validation documents: edges a node (self-loops not counted), and the mean cosine of two nodes of a document
    after the last round of messages, 1 where all have become the same."""
    if program.config.model.pyramid in (None, ""):
        return {}

    def read(rows, out):
        nodes, graph = out["nodes"], out["graph"]
        inside = nodes.document < nodes.slots
        edges = (graph.receivers < nodes.document.shape[1]) & (graph.receivers != graph.senders)
        unit = nodes.features / jnp.maximum(jnp.linalg.norm(nodes.features, axis=-1, keepdims=True), 1e-9)
        count = segment_count(nodes.document, nodes.slots)
        square = (segment_sum(unit, nodes.document, nodes.slots) ** 2).sum(-1)
        pairs = count * (count - 1)
        return edges.sum() / inside.sum(), jnp.where(pairs > 0, square - count, 0).sum() / jnp.maximum(pairs.sum(), 1)

    edges, cosine = program.outputs(read)
    return {"edges_a_node": [round(float(x), 3) for x in edges], "cosine_of_nodes": [round(float(x), 4) for x in cosine]}


def construction_facts(program: sweep.Trials) -> dict[str, list[Any]]:
    """``graph_facts``, the share of edges that join units of one topic (``topic_edges``) beside that of all pairs, over the first
    ``BATCHES`` batches of validation, and a sample graph."""
    facts: dict[str, list[Any]] = graph_facts(program)
    if not facts:
        return {}
    scales = program.config.model.nodes

    def read(rows, out):
        return same_topic_counts(rows, out["graph"], scales)

    joined = program.reader(read, join_neighbours)
    found = [joined(batch) for batch in range(min(BATCHES, program.held_batches))]
    same, edges, same_pairs, pairs = np.sum(found, axis=0, dtype=np.int64)  # [trials] each
    facts["same_topic"] = _shares(same, edges)
    facts["same_topic_of_all_pairs"] = _shares(same_pairs, pairs)
    return facts | {"sample_graph": sample_graphs(program)}


def _shares(part: np.ndarray, whole: np.ndarray) -> list[float | None]:
    """Of each trial; None where there is nothing to have a share of."""
    return [round(p / n, 4) if n else None for p, n in zip(part.tolist(), whole.tolist())]


def attention_facts(program: sweep.Trials) -> dict[str, list[Any]]:
    """Where pooling looks: the sample document with the share of each unit; nothing of a model without units."""
    return {} if program.config.model.pyramid in (None, "") else {"sample_graph": sample_graphs(program)}


def samples_of(program: sweep.Trials) -> sweep.Trials:
    """The trained trials on ``SAMPLES``, as their validation split."""
    config, material = program.config, program.material
    encoded = setup.encode_split(config, material.encoder.tokenizer, list(SAMPLES))
    features = {}
    if config.encoder.mode == "cached":
        features = setup.cached_features(config, material.encoder, {"validation": encoded}, say=lambda _: None)
    labels = np.zeros((len(SAMPLES), *material.corpus.validation.labels.shape[1:]), material.corpus.validation.labels.dtype)
    split = Split([str(i) for i in range(len(SAMPLES))], list(SAMPLES), labels)
    own = dataclasses.replace(
        material,
        corpus=dataclasses.replace(material.corpus, validation=split),
        encoded=material.encoded | {"validation": encoded},
        features=material.features | features,
    )
    return program.reading(own)


def sample_graphs(program: sweep.Trials) -> list[dict[str, Any] | None]:
    """Of each trial the graph of the first of ``SAMPLES`` that has ``SAMPLE_UNITS`` nodes, the same for all of one node kind;
    None: there is no such text."""
    return [graphs[0] if graphs else None for graphs in all_sample_graphs(program)]


def all_sample_graphs(program: sweep.Trials) -> list[list[dict[str, Any]]]:
    """Of each trial the graph of each of ``SAMPLES`` that has ``SAMPLE_UNITS`` nodes. Texts, levels, parents, edges and what
    pooling looks at (``beta``), as ``graph_drawing.DocumentGraph`` has them, and which of ``graph_drawing.SHARES`` that is."""
    program = samples_of(program)
    scales = [scale for scale in SCALES if scale in program.config.model.nodes]
    rows, corpus = program.held_rows(), program.material.corpus
    encoded = program.material.encoded["validation"]
    units = sum(encoded.counts[scale] for scale in scales)
    pieces = np.flatnonzero((units >= SAMPLE_UNITS[0]) & (units <= SAMPLE_UNITS[1]) & (encoded.weight == 1))
    at = [[int(x[0]) for x in np.nonzero(np.asarray(rows.example) == encoded.example[piece])] for piece in pieces]
    fields = ("document", "level", "parent", "senders", "receivers", "weight")

    def read(_, out):
        share = share_of(out)
        return {field: getattr(out["graph"], field) for field in fields} | ({share: out[share]} if share else {})

    found = program.outputs(read)
    share, graphs = share_of(found), [[] for _ in range(program.count)]
    for piece, (row, slot) in zip(pieces, at):
        texts = [text for scale in scales for text in encoded.unit_text(int(piece), scale, corpus.validation.texts)]
        label = SAMPLES[corpus.validation.texts[encoded.example[piece]]]
        for trial, mine in enumerate(graphs):
            beta = np.asarray(found[share][trial, row]) if share else None
            graph = document_graph(slot, *(np.asarray(found[field][trial, row]) for field in fields), beta)
            told = {name: np.asarray(value).round(4).tolist() for name, value in graph._asdict().items() if value is not None}
            mine.append(told | {"texts": texts, "label": label, "scales": scales, "share": share})
    return graphs
