"""Every study's settings are valid configs; a small study runs, compares, and goes on where it was."""

import importlib
import json
import runpy
import sys
import types

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from configs import quickstart
from experiments import (
    backbone,
    graph_benchmarks,
    study,
    study_extras,
    study_features,
    study_graphs,
    study_linear,
    study_tables,
    study_training,
)
from tests.launching import write_corpus
from textfuse_jax.config import runlocal
from textfuse_jax.config_checks import validate
from textfuse_jax.data.corpus import Split
from textfuse_jax.encoders.architecture import Architecture
from textfuse_jax.evaluation.records import append_result
from textfuse_jax.training import assembly, setup
from textfuse_jax.training.grid import is_traced, with_fields

STUDIES = sorted(study_tables.TITLES)


@pytest.mark.parametrize("name", STUDIES)
def test_settings_are_valid_and_named_once(name):
    settings = importlib.import_module(f"experiments.{name}").SETTINGS
    assert len({s.name for s in settings}) == len(settings) > 3
    minilm = Architecture(model_type="bert", vocabulary=100, width=384, layers=6, heads=12, feed_forward=1536, positions=512)
    seen = {study_setting.name for study_setting in settings[:1]}
    for setting in settings:
        config = with_fields(study.frozen(), setting.fields)
        validate(config)
        assembly.make_model(config, minilm, 4)  # every part takes its arguments
        assert setting.fit or len({tuple(point) for point in setting.points}) <= 1
        assert not setting.against or setting.against in seen | {setting.name}
        seen.add(setting.name)


@pytest.mark.parametrize("name", STUDIES)
@pytest.mark.parametrize("arguments", [[], [":runlocal"]])
def test_the_command_line_of_every_study(name, arguments, monkeypatch, tmp_path):
    called = []
    monkeypatch.setattr(study, "run", lambda *args: called.append(args))
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    monkeypatch.setattr(study, "WORK", tmp_path)
    monkeypatch.delitem(sys.modules, f"experiments.{name}", raising=False)  # runpy warns of modules that are there already
    runpy.run_module(f"experiments.{name}", run_name="__main__")
    ((found, output),) = called
    assert (found.name, output.name) == (name, f"{name}.jsonl")
    whole = importlib.import_module(f"experiments.{name}").SETTINGS
    assert (found.seeds, len(found.settings)) == ((2, study.LOCAL_SETTINGS) if arguments else (5, len(whole)))
    assert {found.against(s) for s in found.settings} <= {s.name for s in found.settings}
    data, epochs = found.base.data, found.base.training.total_epochs
    assert (data.train_rows, epochs) == ((96, 1) if arguments else (4000, 4))


@pytest.mark.parametrize("name", STUDIES)
def test_trials_of_a_program_set_numbers_alone(name):
    """A part's arguments, or one that the config doesn't give, are no field of a trial."""
    found = importlib.import_module(f"experiments.{name}").STUDY
    for shared, group in study.grouped(found.settings):
        config = with_fields(found.base, shared)
        for field in study_training._fields(config, group, [s.points for s in group]):
            default = study_training._value(config, field)
            values = [s.fields.get(field, default) for s in group]
            values += [point[field] for s in group for point in s.points if field in point]
            assert all(isinstance(v, (int, float)) for v in values) and is_traced(field, values)


@pytest.mark.parametrize("name", STUDIES)
def test_table_and_figure_of_every_study(name, tmp_path, monkeypatch):
    """Of lines that a study might have recorded: a row for each in both tables, one figure, and no number that isn't there."""
    for module in (study_tables, study_extras):
        monkeypatch.setattr(module, "FIGURES", tmp_path)
    settings = importlib.import_module(f"experiments.{name}").SETTINGS
    names = [s.name for s in settings] + study_tables.names_of(name)
    rng, path = np.random.default_rng(0), tmp_path / f"{name}.jsonl"
    for i, setting in enumerate(names[:-1]):
        fields = settings[i].fields if i < len(settings) else {}
        append_result(path, made_up_line(setting, dict(fields), settings[0].name, rng))
    section = study_tables.section(name, path)
    assert section.count(f"| {names[0]} † |") >= 2 and f"| {names[-1]} | not measured |" in section
    assert (tmp_path / f"study_{name}.png").stat().st_size > 10_000


