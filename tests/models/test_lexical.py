import jax
import jax.numpy as jnp
import numpy as np

from textfuse_jax.models.lexical import BagOfNgrams, _hash
from textfuse_jax.types import TokenRows


def rows(tokens, document, slots):
    tokens, document = jnp.array(tokens, jnp.int32), jnp.array(document, jnp.int32)
    r = tokens.shape[0]
    empty = jnp.zeros((r, slots))
    return TokenRows(tokens, jnp.zeros_like(tokens), document, {}, {}, empty.astype(jnp.int32), empty, empty.astype(jnp.int32))


def test_a_document_by_hand():
    """Two documents and padding in a row: 3 + 2 and 1 + 0 n-grams."""
    batch = rows([[5, 6, 7, 9, 0, 0]], [[0, 0, 0, 1, 2, 2]], 2)
    bag = BagOfNgrams(width=3, buckets=1 << 20)
    params = jax.jit(lambda: bag.init(jax.random.key(0), batch, train=False))()
    z, _ = bag.apply(params, batch, train=False)
    table = np.asarray(params["params"]["table"])
    one, two = (np.asarray(_hash(batch.tokens, n))[0] % (1 << 20) for n in (1, 2))
    assert len({*one[:4], *two[:2]}) == 6
    np.testing.assert_allclose(z[0, 0], (table[one[:3]].sum(0) + table[two[:2]].sum(0)) / 5**0.5, atol=1e-6)
    np.testing.assert_allclose(z[0, 1], table[one[3]], atol=1e-6)


def test_neighbours_in_the_row_change_nothing():
    bag = BagOfNgrams(width=4, orders=(1, 2, 3))
    batch = rows([[5, 6, 7, 9, 3, 0]], [[0, 0, 0, 1, 1, 2]], 2)
    alone = rows([[9, 3]], [[0, 0]], 1)
    params = bag.init(jax.random.key(0), batch, train=False)
    together, one = bag.apply(params, batch, train=False)[0], bag.apply(params, alone, train=False)[0]
    np.testing.assert_allclose(together[0, 1], one[0, 0], atol=1e-6)


def test_order_matters_to_bigrams_alone():
    for orders, same in (((1,), True), ((2,), False)):
        bag = BagOfNgrams(width=4, orders=orders)
        a, b = rows([[5, 6, 5]], [[0, 0, 0]], 1), rows([[5, 5, 6]], [[0, 0, 0]], 1)
        params = bag.init(jax.random.key(0), a, train=False)
        x, y = bag.apply(params, a, train=False)[0], bag.apply(params, b, train=False)[0]
        assert np.allclose(x, y, atol=1e-6) == same


def test_dropped_ngrams_leave_the_mean():
    bag = BagOfNgrams(width=2, orders=(1,), dropout=0.5)
    batch = rows(np.arange(4000).reshape(1, -1), np.zeros((1, 4000)), 1)
    params = {"params": {"table": jnp.ones((1 << 16, 2))}}
    z, _ = bag.apply(params, batch, train=True, rngs={"dropout": jax.random.key(0)})
    np.testing.assert_allclose(z[0, 0] / 4000**0.5, 1, atol=0.05)
