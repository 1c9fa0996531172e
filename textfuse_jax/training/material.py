"""What a training reads, behind one interface: ``setup.Material`` fills it with texts, ``cascade_material`` with cascades.

The loop, the sweep, the summary, export and prediction know documents, labels, batches and a model, and nothing of what a
document is made of.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import flax.linen as nn
import jax
import numpy as np
from jaxtyping import Int
from matplotlib.figure import Figure

from textfuse_jax.data.corpus import TEST, Corpus, Split
from textfuse_jax.data.pipeline import Batches


@dataclasses.dataclass(frozen=True)
class Folds:
    """What each document of one split is to each fold; trials of different folds share every batch.

    Attributes:
      split: the split whose documents these are: "train", or "all" where each fold holds test documents of its own.
      roles: sums of ``TRAIN``, ``VALIDATION``, ``TEST`` of ``data.corpus``.
    """

    split: str
    roles: Int[np.ndarray, "f n"]

    @property
    def tests(self) -> bool:
        """Whether the folds have test documents; else all are tested on the split "test"."""
        return bool((self.roles & TEST).any())


class Material(Protocol):
    """What a training reads.

    Attributes:
      corpus: documents, labels and class names of the splits train, validation and test.
      layers: of the encoder that is trained along, for its layer-wise rates; 0: none is.
      size_name: what the size of a document is called, and what it counts: ("text length", "tokens").
    """

    corpus: Corpus
    layers: int
    size_name: tuple[str, str]

    def split(self, name: str) -> Split:
        """The documents of a split: train, validation, test, or one that ``folds`` names."""

    def train_batches(self, config: Any, split: str = "train", **share: Any) -> Batches:
        """Shuffled batches of all epochs; ``share``: rows_multiple and, of several processes, process_index and process_count."""

    def held_batches(self, config: Any, split: str, **share: Any) -> Batches:
        """Every document of a split once, in order."""

    def folds(self, config: Any) -> Folds:
        """The ``config.data.folds`` folds of a sweep over data.fold."""

    def make_model(self, config: Any) -> nn.Module:
        """The model of a config; ``config`` may hold traced values."""

    def init_params(self, config: Any, model: nn.Module, rows: Any) -> dict[str, jax.Array]:
        """Flat parameters at the start, without ``constants``."""

    def constants(self) -> Mapping[str, Any]:
        """Flat arrays that every trial reads and none trains; they join the frozen parameters and lie on the device once."""

    def apply(self, model: nn.Module) -> Callable:
        """``(params nested, rows, *, train, rngs) -> (logits, out)``; the params hold the constants."""

    def is_frozen(self, config: Any, name: str) -> bool:
        """Whether the parameter of this flat name is kept as it is."""

    def notes(self) -> dict[str, Any]:
        """Facts about the material for result.json."""

    def told(self, config: Any) -> str:
        """The end of the line that the run says of its data."""

    def sizes(self, split: str) -> Int[np.ndarray, "n"]:
        """Size of each document."""

    def references(self, folds: bool = False) -> dict[str, dict[str, float]]:
        """What needs no model to be compared with: name -> metrics of the test documents, of all ``folds`` or of the run's."""

    def drawings(
        self, config: Any, model: nn.Module, params: Mapping[str, Any], probabilities: np.ndarray
    ) -> Iterable[tuple[str, Figure]]:
        """Caption and figure of each sample graph of test documents that the report shows."""

    def export(self, folder: pathlib.Path, params: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Writes what prediction needs beside parameters and config; the parameters to store, and facts for model.json."""
