"""One trajectory, whatever devices, engine or number of processes the rows are divided over."""

import functools
import json
import pathlib
import shutil
import socket
import subprocess

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from configs import quickstart
from tests.launching import ROOT, SMALL, command, environment, launch, write_corpus
from textfuse_jax.data.pipeline import train_batches
from textfuse_jax.training import assembly, checkpoints, parallel, setup
from textfuse_jax.training.losses import make_loss
from textfuse_jax.training.optimizer import make_optimizer
from textfuse_jax.training.step import init_state, make_step

STEPS = 20
FSDP = ((".", -1),)
RUN = (*SMALL, "--config.training.total_epochs=4", "--config.training.checkpoint_every_steps=8")
FOUR = {"XLA_FLAGS": "--xla_force_host_platform_device_count=4"}


@pytest.fixture(scope="module")
def corpus_file(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("data") / "corpus.csv")


@pytest.fixture(scope="module")
def trajectory(corpus_file):
    """``trajectory(engine) -> losses [STEPS], params`` of one small model with dropout on real text."""
    config = quickstart.get_config("scratch,runlocal")
    config.data.source, config.data.path, config.data.train_rows = "file", str(corpus_file), 0
    config.encoder.scratch.update(dict(vocab_size=500, width=64, layers=2, heads=2, feed_forward=256))
    config.model.levels, config.model.width = ("01/phrase", "02/sentence"), 64
    config.model.propagate_args.dropout = config.model.head_args.dropout = 0.2
    # Smooth: a neighbour chosen by the last digit of a cosine, or a ReLU at its kink, makes a difference of that digit large.
    config.model.edges = ("textfuse_jax.models.edges:window", "textfuse_jax.models.edges:hierarchy")
    config.model.propagate_args.activation = "gelu"
    corpus = setup.load_corpus(config)
    encoder = setup.load_text_encoder(config, corpus.train.texts)
    encoded = setup.encode_split(config, encoder.tokenizer, corpus.train.texts)
    batches = train_batches(
        encoded, corpus.train.labels, epochs=9, seed=0, tokens_per_batch=512, row_lengths=(32,), rows_multiple=8
    )
    model = assembly.make_model(config, encoder.architecture, len(corpus.class_names))
    params = jax.device_get(assembly.init_params(model, batches.batch(0), 0, None))  # on the host: a state is donated
    loss = make_loss(config.loss, corpus.train.labels, len(corpus.class_names))
    apply = lambda tree, rows, key: model.apply({"params": tree}, rows, train=True, rngs={"dropout": key})  # noqa: E731

    @functools.cache
    def run(engine):
        state, optimizer = init_state(
            params, lambda _: False, lambda p: make_optimizer(config.optimizer, p, STEPS, 2), average=True
        )
        state = engine.place(state)
        step = engine.map(make_step(apply, loss, optimizer, average_decay=0.9, axis=engine.axis), state)
        state, key = engine.put(state), parallel.replicate(jax.random.key(1), engine.mesh)
        losses = [0.0]
        for number in range(STEPS):
            state, sums = step(state, engine.spread(batches.batch(number)), key)
            losses.append(float(engine.get(sums)["loss"]))
        return np.diff(losses), jax.device_get(engine.get(state.params)), state

    return run


@pytest.mark.parametrize(("engine", "devices"), [("jit", 8), ("fsdp", 4), ("pmap", 2), ("pmap", 8)])  # all: scaling_study
def test_any_engine_on_any_devices_takes_the_same_steps(trajectory, engine, devices):
    kinds = {"jit": parallel.Jit, "fsdp": lambda mesh: parallel.Jit(mesh, FSDP), "pmap": parallel.Pmap}
    losses, params, _ = trajectory(kinds[engine](parallel.make_mesh(devices)))
    expected, expected_params, _ = trajectory(parallel.Jit(parallel.make_mesh(1)))
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    for name in params:
        np.testing.assert_allclose(params[name], expected_params[name], atol=1e-3, err_msg=name)  # Adam divides by small moments


