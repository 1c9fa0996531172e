"""Words of documents: by hand, whatever shares their row; a linear model beside the network; sources of cascades."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.data.test_cascade_rows import made
from tests.models.fake import init
from textfuse_jax.data.cascade_rows import cascade_batches
from textfuse_jax.models.head import Head
from textfuse_jax.models.lexical import NO_WORD, BagOfNgrams, NgramLogits, _hash, source_tokens
from textfuse_jax.models.node_classifier import NodeClassifier, look_up
from textfuse_jax.models.pooling import Mean
from textfuse_jax.types import OPINIONS, TokenRows


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


def test_logits_of_a_document_by_hand():
    """Nothing at first; then scale times the sum of the n-grams' weights over the root of their number."""
    batch = rows([[5, 6, 0]], [[0, 0, 2]], 2)
    wide = NgramLogits(classes=2, scale=3.0, buckets=1 << 20)
    params = wide.init(jax.random.key(0), batch, train=False)["params"]
    assert not params["table"].any()
    one, two = (np.asarray(_hash(batch.tokens, n))[0] % (1 << 20) for n in (1, 2))
    table = params["table"].at[one[0], 0].set(1.0).at[one[1], 1].set(2.0).at[two[0], 0].set(4.0)
    logits, out = wide.apply({"params": {"table": table}}, batch, train=False)
    np.testing.assert_allclose(logits[0], [[3 * 5 / 3**0.5, 3 * 2 / 3**0.5], [0, 0]], atol=1e-5)
    assert out["wide/logits"] is logits


CASCADES = made([3, 1, 5])
SOURCES = [[7, 8, 9], [9], [8, 7]]


def posts():
    """Words of every post; those of replies are none."""
    found = np.full((9, 4), NO_WORD, np.int32)
    for i, words in zip(CASCADES.sources, SOURCES):
        found[i, : len(words)] = words
    return {"source": jnp.asarray(found), "encoder": jnp.ones((9, 2))}


def test_the_tokens_of_a_cascade_are_the_words_of_its_source():
    batch = jax.tree.map(jnp.asarray, cascade_batches(CASCADES, None, batch_size=3).batch(0))
    with pytest.raises(ValueError, match=r'add "source" to config\.cascades\.inputs'):
        source_tokens(batch)
    batch = look_up(batch, posts())
    tokens = source_tokens(batch)
    for row, slot in zip(*np.nonzero(batch.example >= 0)):
        assert tokens.tokens[row][tokens.document[row] == slot].tolist() == SOURCES[int(batch.example[row, slot])]
    assert (tokens.document < tokens.slots).sum() == 6


def test_a_wide_part_joins_the_mean_of_logits_and_a_lexical_part_what_the_head_sees():
    batch = look_up(jax.tree.map(jnp.asarray, cascade_batches(CASCADES, None, batch_size=3).batch(0)), posts())
    batch = batch.replace(nodes=batch.nodes.replace(features=batch.inputs["encoder"]))
    model = NodeClassifier(
        None, Mean(), Head(2), lexical=BagOfNgrams(4, 64), wide=NgramLogits(2, scale=1.0, buckets=64, orders=(1,))
    )
    params = init(model, batch, train=False)["params"]
    tables = (params | {"wide": {"table": fill * jnp.ones((64, 2))}} for fill in (0, 1))
    (before, out), (after, _) = (model.apply({"params": p}, batch, train=False) for p in tables)
    assert out["pool/z"].shape[-1] == 2 + 4
    real = batch.example >= 0
    length = np.array([len(SOURCES[int(i)]) for i in batch.example[real]])
    np.testing.assert_allclose((after - before)[real], np.sqrt(length)[:, None] * np.ones((1, 2)) / 2, atol=1e-5)
    head, wide = out[OPINIONS]
    np.testing.assert_allclose(before, (head + wide) / 2, atol=1e-6)
