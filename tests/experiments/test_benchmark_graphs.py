"""The benchmark of graphs runs as a user starts it, on a part of the sets; it compares logits before it times anything."""

import json
import os
import subprocess
import sys

import pytest

from tests.launching import ROOT, environment


@pytest.mark.long
@pytest.mark.skipif("TEXTFUSE_DATA" not in os.environ, reason="reads PHEME and AG News: set TEXTFUSE_DATA")
def test_both_sides_train_the_same_model_on_a_part_of_the_sets(tmp_path):
    pytest.importorskip("torch_geometric")
    names = ["gcn", "gat", "gcn_text", "gcn_trials"]
    command = [sys.executable, "-m", "experiments.benchmark_graphs", f"--names={','.join(names)}", "--documents=160"]
    command += ["--rounds=1", "--nomemory", f"--output={tmp_path / 'lines.jsonl'}"]
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in (tmp_path / "lines.jsonl").read_text().splitlines()]
    assert [line["name"] for line in lines] == [f"train_{name}_vs_pyg_eager" for name in names]
    for line in lines:
        assert line["logits_apart"] <= 1e-4 and line["ratio"] > 0 and line["documents"] == 160
