import types

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from textfuse_jax.encoders import linear
from textfuse_jax.encoders.linear import Linear, contract_rows, dense_product, matmul, product_dtype, rounded_kernels


def _operands():
    keys = jax.random.split(jax.random.key(0), 3)
    return [jax.random.normal(k, shape) for k, shape in zip(keys, [(2, 5, 8), (8, 6), (2, 5, 6)])]


def test_float32_product_and_gradients_are_exact():
    x, w, y = _operands()
    np.testing.assert_allclose(matmul(x, w), np.asarray(x) @ np.asarray(w), atol=1e-6)
    dx, dw = jax.vjp(matmul, x, w)[1](y)
    np.testing.assert_allclose(dx, y @ w.T, atol=1e-5)
    np.testing.assert_allclose(dw, jnp.einsum("rtd,rtf->df", x, y), atol=1e-5)


def test_bfloat16_gradients_are_products_of_rounded_operands_summed_in_float32():
    x, w, y = _operands()
    rounded = lambda a: a.astype(jnp.bfloat16).astype(jnp.float32)  # noqa: E731
    z, pull = jax.vjp(lambda x, w: matmul(x, w, jnp.bfloat16), x, w)
    dx, dw = jax.jit(pull)(y)
    assert z.dtype == dx.dtype == dw.dtype == jnp.float32
    np.testing.assert_allclose(z, rounded(x) @ rounded(w), atol=1e-5)
    np.testing.assert_allclose(dx, rounded(y) @ rounded(w).T, atol=1e-5)
    np.testing.assert_allclose(dw, jnp.einsum("rtd,rtf->df", rounded(x), rounded(y)), atol=1e-5)


def test_kernels_rounded_once_give_what_each_call_would_round():
    layer, x = Linear(7, jnp.bfloat16), jax.random.normal(jax.random.key(0), (2, 3, 5))
    params = layer.init(jax.random.key(1), x)["params"]
    once = rounded_kernels(params, jnp.bfloat16)
    assert (once["kernel"].dtype, once["bias"].dtype) == (jnp.bfloat16, jnp.float32)
    np.testing.assert_array_equal(layer.apply({"params": once}, x), layer.apply({"params": params}, x))


def test_contract_rows_under_jit_and_vmap():
    x, y = jax.random.normal(jax.random.key(0), (2, 3, 5, 4)).astype(jnp.bfloat16)
    found = jax.jit(jax.vmap(contract_rows))(x, y)
    np.testing.assert_allclose(found, jnp.einsum("tnd,tnf->tdf", x, y, preferred_element_type=jnp.float32), atol=1e-5)


def test_transposed_weights_and_gradients_compile():
    """XLA for CPUs can fold a transpose into a bfloat16 product after it has checked that it has a kernel for it."""
    x, w = jnp.ones((64, 32)), jnp.ones((32, 16))
    loss = lambda x, w: (matmul(jnp.tanh(matmul(x, w, jnp.bfloat16)), w.T, jnp.bfloat16) ** 2).sum()  # noqa: E731
    for gradients in (jax.grad(loss, (0, 1)), jax.grad(jax.checkpoint(loss), (0, 1))):
        assert all(jnp.isfinite(g.T).all() for g in jax.jit(gradients)(x, w))


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="a property of XLA's compiler for CPUs")
def test_every_bfloat16_product_keeps_its_operands_on_the_cpu():
    """XLA for CPUs widens operands it has no kernel for; then bfloat16 is slower than float32, and silently so."""
    x, w, y = jnp.ones((256, 128)), jnp.ones((128, 128)), jnp.ones((256, 128))
    pull = jax.jit(lambda x, w, y: jax.vjp(lambda x, w: matmul(x, w, jnp.bfloat16), x, w)[1](y))
    hlo = pull.lower(x, w, y).compile().as_text()
    products = [block for block in hlo.split("\n\n") if " dot(" in block]
    assert len(products) == 2
    for block in products:
        assert block.count("parameter(") == block.count("= bf16"), block


def test_a_dense_layer_by_our_product_is_flax_s_own():
    x = jax.random.normal(jax.random.key(0), (2, 3, 5))
    ours, plain = nn.Dense(4, dot_general=dense_product), nn.Dense(4)
    params = plain.init(jax.random.key(1), x)
    loss = lambda layer: jax.value_and_grad(lambda p, x: (layer.apply(p, x) ** 2).sum(), (0, 1))(params, x)  # noqa: E731
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), loss(ours), loss(plain))
    with pytest.raises(ValueError, match="last axis"):
        dense_product(x, x, (((2,), (1,)), ((0,), (0,))))


def test_products_take_bfloat16_where_the_device_has_them(tmp_path, monkeypatch):
    assert product_dtype("bfloat16") == jnp.bfloat16 and product_dtype("float32") == jnp.float32
    told = tmp_path / "cpuinfo"
    assert not linear._cpu_multiplies_bfloat16(told)
    for flags, found in [("fma avx2", False), ("avx512f avx512_bf16", True), ("amx_bf16 amx_tile", True)]:
        told.write_text(f"processor : 0\nflags\t\t: fpu {flags}\n")
        assert linear._cpu_multiplies_bfloat16(told) == found
        monkeypatch.setattr(linear, "_cpu_multiplies_bfloat16", lambda found=found: found)
        assert product_dtype("auto") == (jnp.bfloat16 if found else jnp.float32)
        monkeypatch.undo()
    for capability, dtype in [("7.5", jnp.float32), ("9.0", jnp.bfloat16), (None, jnp.bfloat16)]:
        device = types.SimpleNamespace(platform="gpu", **({"compute_capability": capability} if capability else {}))
        monkeypatch.setattr(jax, "devices", lambda device=device: [device])
        assert product_dtype("auto") == dtype
