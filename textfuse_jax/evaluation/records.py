"""What a run leaves on disk, so that its numbers can be checked and repeated: environment, JSON lines, predictions."""

from __future__ import annotations

import contextlib
import csv
import importlib.metadata
import json
import math
import os
import pathlib
import platform
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TextIO

import numpy as np
from jaxtyping import Float, Int

PACKAGES = [
    "textfuse-jax",
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "jraph",
    "numpy",
    "scipy",
    "scikit-learn",
    "transformers",
    "tokenizers",
    "safetensors",
    "orbax-checkpoint",
    "grain",
    "tensorflow-datasets",
    "ml-collections",
    "absl-py",
    "matplotlib",
    "rich",
    "jaxtyping",
]
LABEL_SEPARATOR = "|"  # between the labels of one document in a multi-label predictions file
CSV_LINE = "\r\n"  # RFC 4180; with another ending the csv module leaves a lone carriage return in an id unquoted


# Environment -----------------------------------------------------------------------------------------------------------


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _cpu_model() -> str:
    """The processor's name; virtual machines hide its number ("AMD EPYC" of any year), so family and model are told too."""
    with contextlib.suppress(OSError):
        lines = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        told = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
        if "model name" in told:
            number = f" (family {told['cpu family']}, model {told['model']})" if {"cpu family", "model"} <= told.keys() else ""
            return told["model name"] + number
    return platform.processor() or platform.machine()


def _git(*arguments: str) -> str | None:
    """What git says about the folder this package lies in; None without git, or where git refuses."""
    folder = pathlib.Path(__file__).resolve().parent
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=20)
        return done.stdout.strip() if done.returncode == 0 else None
    return None


def commit() -> tuple[str | None, bool | None]:
    """The commit this code is at and whether tracked files differ from it; (None, None) outside a checkout of it.

    A package installed into a virtual environment inside some other project's checkout isn't part of that checkout.
    """
    if _git("ls-files", "--error-unmatch", "records.py") is None:
        return None, None
    written = [f":(top,exclude,glob)**/*.{kind}" for kind in ("jsonl", "png")]  # what a run appends and draws is no code of its
    status = _git("status", "--porcelain", "--untracked-files=no", "--", ":(top)", *written)
    return _git("rev-parse", "HEAD"), None if status is None else bool(status)


def environment() -> dict[str, Any]:
    """What the numbers of a run may depend on: Python, machine, devices, versions, commit. No host, user or path names.

    Returns:
      {"python", "platform", "cpu": {"model", "count"}, "devices": {"platform", "kind", "count", "processes"},
      "packages": {name: version or None}, "git": {"commit", "dirty"}}. ``cpu.count`` is the number this process may use.
    """
    import jax

    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    devices = jax.devices()
    revision, dirty = commit()
    return {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "cpu": {"model": _cpu_model(), "count": usable},
        "devices": {
            "platform": devices[0].platform,
            "kind": devices[0].device_kind,
            "count": len(devices),
            "processes": jax.process_count(),
        },
        "packages": {package: _version(package) for package in PACKAGES},
        "git": {"commit": revision, "dirty": dirty},
    }


def hardware(environment: Mapping[str, Any]) -> str:
    """One line for ``result["hardware"]``: devices, CPU model and cores."""
    devices, cpu = environment["devices"], environment["cpu"]
    cores = f"{cpu['model']}, {cpu['count']} cores"
    return cores if devices["platform"] == "cpu" else f"{devices['count']} x {devices['kind']}; {cores}"


# JSON ------------------------------------------------------------------------------------------------------------------


def peak_memory() -> int:
    """Most memory this process has held so far, MB (0 where the system doesn't tell).

    On Linux from /proc: ``ru_maxrss`` would hold the peak of the process that started this one too.
    """
    status = pathlib.Path("/proc/self/status")
    if status.exists():
        found = re.search(r"^VmHWM:\s*(\d+) kB", status.read_text(), re.M)
        if found:
            return round(int(found[1]) / 1024)
    try:
        import resource
    except ImportError:  # Windows
        return 0
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(most / (1 << 20 if sys.platform == "darwin" else 1 << 10))