def made_up_line(setting, fields, reference, rng):
    """A line as a study records it, of numbers drawn at random; for tests alone."""
    seeds = list(rng.normal(0.88, 0.004, 5))
    train = fields.get("data.train_rows", 4000) or 50_471
    line = {"study": "made up", "setting": setting, "fields": fields, "regime": "tuned" if "tuned" in setting else "cached"}
    line |= {"data": {"train": train, "validation": 2000, "test": 7600, "name": "made up"}, "seeds": 5}
    line |= {"rows_of_each_seed_differ": False, "validation": {"accuracy": seeds}, "accuracy_ci95": [0.87, 0.89]}
    line |= {"test": {metric: seeds for metric in study.METRICS}, "recall": {c: seeds for c in "WSBT"}, "reference": reference}
    line |= {"strata": {"words": [3, 20, 40, 90], "accuracy": [seeds, [x - 0.02 for x in seeds], seeds]}, "chosen": [{}]}
    line |= {
        "diverged": 0,
        "parameters": 1000,
        "seconds_a_trial": 2.5,
        "trials_together": 5,
        "protocol": "of older settings",
        "load_average": 1.0,
        "hardware": "none",
        "commit": "0" * 40,
    }
    return line | {"ece_after_temperature": [0.01] * 5, "difference": 0.01, "difference_ci95": [0.0, 0.02], "p": 0.04}


def test_widths_at_one_rate_are_drawn_from_the_trials_that_chose(tmp_path, monkeypatch):
    monkeypatch.setattr(study_extras, "FIGURES", tmp_path)
    lines = [
        {"fields": {"model.width": width}, "data": {"train": rows}, "choices": []} for rows in (1000, 4000) for width in (64, 512)
    ]
    assert study_extras.one_rate("hidden_size", lines) == []
    for line in lines:
        line["choices"] = [{"fields": {"optimizer.learning_rate": rate}, "accuracy": 0.8} for rate in (1e-2, 1e-4, 1e-3)]
    assert "at one rate" in study_extras.one_rate("hidden_size", lines)[0]
    assert (tmp_path / "study_hidden_size_one_rate.png").stat().st_size > 10_000


def test_thirds_by_number_of_words():
    """Words 1, 1, 2, 3, 4, 9: cuts at 1.67 and 3.33, so a third are the two of 1 word, those of 2 and 3, those of 4 and 9."""
    test = Split(list("abcdef"), ["w " * n for n in (9, 1, 3, 1, 2, 4)], np.array([0, 1, 0, 1, 0, 1], np.int32))
    corpus = types.SimpleNamespace(test=test)
    answers = np.array([[0, 1, 1, 0, 0, 1], [1, 1, 0, 1, 0, 0]])  # wrong: those of 3 and 1 words; those of 9 and 4
    found = study.strata(corpus, np.eye(2)[answers])
    assert found == {"words": [1, 1, 3, 9], "accuracy": [[0.5, 1.0], [0.5, 1.0], [1.0, 0.0]]}


