"""Features of a frozen encoder, computed once: resumable to the batch, checksummed, dated by all they depend on.

A folder holds the features of one split:

    <LL>_<scale>.npy   a flat array [units, d] for each tap, the units of all pieces end to end; memory-mapped
    manifest.json      what the features depend on, and a CRC-32 for every ``CHUNK`` bytes of every array that is whole
    journal.jsonl      while some taps are being made: which, and the batches that are done
    .lock              held by the process that writes; others wait and then read

A process that is killed leaves arrays and journal; the next one computes the batches that the journal lacks. A chunk
whose checksum is wrong is found when the folder is opened, and the batches it holds are computed anew. Taps that
another model needs besides join the folder.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import pathlib
import shutil
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import filelock
import jax
import numpy as np
from jaxtyping import Array, Float, Int
from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from textfuse_jax.bars import Progress
from textfuse_jax.in_flight import in_flight
from textfuse_jax.segments import units_of
from textfuse_jax.types import TokenRows, parse_tap

PRECISIONS = ("float16", "float32")
CHUNK = 1 << 22
FLUSH_EVERY = 20
"""Batches between two entries of the journal: what a killed process may have to compute again."""
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
    batch: Callable[[int], TokenRows],
    pieces: Sequence[Int[np.ndarray, "j"]],
    encoded: Encoded,
    taps: Sequence[str],
    *,
    encoder: str,
    width: int,
    precision: str = "float32",
    together: int = 2,
    progress: bool = True,
    say: Callable[[str], None] = print,
) -> dict[str, Float[np.memmap, "k d"]]:
    """For each tap the features of all units of all pieces, from ``folder`` if they are there, else computed and stored.

    What is stored is dated by ``encoder``, the encoded texts, the precision and the division into batches; if one of these
    differs, everything is made anew. If only some of it is missing or damaged, that is.

    Args:
      folder: of one split's features; made where it isn't there.
      apply: the encoder with frozen parameters, best compiled by the caller; called by several threads.
      batch: the rows of each batch; together the batches hold every piece once.
      pieces: of each batch, the indices in ``encoded`` of its pieces by row and slot, as in ``data.packing.Plan``.
      encoded: the pieces.
      taps: names such as "06/phrase". Those that the folder lacks are computed, others stay in it.
      encoder: whatever determines the features beside the texts: ``checkpoints.fingerprint`` and the compute dtype.
      width: feature width d.
      precision: "float32" or "float16" (half the disk, 3 decimal digits).
      together: batches under way at once.
      progress: show documents a second and time left on stderr.
      say: takes a line when features are found, resumed or damaged.

    Raises:
      ValueError: unknown precision, or a scale without any unit; the batches don't hold every piece exactly once.
      OSError: the arrays would not fit on the disk; nothing was computed.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")
    shapes = _shapes(encoded, taps, width)
    for tap, (size, _) in shapes.items():
        if not size:
            raise ValueError(f"tap {tap!r}: no document has a unit of this scale; are all texts empty?")
    times = np.bincount(np.concatenate(list(pieces)), minlength=len(encoded.counts["document"]))
    if (times != 1).any():
        piece = int(np.flatnonzero(times != 1)[0])
        raise ValueError(f"piece {piece} is in {times[piece]} batches, must be in one; use data.pipeline.evaluation_batches")
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    key = {"encoder": encoder, "texts": digest(encoded), "width": width, "precision": precision}
    key["batches"] = hashlib.sha256(b" ".join(np.ascontiguousarray(held, np.int64).tobytes() for held in pieces)).hexdigest()
    with filelock.FileLock(folder / ".lock"):
        known = _known(folder, key)
        damaged = {tap: _damaged(folder / _file(tap), known[tap]) for tap in taps if tap in known}
        stale = sorted(tap for tap in taps if damaged.get(tap, True))
        journal = folder / "journal.jsonl"
        if not stale:
            journal.unlink(missing_ok=True)
            say(f"features: {folder}")
            return _open(folder, taps)
        shapes = {tap: shapes[tap] for tap in stale}
        done = None if known.keys() & set(stale) else _resumed(folder, key, shapes, len(pieces), say)
        if done is None:
            journal.unlink(missing_ok=True)  # it tells of arrays that are about to change
            done = _undamaged(folder, {tap: damaged.get(tap) for tap in stale}, pieces, encoded, say)
        check_disk(folder, _bytes_lacking(folder, shapes, precision))
        for tap, shape in shapes.items():
            if not (folder / _file(tap)).exists():
                np.lib.format.open_memmap(folder / _file(tap), "w+", np.dtype(precision), shape)
        known = {tap: chunks for tap, chunks in known.items() if tap not in stale}
        _write(folder / "manifest.json", json.dumps(key | {"crc32": known}, indent=1) + "\n")
        _write(journal, json.dumps(key | {"taps": stale}) + "\n" + json.dumps({"done": sorted(done)}) + "\n")
        todo = [b for b in range(len(pieces)) if b not in done]
        if todo:  # else only the manifest is missing
            with journal.open("a", encoding="utf-8") as log:
                files = {tap: np.load(folder / _file(tap), mmap_mode="r+") for tap in stale}
                _fill(files, apply, batch, pieces, todo, encoded, together, progress, log)
        known |= {tap: _checksums(folder / _file(tap)) for tap in stale}
        _write(folder / "manifest.json", json.dumps(key | {"crc32": known}, indent=1) + "\n")
        journal.unlink()
        return _open(folder, taps)


