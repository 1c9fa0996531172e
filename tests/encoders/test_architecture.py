import dataclasses

import pytest

from textfuse_jax.encoders.architecture import Architecture, architecture, config_dict, read_architecture, scratch

BERT = config_dict(Architecture("bert", 50, width=16, layers=3, heads=2, feed_forward=32, positions=40))


def test_roberta_counts_positions_from_its_padding_index():
    config = BERT | {"model_type": "xlm-roberta", "pad_token_id": 1, "max_position_embeddings": 514}
    assert (architecture(config).position_offset, architecture(config).max_length) == (2, 512)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "deberta-v2"}, r"model_type must be one of bert, roberta.* got 'deberta-v2'"),
        ({"position_embedding_type": "relative_key"}, r"position_embedding_type must be 'absolute', got 'relative_key'"),
        ({"is_decoder": True}, r"is_decoder must be False, got True"),
        ({"hidden_act": "swish"}, r"hidden_act must be one of gelu.* got 'swish'"),
        ({"num_attention_heads": 3}, r"width must be a multiple of heads, got width 16 and 3 heads"),
        ({"num_hidden_layers": 0}, r"layers must be >= 1, got 0"),
    ],
)
def test_what_is_not_supported_is_told(change, message):
    with pytest.raises(ValueError, match=message):
        architecture(BERT | change)


def test_missing_fields_are_listed():
    with pytest.raises(ValueError, match=r"lacks vocab_size, hidden_size"):
        architecture({name: value for name, value in BERT.items() if name not in ("vocab_size", "hidden_size")})


def test_a_folder_without_config_is_told(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"config.json is missing"):
        read_architecture(tmp_path)


def test_scratch_round_trips_through_a_config():
    small = scratch(300, width=32, layers=2, heads=2, max_length=64, dropout=0.2)
    assert small.feed_forward == 128
    assert architecture(config_dict(small)) == small
    assert hash(small) == hash(dataclasses.replace(small))