def test_what_a_table_says_of_its_choices_and_commits(tmp_path, monkeypatch):
    """An edge of a grid, what was fixed beforehand, published numbers that aren't at hand, uncommitted changes."""
    grid = [{"fields": point} for point in study.rates(values=(3e-3, 1e-3, 1e-2))]
    line = {"chosen": [{"optimizer.learning_rate": 1e-2}], "choices": grid, "data": {"validation": 2000}}
    line |= {"rows_of_each_seed_differ": False, "commit": "0123456789abcdef", "uncommitted_changes": True}
    assert study_tables.choice(line) == "rate 0.01^"
    assert study_tables.chooses([line]).startswith(
        "the point of the setting's grid (`^`: at an edge of it) with the least nll on validation (2,000"
    )
    inner = line | {"chosen": [{"optimizer.learning_rate": 3e-3}]}
    assert study_tables.choice(inner) == "rate 0.003" and "edge" not in study_tables.chooses([inner])
    assert study_tables.choice(line | {"choices": grid[:2]}) == "rate 0.01"  # of two points each is an edge
    fixed = line | {"chosen": [{}]}
    assert study_tables.choice(fixed) == "–" and study_tables.chooses([fixed]).startswith("nothing")
    own = inner | {"rows_of_each_seed_differ": True, "data": {"validation": 32}}
    assert "(32 rows), by each seed on rows of its own" in study_tables.chooses([own, fixed])
    assert (
        study_extras.commit_of(line) == "0123456789ab*"
        and study_extras.commit_of(line | {"uncommitted_changes": False})[-1] == "b"
    )
    assert study_tables.told({"source": "not at hand: somebody"}) == "not at hand: somebody" and study_tables.told(None) == "none"
    assert study_tables.told({"accuracy": 0.9, "source": "somebody"}) == "accuracy 0.9 (somebody)"


def test_published_models_that_saw_the_test_documents_say_so():
    told = graph_benchmarks.published("20newsgroups")
    assert told["accuracy"] == 0.863 and graph_benchmarks.published("trec") is None
    assert told["source"] == "TextGCN, transductive; BERT 0.853; BertGCN, transductive 0.893; RoBERTaGCN, transductive 0.895"


def test_settings_that_differ_in_rates_share_a_program():
    settings = [study.Setting(f"{rate}", {"optimizer.learning_rate": rate}) for rate in (1e-3, 1e-2)]
    settings.append(study.Setting("wide", {"model.width": 8}))
    settings += study.linear_rows()
    groups = study.grouped(settings)
    assert [len(found) for _, found in groups] == [2, 1, 1, 1]
    assert [shared for shared, _ in groups[:2]] == [
        {},
        {"model.width": 8},
    ]
    assert settings[0].points == () and len(settings[2].points) == len(study.RATES)  # a rate that is given isn't chosen


