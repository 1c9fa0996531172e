"""From a config to what a training reads: tokenizer, encoder weights, encoded splits, cached features. Prediction shares it."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import tokenizers

from textfuse_jax.config import KNOWN_SHA256, data_seed
from textfuse_jax.config_checks import ConfigError
from textfuse_jax.data.cascade_protocols import load_cascade_corpus
from textfuse_jax.data.cascade_sets import SOURCES as CASCADES
from textfuse_jax.data.checks import normalised
from textfuse_jax.data.corpus import TRAIN, VALIDATION, Corpus, DataNotFound, Split, strata
from textfuse_jax.data.pipeline import Batches, evaluation_batches, train_batches
from textfuse_jax.data.sources import load
from textfuse_jax.data.tokenize import Encoded, encode
from textfuse_jax.encoders import architecture as shapes
from textfuse_jax.encoders.architecture import Architecture
from textfuse_jax.encoders.cache import bytes_lacking, check_disk, digest, extract
from textfuse_jax.encoders.checkpoints import CheckpointNotFound, fingerprint, locate
from textfuse_jax.encoders.encoder import Encoder
from textfuse_jax.encoders.linear import product_dtype, rounded_kernels
from textfuse_jax.encoders.tokenizers import load_tokenizer, pad_id, save_tokenizer, train_wordpiece
from textfuse_jax.encoders.weights import load_params
from textfuse_jax.llm.budget import run_of
from textfuse_jax.models.classifier import TextGraphClassifier, taps_of
from textfuse_jax.training import assembly, contrastive
from textfuse_jax.training.compilation import Compiled
from textfuse_jax.training.drawings import text_graphs
from textfuse_jax.training.material import Folds
from textfuse_jax.training.parallel import leads, own_mesh, replicate, spread
from textfuse_jax.training.progress import StopSignals
from textfuse_jax.training.step import flatten
from textfuse_jax.types import parse_tap

Features = Mapping[str, np.ndarray]
"""Cached features of a split: tap -> float[units of all pieces, d]."""


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


@dataclasses.dataclass(frozen=True)
class Material:
    """What a training reads: texts, the encoder, each split's tokens and, in mode "cached", its features."""

    corpus: Corpus
    encoder: TextEncoder
    encoded: Mapping[str, Encoded]
    features: Mapping[str, Features]

    size_name = "text length", "tokens"

    @property
    def layers(self) -> int:
        """Layers of the encoder."""
        return self.encoder.architecture.layers

    def split(self, name: str) -> Split:
        """The documents of a split."""
        return getattr(self.corpus, name)

    def train_batches(self, config, split: str = "train", **share) -> Batches:
        """Shuffled batches of all epochs."""
        return train_batches(
            self.encoded[split],
            self.split(split).labels,
            epochs=config.training.total_epochs,
            seed=data_seed(config),
            tokens_per_batch=config.data.tokens_per_batch,
            prefetch=config.data.prefetch,
            **self._shape(config, split),
            **share,
        )

    def held_batches(self, config, split: str, **share) -> Batches:
        """Every document of a split once, in order."""
        tokens = config.data.eval_tokens_per_batch
        held = self.encoded[split], self.split(split).labels
        return evaluation_batches(*held, tokens_per_batch=tokens, **self._shape(config, split), **share)

    def _shape(self, config, split: str) -> dict[str, Any]:
        features = self.features.get(split)
        # Behind cached features units are all the work, and padding ones half of it; behind an encoder it is the tokens.
        return dict(
            row_lengths=config.data.row_lengths, packed=config.data.packed, fitted=features is not None, features=features
        )

    def folds(self, config) -> Folds:
        """Parts of the training split, each with every class in proportion; a trial is validated on its own part."""
        fold = folds_of(self.corpus.train, config.data.folds, data_seed(config))
        return Folds("train", np.where(fold == np.arange(config.data.folds)[:, None], VALIDATION, TRAIN).astype(np.int8))

    def make_model(self, config) -> TextGraphClassifier:
        """The model of a config."""
        return assembly.make_model(config, self.encoder.architecture, len(self.corpus.class_names))

    def init_params(self, config, model, rows) -> dict[str, jax.Array]:
        """Flat parameters at the start: random, then the pretrained encoder's."""
        return assembly.init_params(model, rows, config.seed, None if config.encoder.mode == "cached" else self.encoder.params)

    def constants(self) -> dict[str, Any]:
        """None: a batch holds all that it needs."""
        return {}

    def apply(self, model) -> Callable:
        """The model's own."""
        return lambda params, rows, *, train, rngs=None: model.apply({"params": params}, rows, train=train, rngs=rngs)

    def is_frozen(self, config, name: str) -> bool:
        """See ``assembly.is_frozen``."""
        return assembly.is_frozen(config, name)

    def notes(self) -> dict[str, Any]:
        """Documents that were cut, and the encoder."""
        truncated = {name: int(part.truncated) for name, part in self.encoded.items()}
        return {"truncated": truncated, "encoder_fingerprint": self.encoder.fingerprint}

    def told(self, config) -> str:
        """How many documents were cut."""
        after = f"window {config.data.train_windows}" if config.data.train_windows else f"{config.data.max_length} tokens"
        return f"{self.encoded['train'].truncated:,} training documents cut at {after}"

    def sizes(self, split: str) -> np.ndarray:
        """Tokens of each document."""
        encoded = self.encoded[split]
        return np.bincount(encoded.example, encoded.lengths, minlength=encoded.examples)

    def references(self, folds: bool = False) -> dict[str, dict[str, float]]:
        """None: ``evaluation.reference`` reads texts."""
        return {}

    def drawings(self, config, model, params, probabilities):
        """See ``drawings.text_graphs``."""
        return text_graphs(config, self, model, params, probabilities)

    def export(self, folder: pathlib.Path, params: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Writes the tokenizer; where features were cached the encoder joins the parameters."""
        if self.features:
            params = params | flatten({"encoder": self.encoder.params})
        save_tokenizer(self.encoder.tokenizer, folder)
        return params, {"architecture": dataclasses.asdict(self.encoder.architecture)}


def folds_of(split: Split, folds: int, seed: int) -> np.ndarray:
    """The fold 0..folds-1 of each document, int32 [n]; each fold holds each class in proportion, copies of a text lie in one."""
    order = np.random.default_rng(seed).permutation(len(split))
    order = order[np.argsort(strata(split.labels)[order], kind="stable")]
    fold = np.empty(len(order), np.int32)
    fold[order] = np.arange(len(order)) % folds
    first: dict[str, int] = {}
    return fold[[first.setdefault(normalised(text), i) for i, text in enumerate(split.texts)]]


def prepare(
    config,
    corpus: Corpus,
    say: Callable[[str], None],
    workdir: pathlib.Path | None = None,
    stop: StopSignals | None = None,
    run: pathlib.Path | None = None,
) -> Material:
    """The encoder, after the stage that ``config.training.pretrain`` names, and of every split the tokens and, in mode "cached",
    the features; of cascades what ``cascade_material`` makes.

    Args:
      workdir: keeps the state of that stage; None: nothing is kept.
      stop: tells whether a signal asked for its end.
      run: folder by whose name what the run's earlier processes spent on an LLM is known; None: workdir.

    Raises:
      as ``load_text_encoder``, ``contrastive.pretrain`` and ``cached_features``.
    """
    if config.data.source in CASCADES:
        from textfuse_jax.training import cascade_material  # it builds on this module

        return cascade_material.prepare(config, corpus, say, run_of(run or workdir))
    encoder = load_text_encoder(config, corpus.train.texts)
    splits = {"train": corpus.train, "validation": corpus.validation, "test": corpus.test}
    encoded = {name: encode_split(config, encoder.tokenizer, split.texts) for name, split in splits.items()}
    if config.data.train_windows:
        encoded["train"] = encoded["train"].first_windows(config.data.train_windows)
    encoder = contrastive.stage(config, encoder, deepest(config), encoded["train"], corpus.train.labels, workdir, stop, say)
    features = {}
    if config.encoder.mode == "cached":
        found = cached_features(config, encoder, {f"{corpus.name}-{name}": encoded[name] for name in splits}, say)
        features = dict(zip(splits, found.values()))
    return Material(corpus, encoder, encoded, features)


def load_text_encoder(config, train_texts: Sequence[str], taps: Sequence[str] | None = None) -> TextEncoder:
    """The encoder that ``config.encoder`` names, with the layers up to the highest of ``taps``, by default those the model reads.

    Raises:
      CheckpointNotFound: lists every way to get the checkpoint.
      ConfigError: a level of the model beyond the encoder's layers, texts longer than its positions.
      ValueError: the SHA-256 differs; a tensor is missing or unknown.
    """
    if config.encoder.checkpoint == "scratch":
        shape = config.encoder.scratch.to_dict()
        size, known = shape.pop("vocab_size"), shape.pop("tokenizer")
        tokenizer = load_tokenizer(locate(known)) if known else train_wordpiece(train_texts, size)
        sizes = dict(max_length=config.data.max_length, pad_id=pad_id(tokenizer))
        encoder = TextEncoder(tokenizer, shapes.scratch(tokenizer.get_vocab_size(), **shape, **sizes), None, "")
        check_fit(config, encoder.architecture, taps)
        return encoder
    folder = locate(config.encoder.checkpoint, config.encoder.sha256 or KNOWN_SHA256.get(config.encoder.checkpoint))
    architecture = shapes.read_architecture(folder)
    check_fit(config, architecture, taps)
    params = {"transformer": load_params(folder, architecture, num_layers=deepest(config, taps))}
    return TextEncoder(load_tokenizer(folder), architecture, params, fingerprint(folder))


def load_corpus(config) -> Corpus:
    """The corpus; where the encoder's checkpoint can't be had either, one message tells of both.

    Raises:
      DataNotFound, CheckpointNotFound: what is missing and every way to get it.
      DataError: the data can't be used.
    """
    missing: list[FileNotFoundError] = []
    if config.encoder.checkpoint != "scratch" and (config.data.source not in CASCADES or "encoder" in config.cascades.inputs):
        try:
            locate(config.encoder.checkpoint)
        except CheckpointNotFound as error:
            missing.append(error)
    if config.data.source in CASCADES and config.model.fusion and not missing:
        try:
            locate(config.cascades.augmentation.encoder)
        except CheckpointNotFound as error:
            missing.append(error)
    try:
        corpus = (
            load_cascade_corpus(config, data_seed(config))
            if config.data.source in CASCADES
            else load(config.data, data_seed(config))
        )
    except DataNotFound as error:
        raise DataNotFound("\n\n".join(map(str, [error, *missing]))) from error
    if missing:
        raise missing[0]
    return corpus


def deepest(config, taps: Sequence[str] | None = None) -> int:
    """The highest encoder layer of the taps, by default those the model reads; layers above are neither loaded nor computed."""
    return max(parse_tap(tap)[0] for tap in taps or taps_of(config.model))


def check_fit(config, architecture: Architecture, taps: Sequence[str] | None = None) -> None:
    """Raises ConfigError unless every layer the model reads exists and every document fits the encoder's positions."""
    if deepest(config, taps) > architecture.layers:
        field = "cascades.taps" if taps else "model.levels"
        raise ConfigError(
            f"config.{field} reads layer {deepest(config, taps)}, but the encoder has layers 0 to {architecture.layers}"
        )
    if config.data.max_length > architecture.max_length:
        raise ConfigError(
            f"config.data.max_length must be <= {architecture.max_length}, the encoder's, got {config.data.max_length}"
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


def cached_features(
    config, encoder: TextEncoder, texts: Mapping[str, Encoded], say: Callable, taps: Sequence[str] | None = None
) -> dict[str, Features]:
    """The frozen encoder's features of texts, from the cache or computed now, name -> tap -> float[units, d] on disk.

    Args:
      texts: by a name for their folder, corpus and split.
      say: takes lines about what was found and what has to be written.
      taps: None: those that ``config.model`` reads.

    Of several processes one computes, with its own devices; the others wait and read.

    Raises:
      ConfigError: they would not all fit on the disk; nothing was computed.
    """
    mesh = own_mesh()
    e, a = config.encoder, encoder.architecture
    taps, dtype = tuple(taps or taps_of(config.model)), product_dtype(e.dtype)
    module = Encoder(a, taps, frozen_layers=a.layers + 1, dtype=dtype, fused=e.fused_attention)
    params = replicate({"params": rounded_kernels(encoder.params, dtype)}, mesh)
    forward = Compiled(jax.jit(lambda p, rows: module.apply(p, rows, train=False)[0]), "encoder", say)
    root = pathlib.Path(e.cache_dir) if e.cache_dir else pathlib.Path.home() / ".cache" / "textfuse_jax"
    made_by = f"{encoder.fingerprint[:12]}-{dtype}-{e.cache_dtype}"
    folders = {  # by their texts: runs on other training rows share a test split
        name: root / f"{name.replace(':', '_').replace('/', '_')}-{digest(encoded)[:12]}-{made_by}"
        for name, encoded in texts.items()
    }

    def features_of(name: str, encoded: Encoded) -> Features:
        batches = evaluation_batches(
            encoded,
            np.zeros(encoded.examples, np.int32),
            row_lengths=config.data.row_lengths,
            tokens_per_batch=config.data.eval_tokens_per_batch,
            rows_multiple=mesh.size,
        )
        (once,) = batches.plans
        return extract(
            folders[name],
            lambda rows: forward(params, spread(rows, mesh)),
            batches.batch,
            [once.pieces[once.bounds[b] : once.bounds[b + 1]] for b in range(once.batches)],
            encoded,
            taps,
            encoder=" ".join(filter(None, (encoder.fingerprint, str(dtype), e.fused_attention))),
            width=a.width,
            precision=e.cache_dtype,
            together=2 if mesh.size == 1 else 1,
            progress=leads(),
            say=say,
        )

    try:
        root.mkdir(parents=True, exist_ok=True)
        lacking = sum(bytes_lacking(folders[name], encoded, taps, a.width, e.cache_dtype) for name, encoded in texts.items())
        if lacking:
            say(f"features: {lacking / 1e9:.2f} GB to write below {root}")
        check_disk(root, lacking)
        return {name: features_of(name, encoded) for name, encoded in texts.items()}
    except OSError as error:
        raise ConfigError(f"config.encoder.cache_dir: {error}") from error
