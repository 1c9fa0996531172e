"""What length costs: windows as the pipeline cuts them, memory that grows with them."""

import json

import pytest

from experiments import length_growth, study_extras


@pytest.mark.slow
def test_a_document_is_cut_into_windows_and_costs_more():
    short, long = (length_growth.costs(tokens, rounds=1) for tokens in (128, 1024))
    for model in length_growth.MODELS:
        assert short[model][2] == 1 and long[model][2] == 6  # of 256 tokens, 192 or, at sentence ends, a little less apart
        assert long[model][1] > 1.5 * short[model][1] and long[model][0] > 0 < short[model][0]
    assert length_growth.slope([1, 2, 4], [3, 6, 12]) == pytest.approx(1)


def test_its_lines_become_a_section(tmp_path, monkeypatch):
    monkeypatch.setattr(study_extras, "FIGURES", tmp_path)
    monkeypatch.setattr(study_extras, "HERE", tmp_path)
    assert study_extras.growth() == []
    costs = dict(tokens=[128, 256], windows=[1, 1], ms=[10.0, 20.0], memory_mb=[5.0, 9.0], slope=1.0, slope_memory=0.8)
    costs |= dict(doubling=2.0, doubling_memory=1.8)
    line = costs | dict(model="encoder alone", load_average=0.5, hardware="a machine", commit="0123456789abcdef")
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "length_growth.jsonl").write_text(json.dumps(line) + "\n")
    section = "\n".join(study_extras.growth())
    assert "| encoder alone | 10 / 5 | 20 / 9 | 1.00 / 0.80 | 2.00 / 1.80 |" in section
    assert "a machine, commit 0123456789ab" in section
    assert (tmp_path / "study_length_growth.png").stat().st_size > 5000
