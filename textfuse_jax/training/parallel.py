"""One step on many devices and hosts: the mesh, who holds what, and the two engines that map the step, jit and pmap.

An engine has five functions. ``place`` puts a tree on the mesh, its plain form: checkpoints and evaluation read that. ``put``
turns the plain form of a state into the one that the mapped step takes, ``get`` turns it back, ``spread`` does the batch,
and ``map`` maps the step. The loop calls these and knows no more of devices.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from textfuse_jax.config_checks import ConfigError
from textfuse_jax.dropout import ROWS

SMALLEST = 2**14
"""Arrays of fewer elements are not worth dividing: each would be gathered again before it is used."""


def connect(coordinator: str, processes: int | None = None, process: int | None = None) -> None:
    """Joins this process to the others by ``jax.distributed``; call it before anything else of JAX.

    Args:
      coordinator: ``"host:port"`` of process 0, or ``"auto"``: Slurm, Open MPI, GKE and Cloud TPU tell by themselves.
      processes, process: number of processes and which of them this is; read only where the coordinator is given.

    Raises:
      ConfigError: an address without the two numbers, or the reverse.
    """
    if coordinator == "auto":
        jax.distributed.initialize()
        return
    if processes is None or process is None or not 0 <= process < processes:
        raise ConfigError(
            f"--coordinator={coordinator} needs --processes=N and --process=0..N-1, got {processes} and {process}; "
            "--coordinator=auto asks Slurm, Open MPI, GKE or the TPU pod"
        )
    jax.distributed.initialize(coordinator, num_processes=processes, process_id=process)


def leads() -> bool:
    """Whether this is the process that writes files and speaks; the others compute."""
    return jax.process_index() == 0


def wait(what: str) -> None:
    """Returns when every process has come here."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(what)


def any_process(flag: bool) -> bool:
    """Whether the flag is set in any process; every process must ask at the same step."""
    return flag if jax.process_count() == 1 else bool(multihost_utils.process_allgather(np.array(flag)).any())


def make_mesh(devices: int = 0) -> Mesh:
    """A one-axis mesh, ``"data"``, over the first ``devices`` devices; 0 = all, those of other processes too.

    Raises:
      ConfigError: more devices are asked for than there are, or with several processes fewer.
    """
    there = jax.devices()
    if devices > len(there):
        raise ConfigError(f"config.parallel.devices must be <= {len(there)}, the devices there are, got {devices}; 0 takes all")
    if devices and jax.process_count() > 1 and devices != len(there):
        raise ConfigError(f"with several processes config.parallel.devices must be 0 or {len(there)}, got {devices}")
    count = devices or len(there)
    # Auto: with the Explicit default, Linen's nn.Embed fails under a mesh.
    return jax.make_mesh((count,), ("data",), axis_types=(AxisType.Auto,), devices=there[:count])


def own_mesh() -> Mesh:
    """A mesh over this process's devices: for work that processes share out otherwise."""
    there = jax.local_devices()
    return jax.make_mesh((len(there),), ("data",), axis_types=(AxisType.Auto,), devices=there)


def replicate(tree: Any, mesh: Mesh) -> Any:
    """The tree on every device of the mesh."""
    return jax.tree.map(lambda x: _put(x, NamedSharding(mesh, PartitionSpec())), tree)


def _put(x: Any, sharding: NamedSharding) -> jax.Array:
    """``jax.device_put``; with several processes each holds the whole array and puts its own devices' parts."""
    placed = isinstance(x, jax.Array) and not x.is_fully_addressable
    if placed or not sharding.mesh.is_multi_process:
        return jax.device_put(x, sharding)
    if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
        return jax.random.wrap_key_data(_put(jax.random.key_data(x), sharding))
    whole = np.asarray(x)
    return jax.make_array_from_callback(whole.shape, sharding, lambda index: whole[index])


def by_row(mesh: Mesh) -> NamedSharding:
    """How rows lie on the mesh: divided along the leading axis."""
    return NamedSharding(mesh, PartitionSpec("data"))


def spread(batch: Any, mesh: Mesh) -> Any:
    """The batch with its leading axis, rows, divided over the mesh; of several processes each gives its own rows."""
    sharding = by_row(mesh)
    if not mesh.is_multi_process:
        return jax.device_put(batch, sharding)
    return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, np.asarray(x)), batch)


def local(array: jax.Array) -> np.ndarray:
    """The rows of a spread array that lie on this process's devices, in order."""
    if array.is_fully_addressable:
        return np.asarray(array)
    parts = {shard.index[0].start or 0: shard.data for shard in array.addressable_shards}
    return np.concatenate([np.asarray(parts[start]) for start in sorted(parts)])


def add_processes(array: np.ndarray) -> np.ndarray:
    """The sum of the arrays of all processes, in each of them."""
    return array if jax.process_count() == 1 else np.asarray(multihost_utils.process_allgather(array).sum(0), array.dtype)


