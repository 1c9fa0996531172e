"""Documents and opinions for tests: drawn, not fitted to anything."""

import numpy as np

from textfuse_jax.data.corpus import Split
from textfuse_jax.fusion.opinion import encoder_opinion, join
from textfuse_jax.fusion.simulated import confusion_of, simulate

CLASSES = ("a", "b", "c")


def split(name, n, seed=0, multi_label=False):
    """``n`` documents of one text each."""
    rng = np.random.default_rng(seed)
    labels = (rng.random((n, 3)) < 0.3).astype(np.float32) if multi_label else rng.integers(0, 3, n).astype(np.int32)
    return Split([f"{name}{i}" for i in range(n)], [f"text {i} of {name}" for i in range(n)], labels)


def logits(part, strength, seed=0):
    """An encoder that believes the truth by so much."""
    noise = np.random.default_rng(seed).normal(size=(len(part), 3))
    truth = part.labels if part.labels.ndim == 2 else np.eye(3)[part.labels]
    return 2 * (noise + strength * (truth - 0.5 * (part.labels.ndim == 2)))


def members(part, strength, accuracy, seed=0, missing=0.0):
    """An encoder and a simulated LLM."""
    llm = simulate(part.ids, part.labels, confusion_of(accuracy, 3), seed=seed, missing=missing)
    return join(part, [encoder_opinion(part.ids, logits(part, strength, seed), False), llm], 3, False)
