"""Which test documents a setting got right, kept in its line: settings are compared from their lines alone, on any machine.

A document is a bit, a seed a text of base64: 7,600 documents take 1.3 kB. A line also says of which documents, by a fingerprint.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from textfuse_jax.evaluation.statistics import resampling_weights

Line = Mapping[str, Any]
RESAMPLES = 2000


def right(labels: Int[np.ndarray, "n ..."], probabilities: Float[np.ndarray, "s n c"]) -> Bool[np.ndarray, "s n"]:
    """Whether each seed's answer is the document's label; of several labels, whether all are right at a threshold of 0.5."""
    if labels.ndim == 2:
        return ((probabilities >= 0.5) == labels.astype(bool)).all(-1)
    return probabilities.argmax(-1) == labels


def kept(found: Bool[np.ndarray, "s n"], tested: str) -> dict[str, Any]:
    """What a line keeps under "right": the bits of each seed, and the fingerprint of the documents."""
    seeds = [base64.b64encode(np.packbits(seed).tobytes()).decode() for seed in found]
    return {"tested": tested, "documents": found.shape[1], "seeds": seeds}


def of_line(line: Line) -> Bool[np.ndarray, "s n"]:
    """Inverse of ``kept``, of a whole line."""
    bits = [np.frombuffer(base64.b64decode(seed), np.uint8) for seed in line["right"]["seeds"]]
    return np.unpackbits(np.stack(bits), axis=1, count=line["right"]["documents"]).astype(bool)


def compared(ours: Line, theirs: Line) -> dict[str, Any]:
    """Mean difference of accuracy from a reference's line, seed by seed on the same documents; its 95 % interval and p come from
    drawing seeds and documents with replacement (2,000 times, so p is at least 0.001).

    What draws nothing at random has one seed, which stands beside each seed of the other.

    Raises:
      ValueError: the lines are of other documents, or of other numbers of seeds.
    """
    a, b = of_line(ours).astype(float), of_line(theirs).astype(float)
    if ours["right"]["tested"] != theirs["right"]["tested"]:
        raise ValueError(f"{ours['setting']} and {theirs['setting']} were tested on other documents; remove the older line")
    if len(a) != len(b) and 1 not in (len(a), len(b)):
        raise ValueError(f"{ours['setting']} has {len(a)} seeds, {theirs['setting']} {len(b)}; remove the line of fewer")
    means = draws(a - b)
    tail = max(min((means <= 0).mean(), (means >= 0).mean()), 1 / len(means))
    return {
        "difference": float((a - b).mean()),
        "difference_ci95": [float(x) for x in np.percentile(means, [2.5, 97.5])],
        "p": float(min(1.0, 2 * tail)) if np.any(a != b) else 1.0,
        "reference": theirs["setting"],
        "reference_protocol": theirs.get("protocol", ""),
    }


def draws(values: Float[np.ndarray, "s n"], resamples: int = RESAMPLES) -> Float[np.ndarray, "r"]:
    """Means over seeds and documents drawn with replacement."""
    seeds, n = values.shape
    rng, means, start = np.random.default_rng(1), np.empty(resamples), 0
    for weights in resampling_weights(n, resamples, 0):
        of_seed = weights @ values.T / n
        drawn = rng.integers(0, seeds, of_seed.shape)
        means[start : start + len(weights)] = np.take_along_axis(of_seed, drawn, axis=1).mean(1)
        start += len(weights)
    return means


def newest(known: Sequence[Line], setting: str, protocol: str) -> Line | None:
    """The last line of a setting under a protocol."""
    return next((line for line in reversed(known) if line["setting"] == setting and line.get("protocol") == protocol), None)


def missing(known: Sequence[Line], keys: Mapping[str, str], references: Mapping[str, Sequence[str]]) -> set[str]:
    """Settings to be measured: those without a line, and what they are compared with where its line, an older one, doesn't tell
    which documents were right.

    Args:
      known: lines there are.
      keys: setting -> its protocol.
      references: setting -> the settings that it is compared with.
    """
    lines = {name: newest(known, name, key) for name, key in keys.items()}
    new = {name for name, line in lines.items() if not line}
    wanted = {other for name in new for other in references[name]}
    return new | {name for name in wanted if "right" not in (lines[name] or {})}
