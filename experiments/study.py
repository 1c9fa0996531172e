"""Settings of one config side by side: seeds trained together, compared with a reference on the same test documents.

A study is a list of ``Setting``s and the config they change. Settings that differ in traced fields alone (rates, dropout,
alpha) are trained as one program with all their seeds, each at the learning rate that validation chooses for it from one grid
(``study_training``). Every setting's best weights, chosen on validation, read the test split once; the line that records them
says so. A study that was stopped goes on with the settings that are missing.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import pathlib
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from configs import agnews_frozen
from experiments import paired, study_linear
from experiments.study_training import Materials, Measure, Outcome, Point, joined, train_resampled, train_settings
from textfuse_jax.config import default_config, runlocal
from textfuse_jax.config_checks import validate
from textfuse_jax.data.corpus import Corpus, fingerprint
from textfuse_jax.encoders.checkpoints import CheckpointNotFound, locate
from textfuse_jax.encoders.checkpoints import fingerprint as weights_fingerprint
from textfuse_jax.encoders.linear import product_dtype
from textfuse_jax.evaluation.metrics import classification_metrics
from textfuse_jax.evaluation.records import append_result, environment, hardware, plain, read_results
from textfuse_jax.experiment import differences
from textfuse_jax.heap import keep_freed_memory
from textfuse_jax.training import setup
from textfuse_jax.training.grid import is_traced, with_fields

RESULTS = pathlib.Path(__file__).parent / "results"
WORK = pathlib.Path("runs") / "studies"
METRICS = ("accuracy", "precision_macro", "recall_macro", "f1_macro", "auc_ovr", "nll", "ece", "brier")
DEFAULTS = 1
"""Number of the defaults in textfuse_jax/config.py, as far as studies rely on them."""
LOCAL_SETTINGS = 2
"""Settings of a study that ``runlocal`` trains."""
RATES = (5e-4, 1e-3, 3e-3, 1e-2, 3e-2)
CHOSEN_BY = "nll of the whole training"
"""How a point of a grid is chosen: see ``study_training``; part of the digest of settings with a grid."""


def rates(*fields: str, values: Sequence[float] = RATES) -> tuple[Point, ...]:
    """A grid of learning rates; all the fields take the same one."""
    return tuple(dict.fromkeys(fields or ("optimizer.learning_rate",), value) for value in values)


HEAD = rates(values=(3e-3, 1e-2, 3e-2, 1e-1, 3e-1))
"""The grid of a linear head on the encoder's means, which wants higher rates than a network."""
LOW = rates(values=(1e-4, 2e-4, 5e-4, 1e-3, 3e-3))
"""The grid of models that take the lowest of ``RATES``."""


@dataclasses.dataclass(frozen=True)
class Setting:
    """One row of a study's table.

    Attributes:
      name: unique in the study.
      fields: config field -> value, on top of the study's config.
      published: metric -> the paper's number for this row, and "source"; None: there is none.
      against: the setting it is compared with, an earlier one; "": the study's reference.
      fit: a model that isn't trained by the step (``study_linear``); ``fields`` say what it reads. Its name, or its attribute
        ``digest``, stands for it in the setting's protocol.
      grid: points of which validation chooses one; a point with a field that the setting itself gives is left out.
    """

    name: str
    fields: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    published: Mapping[str, Any] | None = None
    against: str = ""
    fit: Callable[[ConfigDict, setup.Material], Outcome] | None = None
    grid: tuple[Point, ...] = rates()

    @property
    def points(self) -> tuple[Point, ...]:
        """The points of the grid that the setting leaves open."""
        return () if self.fit else tuple(point for point in self.grid if not set(point) & set(self.fields))


