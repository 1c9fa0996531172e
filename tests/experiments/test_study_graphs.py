"""What a study tells of its graphs, by hand; and what each row of nodes and edges is compared with."""

import jax
import numpy as np
import pytest

from experiments import study, study_graphs
from experiments.graph_construction import SETTINGS
from tests.models.fake import graph
from textfuse_jax.training.grid import with_fields


class Program:
    """Stands for trained trials: one trial whose parts put out what is given, or counts of one batch after another."""

    config = study.frozen()

    def __init__(self, out=None, batches=()):
        self.out, self.batches, self.held_batches = out, batches, len(batches)

    def outputs(self, read):
        return jax.tree.map(lambda x: np.asarray(x)[None], read(None, self.out))

    def reader(self, read, change):
        return lambda batch: self.batches[batch]


def test_edges_and_cosine_of_nodes_by_hand():
    """Document 0 has three nodes whose pairs have the cosines 0, 1 and 0; document 1 two with -1; document 2 one, without a pair.
    Both directions are edges; a self-loop and padding are none."""
    features = np.array([[[2.0, 0], [0, 3], [5, 0], [1, 1], [-2, -2], [4, 4], [9, 9]]])
    edges = [[(0, 1, 1), (1, 0, 1), (3, 4, 1), (2, 2, 1), (7, 7, 0)]]
    nodes = graph(features, [[0, 0, 0, 1, 1, 2, 3]], 3, edges=edges)
    found = study_graphs.graph_facts(Program({"nodes": nodes, "graph": nodes}))
    assert found == {"edges_a_node": [0.5], "cosine_of_nodes": [0.0]}  # 3 of 6; (0 + 1 + 0 - 1) of 4 pairs
    features[0, 4] = (3, 3)
    turned = nodes.replace(features=features)
    assert study_graphs.graph_facts(Program({"nodes": turned, "graph": nodes}))["cosine_of_nodes"] == [0.5]


def test_shares_of_all_batches_weigh_each_edge_and_pair_alike(monkeypatch):
    """A batch of few pairs counts little; of two trials the second has no edges."""
    monkeypatch.setattr(study_graphs, "graph_facts", lambda _: {"edges_a_node": [1.0, 0.0]})
    monkeypatch.setattr(study_graphs, "sample_graphs", lambda _: [None, None])
    counts = [((9, 0), (10, 0), (30, 30), (90, 90)), ((0, 0), (5, 0), (10, 10), (10, 10))]
    found = study_graphs.construction_facts(Program(batches=[tuple(map(np.array, batch)) for batch in counts]))
    assert found["same_topic"] == [0.6, None]
    assert found["same_topic_of_all_pairs"] == [0.4, 0.4]


@pytest.mark.parametrize("setting", [s for s in SETTINGS if not s.fit], ids=lambda s: s.name)
def test_edges_are_compared_with_the_same_nodes_without(setting):
    by_name = {s.name: s for s in SETTINGS}
    other = by_name[setting.against or "no edges"]
    ours, theirs = (with_fields(study.frozen(), s.fields).model for s in (setting, other))
    assert (ours.nodes, ours.levels) == (theirs.nodes, theirs.levels) or setting is other or not setting.fields["model.edges"]
    without = not theirs.edges and not theirs.propagate
    assert without != (ours.edge_tap not in (None, ""))  # a static graph is compared with the dynamic one