def plain(value: Any, where: str = "record") -> Any:
    """``value`` in plain Python types that JSON holds; NumPy and JAX numbers and arrays are converted.

    Raises:
      ValueError: NaN or infinity, or a value that JSON has no form for; the message names the key.
    """
    if isinstance(value, Mapping):
        return {str(k): plain(v, f"{where}.{k}") for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v, f"{where}[{i}]") for i, v in enumerate(value)]
    if hasattr(value, "tolist"):
        return plain(value.tolist(), where)
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{where} is {value}, which JSON doesn't hold; record None and the reason where a number is undefined")
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise ValueError(f"{where} is a {type(value).__name__}, which JSON doesn't hold; record numbers, text, lists or dicts")


def append_result(path: str | os.PathLike, record: Mapping[str, Any]) -> None:
    """Append one JSON line. Written in a single call on a file opened for appending, so that lines of processes that write
    at once don't mix; a half-written last line, left by a killed process, is closed first.

    Raises:
      ValueError: the record holds NaN, infinity or something JSON doesn't hold; nothing is written.
    """
    line = json.dumps(plain(record), ensure_ascii=False, allow_nan=False) + "\n"
    target = pathlib.Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(target, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
    try:
        size = os.fstat(handle).st_size
        torn = size > 0 and os.pread(handle, 1, size - 1) != b"\n"
        os.write(handle, (("\n" if torn else "") + line).encode())
    finally:
        os.close(handle)


def read_results(path: str | os.PathLike) -> list[dict[str, Any]]:
    """The records of a file of JSON lines, in order; empty lines are skipped.

    Raises:
      ValueError: a line isn't a JSON object; file and line number are named.
    """
    records = []
    for number, line in enumerate(pathlib.Path(path).read_text(encoding="utf-8").split("\n"), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"{path} line {number} isn't JSON ({error.msg}): {line[:60]!r}; remove the line") from error
        if not isinstance(record, dict):
            raise ValueError(f"{path} line {number} isn't a JSON object: {line[:60]!r}; remove the line")
        records.append(record)
    return records


def write_json(path: str | os.PathLike, record: Any) -> None:
    """One JSON document, indented, replaced atomically. Refuses what ``append_result`` refuses."""
    text = json.dumps(plain(record), indent=2, ensure_ascii=False, allow_nan=False)
    with _replacing(path) as file:
        file.write(text + "\n")


@contextlib.contextmanager
def _replacing(path: str | os.PathLike) -> Iterator[TextIO]:
    """A text file that takes the place of ``path`` when it is complete; on any failure the old file stays."""
    target = pathlib.Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        with open(partial, "w", encoding="utf-8", newline="") as file:
            yield file
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)


# Predictions -----------------------------------------------------------------------------------------------------------


class Predictions(NamedTuple):
    """A predictions file read back; ``labels`` is None where no document has one."""

    ids: list[str]
    labels: Int[np.ndarray, "n"] | Int[np.ndarray, "n c"] | None
    predicted: Int[np.ndarray, "n"] | Int[np.ndarray, "n c"]
    probabilities: Float[np.ndarray, "n c"]
    class_names: list[str]


