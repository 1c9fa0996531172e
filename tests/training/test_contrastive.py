"""The contrastive losses by hand; the stage learns, goes on bit by bit, and changes what follows."""

import contextlib
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import quickstart
from tests.launching import write_corpus
from textfuse_jax.config_checks import ConfigError, validate
from textfuse_jax.experiment import run
from textfuse_jax.training import setup
from textfuse_jax.training.contrastive import contrast
from textfuse_jax.training.progress import Interrupted

E = np.exp(1 / 0.5)  # exp(cosine 1 / temperature)


def views(*pairs):
    """Views in one row of slots: of each document its first and its second."""
    return jnp.array([[[*one, *other] for one, other in pairs]], jnp.float32)


def test_unsupervised_loss_by_hand():
    """Two documents at a right angle, their views alike, and an empty slot: -log(e^2 / (e^2 + 1)); length doesn't count."""
    x, y, empty = ((3.0, 0.0), (1.0, 0.0)), ((0.0, 2.0), (0.0, 5.0)), ((0.0, 0.0), (0.0, 0.0))
    loss = contrast(0.5, False)(views(x, y, empty), jnp.zeros((1, 3), int))
    np.testing.assert_allclose(loss, [[np.log((E + 1) / E)] * 2 + [0]], rtol=1e-6)
    alone = contrast(0.5, False)(views(x, empty), jnp.zeros((1, 2), int))
    np.testing.assert_allclose(alone, [[0, 0]], atol=1e-6)  # nothing to be pushed from


def test_supervised_loss_by_hand():
    """Three documents, two of a class at a right angle: of an anchor's five others, three are positives."""
    x, y, z = ((1.0, 0.0), (1.0, 0.0)), ((0.0, 1.0), (0.0, 1.0)), ((-1.0, 0.0), (-1.0, 0.0))
    loss = contrast(0.5, True)(views(x, y, z), jnp.array([[1, 1, 0]]))
    of_x = np.log(E + 2 + 2 / E) - (2 + 0 + 0) / 3  # others: own view e^2, y twice 1, z twice e^-2; mean of positives' scores
    of_y = np.log(E + 4) - 2 / 3
    of_z = np.log(E + 2 / E + 2) - 2
    np.testing.assert_allclose(loss, [[of_x, of_y, of_z]], rtol=1e-5)


@pytest.mark.parametrize("supervised", [False, True])
def test_gradients_are_finite_with_empty_slots(supervised):
    x = views(((1.0, 0.5), (0.9, 0.1)), ((0.0, 0.0), (0.0, 0.0)), ((0.2, 1.0), (0.1, 0.7)))
    gradient = jax.grad(lambda v: contrast(0.05, supervised)(v, jnp.array([[0, 0, 1]])).sum())(x)
    assert np.isfinite(gradient).all() and (np.asarray(gradient)[0, 1] == 0).all() and np.any(gradient)


def small(tmp_path, **stage):
    """A run of seconds from scratch with the stage before it."""
    config = quickstart.get_config("scratch,runlocal")
    config.data.update(dict(source="file", path=str(write_corpus(tmp_path / "corpus.csv"))))
    config.encoder.dtype = "float32"
    config.encoder.scratch.update(dict(vocab_size=300, width=16, layers=1, heads=2, feed_forward=32))
    config.model.levels, config.model.width = ("00/phrase", "01/sentence"), 16
    config.evaluation.reference, config.evaluation.graphs = False, 0
    config.training.pretrain = "contrastive"
    config.training.contrastive.update(dict(total_epochs=3, learning_rate=3e-3) | stage)
    return config


class StopAfter:
    """A signal that comes when so many checkpoints stand."""

    def __init__(self, folder, count):
        self.folder, self.count = folder, count

    @property
    def asked(self):
        return self.folder.exists() and len(list(self.folder.iterdir())) >= self.count

    def deferred(self):
        return contextlib.nullcontext()


def test_the_stage_lowers_its_loss_and_goes_on_where_it_was(tmp_path):
    config = small(tmp_path, supervised=True, total_epochs=6)
    config.training.log_every_steps = 1
    config.training.checkpoint_every_steps = 3
    corpus = setup.load_corpus(config)
    told = []
    whole = setup.prepare(config, corpus, told.append, tmp_path / "whole").encoder
    losses = [float(line.split("loss ")[1].split()[0]) for line in told if line.startswith("contrastive step")]
    assert len(losses) > 6 and np.mean(losses[-3:]) < np.mean(losses[:3])
    with pytest.raises(Interrupted, match="contrastive stage at step"):
        setup.prepare(config, corpus, lambda _: None, tmp_path / "cut", StopAfter(tmp_path / "cut" / "pretraining", 1))
    again = []
    resumed = setup.prepare(config, corpus, again.append, tmp_path / "cut").encoder
    assert any("resumed" in line for line in again) and resumed.fingerprint == whole.fingerprint
    finished = setup.prepare(config, corpus, again.append, tmp_path / "whole").encoder  # nothing is trained again
    assert finished.fingerprint == whole.fingerprint
    config.training.contrastive.supervised = False
    with pytest.raises(ConfigError, match=r"holds a stage of another config\.training\.contrastive"):
        setup.prepare(config, corpus, lambda _: None, tmp_path / "whole")
    assert setup.prepare(config, corpus, lambda _: None).encoder.fingerprint != whole.fingerprint


@pytest.mark.slow
def test_a_run_with_the_stage(tmp_path):
    config = small(tmp_path)
    validate(config)
    result = run(config, tmp_path / "run", say=lambda _: None)
    config.training.pretrain = "none"
    other = run(config, tmp_path / "plain", say=lambda _: None)
    assert result["test"]["nll"] != other["test"]["nll"]
    assert json.loads((tmp_path / "run" / "config.json").read_text())["training"]["pretrain"] == "contrastive"


def test_faults_are_told():
    config = quickstart.get_config("runlocal")
    config.training.pretrain = "contrastive"
    config.training.contrastive.update(dict(temperature=0.0, dropout=0.0, tokens_per_batch=8))
    config.parallel.engine = "pmap"
    with pytest.raises(ConfigError, match="4 faults") as told:
        validate(config)
    for field in ("temperature", "dropout", "tokens_per_batch", "parallel.engine"):
        assert field in str(told.value)
