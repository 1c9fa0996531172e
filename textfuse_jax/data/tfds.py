"""TensorFlow Datasets without TensorFlow: sets that stand prepared on disk in array_record form.

The folder is looked up here, not by ``tfds.builder``: that would ask the network about a set it doesn't find, and wait.
"""

from __future__ import annotations

import os
import pathlib

import tensorflow_datasets as tfds

from textfuse_jax.data.corpus import DataError, DataNotFound
from textfuse_jax.data.tabular import Table


def data_dir() -> pathlib.Path:
    """Where TFDS keeps prepared sets: environment variable TFDS_DATA_DIR, else ~/tensorflow_datasets."""
    return pathlib.Path(os.environ.get("TFDS_DATA_DIR") or pathlib.Path.home() / "tensorflow_datasets").expanduser()


def prepare_command(name: str) -> str:
    """The command that downloads and prepares a set; it needs network, and no TensorFlow for most text sets."""
    return (
        f'python -c "import tensorflow_datasets as tfds; '
        f"tfds.builder('{name}', file_format='array_record').download_and_prepare()\""
    )


def prepared_folder(name: str) -> pathlib.Path | None:
    """The folder of the newest prepared version of ``name`` ("set", "set/config" or "set/config:1.0.0"), or None."""
    path, _, version = name.partition(":")
    found = [p.parent for p in (data_dir() / path).glob(f"{version or '*'}/dataset_info.json")]
    if not found and "/" not in path:  # a set with configs keeps its versions one folder deeper
        found = [p.parent for p in (data_dir() / path).glob(f"*/{version or '*'}/dataset_info.json")]
        configs = sorted({p.parent.name for p in found})
        if len(configs) > 1:
            raise DataError(
                f"{path} is prepared in {len(configs)} configs; say which: {', '.join(f'{path}/{c}' for c in configs)}"
            )
    return max(found, key=lambda p: [int(part) if part.isdigit() else -1 for part in p.name.split(".")], default=None)


def read_splits(name: str, label_column: str, download: bool = False) -> tuple[dict[str, Table], tuple[str, ...]]:
    """The splits of a prepared set, by the names it gives them, and the names of its classes.

    Args:
      name: "set", "set/config" or "set:1.0.0", as ``tfds.builder`` has it.
      label_column: the feature that holds the class; class numbers come back as names where the set has names.
      download: let TFDS download and prepare a set that isn't there; slow.

    Raises:
      DataNotFound: it isn't prepared under ``data_dir()``; the message holds the command that does it.
      DataError: it is prepared, but not as array_record; or a column is missing.
    """
    folder = prepared_folder(name)
    if folder is None and download:
        tfds.builder(name, data_dir=data_dir(), file_format="array_record").download_and_prepare()
        folder = prepared_folder(name)
    if folder is None:
        raise DataNotFound(
            f"{name} is not prepared under {data_dir()} (TFDS_DATA_DIR, or ~/tensorflow_datasets). Prepare it with network by\n"
            f"    {prepare_command(name)}\n  or with --config.data.download=True, or copy a folder that is prepared there"
        )
    builder = tfds.builder_from_directory(folder)
    if builder.info.file_format is not tfds.core.FileFormat.ARRAY_RECORD:
        raise DataError(
            f"{folder} is stored as {builder.info.file_format.value}, which only TensorFlow reads; prepare it as array_record:\n"
            f"    {prepare_command(name)}\n  after moving {folder} away"
        )
    tables = {split: _table(f"tfds:{name} {split}", builder.as_data_source(split)) for split in builder.info.splits}
    feature = dict(builder.info.features).get(label_column)
    names = tuple(feature.names) if isinstance(feature, tfds.features.ClassLabel) else ()
    for table in tables.values():
        if names:
            table.columns[label_column] = [names[k] if k >= 0 else "" for k in table.column(label_column)]  # -1 = unlabelled
    return tables, names


def _table(source: str, examples) -> Table:
    """The rows of a data source, bytes decoded as UTF-8."""
    columns: dict[str, list] = {}
    for row, example in enumerate(examples.__getitems__(list(range(len(examples)))), 1):  # one call: three times as fast
        for name, value in example.items():
            columns.setdefault(name, []).append(_plain(source, row, name, value))
    return Table(source, list(range(1, len(examples) + 1)), columns)


def _plain(source: str, row: int, column: str, value):
    """A feature's value in plain Python: text for bytes, a list for a sequence."""
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError as error:
            raise DataError(f"{source}, row {row}, column {column!r}: {error}; prepare the set with UTF-8 texts") from error
    return value.tolist() if hasattr(value, "tolist") else value
