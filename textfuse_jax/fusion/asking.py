"""The LLM members of a config, asked about documents: APIs, answers from a file, zero-shot vectors, or a simulation."""

from __future__ import annotations

import dataclasses
import pathlib
import zlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from ml_collections import ConfigDict

from textfuse_jax.config import data_seed
from textfuse_jax.data.corpus import DataError, Split
from textfuse_jax.fusion.opinion import Opinion, absent_of
from textfuse_jax.fusion.simulated import confusion_of, simulate, simulate_labels
from textfuse_jax.fusion.vectors import Embedder
from textfuse_jax.llm import opinions, prompts, protocol, providers, shots
from textfuse_jax.llm.budget import Budget, Estimate, dry_run, run_of
from textfuse_jax.llm.cache import Cache

FREE = ("local", "replay")
"""Providers that send nothing."""
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
      progress: whether bars are shown.
      models: of each member, the name that the provider reported before; an answer of another is an error.

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
        progress: bool = True,
        models: Mapping[str, str] | None = None,
    ):
        self.config, self.class_names, self.multi_label = config, tuple(class_names), multi_label
        self._train, self._say, self._progress, self.models = train, say, progress, dict(models or {})
        self._members = providers.settings_of(config.llm)
        self._task = prompts.Task(
            class_names=self.class_names, descriptions=dict(config.llm.descriptions), multi_label=multi_label
        )
        self._budget = Budget(config.llm.budget, run_of(run)) if config.llm.budget > 0 else None
        local = any(settings.provider == "local" for settings in self._members.values())
        nearest = bool(self._members) and config.llm.shots and config.llm.shots_by == "nearest"
        self.embed = Embedder(config) if local or nearest or config.fusion.vector else None
        self._train_vectors: np.ndarray | None = None
        self._shown: dict[tuple[str, ...], list] = {}
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
        for settings in self._paid.values():
            protocol.sdk()
            settings.key()

    @property
    def _paid(self) -> dict[str, providers.Settings]:
        """The members that are asked over the network."""
        return {name: settings for name, settings in self._members.items() if settings.provider not in FREE}

    def estimates(self, parts: Sequence[Split]) -> dict[str, Estimate]:
        """What asking the members of an API about these documents would take, by name; nothing is sent, no key is needed."""
        if not self._paid:
            return {}
        requests = []
        for part in parts:
            words = self._words(part)
            self._shown[tuple(part.ids)] = words["shots"]  # asking needs the same again
            requests += opinions.questions(part.ids, part.texts, self._task, **words)
        with Cache(self.config.llm.cache) as cache:
            return {name: dry_run(requests, settings, cache) for name, settings in self._paid.items()}

    def vectors(self, texts: Sequence[str]) -> np.ndarray | None:
        """What the fusion reads of texts beside scores; None unless ``fusion.vector``."""
        return self.embed(texts) if self.config.fusion.vector else None

    def __call__(
        self, split: Split, order: np.ndarray | None = None, labelled: bool = True, asked: np.ndarray | None = None
    ) -> list[Opinion]:
        """Opinions of the documents of a split.

        Args:
          order: indices of the documents to ask about, those worth most first, so that a budget is spent on them; None: all.
          labelled: whether the split's labels are true; without, a simulation has no opinion.
          asked: as ``order``, of language models and their stored answers alone; None: as the others.

        Documents that weren't asked about are missing.

        Raises:
          DataError: a member's answers are of several models.
        """
        order = np.arange(len(split)) if order is None else np.asarray(order, np.int64)
        local = {name: settings for name, settings in self._members.items() if settings.provider == "local"}
        llms = {name: settings for name, settings in self._members.items() if name not in local}
        found = self._ask(local, split, order) | self._ask(llms, split, order if asked is None else asked)
        if SIMULATED in self.names:
            found[SIMULATED] = _spread(self._simulate(split.take(order), labelled), split, order)
        return [found[name] for name in self.names]

    def _ask(self, members: Mapping[str, providers.Settings], split: Split, order: np.ndarray) -> dict[str, Opinion]:
        """Members asked side by side."""
        if not members:
            return {}
        part = split.take(order)
        options = {"how": self.config.llm.scores, "budget": self._budget, "embed": self.embed}
        options |= {"progress": self._progress, "say": self._say}
        with Cache(self.config.llm.cache) as cache:
            found = opinions.ask_opinions(members, part.ids, part.texts, self._task, cache, **self._words(part), **options)
        made = {}
        for name, one in found.items():
            self._note(name, one, len(part))
            opinion = Opinion(name, one.kind, tuple(part.ids), np.asarray(one.scores), np.asarray(one.present))
            made[name] = _spread(opinion, split, order)
        return made

    def _note(self, name: str, opinion: opinions.Opinion, documents: int) -> None:
        """Keeps what was asked, answered and paid, and by which model."""
        told = {"kind": opinion.kind, "documents": documents, "missing": dict(opinion.missing), "how": dict(opinion.how)}
        if opinion.report is not None:
            told |= {"calls": opinion.report.calls, "from_cache": opinion.report.from_cache, "cost": opinion.report.cost}
            models = [*filter(None, [self.models.get(name)]), *opinion.report.models]
            if len(set(models)) > 1:
                raise DataError(
                    f"{name}: answers of {' and of '.join(dict.fromkeys(models))}: the provider changed what the name stands "
                    "for; name the dated model in llm.model and fit anew, with another llm.cache where old answers are in it"
                )
            if models:
                self.models[name] = models[0]
        self.reports.setdefault(name, []).append(told)

    def _words(self, part: Split) -> dict:
        """What the questions about documents are made of."""
        llm = self.config.llm
        return {"template": llm.template, "shots": self._shots(part), "samples": llm.samples}

    def _shots(self, part: Split) -> list | None:
        llm, train = self.config.llm, self._train
        if not llm.shots:
            return None
        if (known := self._shown.pop(tuple(part.ids), None)) is not None:
            return known
        if llm.shots_by == "balanced":
            return shots.balanced(train, self.class_names, part.ids, part.texts, llm.shots, data_seed(self.config))
        if self._train_vectors is None:
            self._train_vectors = self.embed(train.texts)
        vectors = self._train_vectors, part.ids, part.texts, self.embed(part.texts)
        return shots.nearest(train, self.class_names, *vectors, llm.shots)

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
