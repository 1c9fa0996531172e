"""Class scores of answers, worked out by hand; what can't be used is missing, with its reason."""

import json
import math

import numpy as np
import pytest

from textfuse_jax.llm.parsing import Labels, Unusable, parse
from textfuse_jax.llm.scores import confident_row, scores_of
from textfuse_jax.llm.types import Answer

NAMES = ("World", "Sports", "Business", "Science fiction")


def answer(text: str, **more) -> Answer:
    return Answer("i", text, **more)


@pytest.mark.parametrize(
    ("text", "k"),
    [
        ('{"label": "Sports", "confidence": 0.7}', 1),
        ('  {"confidence": 0.7, "label": "Sports"}\n', 1),
        ('```json\n{"label": "Sports"}\n```', 1),
        ('```\n{"label": "science fiction"}\n```', 3),
        ('{"label": " SPORTS "}', 1),
        ('{"labels": ["Sports"]}', 1),
        ('{"labels": [{"label": "Sports", "confidence": 1}]}', 1),
        ('{"scores": {"World": 0.1, "Sports": 0.6, "Business": 0.2, "Science fiction": 0.1}}', 1),
        ("Sports", 1),
        ("Sports.", 1),
        ('"Sports"', 1),
        ("**Sports**", 1),
        ("sports", 1),
    ],
)
def test_plain_answers_are_read(text, k):
    assert parse(text, Labels(NAMES)).chosen == (k,)


def test_a_class_that_is_a_number_may_be_written_as_one():
    stars = Labels(("1", "2", "3"))
    assert parse('{"label": 3, "confidence": 0.5}', stars) == ((2,), {2: 0.5}, False, (10, 11))
    assert parse('{"labels": [1, {"label": 3}]}', stars, multi_label=True).chosen == (0, 2)
    for text, reason in (('{"label": 4}', "unparsable"), ('{"label": 3.0}', "unparsable"), ('{"label": true}', "unparsable")):
        with pytest.raises(Unusable, match=reason):
            parse(text, stars)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "unparsable"),
        ("It is not Sports, it is rather World.", "outside"),
        ("Sports or World", "outside"),
        ("The label of this text is Sports, for it tells of a match", "unparsable"),
        ("Politics", "outside"),
        ('{"label": "Politics"}', "outside"),
        ('{"label": "Sport"}', "outside"),
        ('{"label": "Spоrts"}', "outside"),  # a Cyrillic o
        ('{"label": ""}', "outside"),
        ('{"label": "Sports", "label": "World"}', "unparsable"),
        ('{"label": ["Sports"]}', "unparsable"),
        ('{"label": 1}', "unparsable"),
        ('{"label": null}', "unparsable"),
        ('{"label": {"label": "Sports"}}', "unparsable"),
        ('{"answer": "Sports"}', "unparsable"),
        ('{"label": "Spor', "unparsable"),
        ('{"label": "Sports"} {"label": "World"}', "unparsable"),
        ('{"label": "Sports"} or World', "unparsable"),
        ('{"labels": ["Sports", "World"]}', "unparsable"),
        ('{"labels": []}', "unparsable"),
        ('{"scores": {"World": 0.5, "Sports": 0.5, "Business": 0, "Science fiction": 0}}', "unparsable"),
        ('{"scores": {"World": 0.5, "Sports": 0.4}}', "unparsable"),
        ('{"scores": {"World": NaN, "Sports": 0.5, "Business": 0, "Science fiction": 0}}', "unparsable"),
        ("[" * 50_000, "unparsable"),
        ('{"label": ' * 50_000, "unparsable"),
        ('{"label": ' + "1" * 6000 + "}", "unparsable"),
        ("x" * 200_000, "unparsable"),
        ('["Sports"]', "unparsable"),
    ],
)
def test_everything_else_is_missing_with_its_reason(text, reason):
    with pytest.raises(Unusable, match=reason):
        parse(text, Labels(NAMES))
    found = scores_of([answer(text)], NAMES)
    assert not found.present[0] and not found.scores.any() and found.missing == {reason: 1}


def test_names_that_differ_by_case_alone_must_be_exact():
    labels = Labels(("us", "US"))
    assert parse("US", labels).chosen == (1,)
    with pytest.raises(Unusable, match="outside"):
        parse("Us", labels)


def test_stated_confidence_by_hand():
    found = scores_of([answer('{"label": "Sports", "confidence": 0.7}')], NAMES)
    np.testing.assert_allclose(found.scores, [[0.1, 0.7, 0.1, 0.1]], atol=1e-7)
    assert found.how == {"confidence": 1} and found.scores.dtype == np.float32
    np.testing.assert_allclose(confident_row(0, 0.0, 4), [0.251, 0.749 / 3, 0.749 / 3, 0.749 / 3])  # chosen all the same
    np.testing.assert_allclose(confident_row(0, 0.3, 1), [1.0])


