"""Starting launch.py as a user does, and comparing what two runs left behind."""

from __future__ import annotations

import csv
import importlib
import inspect
import json
import os
import pathlib
import subprocess
import sys

import numpy as np

from textfuse_jax.training import checkpoints

ROOT = pathlib.Path(__file__).resolve().parents[1]
MODULES = ("numpy", "os", "decimal", "statistics")
SMALL = (  # a model that compiles in seconds, enough steps to be interrupted in
    "--config=configs/quickstart.py:scratch,runlocal",
    "--config.data.source=file",
    "--config.encoder.scratch.layers=1",
    "--config.encoder.scratch.width=16",
    "--config.encoder.scratch.heads=2",
    "--config.encoder.scratch.feed_forward=32",
    "--config.encoder.scratch.vocab_size=500",
    "--config.model.levels=('00/phrase','01/sentence')",
    "--config.model.width=16",
    "--config.training.total_epochs=8",
    "--config.training.checkpoint_every_steps=5",
    "--config.training.average_decay=0.9",
    "--config.evaluation.reference=False",
    "--config.evaluation.graphs=0",
)


def write_corpus(path: pathlib.Path) -> pathlib.Path:
    """Real text that needs no parsing of packages: docstrings of a few modules, labelled by module, as CSV."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "label", "text"])
        seen = set()
        for name in MODULES:
            for key, member in sorted(vars(importlib.import_module(name)).items(), key=lambda item: item[0]):
                text = inspect.getdoc(member) if callable(member) else None
                if text and len(text.split()) >= 6 and text not in seen:
                    seen.add(text)
                    writer.writerow([f"{name}.{key}", name, text])
    return path


def command(*arguments: str) -> list[str]:
    """The command line of launch.py."""
    return [sys.executable, "launch.py", *arguments]


def environment(**extra: str) -> dict[str, str]:
    """The variables of this process, one CPU device."""
    return {**os.environ, "XLA_FLAGS": "", "PYTHONUNBUFFERED": "1", **extra}


def launch(*arguments: str, timeout: float = 300, **extra: str) -> subprocess.CompletedProcess:
    """Runs launch.py to its end."""
    return subprocess.run(
        command(*arguments), cwd=ROOT, env=environment(**extra), capture_output=True, text=True, timeout=timeout, check=False
    )


def lines(workdir: pathlib.Path) -> list[dict]:
    """metrics.jsonl without what a clock says."""
    clock = {"seconds", "documents_per_second", "tokens_per_second"}
    found = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in clock} for line in found]


def assert_same_run(one: pathlib.Path, other: pathlib.Path) -> None:
    """Metrics, predictions and weights are equal bit by bit."""
    assert lines(one) == lines(other)
    assert (one / "predictions.csv").read_bytes() == (other / "predictions.csv").read_bytes()
    a, b = (checkpoints.load_params(workdir / "model" / "params") for workdir in (one, other))
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)
