"""How the settings of a study are trained: a rate is chosen on validation, then the seeds, as runs of one program.

A program trains ``settings x seeds`` trials side by side. First it tries the points of the grid with the first seed; the point
with the least loss (nll) on validation is the setting's own: accuracy on 2,000 rows is too coarse to tell rates apart, and half
a training prefers rates that are too high for a whole one. Then it trains all seeds at the chosen points, and the best weights of
each read the test split once.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from experiments.study_features import Shared
from textfuse_jax.data.corpus import Corpus
from textfuse_jax.evaluation.calibration import apply_temperature, expected_calibration_error, fit_temperature, reliability_bins
from textfuse_jax.models.classifier import taps_of
from textfuse_jax.training import setup, sweep
from textfuse_jax.training.grid import Trial, with_fields
from textfuse_jax.training.inference import to_probabilities
from textfuse_jax.training.summary import confidence

Point = Mapping[str, Any]
"""Config field -> value: one choice of a grid."""
Measure = Callable[[sweep.Trials], Mapping[str, Any]]
"""Further facts of a trained program, for its line: name -> a value a trial; of a name with ``sample`` the first is told."""
CUT = ("max_length", "long_documents", "window_stride", "phrase_length", "row_lengths", "packed", "eval_tokens_per_batch")
"""Fields of ``config.data`` that the features of a text depend on, or the order in which they are computed."""


@dataclasses.dataclass
class Outcome:
    """What the trials of one setting came to.

    Attributes:
      probabilities: of the test documents [seeds, n, c]; one row where nothing is drawn at random.
      validation: metric -> its value for each seed.
      facts: what else the setting's line tells.
      held: probabilities of the validation documents [n, c], of what draws nothing at random.
    """

    probabilities: np.ndarray
    validation: dict[str, list[float | None]]
    facts: dict[str, Any]
    held: np.ndarray | None = None


def joined(outcomes: Sequence[Outcome]) -> Outcome:
    """One outcome of several fits, each of training rows of its own: lists of facts end to end, of others the first's."""
    validation = {m: [v for one in outcomes for v in one.validation[m]] for m in outcomes[0].validation}
    facts = outcomes[0].facts | {
        name: [v for one in outcomes for v in one.facts[name]]
        for name, known in outcomes[0].facts.items()
        if isinstance(known, list)
    }
    return Outcome(np.concatenate([one.probabilities for one in outcomes]), validation, facts)


class Materials:
    """Corpora, tokens and features by config; models that read other taps of one encoder share them.

    Args:
      configs: of all settings, so that an encoder's taps are extracted together.
      say: takes lines of progress.
      kept: how many are held in memory.
    """

    def __init__(self, configs: Sequence[ConfigDict], say: Callable[[str], None], kept: int):
        self._say, self._kept = say, kept
        self._found: collections.OrderedDict[str, setup.Material] = collections.OrderedDict()
        self._taps: dict[str, set[str]] = {}
        self._shared: tuple[str, Shared] | None = None
        for config in configs:
            self._taps.setdefault(_key(config, seed=False), set()).update(taps_of(config.model))

    def __call__(self, config: ConfigDict) -> setup.Material:
        """What the config's model reads, and no other features."""
        key = _key(config)
        if key not in self._found:
            while len(self._found) >= self._kept:
                self._found.popitem(last=False)
            joint = config.copy_and_resolve_references()
            joint.model.document_taps = tuple(sorted(self._taps[_key(config, seed=False)] | set(taps_of(config.model))))
            self._found[key] = self._prepared(joint)
        self._found.move_to_end(key)
        whole, taps = self._found[key], taps_of(config.model)
        views = {split: {tap: features[tap] for tap in taps} for split, features in whole.features.items()}
        return dataclasses.replace(whole, features=views)

    def _prepared(self, config: ConfigDict) -> setup.Material:
        """As ``setup.prepare``; behind a frozen encoder a text that an earlier corpus had is not encoded again."""
        corpus = setup.load_corpus(config)
        if config.encoder.mode != "cached" or config.training.pretrain != "none":
            return setup.prepare(config, corpus, self._say)
        without = with_fields(config, {"encoder.mode": "frozen"})
        material = setup.prepare(without, corpus, self._say)
        key = json.dumps([config.encoder.to_dict(), [config.data[field] for field in CUT], taps_of(config.model)])
        if self._shared is None or self._shared[0] != key:
            self._shared = key, Shared(config, material.encoder, self._say)
        features = {name: self._shared[1](f"{corpus.name}-{name}", material.split(name).texts) for name in material.encoded}
        return dataclasses.replace(material, features=features)


