"""Any two rows beside each other: which pairs there are, and what the command says of those there aren't."""

import importlib
import json

import numpy as np
import pytest

from experiments import paired, pairs
from experiments.tuned import names_of


@pytest.mark.parametrize("study", pairs.PAIRS)
def test_pairs_are_rows_of_their_study(study):
    rows = {setting.name for setting in importlib.import_module(f"experiments.{study}").SETTINGS} | set(names_of(study))
    assert not {row for pair in pairs.PAIRS[study] for row in pair} - rows
    assert len(set(pairs.PAIRS[study])) == len(pairs.PAIRS[study])


@pytest.fixture
def recorded(tmp_path, monkeypatch):
    """A study of three rows, the first measured twice, the last tested on other documents."""
    right = np.arange(10)[None] < np.array([[4], [9], [7], [7]])
    rows = [("full", "these"), ("full", "these"), ("half", "these"), ("other", "those")]
    lines = [{"setting": name, "right": paired.kept(one[None], tested)} for (name, tested), one in zip(rows, right)]
    (tmp_path / "made.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    monkeypatch.setattr(pairs, "RESULTS", tmp_path)


def test_two_recorded_rows_are_compared_by_their_newest_lines(recorded, capsys):
    assert pairs.main(["made", "full", "half"]) == 0
    assert capsys.readouterr().out.startswith("full beside half: +20.00 [")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["made"] * 2, "usage"),
        (["none"], "run python -m experiments.none first"),
        (["made", "ful", "half"], "no recorded row 'ful'; there are 'full'"),
        (["made", "full", "other"], "tested on other documents"),
    ],
)
def test_what_cannot_be_compared_is_told(recorded, capsys, arguments, told):
    assert pairs.main(arguments) == 2
    assert told in capsys.readouterr().err
