"""scikit-learn style: ``fit`` on texts and labels, ``predict`` in the labels' own form; pandas in, pandas out.

``TextFuseClassifier`` trains the model of a config; ``AutoFusionClassifier`` an encoder and its fusion with LLMs. Both are whole
in memory and on disk: ``save`` writes numbers and text alone, ``load`` runs nothing that it reads.
"""

from __future__ import annotations

import contextlib
import json
import pathlib
import shutil
import sys
import tempfile
import warnings
import weakref
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.exceptions import NotFittedError

from textfuse_jax import config as configs
from textfuse_jax.config_checks import ConfigError, validate
from textfuse_jax.data.corpus import Corpus, DataError, Split, stratified_split
from textfuse_jax.estimator_inputs import check_index, ids_of, make_config, replace, texts_of, without_copies
from textfuse_jax.evaluation.metrics import decide
from textfuse_jax.evaluation.records import write_json
from textfuse_jax.experiment import config_of
from textfuse_jax.fusion import pipeline
from textfuse_jax.fusion.asking import FREE, Asker
from textfuse_jax.fusion.experiment import decided_metrics
from textfuse_jax.fusion.members import opinion
from textfuse_jax.fusion.thresholds import tune_thresholds
from textfuse_jax.labels import Labels
from textfuse_jax.llm.budget import Estimate
from textfuse_jax.predict import Predictor
from textfuse_jax.training.inference import to_probabilities
from textfuse_jax.training.progress import StopSignals

FORMAT = 1
OF_PROVIDER = (
    *("model", "base_url", "key_variable", "replay_path", "extra", "requests_per_minute", "tokens_per_minute"),
    *("price_input", "price_cached_input", "price_output"),
)
"""Fields of ``config.llm`` that are a provider's own."""
LOST = ("budget", "failed", "absent")
"""Answers that are missing for another reason than what the model wrote."""


