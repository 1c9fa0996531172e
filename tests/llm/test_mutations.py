"""Ten thousand mutated answers: no exception, and never a class that the model didn't plainly choose."""

import contextlib
import json
import random

import numpy as np
import pytest

from textfuse_jax.llm.protocol import Malformed, read_body
from textfuse_jax.llm.scores import scores_of
from textfuse_jax.llm.types import Answer

NAMES = ("World", "Sports", "Business", "Sci/Tech")
SEEDS = (
    '{"label": "Sports", "confidence": 0.8}',
    '```json\n{"label": "Sports", "confidence": 0.8}\n```',
    '{"labels": [{"label": "Sports", "confidence": 0.8}]}',
    '{"scores": {"World": 0.1, "Sports": 0.7, "Business": 0.1, "Sci/Tech": 0.1}}',
    "Sports",
    "The label is Sports.",
)
PIECES = [
    "World",
    "Sports",
    "Business",
    "not ",
    "\x00",
    "\ud800",
    '"',
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\\",
    "\\u0000",
    "null",
    "NaN",
]
PIECES += [
    "1e999",
    "-0",
    "9" * 400,
    "[" * 3000,
    "\u202e",
    "é",
    "\n",
    "`" * 3,
    "label",
    '"label": "World"',
    " or World",
    "true",
    "",
]


def mutated(rng: random.Random, text: str) -> str:
    """The text after one to four edits: cut, doubled, turned round, letters changed, pieces put in or in place of a stretch."""
    for _ in range(rng.choice([1, 1, 2, 4])):
        i, j = sorted((rng.randint(0, len(text)), rng.randint(0, len(text))))
        text = rng.choice(
            [
                text[:i],
                text[i:],
                text[:i] + text[j:],
                text[:j] + text[i:],
                text[:i] + rng.choice(PIECES) + text[i:],
                text[:i] + rng.choice(PIECES) + text[j:],
                text[:i] + text[i:j][::-1] + text[j:],
                text[:i] + text[i:j].swapcase() + text[j:],
                text[:i] + chr(rng.choice([rng.randint(0, 127), rng.randint(128, 0xD7FF)])) + text[i + 1 :],
            ]
        )
    return text


def plainly(text: str) -> set[str]:
    """Names that an independent, lenient reading finds as a JSON string or as the only words of the text, folded."""
    folded = {name.casefold() for name in NAMES}
    found = {text.strip().strip("\"'`* \t.").strip().casefold()} & folded

    def walk(held) -> None:
        if isinstance(held, dict):
            for name, value in held.items():
                walk(name)
                walk(value)
        elif isinstance(held, list):
            for value in held:
                walk(value)
        elif isinstance(held, str) and held.strip().casefold() in folded:
            found.add(held.strip().casefold())

    start, end = text.find("{"), text.rfind("}")
    with contextlib.suppress(ValueError, RecursionError):
        walk(json.loads(text[start : end + 1]))
    return found


@pytest.mark.parametrize("multi_label", [False, True])
def test_mutated_answers_raise_nothing_and_choose_no_class_silently(multi_label):
    rng = random.Random(7 + multi_label)
    texts = [mutated(rng, rng.choice(SEEDS)) for _ in range(10_000)]
    found = scores_of([Answer("i", text) for text in texts], NAMES, multi_label=multi_label)
    assert len(found.present) == 10_000 == found.present.sum() + sum(found.missing.values())
    assert set(found.missing) == {"outside", "unparsable"} and 300 < found.present.sum() < 9000
    assert np.isfinite(found.scores).all() and (found.scores >= 0).all() and (found.scores <= 1).all()
    assert not found.scores[~found.present].any()
    if not multi_label:
        np.testing.assert_allclose(found.scores[found.present].sum(1), 1, atol=1e-5)
    for text, row, present in zip(texts, found.scores, found.present):
        if present and row.any():
            named = plainly(text)
            chosen = [NAMES[k] for k in np.flatnonzero(row == row.max())]
            assert named, text
            assert len(chosen) == 1 or multi_label, text
            assert {name.casefold() for name in chosen[:1]} <= named, (text, chosen)


def test_mutated_bodies_are_read_or_malformed():
    message = {"role": "assistant", "content": SEEDS[0]}
    tokens = {"content": [{"token": "a", "top_logprobs": [{"token": "b", "logprob": -1.0}]}]}
    choice = {"message": message, "finish_reason": "stop", "logprobs": tokens}
    usage = {"prompt_tokens": 5, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 2}}
    whole = json.dumps({"model": "m", "choices": [choice], "usage": usage})
    rng, read = random.Random(11), 0
    for _ in range(10_000):
        try:
            reply = read_body(mutated(rng, whole))
        except Malformed:
            continue
        read += 1
        reply.text.encode()
        assert reply.fault in ("", "refused", "cut", "empty")
        assert reply.usage is None or 0 <= reply.usage.cached_tokens <= reply.usage.input_tokens
    assert 100 < read < 9000
    exact = read_body(whole)
    assert (exact.text, exact.usage.input_tokens, exact.usage.cached_tokens, exact.usage.output_tokens) == (SEEDS[0], 5, 2, 3)
    assert exact.logprobs == '[["a",[["b",-1.0]]]]'
