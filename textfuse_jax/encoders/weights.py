"""Pretrained weights: safetensors files <-> our parameter tree, by name, every tensor accounted for."""

from __future__ import annotations

import itertools
import json
import pathlib
import re
from collections.abc import Iterable, Mapping

import numpy as np
from flax import traverse_util
from safetensors import safe_open
from safetensors.numpy import save_file

from textfuse_jax.encoders.architecture import Architecture, config_dict

UNUSED = (
    r"(.*\.)?(position_ids|token_type_ids)",  # index buffers that old transformers saved
    r"(.*\.)?pooler\..*",  # tanh layer over [CLS], trained on next-sentence prediction
    r"(cls|lm_head|classifier|pre_classifier|qa_outputs|vocab_transform|vocab_layer_norm|vocab_projector)\..*",  # heads
    r"dropout\..*",
)
"""Patterns of the tensors in checkpoints that an encoder has no use for; any other unknown tensor is an error."""


def tensor_names(architecture: Architecture, layers: int) -> dict[str, tuple[str, ...]]:
    """Parameter path -> names of the checkpoint's tensors: three for a fused qkv, else one; without prefix.

    A kernel [d, f] is stored there as [f, d]; that of qkv is the three concatenated along f.
    """
    distil = architecture.model_type == "distilbert"
    names = {
        "embeddings/token": ("embeddings.word_embeddings.weight",),
        "embeddings/position": ("embeddings.position_embeddings.weight",),
        "embeddings/norm/scale": ("embeddings.LayerNorm.weight",),
        "embeddings/norm/bias": ("embeddings.LayerNorm.bias",),
    }
    if architecture.token_types:
        names["embeddings/token_type"] = ("embeddings.token_type_embeddings.weight",)
    parts = _DISTILBERT if distil else _BERT
    for layer in range(1, layers + 1):
        for part, modules in parts.items():
            for ours, theirs in (("scale" if part.endswith("norm") else "kernel", "weight"), ("bias", "bias")):
                stem = f"{'transformer' if distil else 'encoder'}.layer.{layer - 1}"
                names[f"layer_{layer:02d}/{part}/{ours}"] = tuple(f"{stem}.{module}.{theirs}" for module in modules)
    return names


def load_params(folder: pathlib.Path, architecture: Architecture, *, num_layers: int | None = None) -> dict:
    """The parameters of a ``Transformer``, float32 NumPy arrays, from ``model.safetensors`` or its sharded index.

    Args:
      folder: holds ``model.safetensors``, or ``model.safetensors.index.json`` and the shards it names.
      num_layers: layers to keep; None for all.

    Raises:
      FileNotFoundError: no safetensors file in the folder.
      ValueError: a tensor is missing, has a wrong shape, or is neither known nor in ``UNUSED``; all are listed.
    """
    keep = architecture.layers if num_layers is None else num_layers
    found = _catalogue(pathlib.Path(folder), architecture)
    names = tensor_names(architecture, architecture.layers)
    needed = {name for group in names.values() for name in group}
    missing = sorted(needed - found.keys())
    unknown = sorted(name for name in found.keys() - needed if not any(re.fullmatch(p, name) for p in UNUSED))
    if missing or unknown:
        raise ValueError(
            f"{folder}: not a {architecture.model_type} encoder of {architecture.layers} layers; "
            f"missing tensors: {', '.join(missing) or 'none'}; unknown tensors: {', '.join(unknown) or 'none'}"
        )
    kept = tensor_names(architecture, keep)
    tensors = _read(found, {name for group in kept.values() for name in group})
    shapes = _shapes(architecture)
    flat = {}
    for path, group in kept.items():
        arrays = [tensors[name] for name in group]
        arrays = [array.T if path.endswith("kernel") else array for array in arrays]
        flat[path] = np.ascontiguousarray(np.concatenate(arrays, axis=-1) if len(arrays) > 1 else arrays[0], np.float32)
        expected = shapes[path.split("/", 1)[1] if path.startswith("layer_") else path]
        if flat[path].shape != expected:
            raise ValueError(
                f"{folder}: {' + '.join(group)} should be {expected} as config.json says, got {flat[path].shape} (as {path})"
            )
    return traverse_util.unflatten_dict(flat, sep="/")


