"""The commands beside launch.py: a starter config, and runs listed, shown and compared."""

import json

import numpy as np
import pytest

from tests.fusion.running import run, small_config
from tests.launching import write_corpus
from textfuse_jax import results
from textfuse_jax.config_checks import validate
from textfuse_jax.estimator_inputs import config_of_file
from textfuse_jax.fusion import __main__ as command

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two finished runs on the same documents with another seed of the weights, and one on fewer."""
    folder = tmp_path_factory.mktemp("runs")
    corpus = write_corpus(folder / "corpus.csv")
    for name, seed, rows in (("first", 0, 48), ("second", 1, 48), ("fewer", 0, 24)):
        config = small_config(corpus, folder / "llm.sqlite")
        config.fusion.combiner, config.seed, config.data.seed, config.data.test_rows = "", seed, 0, rows
        run(config, folder / "runs" / name)
    return folder / "runs"


def test_a_starter_config_is_valid_and_never_overwrites(tmp_path, capsys):
    path = tmp_path / "new" / "my_fusion.py"
    assert command.main(["create-config", str(path)]) == 0
    config = config_of_file(path)
    validate(config)
    assert config.name == "my_fusion" and config.llm.provider == "local" and config.fusion.combiner == "mlp"
    assert path.read_text().count("#") > 15
    assert command.main(["create-config", str(path)]) == 2 and "is there already" in capsys.readouterr().err
    assert command.main(["create-config", str(tmp_path / "a.yaml")]) == 2


def test_list_reads_what_is_there(runs, capsys):
    assert results.main(["list", "--root", str(runs)]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in ("first", "second", "fewer", "agnews_labelfusion"))
    (runs / "unfinished").mkdir()
    (runs / "unfinished" / "config.json").write_text(json.dumps({"name": "mine"}))
    (runs / "unfinished" / "metrics.jsonl").write_text("")
    found = {line["run"]: line["status"] for line in results.index(runs)}
    assert found == {"first": "finished", "second": "finished", "fewer": "finished", "unfinished": "unfinished"}
    (runs / "unfinished" / "metrics.jsonl").unlink()
    (runs / "unfinished" / "config.json").unlink()
    assert "unfinished" not in {line["run"] for line in results.index(runs)}


def test_a_run_that_cant_be_read_is_told_and_the_others_are_listed(runs, capsys):
    (runs / "broken").mkdir()
    (runs / "broken" / "config.json").write_text("{}")
    (runs / "broken" / "result.json").write_text('{"test": {"accu')
    (runs / "index.json").write_text("[{")
    try:
        assert results.main(["list", "--root", str(runs)]) == 0
        shown = capsys.readouterr()
        assert all(name in shown.out for name in ("first", "second", "fewer")) and "broken" not in shown.out
        assert str(runs / "broken" / "result.json") in shown.err and "cut off" in shown.err
        assert results.main(["show", str(runs / "broken"), "--root", str(runs)]) == 2
        assert "can't be read" in capsys.readouterr().err
    finally:
        for name in ("config.json", "result.json"):
            (runs / "broken" / name).unlink()


def test_show_and_compare(runs, capsys):
    assert results.main(["show", "first", "--root", str(runs)]) == 0
    assert "accuracy" in capsys.readouterr().out
    found = results.compare_runs([runs / "first", runs / "second"])
    p, q = (results.predictions_of(runs / name)[0] for name in ("first", "second"))
    right = [(r.probabilities.argmax(1) == r.labels).mean() for r in (p, q)]
    assert np.allclose([scores["accuracy"] for scores in found["scores"]], right)
    assert found["tests"][0] is None and 0 <= found["tests"][1]["mcnemar"]["p"] <= 1
    assert results.main(["compare", "first", "second", "--root", str(runs)]) == 0
    assert "McNemar" in capsys.readouterr().out


def test_runs_that_cant_be_compared_are_told(runs, capsys):
    with pytest.raises(results.ResultsError, match="fewer"):
        results.compare_runs([runs / "first", runs / "fewer"])
    assert results.main(["show", "third", "--root", str(runs)]) != 0
    assert "first" in capsys.readouterr().err
