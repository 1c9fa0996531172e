"""Words of posts: by hand, and the two ways of adding them up are one; what the rows hold is joined."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from textfuse_jax.models import post_inputs as P

WORDS = jnp.array([[[0, 1, 1, P.BUCKETS], [P.BUCKETS] * 4, [5, P.BUCKETS, P.BUCKETS, P.BUCKETS]]])


def test_a_bag_of_words_by_hand_and_word_by_word(monkeypatch):
    bag = P.WordBag(width=1)
    table = jnp.zeros((P.BUCKETS, 1)).at[0].set(2.0).at[1].set(5.0).at[5].set(7.0)
    found = bag.apply({"params": {"table": table}}, WORDS, train=False)
    np.testing.assert_allclose(found[0, :, 0], [(2 + 5 + 5) / 3**0.5, 0, 7], atol=1e-5)
    grad = lambda t: bag.apply({"params": {"table": t}}, WORDS, train=False).sum()  # noqa: E731
    before = jax.grad(grad)(table)
    monkeypatch.setattr(P, "MOST_COUNTS", 0)
    np.testing.assert_allclose(bag.apply({"params": {"table": table}}, WORDS, train=False), found, atol=1e-6)
    np.testing.assert_allclose(jax.grad(grad)(table), before, atol=1e-6)


def test_a_fusion_needs_rewritten_texts_and_a_model_features():
    from tests.data.test_cascade_rows import made
    from textfuse_jax.data.cascade_rows import cascade_batches
    from textfuse_jax.models.fusion import Gated

    rows = jax.tree.map(jnp.asarray, cascade_batches(made([3]), None).batch(0))
    with pytest.raises(ValueError, match="no features"):
        P.PostInputs().init(jax.random.key(0), rows, train=False)
    with pytest.raises(ValueError, match="rewritten texts"):
        P.PostInputs(fusion=Gated()).init(
            jax.random.key(0), rows.replace(inputs={"encoder": jnp.ones((*rows.document.shape, 4))}), train=False
        )
