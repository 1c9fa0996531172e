"""Class scores from answers: log-probabilities where they came, else stated confidence, else the choice alone; or votes.

A document whose answer can't be used is *missing*: its row is zero, its ``present`` False, its reason counted.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float

from textfuse_jax.llm.parsing import Labels, Opinion, Unusable, parse
from textfuse_jax.llm.types import Answer

HOW = ("auto", "logprobs", "confidence", "onehot", "votes")


@dataclasses.dataclass(frozen=True)
class Scores:
    """The opinion of one model about n documents.

    Attributes:
      scores: rows sum to 1; multi-label: each number in [0, 1] by itself. A missing row is zero.
      present: whether a document has an opinion.
      missing: reason -> number of *answers* (of samples, where there are several) without a class: a fault of ``types.FAULTS``,
        "unparsable" or "outside" (a label that isn't one).
      how: "logprobs", "confidence", "onehot" -> number of answers scored so.
    """

    scores: Float[np.ndarray, "n c"]
    present: Bool[np.ndarray, "n"]
    missing: Mapping[str, int]
    how: Mapping[str, int]


def scores_of(
    answers: Sequence[Answer], class_names: Sequence[str], *, multi_label: bool = False, how: str = "auto", samples: int = 1
) -> Scores:
    """Class scores and presence mask of documents.

    Args:
      answers: of the requests of ``prompts.label``: ``samples`` consecutive ones a document.
      class_names: column k is of the class of this name.
      multi_label: whether a document may have any number of classes.
      how: "logprobs", "confidence" or "onehot": this, or what comes after it in this order where an answer lacks it; "auto" =
        from the first; "votes": every answer chooses, the shares are the scores. Of several samples the mean of the usable ones.
      samples: answers a document.

    Raises:
      ValueError: an unknown ``how``, answers that aren't a multiple of ``samples``, class names that repeat.
    """
    if how not in HOW:
        raise ValueError(f"how must be one of {', '.join(HOW)}, got {how!r}")
    if samples < 1 or len(answers) % samples:
        raise ValueError(f"{len(answers)} answers can't be {samples} samples a document")
    if len(set(class_names)) != len(class_names) or not class_names:
        raise ValueError(f"class_names must be distinct and at least one, got {list(class_names)}")
    labels, n = Labels(class_names), len(answers) // samples
    total, usable = np.zeros((n, len(class_names)), np.float64), np.zeros(n, np.int64)
    missing: Counter[str] = Counter()
    ways: Counter[str] = Counter()
    for i, answer in enumerate(answers):
        if answer.fault:
            missing[answer.fault] += 1
            continue
        try:
            opinion = parse(answer.text, labels, multi_label)
        except Unusable as error:
            missing[str(error)] += 1
            continue
        row, way = _row(opinion, answer, labels, multi_label, how)
        total[i // samples] += row
        usable[i // samples] += 1
        ways[way] += 1
    scores = (total / np.maximum(usable, 1)[:, None]).astype(np.float32)
    return Scores(scores, usable > 0, dict(sorted(missing.items())), dict(sorted(ways.items())))


def _row(opinion: Opinion, answer: Answer, labels: Labels, multi_label: bool, how: str) -> tuple[np.ndarray, str]:
    c = len(labels.names)
    if how in ("auto", "logprobs") and not multi_label and answer.logprobs and opinion.value_at:
        row = logprob_row(answer, opinion, labels)
        if row is not None:
            return row, "logprobs"
    row = np.zeros(c)
    if how in ("auto", "logprobs", "confidence") and opinion.confidence:
        if opinion.whole:
            row[list(opinion.confidence)] = list(opinion.confidence.values())
            return (row if multi_label else row / row.sum()), "confidence"
        if multi_label:
            row[list(opinion.confidence)] = list(opinion.confidence.values())
            return row, "confidence"
        (k,) = opinion.chosen
        return confident_row(k, opinion.confidence[k], c), "confidence"
    row[list(opinion.chosen)] = 1.0
    return row, "onehot"


def confident_row(k: int, confidence: float, c: int) -> Float[np.ndarray, "c"]:
    """``confidence`` for class k, the rest shared evenly; at least slightly more for k than for any other, which it chose."""
    if c == 1:
        return np.ones(1)
    least = min(1 / c + 1e-3, 1.0)
    row = np.full(c, (1 - max(confidence, least)) / (c - 1))
    row[k] = max(confidence, least)
    return row


def logprob_row(answer: Answer, opinion: Opinion, labels: Labels) -> Float[np.ndarray, "c"] | None:
    """Probabilities of the classes from the alternatives at the token where the label's name begins.

    An alternative counts for the classes whose name begins as it does (or which it begins with). Where it fits several, the
    chosen class gets it if it is one of them, else they share it. Probability that no alternative tells of is shared by
    the classes that none fits, each at most as much as the least likely alternative. None where the tokens don't make the text.
    """
    token, skip = _token_at(json.loads(answer.logprobs), opinion.value_at[0], answer.text)
    if token is None:
        return None
    written, alternatives = token
    (chosen,) = opinion.chosen
    spelled = [name.casefold() for name in labels.names]
    row, told, least = np.zeros(len(spelled)), np.zeros(len(spelled), bool), 1.0
    for text, logprob in alternatives:
        probability = math.exp(min(logprob, 0.0)) if math.isfinite(logprob) else 0.0
        rest = text[skip:].casefold().lstrip()
        if text[:skip] != written[:skip] or not rest:
            continue
        least = min(least, probability)
        fits = [k for k, name in enumerate(spelled) if name.startswith(rest) or rest.startswith(name)]
        told[fits] = True
        for k in [chosen] if chosen in fits else fits:
            row[k] += probability / (1 if chosen in fits else len(fits))
    if row[chosen] <= 0:
        return None
    silent = ~told
    if silent.any():
        row[silent] = min(max(1 - row.sum(), 0.0) / silent.sum(), least)
    return row / row.sum()


def _token_at(tokens: list, start: int, text: str) -> tuple[tuple[str, list] | None, int]:
    """(the token that holds character ``start``, its alternatives), and how many of its characters come before."""
    if "".join(token for token, _ in tokens) != text:
        return None, 0
    position = 0
    for token, alternatives in tokens:
        if position <= start < position + len(token):
            return (token, alternatives), start - position
        position += len(token)
    return None, 0
