"""Ways to encode texts: ours, transformers on PyTorch, sentence-transformers, ONNX Runtime.

Each is ``encode(texts) -> float32 [texts, layers + 1, width]``, the mean over tokens of each layer's hidden states, [CLS] and
[SEP] included, in the order of the texts; tokenisation is part of it. All cut texts at ``max_length`` tokens.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import pathlib
import warnings
from collections.abc import Callable, Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from textfuse_jax.config import MINILM
from textfuse_jax.data.pipeline import Batches, evaluation_batches
from textfuse_jax.data.tokenize import encode as tokenize
from textfuse_jax.encoders.architecture import read_architecture
from textfuse_jax.encoders.checkpoints import locate
from textfuse_jax.encoders.encoder import Encoder
from textfuse_jax.encoders.linear import rounded_kernels
from textfuse_jax.encoders.tokenizers import load_tokenizer
from textfuse_jax.encoders.weights import load_params
from textfuse_jax.evaluation.records import environment
from textfuse_jax.in_flight import in_flight
from textfuse_jax.types import tap_name

Encode = Callable[[Sequence[str]], Float[np.ndarray, "n l d"]]

DTYPES = ("bfloat16", "float32")
MAX_LENGTH = 128
TOKENS_PER_BATCH, ROW_LENGTHS = 1024, (64, 96)  # ours; beside rows of the longest text. Attention costs in proportion to a row
BATCH = 32  # theirs
THEIRS = {
    "torch_arrival_float32": "transformers + PyTorch float32, batches as texts come",
    "torch_sorted_float32": "transformers + PyTorch float32, batches by length",
    "torch_sorted_bfloat16": "transformers + PyTorch bfloat16, batches by length",
    "torch_arrival_bfloat16": "transformers + PyTorch bfloat16, batches as texts come",
    "sentence_transformers": "sentence-transformers float32, its own sorting, last layer alone; ours gives all layers",
    "onnx": "ONNX Runtime float32, all graph optimisations, batches by length",
}
PACKAGES = {"onnx": ("onnx", "onnxruntime", "onnxscript"), "sentence_transformers": ("sentence_transformers",)}
"""Contenders that may be left out -> the packages they need."""


def require(without: Sequence[str]) -> None:
    """Raises SystemExit, with what to install, unless the packages of all contenders but ``without`` are there."""
    if unknown := sorted(set(without) - set(PACKAGES)):
        raise SystemExit(f"--without knows {', '.join(PACKAGES)}, got {', '.join(unknown)}")
    for name in set(PACKAGES) - set(without):
        if missing := [package for package in PACKAGES[name] if importlib.util.find_spec(package) is None]:
            raise SystemExit(
                f"{', '.join(missing)} not installed: pip install -r requirements-benchmarks.txt, or give --without={name}"
            )


class Ours:
    """Our encoder: ``encode(texts)`` as described above, compiled once for each row length."""

    def __init__(self, dtype: str, max_length: int = MAX_LENGTH):
        folder = locate(MINILM)
        self.architecture = read_architecture(folder)
        self.params = jax.tree.map(jnp.asarray, rounded_kernels(load_params(folder, self.architecture), jnp.dtype(dtype)))
        self._tokenizer, self._max_length = load_tokenizer(folder), max_length
        layers = range(self.architecture.layers + 1)
        self._taps = tuple(tap_name(layer, "document") for layer in layers)
        module = Encoder(self.architecture, self._taps, frozen_layers=len(layers), dtype=jnp.dtype(dtype))
        self._forward = jax.jit(lambda p, rows: module.apply({"params": {"transformer": p}}, rows, train=False)[0])

    def batches(self, texts: Sequence[str]) -> tuple[Batches, np.ndarray]:
        """Packed batches of the texts, and the number of tokens of each text."""
        encoded = tokenize(texts, self._tokenizer, max_length=self._max_length, progress=False)
        nothing = np.zeros(len(texts), np.int32)
        lengths = (*(length for length in ROW_LENGTHS if length < self._max_length), self._max_length)
        rows = dict(tokens_per_batch=TOKENS_PER_BATCH, row_lengths=lengths)
        return evaluation_batches(encoded, nothing, **rows), encoded.lengths

    def forward(self, rows) -> dict[str, jax.Array]:
        """Means of each layer for the document slots of one batch."""
        return self._forward(self.params, rows)

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        means = np.empty((len(texts), len(self._taps), self.architecture.width), np.float32)
        for rows, features in in_flight(lambda rows: jax.block_until_ready(self.forward(rows)), self.batches(texts)[0]):
            held = rows.example >= 0
            for layer, tap in enumerate(self._taps):
                means[rows.example[held], layer] = np.asarray(features[tap])[held]
        return means


def padded_batches(
    tokenizer, texts: Sequence[str], max_length: int, by_length: bool
) -> Iterator[tuple[Int[np.ndarray, "b"], Int[np.ndarray, "b t"], Int[np.ndarray, "b t"]]]:
    """Indices, token ids and mask of batches of 32 texts, each padded to its longest.

    Args:
      by_length: the longest texts first, as sentence-transformers does; else as they come.
    """
    tokens = tokenizer(list(texts), truncation=True, max_length=max_length)["input_ids"]
    lengths = np.array([len(piece) for piece in tokens])
    order = np.argsort(-lengths, kind="stable") if by_length else np.arange(len(tokens))
    for index in np.split(order, range(BATCH, len(order), BATCH)):
        mask = np.arange(lengths[index].max()) < lengths[index, None]
        ids = np.full(mask.shape, tokenizer.pad_token_id, np.int64)
        ids[mask] = np.concatenate([tokens[i] for i in index])
        yield index, ids, mask.astype(np.int64)


def all_cores() -> int:
    """Lets PyTorch use as many threads as this process may use cores; returns how many."""
    import torch

    torch.set_num_threads(environment()["cpu"]["count"])
    return torch.get_num_threads()


def _layer_means(folder: pathlib.Path):
    """A torch module ``(ids, mask) -> [b, layers + 1, d]``, and the tokenizer."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    class LayerMeans(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = AutoModel.from_pretrained(folder)

        def forward(self, ids, mask):
            hidden = self.encoder(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states
            weight = mask[:, None].to(hidden[0].dtype)
            return torch.cat([weight @ h for h in hidden], 1).float() / mask.sum(1)[:, None, None]

    return LayerMeans().eval(), AutoTokenizer.from_pretrained(folder)


def torch_encoder(folder: pathlib.Path, max_length: int, *, dtype: str = "float32", by_length: bool = True) -> Encode:
    """``AutoModel`` in inference mode with its default attention; the sum over tokens is a matrix product."""
    import torch

    model, tokenizer = _layer_means(folder)
    model = model.to(getattr(torch, dtype))

    def encode(texts: Sequence[str]) -> Float[np.ndarray, "n l d"]:
        means: np.ndarray | None = None
        with torch.inference_mode():
            for index, ids, mask in padded_batches(tokenizer, texts, max_length, by_length):
                part = model(torch.from_numpy(ids), torch.from_numpy(mask)).numpy()
                means = np.empty((len(texts), *part.shape[1:]), np.float32) if means is None else means
                means[index] = part
        return means

    return encode


def sentence_encoder(folder: pathlib.Path, max_length: int) -> Encode:
    """``SentenceTransformer.encode``: the last layer's mean alone, scaled to length 1; [n, 1, d]."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    model.max_seq_length = max_length
    return lambda texts: model.encode(list(texts), batch_size=BATCH, show_progress_bar=False)[:, None]


def export_onnx(folder: pathlib.Path, file: pathlib.Path) -> None:
    """Writes the model of ``_layer_means``, float32, batch and length free."""
    import torch

    model, tokenizer = _layer_means(folder)
    ids = torch.tensor(tokenizer(["a text", "another"], padding=True)["input_ids"])
    free = {0: torch.export.Dim("batch", min=1, max=4096), 1: torch.export.Dim("length", min=2, max=512)}
    for name in ("torch.onnx", "onnx_ir", "onnxscript"):
        logging.getLogger(name).setLevel(logging.ERROR)  # hundreds of lines on what the exporter merged
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")  # of the exporter's own use of PyTorch
        torch.onnx.export(
            model,
            (ids, torch.ones_like(ids)),
            str(file),
            input_names=["ids", "mask"],
            output_names=["means"],
            dynamic_shapes=(free, free),
            dynamo=True,
            external_data=False,
            verbose=False,
        )


def onnx_encoder(folder: pathlib.Path, max_length: int, file: pathlib.Path, threads: int) -> Encode:
    """ONNX Runtime on the CPU, all graph optimisations, batches by length; ``file`` is from ``export_onnx``."""
    import onnxruntime
    from transformers import AutoTokenizer

    tokenizer, options = AutoTokenizer.from_pretrained(folder), onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])

    def encode(texts: Sequence[str]) -> Float[np.ndarray, "n l d"]:
        means: np.ndarray | None = None
        for index, ids, mask in padded_batches(tokenizer, texts, max_length, by_length=True):
            (part,) = session.run(None, {"ids": ids, "mask": mask})
            means = np.empty((len(texts), *part.shape[1:]), np.float32) if means is None else means
            means[index] = part
        return means

    return encode


def make(name: str, onnx_file: str = "", max_length: int = MAX_LENGTH) -> Encode:
    """The contender of this name: one of ``DTYPES`` for ours, or of ``THEIRS``.

    Args:
      onnx_file: written by ``export_onnx``, for "onnx".
    """
    folder = locate(MINILM)
    if name in DTYPES:
        return Ours(name, max_length)
    if name == "sentence_transformers":
        return sentence_encoder(folder, max_length)
    if name == "onnx":
        return onnx_encoder(folder, max_length, pathlib.Path(onnx_file), environment()["cpu"]["count"])
    _, order, dtype = name.split("_")
    return torch_encoder(folder, max_length, dtype=dtype, by_length=order == "sorted")
