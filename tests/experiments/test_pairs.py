"""Any two rows beside each other: which pairs there are, and what the command says of those there aren't."""

import importlib
import json

import numpy as np
import pytest

from experiments import paired, pairs
from experiments.tuned import names_of
from textfuse_jax.evaluation.records import read_results


@pytest.mark.parametrize("study", pairs.PAIRS)
def test_pairs_are_rows_of_their_study(study):
    rows = {setting.name for setting in importlib.import_module(f"experiments.{study}").SETTINGS} | set(names_of(study))
    assert not {row for pair in pairs.PAIRS[study] for row in pair} - rows
    assert len(set(pairs.PAIRS[study])) == len(pairs.PAIRS[study])


@pytest.mark.parametrize("study", pairs.PAIRS)
def test_pairs_are_not_those_of_the_table(study):
    module = importlib.import_module(f"experiments.{study}")
    assert not {(s.name, module.STUDY.against(s)) for s in module.SETTINGS} & set(pairs.PAIRS[study])


@pytest.fixture
def recorded(tmp_path, monkeypatch):
    """A study of four rows, the first measured twice, the third tested on other documents, the last without what was right."""
    right = np.arange(10)[None] < np.array([[4], [9], [7], [7]])
    rows = [("full", "these"), ("full", "these"), ("half", "these"), ("other", "those")]
    lines = [{"setting": name, "right": paired.kept(one[None], tested)} for (name, tested), one in zip(rows, right)]
    lines.append({"setting": "bare"})
    (tmp_path / "made.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    monkeypatch.setattr(pairs, "RESULTS", tmp_path)


def test_two_recorded_rows_are_compared_by_their_newest_lines(recorded, capsys):
    assert pairs.main(["made", "full", "half"]) == 0
    assert capsys.readouterr().out.startswith("full beside half: +20.00 [")
    assert pairs.main(["made", "full", "other"]) == 0  # tested on other documents
    assert capsys.readouterr().out == "full beside other: – points, p –\n"


def test_a_table_marks_what_is_older(recorded, monkeypatch):
    monkeypatch.setitem(pairs.PAIRS, "made", [("full", "half"), ("half", "none")])
    lines = [line | {"older": line["setting"] == "half"} for line in read_results(pairs.RESULTS / "made.jsonl")]
    _, table = pairs.pairs_table("made", lines)
    assert table.splitlines()[2].startswith("| full | half † | +20.00 [") and len(table.splitlines()) == 3
    assert pairs.pairs_table("other", lines) == []


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["made"] * 2, "usage"),
        (["made"], "name two of its rows: 'full', 'half', 'other'"),
        (["maid"], "did you mean made?"),
        (["none"], "run python -m experiments.none first"),
        (["made", "ful", "half"], "no recorded row 'ful'; there are 'full'"),
        (["made", "full", "bare"], "'bare' was recorded before lines told which documents were right"),
    ],
)
def test_what_cannot_be_compared_is_told(recorded, capsys, arguments, told):
    assert pairs.main(arguments) == 2
    assert told in capsys.readouterr().err
