"""The prior of an unseen event: odds of texts and of classes."""

import numpy as np

from experiments import event_shift


def test_odds_of_texts_and_of_the_training_classes():
    texts = ["police confirm it", "police confirm this", "police confirm all", "they say a bomb", "they say a bomb there"]
    labels = np.array([0, 0, 0, 1, 1])
    odds, prior = event_shift.odds_of([*texts, "they say a bomb", "police confirm it"], labels, np.arange(5), np.array([5, 6]))
    assert odds[0] > odds[1]
    np.testing.assert_allclose(prior, np.log(3 / 2))
