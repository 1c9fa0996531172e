import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from textfuse_jax import bars
from textfuse_jax.data import tokenize
from textfuse_jax.data.tokenize import encode

from . import tiny


def ids(*words):
    vocab = tiny.wordpiece().get_vocab()
    return [vocab[word] for word in words]


def test_exact_arrays():
    texts = ["the cat", "", "a dog ran to the old house"]
    encoded = encode(texts, tiny.wordpiece(), max_length=8)
    cls, sep = 2, 3
    assert encoded.tokens.tolist() == [
        *(cls, *ids("the", "cat"), sep, cls, sep),
        *(cls, *ids("a", "dog", "ran", "to", "the", "old"), sep),
    ]
    assert encoded.bounds.tolist() == [0, 4, 6, 14]
    assert encoded.characters[:4].tolist() == [[0, 0], [0, 3], [4, 7], [0, 0]]
    assert encoded.unit["phrase"].tolist() == [-1, 0, 0, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, -1]
    assert {s: c.tolist() for s, c in encoded.counts.items()} == {
        "token": [4, 2, 8],
        "phrase": [1, 0, 1],
        "sentence": [1, 0, 1],
        "document": [1, 1, 1],
    }
    assert encoded.example.tolist() == [0, 1, 2] and encoded.weight.tolist() == [1, 1, 1]
    assert (encoded.examples, encoded.truncated, encoded.pad_id, len(encoded)) == (3, 1, 0, 3)
    for array in (encoded.tokens, encoded.characters, encoded.phrase_sentence, encoded.example, *encoded.unit.values()):
        assert array.dtype == np.int32


def test_unit_text_of_every_scale():
    texts = ["", "  The cat sat. "]
    encoded = encode(texts, tiny.wordpiece(), max_length=16)
    assert encoded.unit_text(1, "token", texts) == ["", "The", "cat", "sat", ".", ""]
    for scale in ("phrase", "sentence", "document"):
        assert encoded.unit_text(1, scale, texts) == ["The cat sat."]
    assert [encoded.unit_text(0, scale, texts) for scale in ("phrase", "document")] == [[], [""]]


def test_the_tokenizer_is_left_as_it_was():
    before = tiny.wordpiece().to_str()
    encoded = encode(["the cat sat on a mat and the dog ran to the red house"], tiny.wordpiece(), max_length=64)
    assert encoded.lengths.tolist() == [16]  # neither cut to its 10 nor padded to its 12
    assert tiny.wordpiece().to_str() == before


def test_windows_cover_the_document_and_prefer_sentences():
    sentence = "the cat sat on a mat and dog ran . "  # 10 tokens
    text = sentence.replace("the", "The") * 4
    encoded = encode([text, "a dog"], tiny.wordpiece(), max_length=27, long_documents="windows", window_stride=15)
    # 25 tokens of content: windows of two sentences, each beginning one sentence on
    assert encoded.example.tolist() == [0, 0, 0, 1]
    assert encoded.weight.tolist() == pytest.approx([1 / 3, 1 / 3, 1 / 3, 1])
    assert encoded.lengths.tolist() == [22, 22, 22, 4]
    assert encoded.counts["sentence"].tolist() == [2, 2, 2, 1]
    assert [encoded.unit_text(i, "document", [text, "a dog"])[0].count("The") for i in range(4)] == [2, 2, 2, 0]
    assert encoded.truncated == 0


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.text(max_size=200) | st.just("the cat sat. The dog ran. " * 9), min_size=1, max_size=3),
    st.integers(4, 40),
    st.integers(1, 50),
)
def test_windows_miss_nothing(texts, max_length, stride):
    whole = encode(texts, tiny.wordpiece(), max_length=10_000)
    pieces = encode(texts, tiny.wordpiece(), max_length=max_length, long_documents="windows", window_stride=stride)
    assert pieces.lengths.max() <= max_length
    assert np.bincount(pieces.example, pieces.weight) == pytest.approx(1)
    for document in range(len(texts)):
        first, last = whole.bounds[document : document + 2]
        expected = list(zip(whole.tokens[first:last].tolist(), map(tuple, whole.characters[first:last].tolist())))[1:-1]
        found = []
        for i in np.flatnonzero(pieces.example == document):
            begin, end = pieces.bounds[i : i + 2]
            window = list(zip(pieces.tokens[begin:end].tolist(), map(tuple, pieces.characters[begin:end].tolist())))[1:-1]
            at = [j for j in range(len(found) + 1) if expected[j : j + len(window)] == window]
            assert at, "a window that leaves a gap"
            found = expected[: max(len(found), at[-1] + len(window))]
        assert found == expected


