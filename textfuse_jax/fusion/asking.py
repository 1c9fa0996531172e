"""The LLM members of a config, asked about documents: APIs, answers from a file, zero-shot vectors, or a simulation."""

from __future__ import annotations

import dataclasses
import pathlib
import zlib
from collections.abc import Callable, Sequence

import numpy as np
from ml_collections import ConfigDict

from textfuse_jax.config import data_seed
from textfuse_jax.data.corpus import Split
from textfuse_jax.fusion.opinion import Opinion, absent_of
from textfuse_jax.fusion.simulated import confusion_of, simulate, simulate_labels
from textfuse_jax.fusion.vectors import Embedder
from textfuse_jax.llm import opinions, prompts, protocol, providers, shots
from textfuse_jax.llm.cache import Cache
from textfuse_jax.llm.client import Budget

DEFAULT_CACHE = pathlib.Path.home() / ".cache" / "textfuse_jax" / "llm.sqlite"
SIMULATED = "simulated"
"""Name of the member that ``config.fusion.simulated_accuracy`` makes."""


class Asker:
    """All LLM members of a config; ``asker(split)`` is a list of their opinions.

    Args:
      config: its ``llm`` and ``fusion`` parts.
      class_names: in the order of the scores.
      multi_label: whether a document has any number of labels.
      train: the training split, of which few-shot examples are taken; no other split ever is.
      run: of which the budget is; what earlier processes of the run paid counts.
      say: takes lines of progress.

    Raises:
      ConfigError: a provider that needs a pretrained encoder without one.
    """

    def __init__(
        self,
        config: ConfigDict,
        class_names: Sequence[str],
        multi_label: bool,
        train: Split,
        run: pathlib.Path | None = None,
        say: Callable[[str], None] = print,
    ):
        self.config, self.class_names, self.multi_label = config, tuple(class_names), multi_label
        self._train, self._say = train, say
        self._members = providers.settings_of(config.llm)
        self._task = prompts.Task(
            class_names=self.class_names, descriptions=dict(config.llm.descriptions), multi_label=multi_label
        )
        self._budget = Budget(limit=config.llm.budget, run=str(run or "")) if config.llm.budget > 0 else None
        local = any(settings.provider == "local" for settings in self._members.values())
        nearest = bool(self._members) and config.llm.shots and config.llm.shots_by == "nearest"
        self.embed = Embedder(config) if local or nearest or config.fusion.vector else None
        self._train_vectors: np.ndarray | None = None
        self.reports: dict[str, dict] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """Of the members."""
        return (*self._members, *([SIMULATED] if self.config.fusion.simulated_accuracy > 0 else []))

    def check(self) -> None:
        """Looks for what asking will need, before anything is trained for it.

        Raises:
          ProviderError: no SDK, no key.
        """
        for settings in self._members.values():
            if settings.provider not in ("local", "replay"):
                protocol.sdk()
                settings.key()

    def vectors(self, texts: Sequence[str]) -> np.ndarray | None:
        """What the fusion reads of texts beside scores; None unless ``fusion.vector``."""
        return self.embed(texts) if self.config.fusion.vector else None

    def __call__(self, split: Split, order: np.ndarray | None = None, labelled: bool = True) -> list[Opinion]:
        """Opinions of the documents of a split.

        Args:
          order: indices of the documents to ask about, those worth most first, so that a budget is spent on them; None: all.
          labelled: whether the split's labels are true; without, a simulation has no opinion.

        Documents that weren't asked about are missing.
        """
        order = np.arange(len(split)) if order is None else np.asarray(order, np.int64)
        part = split.take(order)
        found = [self._ask(name, part) for name in self._members]
        if SIMULATED in self.names:
            found.append(self._simulate(part, labelled))
        return [_spread(opinion, split, order) for opinion in found]

    def _ask(self, name: str, part: Split) -> Opinion:
        llm = self.config.llm
        path = pathlib.Path(llm.cache) if llm.cache else DEFAULT_CACHE
        path.parent.mkdir(parents=True, exist_ok=True)
        with Cache(path) as cache:
            opinion = opinions.ask_opinion(
                name,
                part.ids,
                part.texts,
                self._task,
                self._members[name],
                cache,
                template=llm.template,
                shots=self._shots(part),
                how=llm.scores,
                samples=llm.samples,
                budget=self._budget,
                embed=self.embed,
                say=self._say,
            )
        told = {"kind": opinion.kind, "documents": len(part), "missing": dict(opinion.missing), "how": dict(opinion.how)}
        if opinion.report is not None:
            told |= {"calls": opinion.report.calls, "from_cache": opinion.report.from_cache, "cost": opinion.report.cost}
        self.reports.setdefault(name, []).append(told)
        return Opinion(name, opinion.kind, tuple(part.ids), np.asarray(opinion.scores), np.asarray(opinion.present))

    def _shots(self, part: Split) -> list | None:
        llm, train = self.config.llm, self._train
        if not llm.shots:
            return None
        if llm.shots_by == "nearest":
            if self._train_vectors is None:
                self._train_vectors = self.embed(train.texts)
            vectors = self._train_vectors, part.ids, part.texts, self.embed(part.texts)
            return shots.nearest(train, self.class_names, *vectors, llm.shots)
        return shots.balanced(train, self.class_names, part.ids, part.texts, llm.shots, data_seed(self.config))

    def _simulate(self, part: Split, labelled: bool) -> Opinion:
        quality, classes = self.config.fusion.simulated_accuracy, len(self.class_names)
        seed = data_seed(self.config) + zlib.crc32("\n".join(part.ids).encode())  # splits have noise of their own
        if self.multi_label:
            made = simulate_labels(part.ids, part.labels, quality, quality, name=SIMULATED, seed=seed)
        else:
            made = simulate(part.ids, part.labels, confusion_of(quality, classes), name=SIMULATED, seed=seed)
        return made if labelled else absent_of(made.name, made.kind, part, classes)


def _spread(opinion: Opinion, split: Split, order: np.ndarray) -> Opinion:
    """An opinion of some documents of a split as one of all, the others missing."""
    scores = np.zeros((len(split), opinion.scores.shape[1]), np.float32)
    present = np.zeros(len(split), bool)
    scores[order], present[order] = np.where(opinion.present[:, None], opinion.scores, 0), opinion.present
    return dataclasses.replace(opinion, ids=tuple(split.ids), scores=scores, present=present)