def partition(name: str, shape: Sequence[int], devices: int, rules: Sequence[tuple[str, int | None]]) -> PartitionSpec:
    """How an array is divided: by the first rule whose pattern its name holds; not at all where no rule fits.

    Args:
      name: flat name of the parameter it belongs to.
      shape: of the array.
      devices: size of the mesh; a dimension that is no multiple of it can't be divided.
      rules: ``(pattern, dimension)``; dimension -1 takes the largest that can be divided, None none.
    """
    dimension = next((dimension for pattern, dimension in rules if re.search(pattern, name)), None)
    if dimension is None or int(np.prod(shape)) < SMALLEST:
        return PartitionSpec()
    whole = [i for i, size in enumerate(shape) if size % devices == 0]
    if dimension == -1:
        dimension = max(whole, key=lambda i: shape[i], default=None)
    if dimension not in whole:
        return PartitionSpec()
    return PartitionSpec(*(("data" if i == dimension else None) for i in range(len(shape))))


def name_of(path: tuple) -> str:
    """The parameter that a leaf of a state belongs to: the last string key on its path ("" for counters)."""
    return next((str(key.key) for key in reversed(path) if isinstance(key, jax.tree_util.DictKey)), "")


@dataclasses.dataclass(frozen=True)
class Jit:
    """One program for the whole mesh; XLA divides it and puts in the collectives.

    Attributes:
      mesh: the devices.
      rules: see ``partition``. Empty: the state lies on every device whole. Otherwise parameters, their averages and the
        optimizer's moments are divided by name and gathered where a layer needs them (FSDP, ZeRO-3).
    """

    mesh: Mesh
    rules: tuple[tuple[str, int | None], ...] = ()
    axis = None  # no mapped axis: the step sees the whole batch

    def place(self, tree: Any) -> Any:
        """The tree on the mesh, by the rules."""
        if not self.rules:
            return replicate(tree, self.mesh)

        def place(path, x):
            spec = partition(name_of(path), x.shape, self.mesh.size, self.rules)
            return _put(x, NamedSharding(self.mesh, spec))

        return jax.tree_util.tree_map_with_path(place, tree)

    def put(self, tree: Any) -> Any:
        """The tree itself: the step takes arrays of the whole mesh."""
        return tree

    get = put

    def spread(self, batch: Any) -> Any:
        """The batch, its rows over the devices."""
        return spread(batch, self.mesh)

    def map(self, step: Callable, state: Any) -> Callable:
        """The step, compiled; the state that comes out lies as the one that goes in."""
        shardings = jax.tree.map(lambda x: x.sharding, state)
        return jax.jit(step, donate_argnums=0, out_shardings=(shardings, None))


@dataclasses.dataclass(frozen=True)
class _OwnArrays:
    """A mapped function of several processes: called, it takes this process's arrays; compiled ahead, it would want all's."""

    mapped: Callable

    def lower(self, *_: Any) -> _OwnArrays:
        """Nothing: it is compiled when it is first called."""
        return self

    def compile(self) -> Callable:
        """The function itself."""
        return self.mapped


@dataclasses.dataclass(frozen=True)
class Pmap:
    """One program a device; the step itself adds up over the axis ``ROWS``. The state is held once a device, stacked.

    Attributes:
      mesh: the devices; batches and the plain form of a state lie on it.
    """

    mesh: Mesh
    axis = ROWS

    @property
    def _devices(self) -> list[jax.Device]:
        return [d for d in self.mesh.devices.flat if d.process_index == jax.process_index()]

    def place(self, tree: Any) -> Any:
        """The tree, whole, on every device."""
        return replicate(tree, self.mesh)

    def put(self, tree: Any) -> Any:
        """The tree once a device, stacked on a new leading axis."""
        count = len(self._devices)
        return jax.tree.map(lambda x: np.broadcast_to(np.asarray(x), (count, *x.shape)), tree)

    def get(self, tree: Any) -> Any:
        """The first device's part, placed; ``put`` and the mapped step both give trees that this takes."""
        own = lambda x: x.addressable_shards[0].data if isinstance(x, jax.Array) else x  # noqa: E731
        return self.place(jax.tree.map(lambda x: np.asarray(own(x))[0], tree))

    def spread(self, batch: Any) -> Any:
        """The batch with a device axis before its rows."""
        count = len(self._devices)
        return jax.tree.map(lambda x: np.asarray(x).reshape(count, -1, *x.shape[1:]), batch)

    def map(self, step: Callable, state: Any) -> Callable:
        """The step, mapped."""
        mapped = jax.pmap(step, axis_name=ROWS, in_axes=(0, 0, None), donate_argnums=0, devices=list(self.mesh.devices.flat))
        return _OwnArrays(mapped) if self.mesh.is_multi_process else mapped


def make_engine(config: Any) -> Jit | Pmap:
    """The engine that ``config.parallel`` describes."""
    mesh = make_mesh(config.devices)
    if config.engine == "pmap":
        return Pmap(mesh)
    return Jit(mesh, tuple((pattern, dimension) for pattern, dimension in config.sharding))
