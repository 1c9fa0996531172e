"""Tuned rows: valid configs, lines from finished runs, one run after another."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

from experiments import paired, study_extras, study_linear, study_tables, study_training, tuned, tuned_rows
from tests.launching import write_corpus
from textfuse_jax.config_checks import validate
from textfuse_jax.evaluation.records import read_results
from textfuse_jax.experiment import run


def test_rows_are_valid_named_once_and_in_tables():
    assert len({(row.study, row.name) for row in tuned.ROWS}) == len(tuned.ROWS)
    seen = set()
    for row in tuned.ROWS:
        config = row.at(3)
        validate(config)
        assert (config.seed, config.data.seed) == (3, 3 if row.resample else 0) and row.study in study_tables.TITLES
        assert config.encoder.mode == "tuned"
        seen.add((row.study, row.name))
    assert all((row.study, row.against) in seen for row in tuned.ROWS)
    sets = [row for row in tuned.ROWS if row.study == "graph_benchmarks"]
    beside = {
        row.name: row.name.split(", ")[0] + (", whole method, tuned" if row.words else ", encoder alone, tuned") for row in sets
    }
    assert all(row.against == beside[row.name] for row in sets) and sum(row.words for row in sets) == 5


def test_rows_of_two_studies_share_their_runs():
    folders = {(row.study, row.name): tuned.folder_of(row, 0) for row in tuned.ROWS}
    for end, rows in (("", "8,000 rows"), (", all rows", "all rows")):
        assert folders["baselines", f"Pyramid-GNN, tuned{end}"] == folders["data_efficiency", f"Pyramid-GNN, tuned, {rows}"]
        assert folders["baselines", f"{tuned_rows.MEAN}{end}"] == folders["data_efficiency", f"encoder alone, tuned, {rows}"]
    for name in ("r8", "mr", "ohsumed", "20newsgroups", "trec"):
        whole, mixed = (f"{name}, whole method{of}, tuned" for of in ("", " and TF-IDF, mixed"))
        assert folders["graph_benchmarks", whole] == folders["graph_benchmarks", mixed]
    assert len(set(folders.values())) == len(folders) - 4 - 5


def test_rows_are_selected_by_study_or_name():
    assert [row.name for row in tuned.selected(["r8, whole method, tuned"])] == ["r8, whole method, tuned"]
    both = [row.name for row in tuned.selected(["r8, whole method, tuned", "graph_benchmarks"])]
    assert both == [row.name for row in tuned.ROWS if row.study == "graph_benchmarks"]
    assert tuned.selected([]) == tuned.ROWS


@pytest.mark.slow
def test_a_row_is_run_recorded_and_not_run_again(tmp_path, monkeypatch, capsys):
    path = write_corpus(tmp_path / "corpus.csv")
    small = {"encoder.scratch.width": 16, "encoder.scratch.heads": 2, "encoder.scratch.layers": 6, "data.path": str(path)}
    alone = tuned.Row("baselines", "alone, tuned", "own_text:runlocal,scratch", small | {"model.width": 8}, "alone, tuned")
    row = tuned.Row("baselines", "tiny, tuned", "own_text:runlocal,scratch", small, "alone, tuned")
    monkeypatch.setattr(tuned, "ROWS", [alone, row])
    monkeypatch.setattr(tuned, "SEEDS", 2)
    for name in ("RESULTS", "FOLDER", "WORK"):
        monkeypatch.setattr(tuned, name, tmp_path / name)
    finished = []

    def run_or_copy(config, folder, resume):
        """One seed of a row is run; what is asked for again, and other seeds, are copies of it."""
        finished.append(folder)
        kept = tmp_path / "kept" / folder.parent.name
        if kept.exists():
            shutil.copytree(kept, folder)
        else:
            run(config, folder, resume=resume)
            shutil.copytree(folder, kept)

    monkeypatch.setattr(tuned, "run", run_or_copy)
    assert tuned.main([]) == 0
    lines = read_results(tmp_path / "RESULTS" / "baselines.jsonl")
    assert [(line["setting"], line["seeds"]) for line in lines] == [
        ("alone, tuned", 1),
        ("tiny, tuned", 1),
        ("alone, tuned", 2),
        ("tiny, tuned", 2),
    ]
    accuracy = [json.loads((tuned.folder_of(row, seed) / "result.json").read_text())["test"]["accuracy"] for seed in range(2)]
    assert lines[-1]["test"]["accuracy"] == pytest.approx(accuracy) and lines[-1]["regime"] == "tuned"
    assert paired.of_line(lines[-1]).mean(1) == pytest.approx(accuracy)
    assert lines[-1]["difference"] == pytest.approx(np.mean(accuracy) - np.mean(lines[-2]["test"]["accuracy"]))
    assert lines[-2]["difference"] == 0 and len(lines[-1]["temperature"]) == len(lines[-1]["recall"].popitem()[1]) == 2
    assert len(finished) == 4
    shutil.rmtree(tmp_path / "FOLDER")  # another machine has the lines alone
    monkeypatch.setattr(tuned, "SEEDS", 3)
    assert tuned.main([]) == 0 and len(finished) == 6 and all(folder.name == "2" for folder in finished[4:])
    lines = read_results(tmp_path / "RESULTS" / "baselines.jsonl")
    assert lines[-1]["seeds"] == 3 and lines[-1]["test"]["accuracy"][:2] == pytest.approx(accuracy)
    assert len(lines[-1]["reliability"]) == 3 and sum(lines[-1]["reliability"][0]["after"]["count"]) == lines[-1]["data"]["test"]
    assert lines[-1]["hardware"] == lines[0]["hardware"]  # told once for all seeds of a machine
    capsys.readouterr()
    assert tuned.main(["baselines"]) == 0 and len(read_results(tmp_path / "RESULTS" / "baselines.jsonl")) == len(lines) == 6
    (tmp_path / "RESULTS" / "baselines.jsonl").unlink()
    shutil.rmtree(tmp_path / "FOLDER")
    assert tuned.main(["tiny, tuned", "--seeds=1"]) == 0 and len(finished) == 7
    alone_line, *rest = read_results(tmp_path / "RESULTS" / "baselines.jsonl")
    assert not rest and "difference" not in alone_line and alone_line["reference"] == "alone, tuned"
    assert tuned.main(["--seeds=1"]) == 0 and len(finished) == 8  # now what it is compared with is there
    lines = read_results(tmp_path / "RESULTS" / "baselines.jsonl")
    assert [line["setting"] for line in lines] == ["tiny, tuned", "alone, tuned", "tiny, tuned"]
    assert lines[2]["difference"] == pytest.approx(lines[0]["test"]["accuracy"][0] - lines[1]["test"]["accuracy"][0])
    words = dataclasses.replace(row, name="tiny and TF-IDF, tuned", against="tiny, tuned", words=True)
    monkeypatch.setattr(tuned, "ROWS", [alone, row, words])
    assert tuned.main(["--seeds=2"]) == 0 and len(finished) == 10  # second seeds of the other two; nothing for the mixture
    *_, run_alone, mixed = read_results(tmp_path / "RESULTS" / "baselines.jsonl")
    assert (run_alone["setting"], mixed["setting"], mixed["seeds"]) == ("tiny, tuned", words.name, 2)
    assert all(chosen["share of words"] in study_linear.SHARES for chosen in mixed["chosen"]) and len(mixed["chosen"]) == 2
    assert all(both <= own + 1e-5 for both, own in zip(mixed["validation"]["nll"], run_alone["validation"]["nll"]))
    assert (mixed["read_before"], run_alone["read_before"]) == (1, 0)  # the run alone had been read
    assert mixed["parameters"] > run_alone["parameters"] and mixed["reference"] == "tiny, tuned" and "difference" in mixed
    with pytest.raises(SystemExit):
        tuned.main(["--seeds=0"])
    assert tuned.main(["ablation"]) == 2 and "no tuned rows" in capsys.readouterr().err
    assert tuned.main(["tiny tuned"]) == 2 and "tiny, tuned" in capsys.readouterr().err
    table = study_tables.table(lines, {"absent": {"accuracy": 0.8, "source": "a paper"}})
    assert "tiny, tuned" in table and "| absent | not measured |" in table and "accuracy 0.8 (a paper) |" in table


def test_what_stands_beside_a_table(tmp_path, monkeypatch):
    monkeypatch.setattr(study_extras, "FIGURES", tmp_path)
    monkeypatch.setattr(study_extras, "HERE", tmp_path)
    graph = dict(level=[0, 0, 1], parent=[2, 2, -1], senders=[0, 1], receivers=[1, 0], weight=[0.5, 0.5], label="World")
    graph |= dict(texts=["a b c", "d e f", "a b c d e f"], scales=["phrase", "sentence"], beta=[0.2, 0.3, 0.5])
    thirds = {"words": [3, 10, 20, 90], "accuracy": [[0.5, 0.7], [0.8, 0.8], [0.9, 0.9]]}
    line = {"setting": "alpha = 0", "fields": {}, "sample_graph": graph, "strata": thirds}
    line |= {"test": {"ece": [0.1, 0.2]}, "ece_after_temperature": [0.02, 0.03]}
    (drawn,) = study_extras.samples("graph_construction", [line, line])
    assert "Graph of one text" in drawn and (tmp_path / "study_graph_construction_graph_1.png").stat().st_size > 5000
    (drawn,) = study_extras.samples("pooling_share", [line])
    assert "Where attention looks in sample texts: alpha = 0" in drawn
    line["fields"] = {"model.pooling_args.self_attention": True}
    assert study_extras.samples("pooling_share", [line]) == []  # shares of mixtures tell of no unit
    graph["share"] = "pool/looks"
    (drawn,) = study_extras.samples("pooling_share", [line])
    assert "through self-attention among their units: alpha = 0" in drawn
    assert "| 0.6000 ± 0.1414 |" in study_extras.strata_table([line]) and "3 to 10, to 20, to 90" in study_extras.strata_table(
        [line]
    )
    (drawn,) = study_extras.calibration("baselines", [line])
    assert "calibration" in drawn
    seeds = [study_training.reliability(p, np.sqrt(p), np.array([0, 0, 1])) for p in (np.eye(2)[[0, 0, 0]], np.eye(2)[[0, 1, 1]])]
    whole = study_extras.pooled(seeds, "before")  # sure of everything; 2 of 3 right twice
    assert whole.count[-1] == 6 and whole.confidence[-1] == 1 and whole.accuracy[-1] == pytest.approx(4 / 6, abs=1e-4)
    assert "reliability.png" in study_extras.calibration("baselines", [line | {"reliability": seeds}])[1]
    rounds = [
        {"setting": name, "fields": fields, "cosine_of_nodes": [cosine], "test": {"accuracy": [0.9]}}
        for name, fields, cosine in (("full", {}, 0.98), ("K = 0", {"model.propagate_args.rounds": 0}, 0.91), ("2 levels", {}, 0))
    ]
    assert "smoothing.png" in study_extras.smoothing("ablation", rounds)[0] and not study_extras.smoothing("ablation", rounds[:1])


def test_a_row_tells_its_machines_where_there_are_several():
    lines = [{"hardware": "b, 2 cores; a, 1 cores"}, {"hardware": "a, 1 cores"}]
    assert study_tables.machines(lines[1:]) == "a, 1 cores" and "on" not in lines[1]
    assert study_tables.machines(lines) == "A: a, 1 cores; B: b, 2 cores"
    assert [line["on"] for line in lines] == [" (B, A)", " (A)"]


def test_a_table_tells_where_products_are_not_bfloat16():
    old, new = {"setting": "a", "fields": {}}, {"setting": "b", "fields": {}, "products": "float32"}
    scratch = {"setting": "c", "fields": {"encoder.dtype": "float32"}}
    assert study_tables.precision([old, new | {"products": "bfloat16"}]) == ""
    assert study_tables.precision([old, new, scratch]).startswith("Products of the encoder in float32 in 2 of 3 rows")
    assert "in all rows" in study_tables.precision([new, scratch])
    several = {"setting": "d", "fields": {}, "products": "bfloat16, float32"}  # of seeds on two machines
    assert "in bfloat16 or float32 in 2 of 3 rows" in study_tables.precision([old, new, several])