@dataclasses.dataclass(frozen=True)
class Study:
    """A table of settings, and how they are trained.

    Attributes:
      name: of the module and of its file in experiments/results.
      base: what the settings have in common.
      settings: the rows, each after what it is compared with.
      seeds: trials of each setting.
      reference: name of the setting that all are compared with which don't name another; "": the first.
      measure: further facts of a trained program.
      resample: each seed has training rows of its own, as few-shot tables want; else all seeds share them.
    """

    name: str
    base: ConfigDict
    settings: Sequence[Setting]
    seeds: int = 5
    reference: str = ""
    measure: Measure | None = None
    resample: bool = False

    def config(self, setting: Setting) -> ConfigDict:
        """Of a setting."""
        return with_fields(self.base, setting.fields)

    def against(self, setting: Setting) -> str:
        """Name of the setting that one is compared with."""
        return setting.against or self.reference or self.settings[0].name

    def protocol(self, setting: Setting, weights: Mapping[str, str] | None = None) -> str:
        """A digest of all that a setting's line depends on; a line of another protocol is not taken for done.

        Of the config the fields that differ from the defaults, so that a new field leaves old lines valid; whoever changes a
        default that studies rely on raises ``DEFAULTS``. ``weights``: ``encoder_of`` the setting, where they need not be here.
        """
        fit = getattr(setting.fit, "digest", setting.fit.__name__) if setting.fit else ""
        changed = differences(*map(named, (default_config(), self.config(setting))))
        told = [DEFAULTS, changed, self.seeds, self.resample, self.against(setting)]
        told += [fit, plain(list(setting.points)), *([CHOSEN_BY] if setting.points else [])]
        told += (encoder_of(setting) if weights is None else weights).values()
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]

    def small(self) -> Study:
        """Its first settings for a smoke run."""
        base = self.base.copy_and_resolve_references()
        runlocal(base)
        settings = [dataclasses.replace(s, fields=_small(s.fields), grid=s.grid[:2]) for s in self.settings[:LOCAL_SETTINGS]]
        there = {s.name for s in settings}
        settings = [s if s.against in there else dataclasses.replace(s, against="") for s in settings]
        reference = self.reference if self.reference in there else ""
        return dataclasses.replace(self, base=base, settings=settings, seeds=2, reference=reference, resample=False)


def main(study: Study) -> None:
    """The command line of a study: ``python -m experiments.NAME [:runlocal]``."""
    arguments = [argument.lstrip(":") for argument in sys.argv[1:]]
    if arguments not in ([], ["runlocal"]):
        raise SystemExit(f"usage: python -m experiments.{study.name} [:runlocal]")
    keep_freed_memory()
    if not jax.config.jax_compilation_cache_dir:  # settings that differ in rows alone share what is compiled
        jax.config.update("jax_compilation_cache_dir", str((WORK / "programs").absolute()))
    output = RESULTS / f"{study.name}.jsonl"
    if arguments:
        study, output = study.small(), WORK / "local" / f"{study.name}.jsonl"
        output.unlink(missing_ok=True)
    run(study, output)


NO_GRAPH = {"model.propagate": "", "model.edges": ()}
TAPS = ("02/document", "04/document", "06/document")
ENCODER_ALONE = {"model.pyramid": "", "model.document_taps": TAPS, **NO_GRAPH}
OURS = {
    "model.document_taps": TAPS,
    "model.lexical": "textfuse_jax.models.lexical:BagOfNgrams",
    "model.lexical_args.width": 64,
}
PHRASES = {
    "model.pyramid": "textfuse_jax.models.pyramid:Single",
    "model.pyramid_args": {},
    "model.levels": ("06/phrase",),
    "model.nodes": ("phrase",),
    **NO_GRAPH,
}
ATTENTION = {**PHRASES, "model.pooling_args.self_attention": True}
"""Fields of rows that several studies have: Pyramid-GNN without a graph; with document taps and words joined; hybrid pooling of
the last layer's phrases, and the model of arXiv 2512.09444, where they first see one another."""


TFIDF, LOGREG = "TF-IDF + logistic regression", "frozen encoder + logistic regression"
MIXED = "TF-IDF and frozen encoder, mixed"


def linear_rows(
    suffix: str = "",
    fields: Mapping[str, Any] | None = None,
    against: str = "",
    published: Sequence[Mapping[str, Any] | None] = (None, None),
) -> list[Setting]:
    """The two linear rows of a table, on the data that ``fields`` name, and what is published beside each."""
    fields = {**(fields or {}), **ENCODER_ALONE}
    fits = {TFIDF: study_linear.tfidf, LOGREG: study_linear.encoder_logreg}
    return [
        Setting(f"{name}{suffix}", fields, known, against, fit)
        for (name, fit), known in zip(fits.items(), published, strict=True)
    ]


def mixed_row(fields: Mapping[str, Any] | None = None, against: str = "") -> Setting:
    """Both linear models' probabilities, mixed: what words and layers have together at its simplest; TF-IDF reads whole texts."""
    return Setting(MIXED, {**(fields or {}), **ENCODER_ALONE}, None, against, study_linear.words_and_encoder)