def test_fsdp_divides_parameters_and_moments(trajectory):
    _, _, state = trajectory(parallel.Jit(parallel.make_mesh(4), FSDP))
    divided = {x.sharding.spec for x in jax.tree.leaves(state) if x.size >= parallel.SMALLEST}
    assert divided <= {PartitionSpec("data", None), PartitionSpec(None, "data")} and divided
    assert any(x.sharding.spec != PartitionSpec() for x in jax.tree.leaves(state.opt_state))


def test_partition_by_rules():
    rules = ((r"norm", None), (r"kernel$", 0), (r".", -1))
    assert parallel.partition("a/norm/scale", (1 << 15,), 4, rules) == PartitionSpec()
    assert parallel.partition("a/kernel", (128, 512), 4, rules) == PartitionSpec("data", None)
    assert parallel.partition("a/table", (128, 512), 4, rules) == PartitionSpec(None, "data")
    assert parallel.partition("a/table", (129, 511), 4, rules) == PartitionSpec()  # nothing to divide
    assert parallel.partition("a/table", (4, 8), 4, rules) == PartitionSpec()  # too small
    assert parallel.partition("a/table", (128, 512), 4, ()) == PartitionSpec()


def test_address_without_numbers_is_refused():
    with pytest.raises(ValueError, match=r"--processes=N and --process=0\.\.N-1, got None and 1"):
        parallel.connect("localhost:1234", None, 1)


def together(*arguments: str, processes: int = 2, devices: int = 2) -> list[str]:
    """Runs launch.py in several processes of several virtual devices each; what each printed."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    flags = environment(XLA_FLAGS=f"--xla_force_host_platform_device_count={devices}")
    started = [
        subprocess.Popen(
            command(*arguments, f"--coordinator=127.0.0.1:{port}", f"--processes={processes}", f"--process={number}"),
            cwd=ROOT,
            env=flags,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for number in range(processes)
    ]
    try:
        said = [process.communicate(timeout=300)[0] for process in started]
    finally:
        for process in started:
            process.kill()
    assert [process.returncode for process in started] == [0] * processes, said
    return said


def losses(workdir: pathlib.Path) -> np.ndarray:
    found = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return np.array([line["loss"] if line["split"] == "train" else line["nll"] for line in found])


@pytest.fixture(scope="module")
def whole(corpus_file, tmp_path_factory):
    """A run of more than ``STEPS`` steps in one process of four devices: its arguments, its folder."""
    run, workdir = (*RUN, f"--config.data.path={corpus_file}"), tmp_path_factory.mktemp("whole") / "run"
    done = launch(*run, f"--workdir={workdir}", **FOUR)
    assert done.returncode == 0, done.stderr
    return run, workdir


def lose_the_end(workdir: pathlib.Path) -> None:
    """Leaves the run as if it had been killed before its last checkpoint."""
    newest = checkpoints.all_steps(workdir / "checkpoints")[-1]
    for path in (workdir / "result.json", newest / "orbax.checkpoint"):
        path.unlink()


@pytest.mark.long
def test_two_processes_train_as_one_by_pmap(whole, tmp_path):
    run, one = whole
    said = together(*run, "--config.parallel.engine=pmap", f"--workdir={tmp_path / 'two'}")
    assert "4 x cpu in 2 processes" in said[0] and "epoch" not in said[1]
    np.testing.assert_allclose(losses(one), losses(tmp_path / "two"), rtol=1e-5)


@pytest.mark.long
def test_two_processes_train_as_one_and_hand_over_checkpoints(whole, tmp_path):
    run, one = whole
    together(*run, f"--workdir={tmp_path / 'two'}")
    np.testing.assert_allclose(losses(one), losses(tmp_path / "two"), rtol=1e-5)
    lose_the_end(tmp_path / "two")
    done = launch("--resume", f"--workdir={tmp_path / 'two'}", XLA_FLAGS="")  # one device
    assert done.returncode == 0 and "resumed from" in done.stdout, done.stderr
    np.testing.assert_allclose(losses(one), losses(tmp_path / "two"), rtol=1e-5)
    shutil.copytree(one, tmp_path / "one")
    lose_the_end(tmp_path / "one")
    assert "resumed from" in together("--resume", f"--workdir={tmp_path / 'one'}")[0]
    np.testing.assert_allclose(losses(one), losses(tmp_path / "one"), rtol=1e-5)
