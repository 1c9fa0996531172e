import dataclasses
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.encoders.conftest import pack
from textfuse_jax.encoders.architecture import Architecture
from textfuse_jax.encoders.transformer import Transformer, gelu

DOCUMENTS = [[2, 7, 9, 11, 3], [2, 30, 3], [2, 5, 6, 7, 8, 41, 3], [2, 3]]


@functools.partial(jax.jit, static_argnums=0)
def _init(model, rows):
    return model.init(jax.random.key(0), rows.tokens, rows.position, rows.document, rows.slots, train=False)


@functools.partial(jax.jit, static_argnums=0)
def _hidden(model, params, rows, key=None):
    """Hidden states and saliency; with dropout if there is a key."""
    rngs = {} if key is None else {"dropout": key}
    return model.apply(params, rows.tokens, rows.position, rows.document, rows.slots, train=key is not None, rngs=rngs)


def _alone(model, params):
    return [_hidden(model, params, pack([[d]], len(d), 1))[0] for d in DOCUMENTS]


def test_packed_padded_and_alone_agree(tiny):
    model, packed = Transformer(tiny), pack([DOCUMENTS[:2], DOCUMENTS[2:]], 12, 3)
    params = _init(model, packed)
    alone = _alone(model, params)
    padded, _ = _hidden(model, params, pack([[d] for d in DOCUMENTS], 9, 1))
    states, _ = _hidden(model, params, packed)
    for i, (row, slot) in enumerate([(0, 0), (0, 1), (1, 0), (1, 1)]):
        for layer, h in enumerate(states):
            np.testing.assert_allclose(h[row][np.asarray(packed.document[row]) == slot], alone[i][layer][0], atol=1e-5)
            np.testing.assert_allclose(padded[layer][i, : len(DOCUMENTS[i])], alone[i][layer][0], atol=1e-5)


def test_padding_is_finite_and_changes_nothing(tiny):
    model = Transformer(tiny)
    small, large = pack([DOCUMENTS[:2], []], 8, 2), pack([DOCUMENTS[:2], []], 20, 2)
    params = _init(model, small)
    garbage = large.replace(tokens=jnp.where(large.document == 2, 17, large.tokens))
    for a, b in zip(_hidden(model, params, small)[0], _hidden(model, params, garbage)[0]):
        assert jnp.isfinite(b).all()
        np.testing.assert_allclose(b[0, :8], a[0], atol=1e-5)


def test_bfloat16_is_close_to_float32(tiny):
    rows = pack([DOCUMENTS], 20, 4)
    params = _init(Transformer(tiny), rows)
    for a, b in zip(_hidden(Transformer(tiny), params, rows)[0], _hidden(Transformer(tiny, dtype=jnp.bfloat16), params, rows)[0]):
        assert b.dtype == jnp.float32
        np.testing.assert_allclose(a[0, :17], b[0, :17], atol=0.05)  # 8 bits of mantissa, states of size about 1


def test_bfloat16_gradients_are_close_to_float32(tiny):
    rows = pack([DOCUMENTS], 20, 4)
    params = _init(Transformer(tiny), rows)

    def gradients(dtype):
        model = Transformer(tiny, dtype=dtype, hidden_dropout=0.1, attention_dropout=0.1)
        return jax.jit(jax.grad(lambda p: (_hidden(model, p, rows, jax.random.key(1))[0][-1][0, :17] ** 3).sum()))(params)

    for a, b in zip(*(jax.tree.leaves(gradients(dtype)) for dtype in (jnp.float32, jnp.bfloat16)), strict=True):
        assert b.dtype == jnp.float32
        assert jnp.linalg.norm(a - b) <= 0.05 * jnp.linalg.norm(a) + 1e-3


