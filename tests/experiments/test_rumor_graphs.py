"""Drawn cascades: the smoke run trains, draws and writes where it may, and leaves the documentation's figure alone."""

import sys

import pytest

from experiments import rumor_graphs
from textfuse_jax.evaluation.records import read_results


@pytest.mark.long
def test_the_local_run_draws_and_tells_where_attention_lies(tmp_path, monkeypatch):
    monkeypatch.setattr(rumor_graphs, "WORK", tmp_path)
    monkeypatch.setattr(rumor_graphs, "RESULTS", tmp_path / "nowhere")
    monkeypatch.setattr(rumor_graphs, "FIGURE", tmp_path / "nowhere" / "figure.png")
    monkeypatch.setattr(sys, "argv", ["rumor_graphs", ":runlocal"])
    rumor_graphs.main()
    (line,) = read_results(tmp_path / "local" / "rumor_graphs.jsonl")
    assert line["cascades"] > 0 and not (tmp_path / "nowhere").exists()
    for of in ("source", "selected"):
        assert 0 < line[f"uniform_on_{of}"] < 1 and 0 < line[f"attention_on_{of}"] < 1
    assert (tmp_path / "local" / "rumor_graphs.png").stat().st_size > 10_000


def test_a_wrong_argument_is_told(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["rumor_graphs", ":locally"])
    with pytest.raises(SystemExit, match=r"usage: python -m experiments\.rumor_graphs \[:runlocal\]"):
        rumor_graphs.main()
