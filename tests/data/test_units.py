import csv
import gzip
import re
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from textfuse_jax.data.ragged import bounds, ranges
from textfuse_jax.data.tokenize import encode
from textfuse_jax.data.units import Breaks, find_breaks, nest, sentence_starts

from . import tiny


def sentences(text):
    starts = [0, *sentence_starts(text)]
    return [text[a:b].strip() for a, b in zip(starts, [*starts[1:], len(text)])]


def test_ragged():
    assert bounds(np.array([2, 0, 3])).tolist() == [0, 2, 2, 5]
    assert ranges([5, 9, 0], [2, 0, 3]).tolist() == [5, 6, 0, 1, 2]
    assert ranges([], []).tolist() == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It rains. We stay.", ["It rains.", "We stay."]),
        ("Mr. Smith met Dr. J. R. Doe. They ate.", ["Mr. Smith met Dr. J. R. Doe.", "They ate."]),
        ("The U.S. Navy and Acme Inc. Ltd. won at 5 p.m. Tuesday.", ["The U.S. Navy and Acme Inc. Ltd. won at 5 p.m. Tuesday."]),
        ('He said "Go!" Then left? (Yes.) 12 saw.', ['He said "Go!"', "Then left?", "(Yes.)", "12 saw."]),
        ("Oil rose 3.5 pct. to $40... and fell.", ["Oil rose 3.5 pct. to $40... and fell."]),
        ("a title\n\nthe body", ["a title", "the body"]),
        ("the film . it is good . no", ["the film .", "it is good .", "no"]),
        ("今天下雨。我们在家！好", ["今天下雨。", "我们在家！", "好"]),
        ("Who? me", ["Who? me"]),
        ("", [""]),
        (".", ["."]),
        ("\n", [""]),
    ],
)
def test_sentence_rule(text, expected):
    assert sentences(text) == expected


def flags(k, *at):
    return np.isin(np.arange(k), at)


def test_sentences_collect_short_ones_and_keep_a_leftover():
    # 30 tokens, candidate sentences of 4, 6, 10, 7 and 3: 4 + 6 make one, 10 stands, 7 + 3 = 10 make one
    breaks = Breaks(flags(30, 4, 10, 20, 27), flags(30), flags(30, *range(30)), flags(30, *range(30)))
    nested = nest(np.array([0, 30]), breaks, phrase_length=30)
    assert np.bincount(nested.sentence).tolist() == [10, 10, 10]
    # 7 tokens after the last break are no sentence: they stay with the one before
    nested = nest(np.array([0, 17]), Breaks(flags(17, 10), *breaks[1:]).take(np.arange(17)), phrase_length=30)
    assert np.bincount(nested.sentence).tolist() == [17]


def test_phrases_break_at_punctuation_then_space_then_word():
    k = 20
    every = flags(k, *range(k))
    one = np.array([0, k])
    # Punctuation before 2 is too early, before 4 it counts; then the cap of 8: whitespace before 11, not the word at 12
    found = nest(one, Breaks(flags(k), flags(k, 2, 4), flags(k, 6, 11), every), 8)
    assert np.bincount(found.phrase).tolist() == [4, 7, 6, 3]
    # Only one word boundary beyond the cap: the word stays whole
    found = nest(one, Breaks(flags(k), flags(k), flags(k), flags(k, 0, 13)), 8)
    assert np.bincount(found.phrase).tolist() == [13, 7]
    # A word boundary that would leave 2 tokens is none
    found = nest(one, Breaks(flags(k), flags(k), flags(k), flags(k, 0, 18)), 8)
    assert np.bincount(found.phrase).tolist() == [20]


def test_phrases_stay_in_their_sentence_and_count_from_zero_in_each_document():
    ends = np.array([0, 20, 20, 29])
    every = flags(29, *range(29))
    found = nest(ends, Breaks(flags(29, 9), flags(29), every, every), 8)
    assert found.sentence.tolist() == [0] * 9 + [1] * 11 + [0] * 9
    assert found.phrase.tolist() == [0] * 6 + [1] * 3 + [2] * 8 + [3] * 3 + [0] * 6 + [1] * 3
    assert found.phrase_sentence.tolist() == [0, 0, 1, 1, 0, 0]
    assert (found.phrases.tolist(), found.sentences.tolist()) == ([4, 0, 2], [2, 0, 1])


