"""Studies of cascades: their settings are valid, a small one runs, is compared, goes on where it was, and becomes a table."""

import importlib
import json
import runpy
import sys

import pytest

from experiments import cascade_study as C
from experiments import cascade_tables
from textfuse_jax.evaluation.records import read_results

STUDIES = sorted(cascade_tables.TITLES)


@pytest.mark.parametrize("name", STUDIES)
def test_settings_are_valid_named_once_and_compared_with_earlier_ones(name):
    settings = importlib.import_module(f"experiments.{name}").SETTINGS
    seen = set()
    for setting in settings:
        setting.built()  # ConfigError
        assert setting.name not in seen and (not setting.against or setting.against in seen)
        assert set(setting.also_against) <= seen
        seen.add(setting.name)
    for setting in C.small(settings):
        setting.built()


@pytest.mark.parametrize("name", STUDIES)
@pytest.mark.parametrize("arguments", [[], [":runlocal"]])
def test_the_command_line_of_every_study(name, arguments, monkeypatch, tmp_path):
    called = []
    monkeypatch.setattr(C, "run", lambda *args: called.append(args))
    monkeypatch.setattr(C, "WORK", tmp_path)
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    monkeypatch.delitem(sys.modules, f"experiments.{name}", raising=False)
    runpy.run_module(f"experiments.{name}", run_name="__main__")
    ((found, settings, seeds, output, _, _),) = called
    assert found == name and output.name == f"{name}.jsonl"
    assert (len(settings) == 2 and (tmp_path in output.parents)) if arguments else len(settings) > 2


def test_a_small_study_runs_compares_and_goes_on(tmp_path, monkeypatch):
    """Two settings on trees of docstrings; a second start trains nothing; the table has both, and what was not run."""
    tiny = {"training.total_epochs": 1, "cascades.first_posts": 2, "cascades.most_words": 4, "model.width": 8}
    rows = [
        C.CascadeSetting("one", "rumor_pheme:docstrings,scratch", tiny, folds=2, published={"accuracy": 0.5, "source": "s"}),
        C.CascadeSetting(
            "two", "rumor_pheme:docstrings,scratch", tiny | {"model.width": 4}, folds=2, against="one", also_against=("one",)
        ),
    ]
    said, output = [], tmp_path / "study.jsonl"
    C.run("study", rows, 1, output, say=said.append)
    one, two = read_results(output)
    assert (one["setting"], two["reference"]) == ("one", "one") and len(one["folds"]["accuracy"]) == 2
    low, high = two["difference_ci95"]
    assert low <= two["difference"] <= high and two["difference"] == pytest.approx(
        two["test"]["accuracy"][0] - one["test"]["accuracy"][0]
    )
    assert one["data"]["tested"] == one["data"]["cascades"] and 0 < one["constant"]["accuracy"] < 1
    C.run("study", rows, 1, output, say=lambda line: pytest.fail(line) if line.startswith("study: ") else None)
    assert len(read_results(output)) == 2
    stale = [dict(line) for line in read_results(output)]
    stale[1]["fingerprint"] = "that of cascades divided otherwise"
    output.write_text("".join(json.dumps(line) + "\n" for line in stale))
    said.clear()
    C.run("study", rows, 1, output, say=said.append)
    assert [line for line in said if line.endswith(": two")] and not [line for line in said if line.endswith(": one")]
    assert two["others"][0]["reference"] == "one" and two["others"][0]["p"] == two["p"]
    table = cascade_tables.table([one, two], ["three"])
    assert "not measured" in table and "from one" in table and f"{one['test']['accuracy'][0]:.4f}" in table
    assert "0.5 (s)" in table and json.loads(output.read_text().splitlines()[0])["published"]["source"] == "s"
    older = cascade_tables.table([one, two | {"older": True}], [])
    assert "two †" in older and "one †" not in older and "from one" not in older
