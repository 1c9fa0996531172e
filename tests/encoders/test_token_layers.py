import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from textfuse_jax.data.packing import assemble, plan
from textfuse_jax.data.tokenize import encode
from textfuse_jax.encoders.architecture import scratch
from textfuse_jax.encoders.encoder import Encoder
from textfuse_jax.encoders.token_layers import LSTM, Convolution
from textfuse_jax.encoders.tokenizers import train_wordpiece

TEXTS = ["Shares fell on Monday, and the dollar rose.", "He won.", "A short text about nothing at all, really nothing."]


def states(layer, x, document):
    params = jax.jit(lambda: layer.init(jax.random.key(0), x, document))()
    return params["params"], layer.apply(params, x, document)


@pytest.fixture
def one_document():
    x = jax.random.normal(jax.random.key(1), (1, 7, 4))
    return x, jnp.zeros((1, 7), jnp.int32)


def test_a_convolution_is_pytorchs(one_document):
    x, document = one_document
    params, h = states(Convolution(6, windows=(3, 4)), x, document)
    for column, k in ((0, 3), (3, 4)):
        conv = torch.nn.Conv1d(4, 3, k)
        kernel = np.asarray(params[f"window_{k}"]["kernel"]).reshape(k, 4, 3)
        conv.weight.data = torch.tensor(kernel.transpose(2, 1, 0).copy())
        conv.bias.data = torch.tensor(np.asarray(params[f"window_{k}"]["bias"]))
        padded = torch.nn.functional.pad(torch.tensor(np.asarray(x)).transpose(1, 2), (k // 2, (k - 1) // 2))
        theirs = torch.relu(conv(padded)).transpose(1, 2).detach().numpy()
        np.testing.assert_allclose(h[..., column : column + 3], theirs, atol=1e-5)


def test_an_lstm_is_pytorchs(one_document):
    x, document = one_document
    params, h = states(LSTM(6), x, document)
    theirs = torch.nn.LSTM(4, 3, batch_first=True, bidirectional=True)
    for name, suffix in (("forward", ""), ("backward", "_reverse")):
        cell = params[name]["cell"]
        w_ih = np.concatenate([np.asarray(cell[f"i{gate}"]["kernel"]).T for gate in "ifgo"])
        w_hh = np.concatenate([np.asarray(cell[f"h{gate}"]["kernel"]).T for gate in "ifgo"])
        bias = np.concatenate([np.asarray(cell[f"h{gate}"]["bias"]) for gate in "ifgo"])
        for field, value in (("weight_ih_l0", w_ih), ("weight_hh_l0", w_hh), ("bias_ih_l0", 0 * bias), ("bias_hh_l0", bias)):
            getattr(theirs, field + suffix).data = torch.tensor(value.copy())
    expected = theirs(torch.tensor(np.asarray(x)))[0].detach().numpy()
    np.testing.assert_allclose(h, expected, atol=1e-5)


@pytest.mark.parametrize("kinds", [("convolution",), ("lstm",), ("lstm", "convolution")])
def test_packed_documents_are_read_as_if_alone(kinds):
    tokenizer = train_wordpiece(TEXTS, 100)
    encoded = encode(TEXTS, tokenizer, max_length=32, progress=False)
    encoder = Encoder(scratch(100, width=8, kinds=kinds), (f"{len(kinds):02d}/token",))
    tap = encoder.taps[0]
    labels = np.zeros(3, np.int32)
    together = assemble(encoded, labels, plan(encoded, row_lengths=(64,), tokens_per_batch=64), 0)
    params = encoder.init(jax.random.key(0), together, train=False)
    packed = encoder.apply(params, together, train=False)[0][tap]
    assert set(np.asarray(together.example).ravel()) >= {0, 1, 2}  # all in one row
    for i in range(3):
        one = encoded.take(np.array([i]))
        alone = assemble(one, labels, plan(one, row_lengths=(32,), tokens_per_batch=32), 0)
        h = encoder.apply(params, alone, train=False)[0][tap]
        slot = int(np.flatnonzero(np.asarray(together.example)[0] == i)[0])
        here = np.asarray(together.document)[0] == slot
        np.testing.assert_allclose(packed[0, here], h[0, : here.sum()], atol=1e-6)


def test_an_odd_width_of_two_directions_is_refused(one_document):
    with pytest.raises(ValueError, match="even width, got 5"):
        states(LSTM(5), *one_document)
