"""Features of a frozen encoder, computed once: a memory-mapped flat array for each tap, and a manifest that dates it."""

from __future__ import annotations

import hashlib
import json
import pathlib
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from jaxtyping import Array, Float, Int
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from textfuse_jax.segments import units_of
from textfuse_jax.types import TokenRows, parse_tap

PRECISIONS = ("float16", "float32")
_SPARE = 0.05  # share of the free disk that is left alone


class Encoded(Protocol):
    """What is read of ``data.tokenize.Encoded``: pieces of documents laid end to end."""

    tokens: Int[np.ndarray, "k"]
    unit: Mapping[str, Int[np.ndarray, "k"]]
    counts: Mapping[str, Int[np.ndarray, "m"]]

    def unit_bounds(self, scale: str) -> Int[np.ndarray, "m+1"]:
        """Where the units of each piece begin in a flat array of all units of the scale."""


def extract(
    folder: pathlib.Path,
    apply: Callable[[TokenRows], Mapping[str, Float[Array, "r u d"]]],
    batches: Iterable[TokenRows],
    pieces: Iterable[Int[np.ndarray, "j"]],
    encoded: Encoded,
    taps: Sequence[str],
    *,
    encoder: str,
    width: int,
    precision: str = "float32",
    progress: bool = True,
) -> dict[str, Float[np.memmap, "k d"]]:
    """For each tap the features of all units of all pieces, from ``folder`` if they are there, else computed and stored.

    What is stored is dated by ``encoder``, the encoded texts, the taps and the precision; if any of these differs, or the
    folder was not finished, it is made anew. The arrays are written beside the folder and renamed into place at the end.

    Args:
      folder: of one split's features; its parents are made.
      apply: the encoder with frozen parameters, best compiled by the caller.
      batches: rows that hold every piece once, in any order.
      pieces: of each batch, the indices in ``encoded`` of its pieces by row and slot, as in ``data.packing.Plan``.
      encoded: the pieces.
      taps: names such as "06/phrase". A folder that holds these and more is used as it is.
      encoder: whatever determines the features beside the texts: ``checkpoints.fingerprint`` and the compute dtype.
      width: feature width d.
      precision: "float32" or "float16" (half the disk, 3 decimal digits).
      progress: show documents a second and time left on stderr.

    Raises:
      ValueError: unknown precision, or a scale without any unit.
      OSError: the arrays would not fit on the disk; nothing was computed.
      RuntimeError: the batches did not hold every piece exactly once.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")
    folder = pathlib.Path(folder)
    key = {"encoder": encoder, "texts": _digest(encoded), "width": width, "precision": precision}
    if (found := _open(folder, key, taps)) is not None:
        return found
    sizes = {tap: int(encoded.unit_bounds(parse_tap(tap)[1])[-1]) for tap in taps}
    for tap, size in sizes.items():
        if not size:
            raise ValueError(f"tap {tap!r}: no document has a unit of this scale; are all texts empty?")
    folder.parent.mkdir(parents=True, exist_ok=True)
    _check_disk(folder.parent, sum(sizes.values()) * width * np.dtype(precision).itemsize)
    partial = pathlib.Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        files = {
            tap: np.lib.format.open_memmap(partial / _file(tap), "w+", np.dtype(precision), (size, width))
            for tap, size in sizes.items()
        }
        _fill(files, apply, batches, pieces, encoded, progress)
        for file in files.values():
            file.flush()
        del files
        (partial / "manifest.json").write_text(json.dumps(key | {"taps": sorted(taps)}, indent=2) + "\n", encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return _open(folder, key, taps)


def _fill(files: Mapping[str, np.ndarray], apply, batches, pieces, encoded: Encoded, progress: bool) -> None:
    """Writes the units of each batch to their places; a row holds them in the order of its slots, padding at its end."""
    total = len(encoded.counts["document"])
    seen = np.zeros(total, np.int64)
    bounds = {tap: encoded.unit_bounds(parse_tap(tap)[1]) for tap in files}
    with _progress(progress) as bar:
        task = bar.add_task("encoding", total=total)
        for rows, held in zip(batches, pieces, strict=True):
            features = apply(rows)
            np.add.at(seen, held, 1)
            for tap, file in files.items():
                document = np.asarray(units_of(rows, parse_tap(tap)[1]).document)
                starts, counts = bounds[tap][held], encoded.counts[parse_tap(tap)[1]][held]
                inside = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
                file[np.repeat(starts, counts) + inside] = np.asarray(features[tap])[document < rows.slots]
            bar.advance(task, len(held))
    if (seen != 1).any():
        piece = int(np.flatnonzero(seen != 1)[0])
        raise RuntimeError(f"piece {piece} was in {seen[piece]} batches, must be in one; use data.pipeline.evaluation_batches")


def _open(folder: pathlib.Path, key: Mapping[str, Any], taps: Sequence[str]) -> dict[str, np.memmap] | None:
    """The stored arrays, or None if there are none for this key."""
    manifest = folder / "manifest.json"
    if not manifest.is_file():
        return None
    stored = json.loads(manifest.read_text(encoding="utf-8"))
    if not set(taps) <= set(stored.pop("taps")) or stored != key:
        return None
    return {tap: np.load(folder / _file(tap), mmap_mode="r") for tap in taps}


def _file(tap: str) -> str:
    return tap.replace("/", "_") + ".npy"


def _digest(encoded: Encoded) -> str:
    """SHA-256 over tokens and units of all pieces: what features depend on, whatever text and tokenizer they came from."""
    total = hashlib.sha256()
    units = [part[scale] for part in (encoded.counts, encoded.unit) for scale in sorted(part)]
    for values in (encoded.tokens, *units):
        total.update(np.ascontiguousarray(values, np.int64))
    return total.hexdigest()


def _check_disk(folder: pathlib.Path, size: int) -> None:
    free = shutil.disk_usage(folder).free
    if size > free * (1 - _SPARE):
        raise OSError(
            f"the features need {size / 1e9:.2f} GB, {folder} has {free / 1e9:.2f} GB free; "
            "use precision float16, fewer taps, a coarser scale than token, or another folder"
        )


class _Speed(ProgressColumn):
    """Documents a second; blank until the first batch is done."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.0f} documents/s" if task.speed else "")


def _progress(shown: bool) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Speed(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not shown,
    )