def write_predictions(
    path: str | os.PathLike,
    ids: Sequence[str],
    labels: Int[np.ndarray, "n"] | Float[np.ndarray, "n c"] | None,
    predicted: Int[np.ndarray, "n"] | Float[np.ndarray, "n c"],
    probabilities: Float[np.ndarray, "n c"],
    class_names: Sequence[str],
) -> None:
    """A CSV file ``id,label,predicted,p_<class>...``, one row a document, replaced atomically; ``"-"`` is standard output.

    Classes are written by name; several labels of one document are joined by ``|``. Probabilities have 9 significant
    digits, which gives a float32 back exactly. ``labels=None`` (new text) leaves the column empty.

    Raises:
      ValueError: lengths that differ, a probability that isn't finite, class names that repeat, or, multi-label, hold ``|``.
    """
    names, probabilities, predicted = [str(c) for c in class_names], np.asarray(probabilities), np.asarray(predicted)
    labels = None if labels is None else np.asarray(labels)
    n = len(ids)
    if probabilities.shape != (n, len(names)):
        raise ValueError(f"probabilities must have shape ({n}, {len(names)}), ids x class names, got {probabilities.shape}")
    if len(predicted) != n or (labels is not None and len(labels) != n):
        raise ValueError(f"{n} ids, but {len(predicted)} predictions" + ("" if labels is None else f" and {len(labels)} labels"))
    if not np.isfinite(probabilities).all():
        row = int(np.argwhere(~np.isfinite(probabilities))[0, 0])
        raise ValueError(f"probabilities row {row} (id {ids[row]!r}) isn't finite: {probabilities[row].tolist()}")
    if len(set(names)) != len(names):
        raise ValueError(f"class_names must be distinct, got {names}")
    bad = [name for name in names if LABEL_SEPARATOR in name]
    if predicted.ndim == 2 and bad:
        raise ValueError(f"class name {bad[0]!r} holds {LABEL_SEPARATOR!r}, which separates labels; rename the class")

    def cell(value: np.ndarray) -> str:
        return names[int(value)] if np.ndim(value) == 0 else LABEL_SEPARATOR.join(n for n, v in zip(names, value) if v)

    with contextlib.nullcontext(sys.stdout) if path == "-" else _replacing(path) as file:
        writer = csv.writer(file, lineterminator=CSV_LINE)
        writer.writerow(["id", "label", "predicted", *(f"p_{name}" for name in names)])
        for i in range(n):
            label = "" if labels is None else cell(labels[i])
            writer.writerow([ids[i], label, cell(predicted[i]), *(f"{p:.9g}" for p in probabilities[i].tolist())])


def read_predictions(path: str | os.PathLike, *, multi_label: bool = False) -> Predictions:
    """The inverse of ``write_predictions``; probabilities come back as float64.

    Args:
      multi_label: whether cells may hold several labels; labels and predictions are then multi-hot [n, c].

    Raises:
      ValueError: another header, a row that is too short or long, or an unknown class name; row and value are named.
    """
    with open(path, encoding="utf-8", newline="") as file:
        header, *rows = list(csv.reader(file)) or [[]]
    if header[:3] != ["id", "label", "predicted"] or not all(h.startswith("p_") for h in header[3:]):
        raise ValueError(f"{path}: header must be id,label,predicted,p_<class>..., got {header}")
    names = [h.removeprefix("p_") for h in header[3:]]
    index = {name: k for k, name in enumerate(names)}

    def parse(cell: str, number: int) -> Any:
        parts = [p for p in cell.split(LABEL_SEPARATOR) if p] if multi_label else [cell]
        unknown = [p for p in parts if p not in index]
        if unknown:
            raise ValueError(f"{path} row {number}: unknown class {unknown[0]!r}; the header has {', '.join(names)}")
        return [int(name in parts) for name in names] if multi_label else index[cell]

    for number, row in enumerate(rows, 1):
        if len(row) != len(header):
            raise ValueError(f"{path} row {number} has {len(row)} cells, the header {len(header)}")
    shape = (len(rows), len(names))
    labelled = any(row[1] for row in rows)
    labels = np.array([parse(row[1], i) for i, row in enumerate(rows, 1)], np.int64) if labelled else None
    return Predictions(
        ids=[row[0] for row in rows],
        labels=labels,
        predicted=np.array([parse(row[2], i) for i, row in enumerate(rows, 1)], np.int64),
        probabilities=np.array([[float(p) for p in row[3:]] for row in rows], np.float64).reshape(shape),
        class_names=names,
    )
