"""Studies of cascades: their settings are valid, a small one runs, is compared, goes on where it was, and becomes a table."""

import importlib
import json
import runpy
import sys

import pytest

from configs import rumor_pheme
from experiments import cascade_study as C
from experiments import cascade_tables, rumor_fusion
from textfuse_jax.config_checks import validate
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
    ((found, settings, _, output, _),) = called
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


def test_the_constant_answer_stands_with_its_f1_of_rumours_where_that_is_published():
    line = {"constant": {"accuracy": 0.749, "f1_macro": 0.4283, "f1": 0.8566}, "classes": ["non-rumour", "rumour"]}
    assert cascade_tables.constant(line) == "0.749 / 0.428, F1 of rumours 0.857"
    assert cascade_tables.constant(line | {"classes": ["no", "yes"]}) == "0.749 / 0.428"
    older = {"constant": {"accuracy": 0.749, "f1_macro": 0.4283}, "classes": ["non-rumour", "rumour"]}
    assert cascade_tables.constant(older) == "0.749 / 0.428"


@pytest.mark.parametrize("name", ["rumor_protocols", "rumor_fusion"])
def test_a_table_with_events_says_what_an_absent_class_counts(name):
    section = cascade_tables.section(name, C.RESULTS / f"{name}.jsonl")
    assert (cascade_tables.ABSENT in section) == (name == "rumor_protocols") == ("one event out" in section)


@pytest.mark.parametrize("variant, layer", [("tape", "GCN"), ("tape_gat", "GAT")])
def test_the_variant_tape_is_the_model_of_the_fusion_study_in_all_its_epochs(variant, layer):
    (setting,) = (s for s in rumor_fusion.SETTINGS if s.name == f"Gated, {layer}, DBSCAN 30 %")
    mine, theirs = rumor_pheme.get_config(variant), setting.built()
    assert (mine.training.total_epochs, mine.training.patience) == (50, 10)
    for config in (mine, theirs):
        config.training.total_epochs = config.training.patience = config.data.seed = 0
    assert mine.to_dict() == theirs.to_dict()
    model = mine.model.to_dict()
    assert model["propagate"].endswith(f":{layer}") and model["fusion"].endswith(":Gated") and model["pooling"].endswith(":Mean")
    told = model["propagate_args"]
    assert (model["width"], told["rounds"], told["norm"], told["dropout"]) == (64, 2, "batch", 0.3)
    assert mine.cascades.augmentation.source == "original" and not model["wide"] and not model["source_vector"]


@pytest.mark.parametrize("name", ["rumor_pheme", "rumor_twitter15", "rumor_twitter16", "rumor_weibo"])
@pytest.mark.parametrize("variant", ["tape", "tape_gat,runlocal", "tape,docstrings,scratch"])
def test_every_set_has_the_variant_tape_but_that_of_which_the_encoder_reads_nothing(name, variant):
    module = importlib.import_module(f"configs.{name}")
    if name == "rumor_weibo":
        with pytest.raises(ValueError, match="rumor_weibo has no variant tape"):
            module.get_config(variant)
        return
    assert ":tape" in module.__doc__
    config = module.get_config(variant)
    validate(config)
    assert config.name == name and bool(config.model.fusion) == ("scratch" not in variant)


def test_a_line_is_older_where_what_it_was_compared_with_is():
    line = {"setting": "a", "protocol": "1", "reference": "b", "reference_protocol": "2"}
    line |= {"others": [{"reference": "c", "reference_protocol": "3"}]}
    keys = {"a": "1", "b": "2", "c": "3"}
    assert not cascade_tables.older(line, keys)
    assert all(cascade_tables.older(line, keys | {name: "another"}) for name in keys)
    assert not cascade_tables.older({"setting": "a", "protocol": "1", "reference": "b"}, keys | {"b": "another"})  # not told