def test_phrase_length_too_small():
    with pytest.raises(ValueError, match=r"phrase_length must be >= 6.*got 5"):
        nest(np.array([0, 1]), Breaks(*[flags(1)] * 4), 5)


def test_real_phrases_read_well():
    text = "The red cat (old) sat on a mat, and the dog ran to the U.S. house - she said it is good."
    encoded = encode([text], tiny.wordpiece(), max_length=64)
    assert encoded.unit_text(0, "phrase", [text]) == [
        "The red cat",
        "(old)",
        "sat on a mat,",
        "and the dog ran to the",
        "U.S. house -",
        "she said it is good.",
    ]


TEXT = st.text(max_size=120) | st.lists(
    st.sampled_from([*tiny.WORDS, "Mr.", "U.S.", "(", ")", ",", ".", "!", "\n", "x" * 12, "don't", "今天", "ไทย", "é"]),
    max_size=40,
).map(" ".join)


@settings(deadline=None, max_examples=100)
@given(st.lists(TEXT, min_size=1, max_size=4), st.sampled_from([tiny.wordpiece, tiny.byte_level]), st.integers(6, 12))
def test_units_are_nested_contiguous_large_enough_and_whole_words(texts, tokenizer, cap):
    encoded = encode(texts, tokenizer(), max_length=96, phrase_length=cap)
    phrase_at = encoded.unit_bounds("phrase")
    for i in range(len(encoded)):
        first, last = encoded.bounds[i : i + 2]
        inside = encoded.unit["phrase"][first:last] >= 0
        n = int(inside.sum())
        phrase, sentence = (encoded.unit[s][first:last][inside] for s in ("phrase", "sentence"))
        assert ((encoded.unit["sentence"][first:last] >= 0) == inside).all()
        for unit, scale, least in ((phrase, "phrase", 3), (sentence, "sentence", 8)):
            assert encoded.counts[scale][i] == len(np.unique(unit)) <= (max(1, n // least) if n else 0)
            assert n == 0 or (unit[0] == 0 and set(np.diff(unit)) <= {0, 1})
            assert n == 0 or np.bincount(unit).min() >= min(least, n)
        parents = encoded.phrase_sentence[phrase_at[i] : phrase_at[i + 1]]
        assert (parents[phrase] == sentence).all()
        spans, text = encoded.characters[first:last][inside], texts[encoded.example[i]]
        for j in np.flatnonzero(np.diff(phrase)) + 1:
            pair = text[max(0, spans[j, 0] - 1) : spans[j, 0] + 1]
            assert not (len(pair) == 2 and pair.isascii() and pair.isalnum()), "a cut inside a word"
            assert spans[j, 0] >= spans[j - 1, 1], "a cut inside a character"
        if text.isascii() and not any(len(word) > cap for word in re.findall(r"\s*\S+\s*", text)):
            assert n == 0 or np.bincount(phrase).max() <= cap


def test_whitespace_counted_to_a_token_is_stripped():
    texts = [" the cat", ""]
    _, characters = find_breaks(texts, np.array([0, 2, 2]), np.array([[0, 4], [4, 8]]))
    assert characters.tolist() == [[1, 4], [5, 8]]


@pytest.mark.slow
def test_units_are_fast(real_data):
    with gzip.open(real_data / "ag_news_test.csv.gz", "rt", encoding="utf-8", newline="") as file:
        texts = [row["text"] for row, _ in zip(csv.DictReader(file), range(3000))]
    tokenizer = tiny.wordpiece()
    copy = type(tokenizer).from_str(tokenizer.to_str())
    copy.no_padding()
    copy.no_truncation()
    found = copy.encode_batch(texts, add_special_tokens=False)
    ends, characters = bounds(np.array([len(e) for e in found])), np.array([span for e in found for span in e.offsets])
    seconds = []
    for _ in range(3):
        begin = time.perf_counter()
        breaks, _ = find_breaks(texts, ends, characters)
        nest(ends, breaks)
        seconds.append(time.perf_counter() - begin)
    assert len(texts) / min(seconds) > 5_000  # 20,000 and more on an idle core; the bound catches a loop over tokens
