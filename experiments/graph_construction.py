"""Which nodes and which edges: graphs of text units on cached features of AG News, with random edges as control.

    TEXTFUSE_DATA=DIR python -m experiments.graph_construction [:runlocal]

Nodes are tokens, phrases, sentences or the last two together; edges window, kNN of several k, saliency, hierarchy, their union,
all, or random. Each is compared with the same nodes without edges (and so without the layers that pass messages); static graphs,
made from the frozen encoder's features, with the dynamic ones, made from the nodes that the pyramid learns. Random edges weigh 1,
those of kNN the cosine of their ends, so that this control differs in weight too; on tokens, of which a document has dozens, it
is the stronger control: of seven phrases k = 4 joins most pairs. Each line tells the edges a node, the mean cosine of the nodes
of a document after the messages, and the share of edges that stay in one topic where two documents of different topics are joined
(experiments/topic_edges.py says why so). 4,000 training rows, 5 seeds; about an hour of one core, most of it on tokens.
"""

from __future__ import annotations

from experiments.study import NO_GRAPH, Setting, Study, frozen, linear_rows, main
from experiments.study_graphs import construction_facts

EDGES = "textfuse_jax.models.edges:"


def kinds(*names: str) -> tuple[str, ...]:
    """Names of edge kinds as a config has them."""
    return tuple(EDGES + name for name in names)


NODES = {
    "tokens": {"model.nodes": ("token",), "model.levels": ("02/token", "04/sentence", "06/document")},
    "phrases alone": {"model.nodes": ("phrase",)},
    "sentences alone": {"model.nodes": ("sentence",)},
}
"""Beside phrases and sentences together, which the other rows have."""
EDGES_OF_ONE_LEVEL = {
    "kNN and window": kinds("knn", "window"),
    "window": kinds("window"),
    "kNN, k = 4": kinds("knn"),
    "learned saliency": kinds("LearnedSaliency"),
    "random, k = 4": kinds("random"),
}
"""Nodes of one level have no hierarchy."""
SETTINGS = [
    Setting("no edges", NO_GRAPH),
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
]
for name, nodes in NODES.items():
    SETTINGS += [Setting(f"{name}, no edges", nodes | NO_GRAPH)]
    SETTINGS += [
        Setting(f"{name}, {told}", nodes | {"model.edges": edges}, against=f"{name}, no edges")
        for told, edges in EDGES_OF_ONE_LEVEL.items()
    ]

STUDY = Study("graph_construction", frozen(), SETTINGS, reference="no edges", measure=construction_facts)

if __name__ == "__main__":
    main(STUDY)