def frozen(train_rows: int = 4000) -> ConfigDict:
    """The config that studies on cached features change: the papers' parts on AG News, without what we joined to them."""
    config = agnews_frozen.get_config("graph")
    config.data.train_rows, config.data.validation_rows, config.data.seed = train_rows, 2000, 0
    config.model.document_taps, config.model.lexical = (), ""
    config.model.lexical_args = ConfigDict()
    config.model.width = 128
    config.model.head_args.dropout = config.model.pyramid_args.dropout = config.model.propagate_args.dropout = 0.3
    config.loss.consistency = config.loss.label_smoothing = 0.0
    config.optimizer.learning_rate, config.optimizer.weight_decay = 3e-3, 0.1
    config.training.total_epochs = 4
    return config


def run(study: Study, output: pathlib.Path, say: Callable[[str], None] = print) -> None:
    """Trains what ``output`` lacks and appends a line a setting, compared with its reference's line.

    Raises:
      ConfigError: a setting's config is wrong; told before anything is trained.
    """
    for setting in study.settings:
        validate(study.config(setting))
    settings = [s for s in study.settings if _weights_are_there(study.config(s), s, say)]
    machine, resample = environment(), study.resample
    materials = Materials([study.config(s) for s in settings], say, kept=study.seeds if resample else 1)
    known = read_results(output) if output.exists() else []
    keys = {s.name: study.protocol(s) for s in settings}
    missing = paired.missing(known, keys, {s.name: [study.against(s)] for s in settings})

    def compare(line: dict[str, Any]) -> dict[str, Any]:
        """The line beside its reference's, which may be itself."""
        other = line["reference"]
        return line | paired.compared(line, line if other == line["setting"] else paired.newest(known, other, keys[other]))

    def told(line: dict[str, Any]) -> None:
        known.append(line)
        append_result(output, line)

    reference = study.reference or settings[0].name
    for shared, group in grouped(sorted(settings, key=lambda s: s.name != reference)):  # the reference first
        config = with_fields(study.base, shared)
        config.data.seed = max(config.data.seed, 0)
        todo = [s for s in group if s.name in missing]
        for line in (paired.newest(known, s.name, keys[s.name]) for s in group if s not in todo):
            if "right" in line and line["reference_protocol"] != keys[line["reference"]]:
                told(compare(line))  # its reference was measured anew
        if not todo:
            continue
        say(f"{study.name}: {', '.join(s.name for s in todo)}")
        mine = [config] + [with_fields(config, {"data.seed": config.data.seed + i}) for i in range(1, study.seeds) if resample]
        held = [materials(one) for one in mine]
        corpus = held[0].corpus
        if any(fingerprint(one.corpus.test) != fingerprint(corpus.test) for one in held[1:]):
            raise ValueError(f"{study.name}: seeds with rows of their own need one test split for all; give data.test_path")
        grids = [s.points for s in todo]
        if todo[0].fit:
            outcomes = [joined([s.fit(one, material) for one, material in zip(mine, held)]) for s in todo]
        elif resample:
            outcomes = train_resampled(config, todo, grids, held, study.measure, say)
        else:
            outcomes = train_settings(config, todo, study.seeds, grids, held[0], study.measure, say)
        for setting, outcome in zip(todo, outcomes):
            line = {
                "study": study.name,
                "setting": setting.name,
                "protocol": keys[setting.name],
                "fields": plain(dict(setting.fields)),
                "regime": regime(config),
                "products": str(product_dtype(config.encoder.dtype)),
                "data": {n: len(getattr(corpus, n)) for n in ("train", "validation", "test")} | {"name": corpus.name},
                "seeds": len(outcome.probabilities),
                "rows_of_each_seed_differ": resample,
                "validation": outcome.validation,
                **scores(corpus, outcome.probabilities),
                "strata": strata(corpus, outcome.probabilities),
                "reference": study.against(setting),
                "published": plain(dict(setting.published)) if setting.published else None,
                "test_split_read": "once, by the best weights on validation of each seed",
                "grid": plain(list(setting.points)),
                "read_before": sum(line["setting"] == setting.name for line in known),
                "fingerprint": corpus.fingerprint(),
                **encoder_of(setting),
                "hardware": hardware(machine),
                "load_average": round(os.getloadavg()[0], 1),
                "commit": machine["git"]["commit"],
                "uncommitted_changes": machine["git"]["dirty"],
                **plain(outcome.facts),
            }
            told(compare(line))


