"""What a checkpoint's config.json says about its transformer, as one frozen dataclass."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Mapping
from typing import Any

MODEL_TYPES = ("bert", "roberta", "xlm-roberta", "distilbert")
ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "relu": "relu",
}
"""Names in config.json -> the activations of ``transformer.ACTIVATIONS``."""

KINDS = ("convolution", "lstm")
"""Layers other than a transformer's: ``token_layers``."""


@dataclasses.dataclass(frozen=True)
class Architecture:
    """Shape of a post-LayerNorm transformer of the BERT family.

    Attributes:
      model_type: one of ``MODEL_TYPES``; decides the names of tensors in checkpoint files.
      vocabulary: rows of the token table.
      width: feature width d, a multiple of ``heads``.
      layers: number of layers L.
      heads: attention heads.
      feed_forward: width between the two products of the feed-forward part.
      positions: rows of the position table, those below ``position_offset`` included.
      position_offset: row of a document's first token; padding index + 1 in RoBERTa, else 0.
      token_types: rows of the token-type table, of which row 0 is used; 0 for none (DistilBERT).
      activation: ``"gelu"`` (exact), ``"gelu_tanh"`` or ``"relu"``.
      norm_epsilon: added to the variance in LayerNorm.
      pad_id: vocabulary id of padding.
      hidden_dropout, attention_dropout: the rates it was pretrained with.
      kinds: what each layer is, of ``KINDS``; () where they are transformer layers.
    """

    model_type: str
    vocabulary: int
    width: int
    layers: int
    heads: int
    feed_forward: int
    positions: int
    position_offset: int = 0
    token_types: int = 2
    activation: str = "gelu"
    norm_epsilon: float = 1e-12
    pad_id: int = 0
    hidden_dropout: float = 0.1
    attention_dropout: float = 0.1
    kinds: tuple[str, ...] = ()

    def __post_init__(self):
        if self.model_type not in MODEL_TYPES:
            raise ValueError(f"model_type must be one of {', '.join(MODEL_TYPES)}, got {self.model_type!r}")
        for field in ("vocabulary", "width", "layers", "heads", "feed_forward"):
            if getattr(self, field) < 1:
                raise ValueError(f"{field} must be >= 1, got {getattr(self, field)}")
        if self.width % self.heads:
            raise ValueError(f"width must be a multiple of heads, got width {self.width} and {self.heads} heads")
        if self.max_length < 1:
            raise ValueError(f"positions must exceed position_offset {self.position_offset}, got {self.positions}")

    @property
    def max_length(self) -> int:
        """Longest document in tokens."""
        return self.positions - self.position_offset


def architecture(config: Mapping[str, Any]) -> Architecture:
    """The architecture that a checkpoint's config.json describes.

    Raises:
      ValueError: a model_type, activation, position embedding or decoder option outside the BERT family,
        or a missing field; the message names field, value and what is possible.
    """
    model_type = config.get("model_type")
    if model_type not in MODEL_TYPES:
        raise ValueError(f"config.json: model_type must be one of {', '.join(MODEL_TYPES)}, got {model_type!r}")
    for field, allowed in {
        "position_embedding_type": ("absolute", None),
        "is_decoder": (False, None),
        "add_cross_attention": (False, None),
    }.items():
        if config.get(field) not in allowed:
            raise ValueError(f"config.json: {field} must be {allowed[0]!r}, got {config[field]!r}; no such encoder here")
    distil = model_type == "distilbert"
    names = _DISTILBERT if distil else _BERT
    missing = [name for name in names.values() if name not in config]
    if missing:
        raise ValueError(f"config.json of a {model_type} lacks {', '.join(missing)}; is it the checkpoint's own file?")
    values = {field: config[name] for field, name in names.items()}
    if values["activation"] not in ACTIVATIONS:
        raise ValueError(
            f"config.json: {names['activation']} must be one of {', '.join(ACTIVATIONS)}, got {values['activation']!r}"
        )
    values["activation"] = ACTIVATIONS[values["activation"]]
    pad_id = config.get("pad_token_id")
    values["pad_id"] = (1 if "roberta" in model_type else 0) if pad_id is None else pad_id
    if "roberta" in model_type:
        values["position_offset"] = values["pad_id"] + 1
    if distil:
        values |= {"token_types": 0, "norm_epsilon": 1e-12}  # written in its model code, not in its config
    return Architecture(model_type=model_type, **values)


def read_architecture(folder: pathlib.Path) -> Architecture:
    """``architecture`` of ``folder/config.json``."""
    path = pathlib.Path(folder) / "config.json"
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; a checkpoint folder holds config.json beside its weights")
    return architecture(json.loads(path.read_text(encoding="utf-8")))


def config_dict(architecture: Architecture) -> dict[str, Any]:
    """The config.json from which ``architecture`` reads the same values back, in the names transformers uses."""
    activation = {ours: name for name, ours in reversed(ACTIVATIONS.items())}
    names = _DISTILBERT if architecture.model_type == "distilbert" else _BERT
    values = {name: getattr(architecture, field) for field, name in names.items()}
    values[names["activation"]] = activation[architecture.activation]
    return {"model_type": architecture.model_type, "pad_token_id": architecture.pad_id} | values


def scratch(
    vocabulary: int,
    *,
    width: int = 128,
    layers: int = 4,
    heads: int = 4,
    feed_forward: int | None = None,
    max_length: int = 512,
    pad_id: int = 0,
    dropout: float = 0.1,
    kinds: tuple[str, ...] = (),
) -> Architecture:
    """A small BERT for random weights, or the layers of ``kinds``; ``feed_forward`` is ``4 * width`` unless given."""
    return Architecture(
        model_type="bert",
        vocabulary=vocabulary,
        width=width,
        layers=len(kinds) or layers,
        heads=heads,
        feed_forward=feed_forward or 4 * width,
        positions=max_length,
        pad_id=pad_id,
        hidden_dropout=dropout,
        attention_dropout=dropout,
        kinds=tuple(kinds),
    )


_BERT = {
    "vocabulary": "vocab_size",
    "width": "hidden_size",
    "layers": "num_hidden_layers",
    "heads": "num_attention_heads",
    "feed_forward": "intermediate_size",
    "positions": "max_position_embeddings",
    "token_types": "type_vocab_size",
    "activation": "hidden_act",
    "norm_epsilon": "layer_norm_eps",
    "hidden_dropout": "hidden_dropout_prob",
    "attention_dropout": "attention_probs_dropout_prob",
}
_DISTILBERT = {
    "vocabulary": "vocab_size",
    "width": "dim",
    "layers": "n_layers",
    "heads": "n_heads",
    "feed_forward": "hidden_dim",
    "positions": "max_position_embeddings",
    "activation": "activation",
    "hidden_dropout": "dropout",
    "attention_dropout": "attention_dropout",
}
