"""Benchmarks run as a user starts them, on little; what they check before they time anything holds."""

import json
import os
import subprocess
import sys

import pytest

from tests.launching import ROOT, environment

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif("TEXTFUSE_DATA" not in os.environ, reason="reads AG News: set TEXTFUSE_DATA"),
]


def lines_of(name: str, folder, *options: str) -> list[dict]:
    """The lines that ``python -m experiments.NAME`` appends to a file of its own."""
    output = folder / "lines.jsonl"
    command = [sys.executable, "-m", f"experiments.{name}", f"--output={output}", *options]
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=550, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in output.read_text().splitlines()]


def test_trials_of_a_sweep_end_as_they_do_alone(tmp_path):
    small = ("--models=linear_head", "--trials_at_once=0", "--documents=120", "--epochs=1", "--alone=3", "--rounds=2")
    (line,) = lines_of("benchmark_sweep", tmp_path, *small)
    assert line["largest_relative_difference_of_validation_nll"] < 1e-5 and line["ratio"] > 0
    assert line["trials_at_once"] == 160 and line["timed_alone"] == 3
