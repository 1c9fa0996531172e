"""Cascades of 1, 2 and 30,000 posts through the whole model, each as it would be alone; memory grows with posts, not pairs."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import rumor_pheme
from tests.data.test_cascade_rows import made
from tests.models.fake import init
from textfuse_jax.data.cascade_rows import cascade_batches
from textfuse_jax.data.selection import select
from textfuse_jax.models.node_classifier import build_node_classifier, look_up

LARGE, WORDS, WIDTH = 30_000, 24, 16
BYTES_A_POST = 40_000  # of the narrow model
SHIPPED = {"GCN": 12_400, "GAT": 15_200}
"""docs/cascades.md: bytes a post that a training step of configs/rumor_pheme.py needs at most, of XLA's own count."""


def posts_of(count, seed=0, features=24, words=WORDS):
    """Features and words of so many posts, and of each the words it would have as a source."""
    rng = np.random.default_rng(seed)
    return {
        "encoder": rng.normal(size=(count, features)).astype(np.float16),
        "words": rng.integers(0, 4096, (count, words)).astype(np.int32),
        "source": rng.integers(0, 1 << 20, (count, words)).astype(np.int32),
    }


@functools.cache
def model_of(variant):
    """That of configs/rumor_pheme.py, narrow."""
    config = rumor_pheme.get_config(variant).model
    config.width = WIDTH
    return build_node_classifier(config, 2)


def rows_and_posts(cascades, **options):
    """The first batch, with what is known of its posts; those that DBSCAN selects are rewritten."""
    posts = posts_of(cascades.posts)
    selected, _ = select(cascades, posts["encoder"])
    posts |= {"selected": selected, "augmented": posts["encoder"][:, ::-1] * selected[:, None]}
    posts = {name: jnp.asarray(values) for name, values in posts.items()}
    return jax.tree.map(jnp.asarray, cascade_batches(cascades, None, **options).batch(0)), posts


@pytest.mark.parametrize("variant", [None, "tape", "tape_gat"])
def test_each_size_gets_the_logits_it_has_alone(variant):
    """In TAPE's model too: selected, fused, passed on."""
    cascades, model = made([1, LARGE, 2]), model_of(variant)
    rows, posts = rows_and_posts(cascades)
    params = init(model, look_up(rows, posts), train=False)
    apply = jax.jit(lambda rows: model.apply(params, look_up(rows, posts), train=False)[0])
    logits = apply(rows)
    together = {int(i): np.asarray(z) for i, z in zip(rows.example.ravel(), logits.reshape(-1, 2)) if i >= 0}
    assert sorted(together) == [0, 1, 2] and all(np.isfinite(z).all() for z in together.values())
    for i in range(3):
        alone = jax.tree.map(jnp.asarray, cascade_batches(cascades.take([i]), None, batch_size=1).batch(0))
        assert (alone.example >= 0).sum() == 1
        np.testing.assert_allclose(np.asarray(apply(alone))[alone.example >= 0][0], together[i], atol=2e-5)


@pytest.mark.parametrize("layer", ["GCN", "GAT"])
def test_a_training_step_needs_memory_in_proportion_to_posts(layer):
    """As XLA counts it, 4,000 and 30,000 posts: no [posts, posts] anywhere."""
    model = model_of(None)
    model = model.clone(propagate=model.propagate.clone(layer=f"textfuse_jax.models.message_passing:{layer}"))
    needed = {}
    for count in (4_000, LARGE):
        rows, posts = rows_and_posts(made([count]), batch_size=1)
        params = init(model, look_up(rows, posts), train=False)

        def loss(params, rows, posts, key):
            return model.apply(params, look_up(rows, posts), train=True, rngs={"dropout": key})[0].sum()

        step = jax.jit(jax.grad(loss)).lower(params, rows, posts, jax.random.key(0)).compile()
        needed[count] = step.memory_analysis().temp_size_in_bytes
        assert all(np.isfinite(g).all() for g in jax.tree.leaves(step(params, rows, posts, jax.random.key(0))))
    assert needed[LARGE] <= BYTES_A_POST * LARGE
    assert needed[LARGE] / needed[4_000] < 1.5 * LARGE / 4_000


def step_of(model):
    """The gradient of a training step."""

    def loss(params, rows, posts, key):
        return model.apply(params, look_up(rows, posts), train=True, rngs={"dropout": key})[0].sum()

    return jax.jit(jax.grad(loss))


@pytest.mark.slow
@pytest.mark.parametrize("layer", sorted(SHIPPED))
def test_the_shipped_model_needs_the_memory_a_post_that_is_stated(layer):
    """Width 64, 768 features, 40 words of the source: a batch of PHEME's size, and one cascade of 30,000; compiled, not run."""
    config = rumor_pheme.get_config()
    model = build_node_classifier(config.model, 2)
    model = model.clone(propagate=model.propagate.clone(layer=f"textfuse_jax.models.message_passing:{layer}"))
    for sizes in ([24] * 32, [LARGE]):
        cascades = made(sizes)
        rows = jax.tree.map(jnp.asarray, cascade_batches(cascades, None, batch_size=len(sizes)).batch(0))
        found = posts_of(cascades.posts, 0, 384 * len(config.cascades.taps), config.cascades.most_source_words)
        posts = {name: jnp.asarray(found[name]) for name in config.cascades.inputs}
        params = jax.eval_shape(lambda rows, posts: init(model, look_up(rows, posts), train=False), rows, posts)
        needed = step_of(model).lower(params, rows, posts, jax.random.key(0)).compile().memory_analysis().temp_size_in_bytes
        assert needed <= SHIPPED[layer] * rows.document.size