@pytest.mark.parametrize("stated", ['"high"', "-1", "1.5", "null", "true", "1e999", "NaN", "[1]"])
def test_an_unusable_confidence_leaves_the_choice(stated):
    found = scores_of([answer(f'{{"label": "Sports", "confidence": {stated}}}')], NAMES)
    np.testing.assert_array_equal(found.scores, [[0, 1, 0, 0]])
    assert found.how == {"onehot": 1}


def test_log_probabilities_by_hand():
    text = '{"label": "Sports"}'
    choice = [["Sports", math.log(0.6)], ["World", math.log(0.2)], ["Bus", math.log(0.1)], ["!", math.log(0.05)]]
    tokens = [['{"label', []], ['": "', []], ["Sports", choice], ['"}', []]]
    found = scores_of([answer(text, logprobs=json.dumps(tokens))], NAMES)
    # "Science fiction" fits no alternative: it gets what is left, 1 - 0.9 = 0.1, at most the least likely alternative, 0.05
    np.testing.assert_allclose(found.scores[0], np.array([0.2, 0.6, 0.1, 0.05]) / 0.95, atol=1e-6)
    assert found.how == {"logprobs": 1}


def test_log_probabilities_of_shared_beginnings_and_of_tokens_that_hold_more():
    names = ("Sports", "Spam", "World")
    choice = [['"Sp', math.log(0.7)], ['"World', math.log(0.3)], ["{", math.log(1e-9)]]
    tokens = [['{"label": ', []], ['"Sp', choice], ["am", []], ['"}', []]]
    found = scores_of([answer('{"label": "Spam"}', logprobs=json.dumps(tokens))], names)
    np.testing.assert_allclose(found.scores[0], [0.0, 0.7, 0.3], atol=1e-6)  # "Sp" began the class that was chosen


@pytest.mark.parametrize("tokens", ["", "[]", '[["other", []]]', '[["{\\"label\\": \\"Sports\\"}", []]]'])
def test_log_probabilities_that_dont_fit_leave_confidence(tokens):
    found = scores_of([answer('{"label": "Sports", "confidence": 0.7}', logprobs=tokens)], NAMES)
    assert found.how == {"confidence": 1}


def test_votes_and_means_of_samples():
    texts = ['{"label": "Sports", "confidence": 0.7}', "World", "Sports", "?", "refused", '{"label": "Nope"}']
    answers = [answer(text) for text in texts]
    answers[4] = answer("I can't", fault="refused")
    votes = scores_of(answers, NAMES, how="votes", samples=3)
    np.testing.assert_allclose(votes.scores, [[1 / 3, 2 / 3, 0, 0], [0, 0, 0, 0]], atol=1e-7)
    assert votes.present.tolist() == [True, False] and votes.missing == {"outside": 2, "refused": 1}
    mean = scores_of(answers, NAMES, samples=3)
    np.testing.assert_allclose(mean.scores[0], [(0.1 + 1) / 3, (0.7 + 1) / 3, 0.1 / 3, 0.1 / 3], atol=1e-7)


def test_several_labels():
    texts = [
        '{"labels": [{"label": "Sports", "confidence": 0.8}, {"label": "World", "confidence": 0.3}]}',
        '{"labels": ["Sports", "World"]}',
        '{"labels": []}',
        '{"labels": ["Sports", "Sports"]}',
        '{"labels": ["Sports", "Nope"]}',
        '{"label": "Sports"}',
        '{"scores": {"World": 0.1, "Sports": 0.9, "Business": 0.6, "Science fiction": 0}}',
        '["World"]',
    ]
    found = scores_of([answer(text) for text in texts], NAMES, multi_label=True)
    wanted = [[0.3, 0.8, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0], [0] * 4, [0] * 4, [0, 1, 0, 0], [0.1, 0.9, 0.6, 0], [1, 0, 0, 0]]
    np.testing.assert_allclose(found.scores, wanted, atol=1e-7)
    assert found.present.tolist() == [True, True, True, False, False, True, True, True]  # no label at all is an answer
    assert found.missing == {"outside": 1, "unparsable": 1}


@pytest.mark.parametrize(
    ("options", "told"),
    [({"how": "guess"}, "how must be"), ({"samples": 2}, "samples"), ({"class_names": ["a", "a"]}, "distinct")],
)
def test_wrong_arguments_are_told(options, told):
    options = {"class_names": NAMES} | options
    with pytest.raises(ValueError, match=told):
        scores_of([answer("World")], **options)
