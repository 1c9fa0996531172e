"""What length costs: windows as the pipeline cuts them, memory that grows with them."""

import pytest
from absl import flags

from experiments import length_growth


@pytest.mark.slow
def test_a_document_is_cut_into_windows_and_costs_more():
    flags.FLAGS.rounds = 1
    short = length_growth.cost("encoder alone", 128)
    long = length_growth.cost("encoder alone", 1024)
    assert short[2] == 1 and long[2] == 6  # of 256 tokens, 192 or, at sentence ends, a little less apart
    assert long[1] > 1.5 * short[1] and long[0] > 0 < short[0]
    assert length_growth.slope([1, 2, 4], [3, 6, 12]) == pytest.approx(1)