def _key(config: ConfigDict, seed: bool = True) -> str:
    data = config.data.to_dict() | ({} if seed else {"seed": 0})
    stage = [config.training.contrastive.to_dict(), config.optimizer.to_dict()] if config.training.pretrain != "none" else []
    return json.dumps([data, config.encoder.to_dict(), stage], default=str)


def train_settings(
    config: ConfigDict,
    settings: Sequence[Any],
    seeds: int,
    grids: Sequence[Sequence[Point]],
    material: setup.Material,
    measure: Measure | None,
    say: Callable[[str], None],
) -> list[Outcome]:
    """Settings of one program whose seeds share the training rows.

    Args:
      config: what they have in common.
      settings: ``study.Setting``s that differ in traced fields.
      grids: of each setting the points to choose from; () where nothing is chosen.
    """
    fields = _fields(config, settings, grids)
    program = sweep.Trials(config, material, ["seed", *fields], len(settings) * seeds, say)

    def trial(setting, point: Point, seed: int) -> Trial:
        values = dict(setting.fields) | dict(point)
        return {"seed": seed} | {field: values.get(field, _value(config, field)) for field in fields}

    chosen, choices, choice_seconds = [{} for _ in settings], [[] for _ in settings], 0.0
    for start in range(0, max(map(len, grids)), seeds):
        parts = [grid[start : start + seeds] or grid[-1:] or [{}] for grid in grids]
        padded = [[part[min(j, len(part) - 1)] for j in range(seeds)] for part in parts]
        found = program.run([trial(s, point, 0) for s, part in zip(settings, padded) for point in part])
        choice_seconds += program.seconds
        for i, part in enumerate(parts):
            for j, point in enumerate(part if len(grids[i]) > start else []):
                choices[i].append({"fields": dict(point)} | found[i * seeds + j]["validation"])
    for i, tried in enumerate(choices):
        if tried:
            chosen[i] = best_of(tried)["fields"]
    results = program.run([trial(s, point, seed) for s, point in zip(settings, chosen) for seed in range(seeds)])
    logits, found = program.test_logits(), dict(measure(program)) if measure else {}
    held = program.held_logits()
    outcomes = []
    for i in range(len(settings)):
        mine = slice(i * seeds, (i + 1) * seeds)
        facts = _facts(results[mine], program) | {
            "chosen": [chosen[i]],
            "choices": choices[i],
            "seconds_a_trial": round(program.seconds / len(results), 1),
            "seconds_of_choice": round(choice_seconds / len(settings), 1),
        }
        facts |= {fact: values[i * seeds] if fact.startswith("sample") else values[mine] for fact, values in found.items()}
        facts |= calibrated(held[mine], logits[mine], material.corpus)
        outcomes.append(Outcome(to_probabilities(logits[mine], material.corpus.multi_label), _validation(results[mine]), facts))
    return outcomes


