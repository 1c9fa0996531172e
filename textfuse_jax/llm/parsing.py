"""From the text of an answer to class indices, strictly: what isn't plainly one of the labels is missing, with a reason.

Read is a JSON object, bare or in a code fence, with ``label`` (or ``labels``) and perhaps ``confidence`` or ``scores``; or the
bare name of a label. Nothing is searched for in running text: "it is not Sports" names a label and doesn't choose it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

_FENCE = re.compile(r"^```[a-zA-Z]*\s*\n(.*)\n\s*```$", re.S)
_LONGEST = 100_000  # characters of an answer that are looked at; no label list is longer


class Unusable(ValueError):
    """An answer without a class; its message is the reason, "unparsable" or "outside"."""


class Opinion(NamedTuple):
    """What an answer says.

    Attributes:
      chosen: index of each class it names; several, or none, only with ``multi_label``.
      confidence: class index -> number in [0, 1] it states; empty where it states none (or none that is usable).
      whole: whether ``confidence`` is a score for every class.
      value_at: (start, end) in the text of the label's name, for log-probabilities; None where it isn't known.
    """

    chosen: tuple[int, ...]
    confidence: dict[int, float]
    whole: bool = False
    value_at: tuple[int, int] | None = None


class Labels:
    """Class names, found again in what a model wrote: exactly, or but for case and outer blanks where that is unambiguous."""

    def __init__(self, class_names: Sequence[str]):
        self.names = tuple(class_names)
        self._exact = {name: k for k, name in enumerate(self.names)}
        loose: dict[str, list[int]] = {}
        for k, name in enumerate(self.names):
            loose.setdefault(name.strip().casefold(), []).append(k)
        self._loose = {name: held[0] for name, held in loose.items() if len(held) == 1}

    def index(self, name: Any) -> int:
        """The class of this name.

        Raises:
          Unusable: "outside" for text that is no label, "unparsable" for what is neither text nor a label's whole number.
        """
        if (
            isinstance(name, int) and not isinstance(name, bool) and str(name) in self._exact
        ):  # a class "3" that was written as a number
            return self._exact[str(name)]
        if not isinstance(name, str):
            raise Unusable("unparsable")
        k = self._exact.get(name)
        k = self._loose.get(name.strip().casefold()) if k is None else k
        if k is None:
            raise Unusable("outside")
        return k


def parse(text: str, labels: Labels, multi_label: bool = False) -> Opinion:
    """What an answer says.

    Raises:
      Unusable: with the reason "unparsable" (no JSON object of the form, no bare label) or "outside" (a label that isn't one).
    """
    if len(text) > _LONGEST:
        raise Unusable("unparsable")
    inner = text.strip()
    fenced = _FENCE.match(inner)
    inner = (fenced[1] if fenced else inner).strip()
    if not inner.startswith("{"):
        return _bare(text, inner, labels, multi_label)
    held = _object(inner)
    names = [name for name in ("label", "labels", "scores") if name in held]
    if multi_label and names and names[0] != "scores":
        return _several(held[names[0]], held, labels)
    if names[:1] == ["label"]:
        chosen = labels.index(held["label"])
        return Opinion((chosen,), _stated(held.get("confidence"), chosen), False, _place(text, str(held["label"])))
    if names[:1] == ["labels"]:
        only = held["labels"]
        if not isinstance(only, list) or len(only) != 1:
            raise Unusable("unparsable")
        return _several(only, held, labels)
    if names == ["scores"]:
        return _scores(held["scores"], labels, multi_label)
    raise Unusable("unparsable")


def _bare(text: str, inner: str, labels: Labels, multi_label: bool) -> Opinion:
    """An answer that is the name of a label and nothing else, perhaps quoted or with a full stop."""
    for name in (inner, inner.strip("\"'`* \t"), inner.rstrip(".").strip("\"'`* \t")):
        try:
            return Opinion((labels.index(name),), {}, False, _place(text, name))
        except Unusable:
            continue
    if multi_label and inner.startswith("["):
        try:
            return _several(json.loads(inner), {}, labels)
        except (ValueError, RecursionError):
            pass
    raise Unusable("unparsable" if len(inner.split()) > 8 or "\n" in inner or inner[:1] in ("[", "`", "") else "outside")


def _object(inner: str) -> dict[str, Any]:
    """One JSON object whose keys don't repeat."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        held = dict(pairs)
        if len(held) != len(pairs):
            raise Unusable("unparsable")
        return held

    try:
        return json.loads(inner, object_pairs_hook=once)
    except Unusable:
        raise
    except (ValueError, RecursionError):
        raise Unusable("unparsable") from None


def _several(named: Any, held: Mapping[str, Any], labels: Labels) -> Opinion:
    """A list of names, or of {label, confidence}; ``held`` may state one confidence for a single name."""
    named = [named] if isinstance(named, str) else named
    if not isinstance(named, list):
        raise Unusable("unparsable")
    chosen: dict[int, Any] = {}
    for entry in named:
        label, confidence = (entry.get("label"), entry.get("confidence")) if isinstance(entry, dict) else (entry, None)
        k = labels.index(label)
        if k in chosen:
            raise Unusable("unparsable")
        chosen[k] = confidence if len(named) > 1 or confidence is not None else held.get("confidence")
    stated = {k: value for k, raw in chosen.items() for value in _stated(raw, k).values()}
    return Opinion(tuple(chosen), stated if len(stated) == len(chosen) else {})


def _scores(held: Any, labels: Labels, multi_label: bool) -> Opinion:
    """A number for every class: {name: number}."""
    if not isinstance(held, dict):
        raise Unusable("unparsable")
    found: dict[int, float] = {}
    for name, raw in held.items():
        k = labels.index(name)
        number = _number(raw)
        if number is None or k in found:
            raise Unusable("unparsable")
        found[k] = number
    if len(found) != len(labels.names) or (not multi_label and sum(found.values()) <= 0):
        raise Unusable("unparsable")
    if multi_label:
        return Opinion(tuple(k for k, number in sorted(found.items()) if number >= 0.5), found, True)
    best = max(found, key=found.__getitem__)
    if sum(number == found[best] for number in found.values()) > 1:
        raise Unusable("unparsable")  # a tie chooses no class
    return Opinion((best,), found, True)


def _stated(raw: Any, k: int) -> dict[int, float]:
    number = _number(raw)
    return {} if number is None else {k: number}


def _number(raw: Any) -> float | None:
    """A finite number in [0, 1], else None."""
    if isinstance(raw, bool) or not isinstance(raw, int | float) or not 0 <= raw <= 1 or not math.isfinite(raw):
        return None
    return float(raw)


def _place(text: str, name: str) -> tuple[int, int] | None:
    """Where the label's name stands in the text, if in one place only."""
    start = text.find(name)
    return (start, start + len(name)) if name and start >= 0 and text.find(name, start + 1) < 0 else None
