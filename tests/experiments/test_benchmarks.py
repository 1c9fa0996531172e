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
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in output.read_text().splitlines()]


def test_trials_of_a_sweep_end_as_they_do_alone(tmp_path):
    small = ("--models=linear_head", "--trials_at_once=0", "--documents=120", "--epochs=1", "--alone=3", "--rounds=2")
    (line,) = lines_of("benchmark_sweep", tmp_path, *small)
    assert line["largest_relative_difference_of_validation_nll"] < 1e-5 and line["ratio"] > 0
    assert line["trials_at_once"] == 160 and line["timed_alone"] == 3


def test_scaling_is_told_against_devices_of_the_same_kind(tmp_path):
    small = ("--devices=1,2", "--engines=jit", "--steps=1", "--check_steps=2", "--rows=2", f"--figure={tmp_path / 'scaling.png'}")
    lines = lines_of("scaling_study", tmp_path, *small)
    assert [line["name"] for line in lines] == ["same_losses"] * 2 + ["scaling"] * 4 + ["projection"]
    assert all(line["largest_relative_difference"] < 1e-5 for line in lines[:2])
    points = lines[2:6]
    for point in points:
        first = next(p for p in points if p["scaling"] == point["scaling"])
        expected = point["documents_per_second"] / first["documents_per_second"] / point["devices"]
        assert point["efficiency"] == pytest.approx(expected, abs=2e-3)
        assert point["virtual"] == (point["devices"] == 2) and point["platform"] == "cpu" and point["xla_gflop"] > 0
    shares = lines[6]["efficiency_of_assumed"]
    assert shares["1"] == 1 and shares["512"] < shares["8"] < 1 and (tmp_path / "scaling.png").exists()


def test_the_whole_model_and_its_copy_in_pytorch_train_on_the_same_texts(tmp_path):
    pytest.importorskip("torch_geometric")
    lines = lines_of("benchmark_training", tmp_path, "--documents=80", "--rounds=2", "--nomemory")
    assert len(lines) == 4 and all(line["logits_apart"] < 1e-3 and line["compilations"] == 1 for line in lines)
