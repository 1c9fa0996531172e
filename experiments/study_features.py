"""Features of a frozen encoder for splits that share texts: each text goes through the encoder once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from ml_collections import ConfigDict

from textfuse_jax.data.ragged import bounds, ranges
from textfuse_jax.training import setup
from textfuse_jax.types import parse_tap


class Shared:
    """Texts whose features are known, by one encoder and one way of cutting texts.

    Args:
      config: of both; its model's taps are extracted.
      encoder: with the layers that they need.
      say: takes lines of progress.
    """

    def __init__(self, config: ConfigDict, encoder: setup.TextEncoder, say: Callable[[str], None]):
        self._config, self._encoder, self._say = config, encoder, say
        self._place: dict[str, int] = {}
        self._counts: dict[str, np.ndarray] = {}
        self._values: dict[str, np.ndarray] = {}

    def __call__(self, name: str, texts: Sequence[str]) -> dict[str, np.ndarray]:
        """tap -> the features of all units of the texts, end to end, as ``setup.cached_features`` of them gives.

        Args:
          name: of the texts, for the folder of those that are new.
        """
        new = [text for text in dict.fromkeys(texts) if text not in self._place]
        if new:
            self._add(name, new)
        documents = np.array([self._place[text] for text in texts])
        found = {}
        for tap, values in self._values.items():
            counts = self._counts[parse_tap(tap)[1]]
            found[tap] = values[ranges(bounds(counts)[documents], counts[documents])]
        return found

    def _add(self, name: str, texts: Sequence[str]) -> None:
        encoded = setup.encode_split(self._config, self._encoder.tokenizer, texts)
        found = setup.cached_features(self._config, self._encoder, {name: encoded}, self._say)[name]
        self._place |= {text: len(self._place) + i for i, text in enumerate(texts)}
        for scale, counts in encoded.counts.items():
            mine = np.bincount(encoded.example, counts, minlength=encoded.examples).astype(np.int64)  # over a text's windows
            self._counts[scale] = np.concatenate([self._counts.get(scale, mine[:0]), mine])
        self._values = {tap: np.concatenate([self._values.get(tap, values[:0]), values]) for tap, values in found.items()}
