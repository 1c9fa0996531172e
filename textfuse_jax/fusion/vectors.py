"""Vectors of documents by the pretrained encoder as it is: the mean of its last layer, the same for every fold and split."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import numpy as np
from jaxtyping import Float
from ml_collections import ConfigDict

from textfuse_jax.config_checks import ConfigError
from textfuse_jax.data.pipeline import evaluation_batches
from textfuse_jax.encoders.architecture import read_architecture
from textfuse_jax.encoders.checkpoints import locate
from textfuse_jax.training import assembly, setup
from textfuse_jax.training.inference import predict_logits
from textfuse_jax.training.parallel import make_mesh, replicate
from textfuse_jax.training.step import flatten, unflatten
from textfuse_jax.types import tap_name


class Embedder:
    """``embedder(texts) -> f32 [n, d]``, for zero-shot opinions, nearest examples and the fusion's ``vector``.

    A tuned encoder's own vectors wouldn't do: those of its training documents are fitted to them, and each fold's lie in
    another space.

    Args:
      config: ``encoder.checkpoint`` names the encoder, ``data`` says how texts are cut.

    Raises:
      ConfigError: an encoder from scratch, whose vectors say nothing.
    """

    def __init__(self, config: ConfigDict):
        if config.encoder.checkpoint == "scratch":
            raise ConfigError(
                "config.encoder.checkpoint is scratch: vectors of random weights say nothing; "
                "name a pretrained checkpoint, or another llm.provider than local and fusion.vector = False"
            )
        config = config.copy_and_resolve_references()
        layers = read_architecture(locate(config.encoder.checkpoint)).layers
        config.model.pyramid, config.model.head, config.model.lexical, config.model.wide = "", "", "", ""
        config.model.document_taps = (tap_name(layers, "document"),)
        self._config, self._encoder = config, setup.load_text_encoder(config, ())
        self._mesh = make_mesh(1)
        model = assembly.make_model(config, self._encoder.architecture, 1, mode="frozen")
        self._forward = jax.jit(lambda params, rows: assembly.predictor(model)(unflatten(params), rows)[0])
        self._params = replicate(flatten({"encoder": self._encoder.params}), self._mesh)

    def __call__(self, texts: Sequence[str]) -> Float[np.ndarray, "n d"]:
        """Vectors in the order of the texts."""
        width = self._encoder.architecture.width
        if not len(texts):
            return np.zeros((0, width), np.float32)
        encoded = setup.encode_split(self._config, self._encoder.tokenizer, list(texts))
        batches = evaluation_batches(
            encoded,
            np.zeros(len(texts), np.int32),
            row_lengths=self._config.data.row_lengths,
            tokens_per_batch=self._config.data.eval_tokens_per_batch,
            packed=self._config.data.packed,
        )
        return predict_logits(self._forward, self._params, batches, len(texts), width, self._mesh).astype(np.float32)
