"""Which nodes and which edges: graphs of text units on cached features of AG News, with random edges as control.

    TEXTFUSE_DATA=DIR python -m experiments.graph_construction [:runlocal]

Nodes are tokens, phrases, sentences or both of these; edges window, kNN of several k, saliency, hierarchy, their union, all, or
random. Dynamic graphs are made from the nodes that the pyramid learns, static ones from the frozen encoder's features. Each
line tells the edges a node, the mean cosine of the nodes of a document after the messages, and the share of edges that stay in
one topic where two documents of different topics are joined (experiments/topic_edges.py says why so). 4,000 training rows, 5
seeds; an estimated 20 minutes of one core.
"""

from __future__ import annotations

from experiments.study import Setting, frozen, linear_rows, main
from experiments.study_graphs import construction_facts

EDGES = "textfuse_jax.models.edges:"


def kinds(*names: str) -> tuple[str, ...]:
    """Names of edge kinds as a config has them."""
    return tuple(EDGES + name for name in names)


TOKENS = {"model.nodes": ("token",), "model.levels": ("02/token", "04/sentence", "06/document")}
SETTINGS = [
    Setting("no edges", {"model.edges": (), "model.propagate": ""}),
    *linear_rows(),
    Setting("window", {"model.edges": kinds("window")}),
    Setting("kNN, k = 4", {"model.edges": kinds("knn")}),
    Setting("kNN, k = 2", {"model.edges": kinds("knn"), "model.edges_args.knn.k": 2}),
    Setting("kNN, k = 8", {"model.edges": kinds("knn"), "model.edges_args.knn.k": 8}),
    Setting("learned saliency", {"model.edges": kinds("LearnedSaliency")}),
    Setting("hierarchy", {"model.edges": kinds("hierarchy")}),
    Setting("union", {}),
    Setting("all pairs", {"model.edges": kinds("full")}),
    Setting("random, k = 4", {"model.edges": kinds("random")}),
    Setting("kNN, k = 4, static", {"model.edges": kinds("knn"), "model.edge_tap": "06/phrase"}, against="kNN, k = 4"),
    Setting("union, static", {"model.edge_tap": "06/phrase"}, against="union"),
    Setting("union, GAT", {"model.propagate": "textfuse_jax.models.message_passing:GAT"}),
    Setting("phrases alone, kNN and window", {"model.nodes": ("phrase",), "model.edges": kinds("knn", "window")}),
    Setting("tokens, kNN and window", {**TOKENS, "model.edges": kinds("knn", "window")}),
    Setting("tokens, no edges", {**TOKENS, "model.edges": (), "model.propagate": ""}),
    Setting("sentences alone, kNN and window", {"model.nodes": ("sentence",), "model.edges": kinds("knn", "window")}),
]

if __name__ == "__main__":
    main("graph_construction", frozen(), SETTINGS, reference="no edges", measure=construction_facts)