class _TextClassifier(ClassifierMixin, BaseEstimator):
    """What both share: texts and labels in, a corpus, labels out, files."""

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.string, tags.input_tags.two_d_array = True, False
        tags.target_tags.multi_output = True
        tags.classifier_tags.multi_label = True
        return tags

    def predict(self, X: Any) -> Any:
        """Labels of texts, in the form that ``fit`` was given: names, lists of names, or an indicator of the same columns.

        A pandas input gives a Series or DataFrame with its index.
        """
        texts, index = texts_of(X, self._fitted().text_columns)
        return self.labels_.back(self._predict(texts)[1], index)

    def predict_proba(self, X: Any) -> Any:
        """Probability of each class, float64 [n, c], columns in the order of ``classes_``; a DataFrame for pandas input."""
        texts, index = texts_of(X, self._fitted().text_columns)
        probabilities = self._predict(texts)[0]
        if index is None:
            return probabilities
        import pandas

        return pandas.DataFrame(probabilities, index=index, columns=list(self.classes_))

    def evaluate(self, X: Any, y: Any) -> dict[str, Any]:
        """Metrics of predictions of these texts (``classification_metrics``): accuracy, macro-F1, AUC, calibration, per class."""
        texts, _ = texts_of(X, self._fitted().text_columns)
        check_index(X, y)
        truth = self.labels_.encode(y)
        return decided_metrics(truth, *self._predict(texts), self.labels_.names)

    @property
    def classes_(self) -> np.ndarray:
        """The labels, in the order of ``predict_proba``'s columns."""
        return np.asarray(self._fitted().labels_.values)

    def save(self, folder: str | pathlib.Path) -> None:
        """Writes the fitted classifier into a folder, which must be new or empty."""
        self._fitted()
        folder = pathlib.Path(folder)
        if folder.exists() and any(folder.iterdir()):
            raise FileExistsError(f"{folder} isn't empty; save to a new folder")
        for part in self._PARTS:
            if (self._folder / part).exists():
                shutil.copytree(self._folder / part, folder / part)
        facts = {"format": FORMAT, "class": type(self).__name__, "labels": self.labels_.to_plain()}
        facts |= {"parameters": _plain_parameters(self), "config": json.loads(self.config_.to_json_best_effort())}
        facts["thresholds"] = None if getattr(self, "thresholds_", None) is None else self.thresholds_.tolist()
        write_json(folder / "estimator.json", facts)

    @classmethod
    def load(cls, folder: str | pathlib.Path):
        """The classifier that ``save`` wrote; nothing of the folder is executed.

        Raises:
          FileNotFoundError: no classifier there.
          DataError: it is one of another class or format.
        """
        path = pathlib.Path(folder) / "estimator.json"
        if not path.exists():
            raise FileNotFoundError(f"{folder} holds no classifier (no estimator.json); give the folder that save() wrote")
        facts = json.loads(path.read_text(encoding="utf-8"))
        if (facts.get("format"), facts.get("class")) != (FORMAT, cls.__name__):
            raise DataError(f"{path} is of {facts.get('class')}, format {facts.get('format')}; this is {cls.__name__}, {FORMAT}")
        self = cls(**facts["parameters"], config=config_of(facts["config"]))
        self.config_, self.labels_ = self.config, Labels.from_plain(facts["labels"])
        self.thresholds_ = None if facts["thresholds"] is None else np.array(facts["thresholds"])
        self._folder = pathlib.Path(folder)
        self._open()
        return self

    def _fitted(self):
        if not hasattr(self, "_predictor"):
            raise NotFittedError(f"this {type(self).__name__} isn't fitted yet; call fit(texts, labels) or load(folder)")
        return self

    def _fit(self, X: Any, y: Any) -> Corpus:
        """Sets ``labels_`` and ``config_``; the corpus, with a part of the rows held out for validation."""
        texts, _ = texts_of(X, self.text_columns)
        check_index(X, y)
        self.labels_ = Labels.of(y)
        encoded = self.labels_.encode(y)
        if len(texts) != len(encoded):
            raise DataError(f"{len(texts)} texts but {len(encoded)} labels; row i of both must belong together")
        blank = [i for i, text in enumerate(texts) if not text.strip()]
        if blank:
            raise DataError(f"row {blank[0]}: the text is empty ({len(blank)} such rows); leave them out of fit")
        self.config_ = self._config(self.labels_.multi_label)
        self.config_.data.text_columns, self.config_.data.clean_html = tuple(self.text_columns), False  # texts as they are given
        validate(self.config_)
        everything = Split(ids_of(texts), texts, encoded)
        if not 0 < self.validation_fraction < 1:
            raise ConfigError(f"validation_fraction must lie between 0 and 1, got {self.validation_fraction}")
        kept, held = stratified_split(
            encoded, max(2.0, round(len(texts) * self.validation_fraction)), configs.data_seed(self.config_)
        )
        train, validation = everything.take(without_copies(texts, kept, held)), everything.take(held)
        # The loop predicts a test split too; there is none here, so it is given one document that it knows already.
        return Corpus("fit", train, validation, validation.take([0]), self.labels_.names, self.labels_.multi_label)

    @contextlib.contextmanager
    def _working(self):
        """The folder of a fit, kept as long as the classifier where the user named none."""
        self._folder = pathlib.Path(self.workdir or tempfile.mkdtemp(prefix="textfuse-"))
        if not self.workdir:
            weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True, exist_ok=True)
        with StopSignals() as stop:
            yield stop

    def _say(self) -> Callable[[str], None]:
        return print if self.verbose else lambda line: None