def named(config: ConfigDict) -> ConfigDict:
    """The config as digests have it: "auto" as bfloat16, which was the default; each line tells what its ``products`` took."""
    config = config.copy_and_resolve_references()
    config.encoder.dtype = config.encoder.dtype.replace("auto", "bfloat16")
    return config


def regime(config: ConfigDict) -> str:
    """What becomes of the encoder: cached (frozen), tuned, scratch; "contrastive, cached": frozen after such a stage."""
    if config.encoder.checkpoint == "scratch":
        return "scratch"
    return config.encoder.mode if config.training.pretrain == "none" else f"{config.training.pretrain}, {config.encoder.mode}"


def _weights_are_there(config: ConfigDict, setting: Setting, say: Callable[[str], None]) -> bool:
    """Whether an encoder that the setting itself names can be had; the tables say of those that can't: not measured."""
    if setting.fields.get("encoder.checkpoint", "scratch") == "scratch":
        return True
    try:
        locate(config.encoder.checkpoint)
    except CheckpointNotFound as error:
        say(f"{setting.name}: not measured, {str(error).splitlines()[0]}")
        return False
    return True


def encoder_of(setting: Setting) -> dict[str, str]:
    """Which weights stand behind the encoder's name, where the setting itself names one: wherever they lie on this machine."""
    checkpoint = setting.fields.get("encoder.checkpoint", "scratch")
    return {} if checkpoint == "scratch" else {"encoder_fingerprint": weights_fingerprint(locate(checkpoint))}


def strata(corpus: Corpus, probabilities: np.ndarray) -> dict[str, list]:
    """Accuracy of each seed on the short, the middle and the long third of the test documents, by their number of words."""
    words = np.array([len(text.split()) for text in corpus.test.texts])
    cuts = np.quantile(words, [1 / 3, 2 / 3])
    third, right = np.searchsorted(cuts, words, side="left"), paired.right(corpus.test.labels, probabilities)
    means = [right[:, third == k].mean(1).tolist() if (third == k).any() else [] for k in range(3)]
    return {"words": [int(words.min()), *map(int, cuts), int(words.max())], "accuracy": means}


def grouped(settings: Sequence[Setting]) -> list[tuple[dict[str, Any], list[Setting]]]:
    """Settings that one program trains: those whose untraced fields are equal, which are returned beside them; each fit alone."""
    values: dict[str, list[Any]] = {}
    for setting in settings:
        for field, value in setting.fields.items():
            if isinstance(value, (int, float)):
                values.setdefault(field, []).append(value)
    traced = {field for field, found in values.items() if is_traced(field, found)}
    groups: dict[str, tuple[dict[str, Any], list[Setting]]] = {}
    for setting in settings:
        shared = {field: value for field, value in setting.fields.items() if field not in traced or isinstance(value, str)}
        alone = setting.name if setting.fit else ""
        groups.setdefault(repr((alone, sorted(shared.items()))), (shared, []))[1].append(setting)
    return list(groups.values())


def scores(corpus: Corpus, probabilities: np.ndarray) -> dict[str, Any]:
    """Test metrics of each seed, the interval of their mean accuracy, and which documents were right."""
    found = [classification_metrics(corpus.test.labels, p, corpus.class_names) for p in probabilities]
    right = paired.right(corpus.test.labels, probabilities)
    return {
        "test": {m: [f[m] for f in found] for m in METRICS if found[0].get(m) is not None},
        "recall": {name: [f["per_class"][name]["recall"] for f in found] for name in corpus.class_names},
        "accuracy_ci95": interval(right),
        "right": paired.kept(right, fingerprint(corpus.test)),
    }


def interval(right: np.ndarray) -> list[float]:
    """95 % of the mean accuracy, drawing seeds and documents."""
    return [float(x) for x in np.percentile(paired.draws(right.astype(float)), [2.5, 97.5])]


def _small(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields without those that would make a smoke run long again."""
    sizes = ("train_rows", "validation_rows", "test_rows", "max_length", "row_lengths", "tokens_per_batch", "total_epochs")
    return {field: value for field, value in fields.items() if field.rpartition(".")[2] not in sizes}