def test_fewer_layers_hold_and_compute_the_same_start(tiny):
    rows = pack([DOCUMENTS], 20, 4)
    params = _init(Transformer(tiny), rows)
    cut = Transformer(tiny, num_layers=1)
    assert set(_init(cut, rows)["params"]) == {"embeddings", "layer_01"}
    kept = {"params": {name: params["params"][name] for name in ("embeddings", "layer_01")}}
    for a, b in zip(_hidden(cut, kept, rows)[0], _hidden(Transformer(tiny), params, rows)[0][:2], strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("frozen", [0, 2, 3])
def test_frozen_layers_get_no_gradient_and_no_dropout(tiny, frozen):
    rows = pack([DOCUMENTS], 20, 4)
    model = Transformer(tiny, frozen_layers=frozen, hidden_dropout=0.5, attention_dropout=0.5)
    params = _init(model, rows)

    def states(params):
        return _hidden(model, params, rows, jax.random.key(1))[0]

    loss = jax.jit(jax.grad(lambda p: sum((h**3).sum() for h in states(p)[1:])))
    gradients = loss(params)["params"]
    for name, tree in gradients.items():
        layer = int(name[6:]) if name.startswith("layer_") else 0
        assert (max(float(jnp.abs(g).max()) for g in jax.tree.leaves(tree)) > 0) == (layer >= frozen)
    for layer, (a, b) in enumerate(zip(states(params), _hidden(model, params, rows)[0])):
        assert jnp.array_equal(a, b) == (layer < frozen)


def test_remat_gives_the_same_gradients(tiny):
    rows = pack([DOCUMENTS], 20, 4)
    plain = Transformer(tiny, hidden_dropout=0.1, attention_dropout=0.1)
    params = _init(plain, rows)

    def gradients(model):
        loss = lambda p: (_hidden(model, p, rows, jax.random.key(1))[0][-1] ** 3).sum()  # noqa: E731
        return jax.jit(jax.grad(loss))(params)

    pairs = zip(jax.tree.leaves(gradients(plain)), jax.tree.leaves(gradients(dataclasses.replace(plain, remat=True))))
    for a, b in pairs:
        np.testing.assert_allclose(a, b, atol=1e-4)


def test_roberta_large_has_its_published_size():
    large = Architecture(
        "roberta", 50265, width=1024, layers=24, heads=16, feed_forward=4096, positions=514, position_offset=2, token_types=1
    )
    rows = pack([DOCUMENTS], 512, 4)
    shapes = jax.eval_shape(lambda: _init(Transformer(large), rows))
    size = sum(leaf.size for leaf in jax.tree.leaves(shapes))
    assert size == 355_359_744 - 1024 * 1025  # transformers' count, less the pooler


@pytest.mark.parametrize(("field", "value"), [("num_layers", 3), ("frozen_layers", 4)])
def test_impossible_layers_are_refused(tiny, field, value):
    rows = pack([DOCUMENTS], 20, 4)
    with pytest.raises(ValueError, match=rf"{field} must lie in .* got {value}"):
        _init(Transformer(tiny, **{field: value}), rows)


def test_gelu_is_the_exact_one():
    x = jnp.linspace(-12, 12, 4001)
    np.testing.assert_allclose(gelu(x), jax.nn.gelu(x, approximate=False), atol=1e-6)
    np.testing.assert_allclose(
        jax.grad(lambda x: gelu(x).sum())(x), jax.grad(lambda x: jax.nn.gelu(x, approximate=False).sum())(x), atol=1e-6
    )


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="a property of XLA's compiler for CPUs")
def test_every_bfloat16_product_of_a_training_step_keeps_its_operands_on_the_cpu():
    """Attention's too, forward and backward: widened ones would be slower than float32, and silently so."""
    a = Architecture("bert", vocabulary=50, width=128, layers=2, heads=4, feed_forward=256, positions=128)
    model, shape = Transformer(a, dtype=jnp.bfloat16, hidden_dropout=0.1, attention_dropout=0.1), jnp.zeros((8, 128), jnp.int32)
    params = jax.eval_shape(lambda: model.init(jax.random.key(0), shape, shape, shape, 1, train=False))

    def loss(params, key):
        return model.apply(params, shape, shape, shape, 1, train=True, rngs={"dropout": key})[0][-1].sum()

    hlo = jax.jit(jax.grad(loss)).lower(params, jax.random.key(0)).compile().as_text()
    products = [block for block in hlo.split("\n\n") if re.search(r"ROOT \S+ = f32\S* dot\(", block)]
    assert len(products) >= a.layers * (4 + 2) * 2  # four weights and two of attention a layer, and back
    assert not [block for block in products if "f32" in block.split(" -> ")[0]]