def save_params(folder: pathlib.Path, architecture: Architecture, params: Mapping) -> None:
    """Write ``config.json`` and ``model.safetensors`` in transformers' names, so that AutoModel loads a tuned encoder.

    ``params`` may hold fewer layers than the architecture; the config then says so.
    """
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    flat = traverse_util.flatten_dict(dict(params), sep="/")
    layers = max((int(path[6:].split("/")[0]) for path in flat if path.startswith("layer_")), default=0)
    tensors = {}
    for path, group in tensor_names(architecture, layers).items():
        pieces = np.split(np.asarray(flat[path], np.float32), len(group), axis=-1)
        for name, piece in zip(group, pieces):
            tensors[name] = np.ascontiguousarray(piece.T if path.endswith("kernel") else piece)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config = config_dict(architecture) | {_LAYERS[architecture.model_type == "distilbert"]: layers}
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def safetensors_files(folder: pathlib.Path) -> list[pathlib.Path]:
    """The weight files of a checkpoint folder: one, or the shards that its index names, each of which must be there."""
    single, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if single.is_file():
        return [single]
    if not index.is_file():
        raise FileNotFoundError(
            f"{folder} has neither model.safetensors nor model.safetensors.index.json; a checkpoint that has only "
            "pytorch_model.bin must be saved again with transformers' save_pretrained"
        )
    files = [folder / name for name in sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))]
    for file in files:
        if not file.is_file():
            raise FileNotFoundError(f"{index} names {file.name}, which is not in the folder")
    return files


def _catalogue(folder: pathlib.Path, architecture: Architecture) -> dict[str, tuple[pathlib.Path, str]]:
    """Tensor name without the model's prefix -> its file and full name; old names of LayerNorm's are made new."""
    prefix = re.compile(rf"^{'roberta' if 'roberta' in architecture.model_type else architecture.model_type}\.")
    found = {}
    for file in safetensors_files(folder):
        with safe_open(file, framework="numpy") as tensors:
            for name in tensors.keys():  # noqa: SIM118, a safe_open is no mapping
                plain = re.sub(r"LayerNorm\.gamma$", "LayerNorm.weight", prefix.sub("", name))
                found[re.sub(r"LayerNorm\.beta$", "LayerNorm.bias", plain)] = (file, name)
    return found


def _read(catalogue: Mapping[str, tuple[pathlib.Path, str]], names: Iterable[str]) -> dict[str, np.ndarray]:
    """The named tensors in float32, each file opened once."""
    wanted = sorted((*catalogue[name], name) for name in names)
    arrays = {}
    for file, group in itertools.groupby(wanted, key=lambda item: item[0]):
        with safe_open(file, framework="flax") as tensors:  # unlike "numpy" it reads bfloat16
            for _, full_name, name in group:
                arrays[name] = np.asarray(tensors.get_tensor(full_name), np.float32)
    return arrays


def _shapes(a: Architecture) -> dict[str, tuple[int, ...]]:
    """Shape of each parameter, of a layer's those without the layer's name."""
    d, f = a.width, a.feed_forward
    kernels = {"qkv": (d, 3 * d), "attention_out": (d, d), "up": (d, f), "down": (f, d)}
    shapes = {f"{part}/kernel": shape for part, shape in kernels.items()}
    shapes |= {f"{part}/bias": shape[1:] for part, shape in kernels.items()}
    for norm in ("attention_norm", "output_norm", "embeddings/norm"):
        shapes |= {f"{norm}/scale": (d,), f"{norm}/bias": (d,)}
    tables = {"token": a.vocabulary, "position": a.positions, "token_type": a.token_types}
    return shapes | {f"embeddings/{table}": (rows, d) for table, rows in tables.items()}


_BERT = {
    "qkv": ("attention.self.query", "attention.self.key", "attention.self.value"),
    "attention_out": ("attention.output.dense",),
    "attention_norm": ("attention.output.LayerNorm",),
    "up": ("intermediate.dense",),
    "down": ("output.dense",),
    "output_norm": ("output.LayerNorm",),
}
_DISTILBERT = {
    "qkv": ("attention.q_lin", "attention.k_lin", "attention.v_lin"),
    "attention_out": ("attention.out_lin",),
    "attention_norm": ("sa_layer_norm",),
    "up": ("ffn.lin1",),
    "down": ("ffn.lin2",),
    "output_norm": ("output_layer_norm",),
}
_LAYERS = {False: "num_hidden_layers", True: "n_layers"}
