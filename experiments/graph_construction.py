"""Which nodes and which edges: graphs of text units on cached features of AG News, with random edges as control.

    TEXTFUSE_DATA=DIR python -m experiments.graph_construction [:runlocal]

Nodes are phrases, sentences or both; edges window, kNN of several k, saliency, hierarchy, their union, all, or random. Each line
tells the edges a node and the mean cosine of the nodes of a document after the
messages. 4,000 training rows, 5 seeds; about 20 minutes on 2 cores.
"""

from __future__ import annotations

from experiments.study import Setting, frozen, graph_facts, linear_rows, main

EDGES = "textfuse_jax.models.edges:"


def kinds(*names: str) -> tuple[str, ...]:
    """Names of edge kinds as a config has them."""
    return tuple(EDGES + name for name in names)


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
    Setting("union, GAT", {"model.propagate": "textfuse_jax.models.message_passing:GAT"}),
    Setting("phrases alone, kNN and window", {"model.nodes": ("phrase",), "model.edges": kinds("knn", "window")}),
    Setting("sentences alone, kNN and window", {"model.nodes": ("sentence",), "model.edges": kinds("knn", "window")}),
]

if __name__ == "__main__":
    main("graph_construction", frozen(), SETTINGS, reference="no edges", measure=graph_facts)
