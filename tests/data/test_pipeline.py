import json
import subprocess
import sys
import threading
import time

import jax
import numpy as np
import pytest

from textfuse_jax.data.pipeline import evaluation_batches, train_batches

from .test_packing import made

SIZES = dict(row_lengths=(32,), tokens_per_batch=128)


def labels_of(encoded):
    return np.arange(encoded.examples, dtype=np.int32)


def train(encoded, **change):
    return train_batches(encoded, labels_of(encoded), **SIZES | {"epochs": 3, "seed": 5} | change)


def same(a, b):
    return all(jax.tree.leaves(jax.tree.map(lambda x, y: np.array_equal(x, y), a, b)))


@pytest.fixture(scope="module")
def encoded():
    return made(np.arange(50) * 7 % 29)


def test_every_document_once_an_epoch_and_epochs_differ(encoded):
    batches = train(encoded)
    assert (len(batches), batches.total_steps) == (sum(batches.steps_per_epoch),) * 2
    found = list(batches)
    orders, step = [], 0
    for epoch, steps in enumerate(batches.steps_per_epoch):
        assert batches.epoch_of(step) == (epoch, 0) and batches.epoch_of(step + steps - 1) == (epoch, steps - 1)
        examples = np.concatenate([rows.example[rows.example >= 0] for rows in found[step : step + steps]])
        assert sorted(examples) == list(range(50))
        orders.append(examples.tolist())
        step += steps
    assert step == len(found) and len({tuple(order) for order in orders}) == 3


def test_numbers_of_the_plan(encoded):
    batches = train(encoded)
    found = list(batches)
    tokens = sum((rows.document < rows.slots).sum() for rows in found)
    assert batches.waste == pytest.approx(1 - tokens / sum(rows.tokens.size for rows in found))
    assert [(shape.rows, shape.tokens) for shape in batches.shapes] == [(4, 32)]


def test_same_seed_same_batches_whatever_the_prefetch(encoded):
    first = list(train(encoded))
    for other in (train(encoded), train(encoded, prefetch=0), train(encoded, prefetch=7)):
        assert all(same(a, b) for a, b in zip(first, other, strict=True))
    assert not same(first, list(train(encoded, seed=6))[: len(first)])


def test_resumes_at_every_batch(encoded):
    batches = train(encoded, epochs=2)
    whole, states = [], [json.dumps(batches.get_state())]
    for rows in batches:
        whole.append(rows)
        states.append(json.dumps(batches.get_state()))
    for step, state in enumerate(states):
        resumed = train(encoded, epochs=2)
        resumed.set_state(json.loads(state))
        rest = list(resumed)
        assert len(rest) == len(whole) - step
        assert all(same(a, b) for a, b in zip(whole[step:], rest))
        assert json.dumps(resumed.get_state()) == states[-1]


def test_a_loop_that_stops_early_saves_where_it_was(encoded):
    batches = train(encoded)
    whole = list(batches)
    for i, _ in enumerate(batches):
        if i == 3:
            break
    again = train(encoded)
    again.set_state(batches.get_state())
    assert same(next(iter(again)), whole[4])


def test_state_of_other_batches_is_refused(encoded):
    state = train(encoded).get_state()
    for other in (train(encoded, seed=6), train(encoded, epochs=2), train(encoded, packed=False)):
        with pytest.raises(ValueError, match="belongs to other batches"):
            other.set_state(state)
    with pytest.raises(ValueError, match="next_step must lie in"):
        train(encoded).set_state(state | {"next_step": 10_000})


def test_threads_end_with_the_loop(encoded):
    def running():
        return [t.name for t in threading.enumerate() if t.name.startswith("grain-prefetch")]

    def ended():
        until = time.monotonic() + 5
        while running() and time.monotonic() < until:
            time.sleep(0.01)
        return not running()

    assert ended()
    iterator = iter(train(encoded))
    next(iterator)
    assert running()
    iterator.close()
    assert ended()
    list(train(encoded))
    assert ended()


def test_processes_share_the_batches(encoded):
    whole = list(train(encoded))
    parts = [list(train(encoded, process_index=i, process_count=2)) for i in range(2)]
    assert len(parts[0]) == len(parts[1]) == len(whole)
    for one, *shares in zip(whole, *parts):
        assert all(share.tokens.shape == (2, 32) for share in shares)
        assert same(one, jax.tree.map(lambda *x: np.concatenate(x), *shares))


def test_evaluation_goes_over_all_documents_again_and_again(encoded):
    batches = evaluation_batches(encoded, labels_of(encoded), **SIZES)
    first, second = list(batches), list(batches)
    examples = np.concatenate([rows.example[rows.example >= 0] for rows in first])
    assert sorted(examples) == list(range(50)) and all(same(a, b) for a, b in zip(first, second, strict=True))
    next(iter(batches))
    assert len(list(batches)) == batches.total_steps, "an evaluation that was broken off starts anew"


def test_one_document_a_row(encoded):
    batches = evaluation_batches(encoded, labels_of(encoded), packed=False, **SIZES)
    counts = np.concatenate([(rows.example >= 0).sum(1) for rows in batches])
    assert counts.max() == 1 and counts.sum() == 50


def test_weights_and_features_reach_the_rows(encoded):
    weights = np.linspace(1, 2, 50).astype(np.float32)
    features = {"01/document": np.arange(50, dtype=np.float32)[:, None]}
    for rows in evaluation_batches(encoded, labels_of(encoded), weights, features=features, **SIZES):
        taken = rows.example >= 0
        assert (rows.weight[taken] == weights[rows.example[taken]]).all() and not rows.weight[~taken].any()
        assert (rows.features["01/document"][..., 0][taken] == rows.example[taken]).all()


def test_errors(encoded):
    with pytest.raises(ValueError, match="epochs must be >= 1, got 0"):
        train(encoded, epochs=0)
    with pytest.raises(ValueError, match="process_index must lie in"):
        train(encoded, process_index=2, process_count=2)
    with pytest.raises(ValueError, match="no documents"):
        evaluation_batches(encoded.take(np.arange(0)), labels_of(encoded), **SIZES)
    with pytest.raises(ValueError, match="labels must have one entry"):
        train_batches(encoded, np.zeros(3, np.int32), epochs=1, seed=0, **SIZES)


def test_grain_brings_no_tensorflow():
    code = "import sys, textfuse_jax.data.pipeline; print([m for m in sys.modules if m.split('.')[0] in ('tensorflow', 'torch')])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
