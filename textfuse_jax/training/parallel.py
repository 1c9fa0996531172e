"""The mesh: rows of a batch are spread over devices, the state is on each. XLA adds the sums over devices."""

from __future__ import annotations

from typing import Any

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec


def make_mesh(devices: int = 0) -> Mesh:
    """A one-axis mesh, ``"data"``, over the first ``devices`` local devices; 0 = all.

    Raises:
      ValueError: more devices are asked for than there are.
    """
    there = jax.local_devices()
    if devices > len(there):
        raise ValueError(
            f"config.parallel.devices must be <= {len(there)}, the devices of this process, got {devices}; 0 takes all"
        )
    count = devices or len(there)
    # Auto: with the Explicit default, Linen's nn.Embed fails under a mesh.
    return jax.make_mesh((count,), ("data",), axis_types=(AxisType.Auto,), devices=there[:count])


def replicate(tree: Any, mesh: Mesh) -> Any:
    """The tree on every device of the mesh."""
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))


def spread(batch: Any, mesh: Mesh) -> Any:
    """The batch with its leading axis, rows, divided over the mesh."""
    return jax.device_put(batch, NamedSharding(mesh, PartitionSpec("data")))
