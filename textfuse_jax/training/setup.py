"""From a config to its parts: tokenizer, encoder weights, encoded splits, model, parameters. Training and prediction share it."""

from __future__ import annotations

import dataclasses
import functools
import json
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
import tokenizers

from textfuse_jax.data.packing import assemble, plan
from textfuse_jax.data.tokenize import Encoded, encode
from textfuse_jax.encoders.checkpoints import fingerprint, locate
from textfuse_jax.encoders.encoder import CachedEncoder, Encoder
from textfuse_jax.encoders.tokenizers import load_tokenizer, train_wordpiece
from textfuse_jax.encoders.transformer import Architecture, architecture_from_config, scratch_architecture
from textfuse_jax.encoders.weights import load_params
from textfuse_jax.models.classifier import TextGraphClassifier, build_model
from textfuse_jax.training.optimizer import depth_of
from textfuse_jax.training.step import flatten
from textfuse_jax.types import parse_tap


@dataclasses.dataclass(frozen=True)
class TextEncoder:
    """What turns text into features: a tokenizer, a transformer's shape, its pretrained weights (None from scratch).

    Attributes:
      fingerprint: SHA-256 of weights and tokenizer, "" from scratch.
    """

    tokenizer: tokenizers.Tokenizer
    architecture: Architecture
    params: dict[str, Any] | None
    fingerprint: str


def taps_of(config) -> tuple[str, ...]:
    """The encoder features the model reads, in order, once each."""
    extra = (config.model.document_tap,) if config.model.document_tap else ()
    return tuple(dict.fromkeys(tuple(config.model.levels) + extra))


def load_text_encoder(config, train_texts: Sequence[str]) -> TextEncoder:
    """The encoder that ``config.encoder`` names.

    Raises:
      CheckpointNotFound: lists every way to get the checkpoint.
      ValueError: a level of the model beyond the encoder's layers; the SHA-256 differs.
    """
    if config.encoder.checkpoint == "scratch":
        shape = config.encoder.scratch.to_dict()
        tokenizer = train_wordpiece(train_texts, shape["vocab_size"])
        shape["vocab_size"] = tokenizer.get_vocab_size()
        encoder = TextEncoder(tokenizer, scratch_architecture(max_positions=config.data.max_length, **shape), None, "")
    else:
        folder = locate(config.encoder.checkpoint, config.encoder.sha256 or None)
        shape = architecture_from_config(json.loads((folder / "config.json").read_text()))
        encoder = TextEncoder(load_tokenizer(folder), shape, load_params(folder, shape), fingerprint(folder))
    check_levels(config, encoder.architecture)
    return encoder


def check_levels(config, architecture: Architecture) -> None:
    """Every layer a model reads exists, every document fits the encoder's positions."""
    deepest = max(parse_tap(tap)[0] for tap in taps_of(config))
    if deepest > architecture.layers:
        raise ValueError(f"config.model.levels reads layer {deepest}, but the encoder has layers 0 to {architecture.layers}")
    if config.data.max_length > architecture.max_positions:
        raise ValueError(
            f"config.data.max_length must be <= {architecture.max_positions}, the encoder's, got {config.data.max_length}"
        )


def encode_split(config, tokenizer: tokenizers.Tokenizer, texts: Sequence[str]) -> Encoded:
    """Tokens and units of the texts of a split, as ``config.data`` says."""
    data = config.data
    return encode(
        texts,
        tokenizer,
        max_length=data.max_length,
        long_documents=data.long_documents,
        window_stride=data.window_stride,
        phrase_length=data.phrase_length,
    )


def make_model(config, architecture: Architecture, classes: int, mode: str | None = None) -> TextGraphClassifier:
    """The model of a config; ``mode`` overrides ``config.encoder.mode``."""
    e, taps = config.encoder, taps_of(config)
    mode = mode or e.mode
    if mode == "cached":
        encoder = CachedEncoder(taps=taps)
    else:
        frozen = architecture.layers + 1 if mode == "frozen" else e.tuned_from
        encoder = Encoder(
            architecture=architecture,
            taps=taps,
            frozen_layers=frozen,
            dtype=e.dtype,
            remat=e.remat,
            dropout=e.dropout,
            attention_dropout=e.attention_dropout,
        )
    return build_model(config.model, encoder, classes)


def is_frozen(config, name: str) -> bool:
    """Whether the parameter of this flat name is kept as it is: embeddings and encoder layers below ``tuned_from``."""
    if not name.startswith("encoder/"):
        return False
    if config.encoder.mode == "frozen":
        return True
    return depth_of(name) < config.encoder.tuned_from


def init_params(model: TextGraphClassifier, example, seed: int, pretrained: dict[str, Any] | None) -> dict[str, jax.Array]:
    """Flat parameters: random from the seed, then the pretrained encoder's in their place.

    Raises:
      ValueError: a pretrained tensor that the model doesn't have, or of another shape.
    """
    init = jax.jit(functools.partial(model.init, train=False))
    params = flatten(init(jax.random.key(seed), example).get("params", {}))
    for name, value in flatten({"encoder": pretrained} if pretrained else {}).items():
        if name not in params:
            continue  # a layer above the last one the model reads
        if params[name].shape != value.shape:
            raise ValueError(f"pretrained {name} has shape {value.shape}, the model's is {params[name].shape}")
        params[name] = value
    return params


def predictor(model: TextGraphClassifier) -> Callable:
    """``(params nested, rows) -> (logits, out)`` without dropout."""
    return lambda params, rows: model.apply({"params": params}, rows, train=False)


def example_rows(config, encoded: Encoded, classes: int, multi_label: bool):
    """A batch for shapes: the first documents of a split."""
    few = encoded.take(np.arange(min(len(encoded), 2)))
    labels = np.zeros((few.examples, classes), np.float32) if multi_label else np.zeros(few.examples, np.int32)
    rows = plan(few, row_lengths=config.data.row_lengths, tokens_per_batch=max(config.data.row_lengths))
    return assemble(few, labels, rows, 0)


def save_text_encoder(folder: pathlib.Path, encoder: TextEncoder) -> None:
    """Writes tokenizer and architecture beside a finished model, so that it is whole without the pretrained package."""
    encoder.tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "architecture.json").write_text(json.dumps(dataclasses.asdict(encoder.architecture), indent=1))
