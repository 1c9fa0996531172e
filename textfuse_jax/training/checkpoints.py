"""Checkpoints by Orbax: ``{state, data position, config}`` saved together and atomically, loaded into a template's shardings."""

from __future__ import annotations

import pathlib
import re
import shutil
from typing import Any

import jax
import orbax.checkpoint.experimental.v1 as ocp

STEP = re.compile(r"step_(\d{9})$")


def save(folder: pathlib.Path, step: int, state: Any, meta: dict, keep: int) -> pathlib.Path:
    """Writes ``folder/step_<step>``: arrays of ``state`` and ``meta`` (JSON). It appears whole or not at all.

    Args:
      folder: the run's checkpoints/.
      step: steps taken.
      state: a tree of arrays.
      meta: JSON-able; the position in the data, the config, what the loop remembers.
      keep: the newest so many stay, older ones are deleted after the new one stands.
    """
    path = folder.resolve() / f"step_{step:09d}"
    ocp.save_checkpointables(path, {"state": state}, overwrite=True, custom_metadata=meta)
    if jax.process_index() == 0:  # of several processes, which all take part in writing
        for old in all_steps(folder)[:-keep]:
            shutil.rmtree(old)
    return path


def all_steps(folder: pathlib.Path) -> list[pathlib.Path]:
    """Complete checkpoints, oldest first; what a killed process left half-written is not among them."""
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.resolve().iterdir() if STEP.match(p.name) and (p / "orbax.checkpoint").exists())


def read_meta(path: pathlib.Path) -> dict:
    """The ``meta`` a checkpoint was saved with."""
    return dict(ocp.checkpointables_metadata(path).custom_metadata)


def load(path: pathlib.Path, like: Any) -> Any:
    """The state of a checkpoint, in the structure, types and shardings of ``like``; so it moves between device counts."""
    template = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), like)
    return ocp.load_checkpointables(path.resolve(), {"state": template})["state"]


def save_params(path: pathlib.Path, params: dict[str, Any]) -> None:
    """Writes flat parameters alone: the finished model."""
    ocp.save_checkpointables(path.resolve(), {"state": params}, overwrite=True)


def load_params(path: pathlib.Path) -> dict[str, Any]:
    """Reads what ``save_params`` wrote, onto the default device."""
    on = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    saved = ocp.checkpointables_metadata(path.resolve()).metadata["state"]
    template = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=on), saved)
    return ocp.load_checkpointables(path.resolve(), {"state": template})["state"]
