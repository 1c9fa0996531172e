"""An opinion without any API and any language model: the cosine between a text and the description of each class.

Any encoder will do: ``embed`` maps texts to vectors. It knows nothing of the task but the words of the labels, and what comes
out is labelled ``KIND``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float

from textfuse_jax.llm.prompts import Task

KIND = "local zero-shot, no LLM"
Embed = Callable[[Sequence[str]], Float[np.ndarray, "n d"]]


def class_texts(task: Task) -> list[str]:
    """What stands for each class: its name in words, and its description where there is one."""
    spelled = [name.replace("_", " ").replace("/", " or ") for name in task.class_names]
    return [
        f"{name}: {task.descriptions[key]}" if task.descriptions.get(key) else name
        for key, name in zip(task.class_names, spelled)
    ]


def zero_shot(
    text_vectors: Float[np.ndarray, "n d"],
    class_vectors: Float[np.ndarray, "c d"],
    *,
    temperature: float = 0.05,
    multi_label: bool = False,
) -> Float[np.ndarray, "n c"]:
    """Scores of the classes: softmax over classes of cosine / temperature.

    Multi-label: sigmoid of (cosine - mean over classes) / temperature, each class by itself. A zero vector is alike to all.

    Raises:
      ValueError: widths that differ, numbers that aren't finite, or a temperature that isn't > 0.
    """
    texts, classes = np.asarray(text_vectors, np.float32), np.asarray(class_vectors, np.float32)
    if texts.ndim != 2 or classes.ndim != 2 or texts.shape[1] != classes.shape[1]:
        raise ValueError(f"vectors must be [n, d] and [c, d] of one width, got {texts.shape} and {classes.shape}")
    if not temperature > 0 or not np.isfinite(texts).all() or not np.isfinite(classes).all():
        raise ValueError(f"vectors must be finite and the temperature > 0, got temperature {temperature}")
    unit = [v / np.maximum(np.linalg.norm(v, axis=1, keepdims=True), 1e-12) for v in (texts, classes)]
    cosine = (unit[0] @ unit[1].T).astype(np.float64)
    if multi_label:
        return (1 / (1 + np.exp(-(cosine - cosine.mean(1, keepdims=True)) / temperature))).astype(np.float32)
    powers = np.exp((cosine - cosine.max(1, keepdims=True)) / temperature)
    return (powers / powers.sum(1, keepdims=True)).astype(np.float32)


def opinion_of(texts: Sequence[str], task: Task, embed: Embed, temperature: float = 0.05) -> Float[np.ndarray, "n c"]:
    """``zero_shot`` of texts by an encoder."""
    return zero_shot(embed(list(texts)), embed(class_texts(task)), temperature=temperature, multi_label=task.multi_label)