def _known(folder: pathlib.Path, key: dict) -> dict[str, list[int]]:
    """The checksums of the taps that are whole; removes what is of other features."""
    manifest = folder / "manifest.json"
    stored = _parsed(manifest.read_text(encoding="utf-8", errors="replace")) if manifest.exists() else None
    known = (stored or {}).pop("crc32", {})
    if stored == key:
        return known
    for path in folder.iterdir():
        if path.name != ".lock":
            path.unlink()
    return {}


def _resumed(folder: pathlib.Path, key: dict, shapes: Mapping[str, tuple[int, int]], batches: int, say) -> set[int] | None:
    """The batches that a process that was killed had done for the same taps; None where there was none."""
    journal = folder / "journal.jsonl"
    if not journal.exists():
        return None
    lines = [_parsed(line) for line in journal.read_text(encoding="utf-8").splitlines()]
    whole = all(_is_whole(folder / _file(tap), shape, key["precision"]) for tap, shape in shapes.items())
    if not lines or lines[0] != key | {"taps": list(shapes)} or not whole:
        return None
    done = {b for line in lines[1:] if line for b in line["done"]}
    say(f"features: {len(done)} of {batches} batches are there, going on in {folder}")
    return done


def _undamaged(folder: pathlib.Path, stale: Mapping[str, list[int] | None], pieces: Sequence, encoded: Encoded, say) -> set[int]:
    """The batches that need not be computed anew: none, if a tap is missing (None in place of its damaged chunks)."""
    missing = [tap for tap, chunks in stale.items() if chunks is None]
    for tap in missing:
        (folder / _file(tap)).unlink(missing_ok=True)
    again = _batches_in({tap: chunks for tap, chunks in stale.items() if chunks}, pieces, encoded, folder)
    if len(missing) == len(stale):
        return set()
    damaged = sum(map(len, filter(None, stale.values())))
    say(f"features: {damaged} damaged chunks in {folder}, {len(again)} batches are computed anew")
    return set() if missing else set(range(len(pieces))) - set(again)