class TextFuseClassifier(_TextClassifier):
    """The model of a config, by default ``default_classifier``'s: means of a frozen encoder's layers and the words themselves.

    Args:
      config: a ConfigDict, a file with ``get_config()``, or None for the default.
      overrides: config field -> value, e.g. ``{"training.total_epochs": 3, "encoder.mode": "tuned"}``.
      validation_fraction: of the rows given to ``fit``; weights, temperature and thresholds are chosen on them.
      text_columns: of a DataFrame, joined by a space.
      seed: of splits, weights and dropout; None: the config's.
      workdir: where the run is kept; a fit that was stopped goes on there. None: a temporary folder.
      verbose: whether progress is printed.

    Attributes:
      thresholds_: several labels a document: of each label, tuned on validation, saved with the model.
    """

    _PARTS = ("encoder/model",)

    def __init__(
        self,
        config: ConfigDict | str | None = None,
        overrides: Mapping[str, Any] | None = None,
        validation_fraction: float = 0.1,
        text_columns: Sequence[str] = ("text",),
        seed: int | None = None,
        workdir: str | None = None,
        verbose: bool = False,
    ):
        self.config, self.overrides, self.validation_fraction = config, overrides, validation_fraction
        self.text_columns, self.seed, self.workdir, self.verbose = text_columns, seed, workdir, verbose

    def fit(self, X: Any, y: Any) -> TextFuseClassifier:
        """Trains on texts (a list, Series, array or DataFrame) and labels (names, lists of names, or an indicator)."""
        corpus = self._fit(X, y)
        with self._working() as stop:
            logits = opinion(self.config_, corpus, self._folder / "encoder", stop, self._say(), keep=True)["validation"]
        self.thresholds_ = None
        if corpus.multi_label:
            self.thresholds_ = tune_thresholds(corpus.validation.labels, to_probabilities(logits, True))
        self._open()
        return self

    def _open(self) -> None:
        self._predictor = Predictor(self._folder / "encoder")

    def _config(self, multi_label: bool) -> ConfigDict:
        config = make_config(self.config, self.overrides, multi_label, self.seed)
        config.fusion.combiner = ""
        return config

    def _predict(self, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        probabilities = self._predictor.probabilities(texts)
        return probabilities, decide(probabilities, self.thresholds_)


class AutoFusionClassifier(_TextClassifier):
    """An encoder and LLMs, fused: LLM answers may be missing, wrong or expensive; without one it is the encoder.

    ``fit`` asks about at most ``fusion.asked_rows`` validation texts and as many training texts, whatever ``call_share`` is, and
    says on stderr what that takes before it sends anything; ``estimate`` says it without sending. What is None or left out is
    the config's, and without a config "local", all texts and "mlp".

    Args:
      provider: "local" (zero-shot vectors, no LLM, no account), "openai", "deepseek", "gemini", "compatible", "replay", or "" for
        the encoder alone. Keys are read from the environment. Or a config in its place: ``AutoFusionClassifier("my_fusion.py")``.
      model: its name at the provider.
      llm: further fields of ``config.llm``, e.g. ``{"base_url": ..., "budget": 5.0, "members": {...}}``.
      call_share: of the texts an LLM is asked about when predicting, those from whom most is expected.
      combiner: "mlp", "voting", "weighted", "stacking" or "per_class".
      config, overrides, validation_fraction, text_columns, seed, workdir, verbose: as in ``TextFuseClassifier``.

    Attributes:
      fusion_: what was fitted (``fusion.fused.Fused``); its ``note`` says whether the fusion or one member predicts.
      reports_: what each LLM was asked, answered and cost in ``fit``.
      predict_reports_: the same of all predictions since then.
    """

    _PARTS = ("encoder/model", "fusion")

    def __init__(
        self,
        provider: str | ConfigDict | pathlib.Path | None = None,
        model: str | None = None,
        llm: Mapping[str, Any] | None = None,
        call_share: float | None = None,
        combiner: str | None = None,
        config: ConfigDict | str | None = None,
        overrides: Mapping[str, Any] | None = None,
        validation_fraction: float = 0.2,
        text_columns: Sequence[str] = ("text",),
        seed: int | None = None,
        workdir: str | None = None,
        verbose: bool = False,
    ):
        self.provider, self.model, self.llm, self.call_share, self.combiner = provider, model, llm, call_share, combiner
        self.config, self.overrides, self.validation_fraction = config, overrides, validation_fraction
        self.text_columns, self.seed, self.workdir, self.verbose = text_columns, seed, workdir, verbose

    def fit(self, X: Any, y: Any) -> AutoFusionClassifier:
        """Trains the encoder and its folds, asks the LLMs about the texts, fits the fusion; see ``TextFuseClassifier.fit``."""
        corpus = self._fit(X, y)
        if self.config_.llm.dry_run:
            raise ConfigError("llm.dry_run asks nobody, so there is nothing to fit; estimate(X, y) says what fit would ask")
        with self._working() as stop:
            asker = self._asker(corpus, self._folder)
            for name, estimate in pipeline.estimates(asker, corpus).items():
                if estimate.calls and (estimate.cost != 0 or self.verbose):
                    print(f"{name} will be asked: {estimate}", file=sys.stderr)
            fitted = pipeline.fit(asker, corpus, self._folder, stop, self._say())
        self.reports_ = fitted.asker.reports
        _warn_of_missing(self.reports_)
        self._open()
        return self

    def estimate(self, X: Any, y: Any) -> dict[str, Estimate]:
        """What ``fit`` would ask of each LLM with an API: calls, tokens, cost, time, by name. Nothing is sent or trained."""
        unfitted = clone(self)
        corpus = unfitted._fit(X, y)
        return pipeline.estimates(unfitted._asker(corpus, None), corpus)

    @property
    def predict_reports_(self) -> dict[str, list[dict[str, Any]]]:
        """What each LLM was asked, answered and cost in predictions since ``fit`` or ``load``, an entry a call."""
        return self._fitted()._predictor.reports

    def _asker(self, corpus: Corpus, folder: pathlib.Path | None) -> Asker:
        facts = self.config_, corpus.class_names, corpus.multi_label, corpus.train
        return Asker(*facts, folder, self._say(), self.verbose)

    def _open(self) -> None:
        self._predictor = pipeline.FusedPredictor(self._folder, self._say(), self.verbose)
        self.fusion_ = self._predictor.fused

    def _config(self, multi_label: bool) -> ConfigDict:
        provider, base = self.provider, self.config
        if not isinstance(provider, str | None) or str(provider).endswith(".py"):
            if base is not None:
                raise ConfigError("a config is given twice, as the first argument and by config=...; give it once")
            provider, base = None, provider
        config = make_config(base, None, multi_label, self.seed)
        given = {"provider": provider, "model": self.model, "call_share": self.call_share, **(self.llm or {})}
        given = {name: value for name, value in given.items() if value is not None}
        if "provider" in given:
            if given["provider"] != config.llm.provider:  # address, key and prices of the config's are another's
                default = configs.default_config().llm
                given = {name: default[name] for name in OF_PROVIDER} | given
                given["model"] = given["model"] or (given["provider"] if given["provider"] in FREE else "")
            given = {"members": {}} | given
        fields = {f"llm.{name}": value for name, value in given.items()} | dict(self.overrides or {})
        replace(config, fields)
        if "llm.provider" not in fields and not config.llm.provider and not config.llm.members:
            config.llm.provider, config.llm.model = "local", config.llm.model or "local"
        config.fusion.combiner = self.combiner or config.fusion.combiner or "mlp"
        if config.fusion.simulated_accuracy > 0:
            raise ConfigError(
                "config.fusion.simulated_accuracy must be 0 in a classifier, got "
                f"{config.fusion.simulated_accuracy}: a simulated LLM reads the true labels, which new texts don't have"
            )
        return config

    def _predict(self, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        before = {name: len(several) for name, several in self._predictor.reports.items()}
        found = self._predictor.predict(ids_of(texts), texts)
        _warn_of_missing({name: several[before.get(name, 0) :] for name, several in self._predictor.reports.items()})
        return found


def _warn_of_missing(reports: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """One warning where LLMs left out what they were asked: no budget, every attempt failed, not in the file."""
    told = []
    for name, several in reports.items():
        lost = Counter({reason: 0 for reason in LOST})
        for one in several:
            lost.update({reason: count for reason, count in one["missing"].items() if reason in LOST})
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in lost.items() if count)
        if reasons:
            told.append(f"{name} (of {sum(one['documents'] for one in several):,} texts asked about): {reasons}")
    if told:
        warnings.warn(f"answers are missing: {'; '.join(told)}; these texts are classified without them", stacklevel=4)


def _plain_parameters(estimator: _TextClassifier) -> dict[str, Any]:
    """Constructor parameters as JSON, but for the config, which is kept whole with all that they change in it."""
    kept = ("validation_fraction", "text_columns", "verbose")
    return {name: value for name, value in estimator.get_params(deep=False).items() if name in kept}
