"""Killed at random moments and resumed, a run ends bit by bit where the uninterrupted one does."""

import random
import signal
import subprocess
import time

import pytest

from tests.launching import ROOT, SMALL, assert_same_run, command, environment, launch, write_corpus
from textfuse_jax.training.progress import EXIT_INTERRUPTED

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Arguments of a small run on real text."""
    return [*SMALL, f"--config.data.path={write_corpus(tmp_path_factory.mktemp('data') / 'corpus.csv')}"]


@pytest.fixture(scope="module")
def uninterrupted(small, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("whole") / "run"
    done = launch(*small, f"--workdir={workdir}")
    assert done.returncode == 0, done.stderr
    return workdir


def start_and_kill(arguments: list[str], number: signal.Signals, moment: random.Random) -> int | None:
    """Starts a run and sends a signal at a random moment of its training; its exit code (0: it ended first)."""
    with subprocess.Popen(
        command(*arguments), cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        after = moment.randint(0, 7)
        for line in process.stdout:
            if line.startswith("epoch"):
                after -= 1
            if after < 0:
                time.sleep(moment.random() * 0.05)
                process.send_signal(number)
                break
        process.communicate(timeout=120)
        return process.returncode


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_killed_and_resumed_is_bit_identical(small, uninterrupted, tmp_path, number):
    workdir, moment = tmp_path / "run", random.Random(int(number))
    codes = [start_and_kill([*small, f"--workdir={workdir}"], number, moment)]
    codes += [start_and_kill([f"--workdir={workdir}", "--resume"], number, moment) for _ in range(2)]
    end = launch(f"--workdir={workdir}", "--resume")
    assert end.returncode == 0, end.stderr
    assert set(codes) <= {0, EXIT_INTERRUPTED if number == signal.SIGTERM else -signal.SIGKILL}
    assert codes[0] != 0
    assert_same_run(uninterrupted, workdir)


def test_two_runs_with_one_seed_are_bit_identical(small, uninterrupted, tmp_path):
    again = launch(*small, f"--workdir={tmp_path / 'run'}")
    assert again.returncode == 0, again.stderr
    assert_same_run(uninterrupted, tmp_path / "run")


def test_another_seed_is_another_run(small, uninterrupted, tmp_path):
    other = launch(*small, "--config.seed=1", f"--workdir={tmp_path / 'run'}")
    assert other.returncode == 0, other.stderr
    with pytest.raises(AssertionError):
        assert_same_run(uninterrupted, tmp_path / "run")


def test_a_finished_run_is_left_alone(uninterrupted):
    before = (uninterrupted / "result.json").read_bytes()
    again = launch(f"--workdir={uninterrupted}", "--resume")
    assert again.returncode == 0 and "finished" in again.stdout
    assert (uninterrupted / "result.json").read_bytes() == before


def test_a_folder_holds_one_run(small, uninterrupted):
    refused = launch(*small, f"--workdir={uninterrupted}")
    assert refused.returncode == 2 and "--resume" in refused.stderr
    changed = launch(*small, "--config.seed=5", f"--workdir={uninterrupted}", "--resume")
    assert changed.returncode == 2 and "config.seed: 0 -> 5" in changed.stderr
