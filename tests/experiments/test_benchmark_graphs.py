"""The benchmark of graphs compares equal things: our logits beside PyTorch Geometric's, of a part of larger sets too."""

import numpy as np
import pytest
from absl import flags

from tests.data.test_cascade_rows import made

pytest.importorskip("torch_geometric")
from experiments import benchmark_graphs as B


@pytest.mark.parametrize("name", ["gcn", "gat", "gcn_text"])
def test_logits_are_those_of_pytorch_geometric(name):
    """80 cascades: 64 are compared, their posts are some of the set's."""
    cascades = made(np.random.default_rng(1).integers(1, 12, 80), seed=1)
    assert B.check_parity(B.Problem(name, cascades, B.hashed(cascades.texts))) <= 1e-4


def test_a_round_of_both_sides_trains_all_cascades():
    if not flags.FLAGS.is_parsed():
        flags.FLAGS(["test"])
    cascades = made(np.full(48, 5))
    problem = B.Problem("gcn", cascades, B.hashed(cascades.texts))
    mine, notes = B.ours(problem, 1)
    other, _ = B.theirs(problem)
    assert mine(0) > 0 and other(0) > 0 and notes["shapes"] == 1
