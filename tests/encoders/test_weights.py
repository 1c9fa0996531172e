import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from textfuse_jax.encoders.architecture import Architecture, read_architecture
from textfuse_jax.encoders.transformer import Transformer
from textfuse_jax.encoders.weights import load_params, save_params

TINY = Architecture("bert", vocabulary=50, width=16, layers=3, heads=2, feed_forward=32, positions=40)
ROBERTA = Architecture(
    "roberta", 60, width=8, layers=1, heads=2, feed_forward=8, positions=12, position_offset=2, token_types=1, pad_id=1
)
DISTIL = Architecture("distilbert", 60, width=8, layers=2, heads=2, feed_forward=8, positions=12, token_types=0)


def _params(a):
    tokens = jnp.zeros((1, 2), jnp.int32)
    init = lambda: Transformer(a).init(jax.random.key(0), tokens, tokens, tokens, 1, train=False)["params"]  # noqa: E731
    params = jax.eval_shape(init)
    return jax.tree.map(lambda x: np.random.default_rng(x.size).normal(size=x.shape).astype(np.float32), params)


def _edit(folder, change):
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


@pytest.mark.parametrize("a", [TINY, ROBERTA, DISTIL], ids=lambda a: a.model_type)
def test_round_trip(tmp_path, a):
    params = _params(a)
    save_params(tmp_path, a, params)
    assert read_architecture(tmp_path) == a
    loaded = load_params(tmp_path, a)
    assert jax.tree.structure(loaded) == jax.tree.structure(params)
    jax.tree.map(np.testing.assert_array_equal, loaded, params)


def test_query_key_and_value_lie_side_by_side(tmp_path):
    params = _params(TINY)
    save_params(tmp_path, TINY, params)
    key = load_file(tmp_path / "model.safetensors")["encoder.layer.1.attention.self.key.weight"]
    np.testing.assert_array_equal(key.T, params["layer_02"]["qkv"]["kernel"][:, 16:32])


def test_only_the_layers_wanted_are_kept(tmp_path):
    save_params(tmp_path, TINY, _params(TINY))
    assert set(load_params(tmp_path, TINY, num_layers=1)) == {"embeddings", "layer_01"}


def test_prefix_old_norm_names_bfloat16_and_known_extras_are_read(tmp_path):
    save_params(tmp_path, TINY, _params(TINY))
    expected = load_params(tmp_path, TINY)

    def change(tensors):
        for name in list(tensors):
            old = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
            tensors[f"bert.{old}"] = tensors.pop(name).astype(jnp.bfloat16)
        tensors["bert.pooler.dense.weight"] = tensors["cls.predictions.bias"] = np.zeros(3, np.float32)
        tensors["bert.embeddings.position_ids"] = np.arange(40)

    _edit(tmp_path, change)
    for a, b in zip(jax.tree.leaves(load_params(tmp_path, TINY)), jax.tree.leaves(expected), strict=True):
        assert a.dtype == np.float32
        np.testing.assert_allclose(a, b, rtol=1e-2)


def test_every_unaccounted_tensor_is_listed(tmp_path):
    save_params(tmp_path, TINY, _params(TINY))

    def change(tensors):
        tensors["encoder.layer.3.output.dense.bias"] = tensors.pop("encoder.layer.0.output.dense.bias")
        tensors["encoder.relative_bias"] = np.zeros(2, np.float32)

    _edit(tmp_path, change)
    with pytest.raises(ValueError) as error:
        load_params(tmp_path, TINY)
    missing, unknown = str(error.value).split("missing tensors: ")[1].split("; unknown tensors: ")
    assert missing == "encoder.layer.0.output.dense.bias"
    assert unknown == "encoder.layer.3.output.dense.bias, encoder.relative_bias"


def test_a_wrong_shape_names_the_tensor(tmp_path):
    save_params(tmp_path, TINY, _params(TINY))
    _edit(tmp_path, lambda tensors: tensors.update({"embeddings.word_embeddings.weight": np.zeros((49, 16), np.float32)}))
    with pytest.raises(ValueError, match=r"embeddings.word_embeddings.weight should be \(50, 16\).* got \(49, 16\)"):
        load_params(tmp_path, TINY)


def test_missing_files_are_told(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"neither model.safetensors nor"):
        load_params(tmp_path, TINY)
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {"a": "model-00001-of-00001.safetensors"}}')
    with pytest.raises(FileNotFoundError, match=r"names model-00001-of-00001.safetensors, which is not"):
        load_params(tmp_path, TINY)