def _write(path: pathlib.Path, text: str) -> None:
    """The file, whole or as it was."""
    part = path.with_suffix(".part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)


def _parsed(line: str) -> dict | None:
    try:
        return json.loads(line)
    except json.JSONDecodeError:
        return None


def _fill(files, apply, batch, pieces, todo: list[int], encoded: Encoded, together: int, progress: bool, log) -> None:
    """Writes the units of each batch to their places; a row holds them in the order of its slots, padding at its end."""
    bounds = {tap: encoded.unit_bounds(parse_tap(tap)[1]) for tap in files}
    done: list[int] = []

    def flush() -> None:
        for file in files.values():
            file.flush()
        log.write(json.dumps({"done": done}) + "\n")
        log.flush()
        os.fsync(log.fileno())
        done.clear()

    def store(number: int, rows: TokenRows, features: Mapping[str, Array]) -> None:
        held = pieces[number]
        for tap, file in files.items():
            scale = parse_tap(tap)[1]
            document = np.asarray(units_of(rows, scale).document)
            starts, counts = bounds[tap][held], encoded.counts[scale][held]
            inside = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
            file[np.repeat(starts, counts) + inside] = np.asarray(features[tap])[document < rows.slots]
        done.append(number)
        if len(done) == FLUSH_EVERY:
            flush()

    def encode(number: int) -> tuple[TokenRows, Mapping[str, Array]]:
        rows = batch(number)
        return rows, jax.block_until_ready(apply(rows))

    with _progress(progress) as bar:
        task = bar.add_task("encoding", total=sum(len(pieces[b]) for b in todo))
        for number, (rows, features) in in_flight(encode, todo, together):
            store(number, rows, features)
            bar.advance(task, len(pieces[number]))
    flush()


def _checksums(path: pathlib.Path) -> list[int]:
    with path.open("rb") as file:
        return [zlib.crc32(chunk) for chunk in iter(lambda: file.read(CHUNK), b"")]


def _damaged(path: pathlib.Path, known: list[int]) -> list[int]:
    """Chunks whose checksum is not the known one; all, if the file is gone or of another size."""
    if not path.exists():
        return list(range(len(known)))
    now = _checksums(path)
    return list(range(len(known))) if len(now) != len(known) else [i for i, (a, b) in enumerate(zip(now, known)) if a != b]


def _batches_in(damaged: Mapping[str, list[int]], pieces: Sequence, encoded: Encoded, folder: pathlib.Path) -> list[int]:
    """The batches that hold units of damaged chunks. An array whose header is hit is removed, and all are to compute."""
    headers = [tap for tap, chunks in damaged.items() if 0 in chunks]  # the header lies in the first chunk
    for tap in headers:
        (folder / _file(tap)).unlink(missing_ok=True)
    if headers:
        return list(range(len(pieces)))
    todo: set[int] = set()
    for tap, chunks in damaged.items():
        if not chunks:
            continue
        path = folder / _file(tap)
        array = np.load(path, mmap_mode="r")
        size, bounds = array.shape[1] * array.itemsize, encoded.unit_bounds(parse_tap(tap)[1])
        for chunk in chunks:
            first, last = (chunk * CHUNK - array.offset) // size, ((chunk + 1) * CHUNK - array.offset) // size
            hit = np.arange(*np.clip(np.searchsorted(bounds, [first, last], side="right") + [-1, 0], 0, len(bounds) - 1))
            todo.update(b for b, held in enumerate(pieces) if np.isin(held, hit).any())
    return sorted(todo)


def _is_whole(path: pathlib.Path, shape: tuple[int, int], precision: str) -> bool:
    """Whether the array is there with this shape and type, none of it cut off."""
    try:
        array = np.load(path, mmap_mode="r")
    except (OSError, ValueError, EOFError):
        return False
    return array.shape == shape and array.dtype == precision


def _open(folder: pathlib.Path, taps: Sequence[str]) -> dict[str, np.memmap]:
    return {tap: np.load(folder / _file(tap), mmap_mode="r") for tap in taps}


def _file(tap: str) -> str:
    return tap.replace("/", "_") + ".npy"


def digest(encoded: Encoded) -> str:
    """SHA-256 over tokens and units of all pieces: what features depend on, whatever text and tokenizer they came from."""
    total = hashlib.sha256()
    units = [part[scale] for part in (encoded.counts, encoded.unit) for scale in sorted(part)]
    for values in (encoded.tokens, *units):
        total.update(np.ascontiguousarray(values, np.int64))
    return total.hexdigest()


def bytes_lacking(folder: pathlib.Path, encoded: Encoded, taps: Sequence[str], width: int, precision: str) -> int:
    """What ``extract`` would still write below ``folder``, which needn't be there."""
    return _bytes_lacking(folder, _shapes(encoded, taps, width), precision)


def _bytes_lacking(folder: pathlib.Path, shapes: Mapping[str, tuple[int, int]], precision: str) -> int:
    """Of arrays that are there, what the disk holds none of yet: they are sparse until their batches are stored."""
    found = 0
    for tap, shape in shapes.items():
        path = folder / _file(tap)
        held = getattr(path.stat(), "st_blocks", 0) * 512 if path.exists() else 0
        found += max(0, np.dtype(precision).itemsize * math.prod(shape) - held)
    return found


def _shapes(encoded: Encoded, taps: Sequence[str], width: int) -> dict[str, tuple[int, int]]:
    return {tap: (int(encoded.unit_bounds(parse_tap(tap)[1])[-1]), width) for tap in taps}


def check_disk(folder: pathlib.Path, size: int) -> None:
    """Raises OSError where so many bytes would not fit on the disk that holds ``folder``."""
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
        disable=not shown,
    )