def test_first_windows_share_their_documents_weight():
    texts = ["The cat sat on a mat. " * 9, "a dog", "The dog ran. " * 5]
    whole = encode(texts, tiny.wordpiece(), max_length=20, long_documents="windows", window_stride=12)
    assert np.bincount(whole.example).min() == 1 < np.bincount(whole.example).max()
    for most in (1, 2, 100):
        some = whole.first_windows(most)
        assert np.bincount(some.example).tolist() == np.minimum(np.bincount(whole.example), most).tolist()
        assert np.bincount(some.example, some.weight) == pytest.approx(1) and some.examples == 3
        assert some.truncated == (np.bincount(whole.example) > most).sum()
    once = whole.first_windows(1)
    first = [int(np.flatnonzero(whole.example == i)[0]) for i in range(3)]
    assert [once.unit_text(i, "document", texts) for i in range(3)] == [whole.unit_text(i, "document", texts) for i in first]
    assert whole.first_windows(100).tokens.tolist() == whole.tokens.tolist()


def test_take_keeps_pieces_whole():
    texts = ["the cat sat on a mat, and the dog ran.", "", "a dog", "The old house. The new house, red and small and good."]
    encoded = encode(texts, tiny.wordpiece(), max_length=32)
    some = encoded.take(np.array([3, 0]))
    assert some.example.tolist() == [3, 0] and some.examples == 4
    for scale in ("token", "phrase", "sentence", "document"):
        assert some.unit_text(0, scale, texts) == encoded.unit_text(3, scale, texts)
    assert some.phrase_sentence.tolist() == [
        *encoded.phrase_sentence[encoded.unit_bounds("phrase")[3] :],
        *encoded.phrase_sentence[: encoded.counts["phrase"][0]],
    ]


def test_chunks_join_to_the_same(monkeypatch):
    texts = [f"the cat {'sat ' * i}. The dog ran" for i in range(7)]
    whole = encode(texts, tiny.wordpiece(), max_length=32)
    monkeypatch.setattr(tokenize, "_CHUNK", 2)
    parts = encode(texts, tiny.wordpiece(), max_length=32)
    assert (whole.tokens == parts.tokens).all() and (whole.phrase_sentence == parts.phrase_sentence).all()
    assert (whole.example == parts.example).all() and (whole.unit["phrase"] == parts.unit["phrase"]).all()


def test_progress_only_when_it_takes_long(monkeypatch):
    shown = io.StringIO()
    monkeypatch.setattr(tokenize, "_CHUNK", 1)
    monkeypatch.setattr(bars, "Console", lambda stderr: Console(file=shown, force_terminal=True, width=100))
    encode(["a"] * 3, tiny.wordpiece(), max_length=8)
    assert shown.getvalue() == ""
    monkeypatch.setattr(tokenize, "_QUIET_SECONDS", -1.0)
    encode(["a"] * 3, tiny.wordpiece(), max_length=8)
    assert "tokenising" in shown.getvalue() and "documents/s" in shown.getvalue()


@pytest.mark.parametrize(
    ("texts", "change", "message"),
    [
        ([], {}, "split is empty"),
        (["a", "b \ud800"], {}, r"document 1, character 2: .* read the file as UTF-8"),
        (["a"], {"max_length": 2}, "beside 2 special tokens, got 2"),
        (["a"], {"long_documents": "split"}, '"truncate" or "windows", got \'split\''),
        (["a"], {"window_stride": 0}, "window_stride must be >= 1, got 0"),
        (["a"], {"phrase_length": 3}, "phrase_length must be >= 6"),
    ],
)
def test_errors(texts, change, message):
    with pytest.raises(ValueError, match=message):
        encode(texts, tiny.wordpiece(), **{"max_length": 16} | change)