def train_resampled(
    config: ConfigDict,
    settings: Sequence[Any],
    grids: Sequence[Sequence[Point]],
    materials: Sequence[setup.Material],
    measure: Measure | None,
    say: Callable[[str], None],
) -> list[Outcome]:
    """Settings of which each seed has training and validation rows of its own, on which it also chooses its rate."""
    fields = _fields(config, settings, grids)
    owners = [(i, point) for i, grid in enumerate(grids) for point in (grid or [{}])]
    probabilities, results, chosen = ([[] for _ in settings] for _ in range(3))
    seconds, found = 0.0, {}
    program = sweep.Trials(config, materials[0], ["seed", *fields], len(owners), say)
    for seed, material in enumerate(materials):
        program = program.on(material) if seed else program
        trials = []
        for i, point in owners:
            values = dict(settings[i].fields) | dict(point)
            trials.append({"seed": seed} | {field: values.get(field, _value(config, field)) for field in fields})
        tried = program.run(trials)
        seconds += program.seconds
        best = []
        for i in range(len(settings)):
            mine = [j for j, (owner, _) in enumerate(owners) if owner == i]
            scored = [{"place": j} | tried[j]["validation"] for j in mine]
            best.append(best_of(scored)["place"])
        held = program.held_logits()[best]
        logits, more = program.test_logits(best), dict(measure(program)) if measure else {}
        for i, j in enumerate(best):
            probabilities[i].append(to_probabilities(logits[i], material.corpus.multi_label))
            results[i].append(tried[j])
            chosen[i].append(dict(owners[j][1]))
            for fact, values in more.items():
                if not fact.startswith("sample"):
                    found.setdefault((i, fact), []).append(values[j])
            for fact, values in calibrated(held[i : i + 1], logits[i : i + 1], material.corpus).items():
                found.setdefault((i, fact), []).append(values[0])
    outcomes = []
    for i in range(len(settings)):
        facts = _facts(results[i], program) | {
            "chosen": chosen[i],
            "choices": [],
            "seconds_a_trial": round(seconds / len(owners) / len(materials), 1),
            "seconds_of_choice": round(seconds / len(settings) / len(materials), 1),
        }
        facts |= {fact: values for (owner, fact), values in found.items() if owner == i}
        outcomes.append(Outcome(np.stack(probabilities[i]), _validation(results[i]), facts))
    return outcomes


def best_of(tried: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The entry with the least nll; the first wins a tie, one that diverged before its first evaluation loses."""
    return min(tried, key=lambda one: one.get("nll", np.inf))


def calibrated(held: np.ndarray, test: np.ndarray, corpus: Corpus) -> dict[str, list[Any]]:
    """Of each trial the temperature that validation wants, the calibration error on test with it, and ``reliability``."""
    facts: dict[str, list[Any]] = {"temperature": [], "ece_after_temperature": [], "reliability": []}
    for ours, theirs in zip(held, test):
        temperature = fit_temperature(ours, corpus.validation.labels)
        scaled = apply_temperature(theirs, temperature, multi_label=corpus.multi_label)
        facts["temperature"].append(round(float(temperature), 4))
        facts["ece_after_temperature"].append(expected_calibration_error(*confidence(scaled, corpus.test.labels)))
        facts["reliability"].append(reliability(to_probabilities(theirs, corpus.multi_label), scaled, corpus.test.labels))
    return facts


def reliability(stated: np.ndarray, scaled: np.ndarray, labels: np.ndarray) -> dict[str, dict[str, list[float]]]:
    """The bins of a reliability diagram, as trained ("before") and with a temperature ("after")."""
    tables = {}
    for name, probabilities in (("before", stated), ("after", scaled)):
        bins = reliability_bins(*confidence(probabilities, labels))
        tables[name] = {field: np.round(getattr(bins, field), 4).tolist() for field in ("count", "confidence", "accuracy")}
    return tables


def _fields(config: ConfigDict, settings: Sequence[Any], grids: Sequence[Sequence[Point]]) -> list[str]:
    """The traced fields that trials set: numbers that the config hasn't got already, and those of the grids."""
    own = {field for s in settings for field, value in s.fields.items() if _traced(value) and value != _value(config, field)}
    return sorted(own | {field for grid in grids for point in grid for field in point})


def _traced(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _facts(results: Sequence[Mapping[str, Any]], program: sweep.Trials) -> dict[str, Any]:
    return {
        "best_step": [r["best_step"] for r in results],
        "diverged": sum(r["diverged"] for r in results),
        "parameters": program.parameters,
        "trials_together": program.count,
    }


def _validation(results: Sequence[Mapping[str, Any]]) -> dict[str, list[float | None]]:
    return {m: [r["validation"].get(m) for r in results] for m in ("accuracy", "f1_macro", "nll")}


def _value(config: ConfigDict, field: str) -> Any:
    """The config's value; None for an argument of a part that the config doesn't give."""
    *path, name = field.split(".")
    return functools.reduce(lambda part, key: part[key], path, config).get(name)