def test_a_backbone_is_known_by_its_name_and_weights_wherever_it_lies(tmp_path, monkeypatch):
    """Neither a line nor what says that it is done knows a folder of this machine; other weights are another protocol."""
    setting = {s.name: s for s in backbone.SETTINGS}["bert-base-uncased, encoder alone"]
    assert setting.fields["encoder.checkpoint"] == "bert-base-uncased"
    keys = []
    for name, weights in (("here", b"abc"), ("there", b"abc"), ("other", b"abd")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
        (tmp_path / name / "model.safetensors").write_bytes(weights)
        monkeypatch.setenv("TEXTFUSE_CHECKPOINTS", f"bert-base-uncased={tmp_path / name}")
        assert study._weights_are_there(with_fields(study.frozen(), setting.fields), setting, print)
        keys.append((backbone.STUDY.protocol(setting), study.encoder_of(setting)["encoder_fingerprint"]))
    assert keys[0] == keys[1] and all(a != b for a, b in zip(keys[1], keys[2]))
    assert study.encoder_of(study.Setting("MiniLM")) == {}  # the study's own encoder: its digests stay


def test_digests_have_the_default_precision_as_they_always_had():
    """Lines of a time when "bfloat16" was the default stay those of the same settings."""
    digests = {}
    for dtype in ("auto", "bfloat16", "float32"):
        base = study.frozen()
        base.encoder.dtype = dtype
        digests[dtype] = study.Study("any", base, [study.Setting("one")]).protocol(study.Setting("one"))
        assert base.encoder.dtype == dtype
    assert digests["auto"] == digests["bfloat16"] != digests["float32"]


@pytest.mark.slow
@pytest.mark.parametrize("resample", [False, True])
def test_a_study_runs_and_goes_on(tmp_path, resample):
    base = quickstart.get_config("scratch,runlocal")
    header, *rows = write_corpus(tmp_path / "corpus.csv").read_bytes().decode().split("\r\n")
    for name, part in (("train", rows[::2]), ("test", rows[1::2])):
        (tmp_path / f"{name}.csv").write_bytes("\r\n".join([header, *filter(None, part), ""]).encode())
    base.data.update(dict(source="file", path=str(tmp_path / "train.csv"), test_path=str(tmp_path / "test.csv"), test_rows=0))
    base.encoder.dtype = "float32"
    base.encoder.scratch.update(dict(vocab_size=500, width=16, layers=1, heads=2, feed_forward=32))
    base.model.levels, base.model.width = ("00/phrase", "01/sentence"), 16
    base.model.pooling_args.self_attention = True
    grid = study.rates("optimizer.learning_rate", "optimizer.encoder_learning_rate", values=(1e-6, 1e-2, 1e-3))
    settings = [
        study.Setting("slow", {"optimizer.learning_rate": 1e-5, "optimizer.encoder_learning_rate": 1e-5}),
        study.Setting("chosen", {}, {"accuracy": 0.5, "source": "nobody"}, grid=grid),
        study.Setting("words", fit=study_linear.tfidf),
    ]
    made = study.Study("test", base, settings, 2, measure=study_graphs.construction_facts, resample=resample)
    study.run(made, tmp_path / "test.jsonl", say=lambda _: None)
    slow, chosen, words = [json.loads(line) for line in (tmp_path / "test.jsonl").read_text().splitlines()]
    assert [line["setting"] for line in (slow, chosen, words)] == ["slow", "chosen", "words"]
    assert slow["difference"] == 0 and slow["p"] == 1 and chosen["published"]["source"] == "nobody"
    assert chosen["difference"] == pytest.approx(np.mean(chosen["test"]["accuracy"]) - np.mean(slow["test"]["accuracy"]))
    assert words["difference"] == pytest.approx(np.mean(words["test"]["accuracy"]) - np.mean(slow["test"]["accuracy"]))
    assert chosen["difference_ci95"][0] <= chosen["difference"] <= chosen["difference_ci95"][1]
    assert len(chosen["test"]["nll"]) == 2 == chosen["seeds"] and slow["parameters"] > 10_000
    assert words["seeds"] == (2 if resample else 1) and words["chosen"][0]["C"] in (1, 4, 16, 64)
    if resample:  # each seed chose on rows of its own, all points in one program
        assert chosen["trials_together"] == 4 and len(chosen["chosen"]) == 2
    else:  # three points by two runs of the program, then the two seeds by the best of them
        assert chosen["trials_together"] == 4 and [c["fields"] for c in chosen["choices"]] == list(grid)
        assert chosen["chosen"] == [min(chosen["choices"], key=lambda c: c["nll"])["fields"]] and slow["choices"] == []
    assert 0 < chosen["edges_a_node"][0] < 20 and -1 <= chosen["cosine_of_nodes"][1] <= 1
    assert chosen["same_topic"][0] is None or 0 <= chosen["same_topic"][0] <= 1
    if not resample:
        sample = chosen["sample_graph"]
        assert len(sample["texts"]) == len(sample["level"]) == len(sample["beta"])
        assert sample["share"] == "pool/looks" and sum(sample["beta"]) == pytest.approx(1, abs=2e-3)
    assert len(words["ece_after_temperature"]) == words["seeds"] == len(words["reliability"])
    assert all(
        sum(seed[told]["count"]) == chosen["data"]["test"] for seed in chosen["reliability"] for told in ("before", "after")
    )
    said = []
    study.run(made, tmp_path / "test.jsonl", say=said.append)
    assert not said and len((tmp_path / "test.jsonl").read_text().splitlines()) == 3


@pytest.mark.slow
def test_logistic_regression_on_cached_means(tmp_path):
    """Means over windows of a document, scikit-learn's own probabilities."""
    base = study.frozen()
    runlocal(base)
    base.data.source, base.data.where = "file", {}
    write_corpus(tmp_path / "corpus.csv")
    base.data.path, base.data.long_documents, base.encoder.cache_dir = str(tmp_path / "corpus.csv"), "windows", str(tmp_path)
    base.data.max_length = base.data.row_lengths[0]
    base = with_fields(base, study.ENCODER_ALONE)
    material = study_training.Materials([base], lambda _: None, 1)(base)
    x = {split: study_linear.document_means(material, split, study.TAPS) for split in ("train", "test")}
    encoded, features = material.encoded["test"], material.features["test"]
    mine = np.flatnonzero(encoded.example == 3)
    assert x["test"].shape == (len(material.corpus.test), 3 * 384)
    assert x["test"][3, 384:768] == pytest.approx(np.mean(features["04/document"][mine].astype(np.float32), 0), abs=1e-5)
    found = study_linear.encoder_logreg(base, material)
    scaler = StandardScaler().fit(x["train"])
    model = LogisticRegression(C=found.facts["chosen"][0]["C"], max_iter=300, tol=1e-3)
    model.fit(scaler.transform(x["train"]), material.corpus.train.labels)
    np.testing.assert_allclose(found.probabilities[0], model.predict_proba(scaler.transform(x["test"])), atol=1e-6)
    words, mixed = study_linear.tfidf(base, material), study_linear.words_and_encoder(base, material)
    share, nll = mixed.facts["chosen"][0]["share of words"], [one.validation["nll"][0] for one in (mixed, words, found)]
    layers = study_linear.logistic(
        x | {"validation": study_linear.document_means(material, "validation", study.TAPS)}, material.corpus, "nll"
    )
    np.testing.assert_allclose(mixed.probabilities, share * words.probabilities + (1 - share) * layers.probabilities, atol=1e-9)
    assert nll[0] <= min(nll[1:]) + 1e-9 and mixed.facts["parameters"] > found.facts["parameters"]
    with pytest.raises(ValueError, match="document_taps"):
        study_linear.document_means(material, "test", ("03/document",))


@pytest.mark.slow
def test_texts_that_splits_share_are_encoded_once(tmp_path):
    """In windows too; what an earlier split had comes out as if the later one had been encoded alone."""
    base = with_fields(study.frozen(), {"data.long_documents": "windows", "encoder.cache_dir": str(tmp_path)})
    runlocal(base)
    encoder = setup.load_text_encoder(base, ())
    texts = ["Oil rises. " * n + f"Item {n} of the day, said the minister." for n in (1, 9, 2, 4, 20, 3)]
    said = []
    shared = study_features.Shared(base, encoder, said.append)
    for name, mine in {"first": texts[:4], "second": [texts[5], *texts[1:3], texts[4], texts[1]], "third": texts[::-2]}.items():
        found = shared(name, mine)
        encoded = setup.encode_split(base, encoder.tokenizer, mine)
        whole = setup.cached_features(base, encoder, {f"{name}-alone": encoded}, said.append)[f"{name}-alone"]
        assert found.keys() == whole.keys()
        for tap, values in whole.items():
            np.testing.assert_allclose(found[tap].astype(np.float32), values.astype(np.float32), atol=0.02)
    assert len(list(tmp_path.glob("first-*"))) == 2 and len(list(tmp_path.glob("second-*"))) == 2
    assert len(list(tmp_path.glob("third-*"))) == 1  # alone


def test_a_difference_is_shown_beside_the_reference_that_it_is_from():
    keys, other = {"a": "1", "b": "2"}, {"setting": "b", "protocol": "2"}
    line = {"setting": "a", "protocol": "1", "reference": "b", "reference_protocol": "2"}
    assert study_tables.paired_with(line, other, keys) and not study_tables.paired_with(line, None, keys)
    assert not study_tables.paired_with(line | {"reference_protocol": "of older settings"}, other, keys)
    silent = {"setting": "a", "protocol": "0", "reference": "b"}  # of a time when lines didn't tell
    assert study_tables.paired_with(silent, other | {"protocol": "0"}, keys) and not study_tables.paired_with(silent, other, keys)
    told = {"setting": "a", "reference": "b", "difference": 0.01, "difference_ci95": [0.0, 0.02], "p": 0.04}
    assert study_tables.difference(told) == ["+1.00 [+0.00, +2.00]", "0.040"]
    assert study_tables.difference(told, named=True)[0] == f"+1.00 [+0.00, +2.00] from {told['reference']}"
    assert study_tables.difference(told | {"unpaired": True}) == ["–", "–"]
