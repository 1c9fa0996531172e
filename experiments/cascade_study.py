"""Studies of cascades: settings by folds and seeds trained together, compared on the same test cascades, a JSON line each.

A line's ``test`` holds each metric once a seed, of the test predictions of all folds together, and ``folds`` accuracy and
macro-F1 of every fold and seed. Comparisons draw seeds and cascades with replacement; they are those of ``experiments.study``.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import json
import pathlib
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from experiments import paired
from experiments.study import METRICS, RESULTS, WORK, named
from textfuse_jax.config_checks import validate
from textfuse_jax.data.cascade_cut import cut
from textfuse_jax.data.cascade_protocols import CascadeCorpus, split_of
from textfuse_jax.data.corpus import fingerprint
from textfuse_jax.evaluation.metrics import classification_metrics
from textfuse_jax.evaluation.probes import constant
from textfuse_jax.evaluation.records import append_result, environment, hardware, plain, read_results
from textfuse_jax.sweeping import out_of_fold
from textfuse_jax.training import setup, sweep
from textfuse_jax.training.cascade_material import CascadeMaterial
from textfuse_jax.training.grid import with_fields
from textfuse_jax.training.inference import to_probabilities


@dataclasses.dataclass(frozen=True)
class CascadeSetting:
    """One row of a study.

    Attributes:
      name: unique in the study.
      config: ``"rumor_pheme"``, or with variants ``"rumor_pheme:fused"``.
      fields: config field -> value.
      folds: how many the protocol has.
      against: the setting it is compared with, an earlier one; "": none.
      also_against: further ones.
      published: metric -> the published number, and "source".
      group: which rows of a table belong together.
      seeds: 0: those of the study.
    """

    name: str
    config: str
    fields: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    folds: int = 5
    against: str = ""
    also_against: tuple[str, ...] = ()
    published: Mapping[str, Any] | None = None
    group: str = ""
    seeds: int = 0

    @property
    def references(self) -> tuple[str, ...]:
        """What it is compared with."""
        return ((self.against,) if self.against else ()) + self.also_against

    def built(self) -> ConfigDict:
        """The config, checked."""
        name, _, variants = self.config.partition(":")
        config = importlib.import_module(f"configs.{name}").get_config(variants or None)
        config = with_fields(config, dict(self.fields) | {"data.folds": self.folds, "data.seed": 0})
        validate(config)
        return config


Also = Callable[[Any, np.ndarray], Mapping[str, Any]]
"""``(corpus, roles) -> further facts`` of a setting's line: probes."""


def main(name: str, settings: Sequence[CascadeSetting], *, seeds: int = 2, also: Also | None = None) -> None:
    """The command line: ``python -m experiments.NAME [:runlocal]``; a study that was stopped goes on."""
    arguments = [argument.lstrip(":") for argument in sys.argv[1:]]
    if arguments not in ([], ["runlocal"]):
        raise SystemExit(f"usage: python -m experiments.{name} [:runlocal]")
    output = RESULTS / f"{name}.jsonl"
    if arguments:
        settings, seeds, output = small(settings), 2, WORK / "local" / f"{name}.jsonl"
        output.unlink(missing_ok=True)
    run(name, settings, seeds, output, also)


def small(settings: Sequence[CascadeSetting]) -> list[CascadeSetting]:
    """The first settings on trees of docstrings, words alone, one epoch: a smoke run of any study."""
    found = []
    for setting in settings[:2]:
        base, _, variants = setting.config.partition(":")
        kept = {k: v for k, v in setting.fields.items() if k.startswith(("model.", "cascades.choose_on")) and "fusion" not in k}
        name = ",".join([*(v for v in variants.split(",") if v and v != "fused"), "docstrings", "scratch"])
        fields = kept | {"training.total_epochs": 1, "cascades.first_posts": 8}
        found.append(dataclasses.replace(setting, config=f"{base}:{name}", fields=fields, folds=2, against="", also_against=()))
    return found


def run(
    name: str,
    settings: Sequence[CascadeSetting],
    seeds: int,
    output: pathlib.Path,
    also: Also | None = None,
    say: Callable[[str], None] = print,
) -> None:
    """Trains what ``output`` lacks.

    Raises:
      ConfigError: a setting's config is wrong; told before anything is trained.
    """
    configs = {setting.name: setting.built() for setting in settings}
    keys = {setting.name: protocol(configs[setting.name], setting, setting.seeds or seeds) for setting in settings}
    machine, materials = environment(), Materials(say)
    lines = [one for one in (read_results(output) if output.exists() else []) if keys.get(one["setting"]) == one["protocol"]]
    data = {name: materials.corpus(configs[name]).fingerprint() for name in {line["setting"] for line in lines}}
    known = [line for line in lines if line["fingerprint"] == data[line["setting"]]]  # others were read or divided otherwise
    missing = paired.missing(known, keys, {setting.name: setting.references for setting in settings})
    for setting in (one for one in settings if one.name in missing):
        config, seeds_, key = configs[setting.name], setting.seeds or seeds, keys[setting.name]
        say(f"{name}: {setting.name}")
        clock = time.perf_counter()
        material = materials(config)
        prepared, clock = time.perf_counter() - clock, time.perf_counter()
        trials = [{"data.fold": fold, "seed": seed} for seed in range(seeds_) for fold in range(setting.folds)]
        program = sweep.Trials(config, material, ["data.fold", "seed"], len(trials), say)
        results = program.run(trials)
        corpus, probabilities = material.corpus, to_probabilities(program.test_logits(), False)
        labels = corpus.cascades.labels
        folded = [classification_metrics(labels[r], p[r], corpus.class_names) for p, r in _tested(program, trials, probabilities)]
        pooled = out_of_fold(program, trials, probabilities)
        rows = pooled[0][0]
        found = [classification_metrics(labels[rows], p, corpus.class_names) for _, p in pooled]
        together = np.stack([p for _, p in pooled])
        right = paired.right(labels[rows], together)
        line = {
            "study": name,
            "setting": setting.name,
            "group": setting.group,
            "config": setting.config,
            "fields": plain(dict(setting.fields)),
            "protocol": key,
            "data": {
                "name": corpus.name,
                "cascades": len(corpus.cascades),
                "posts": len(corpus.cascades.texts),
                "tested": len(rows),
            },
            "classes": list(corpus.class_names),
            "folds_of": config.cascades.protocol,
            "choose_on": config.cascades.choose_on,
            "folds": {m: [f[m] for f in folded] for m in ("accuracy", "f1_macro")},
            "seeds": seeds_,
            "test": {m: [f[m] for f in found] for m in METRICS if found[0].get(m) is not None},
            "f1": {c: [f["per_class"][c]["f1"] for f in found] for c in corpus.class_names},
            "constant": constant(labels, corpus.roles),
            "right": paired.kept(right, fingerprint(split_of(corpus.cascades).take(rows))),
            "validation": [r["validation"].get("accuracy") for r in results],
            "best_step": [r["best_step"] for r in results],
            "diverged": sum(r["diverged"] for r in results),
            "parameters": program.parameters,
            "seconds_a_trial": round(program.seconds / len(trials), 1),
            "trials_together": len(trials),
            "minutes": round((time.perf_counter() - clock) / 60, 1),
            "minutes_of_reading": round(prepared / 60, 1),  # what the caches of features and answers lack
            "published": plain(dict(setting.published)) if setting.published else None,
            **{fact: value for fact, value in material.notes().items() if fact in ("selection", "augmentation")},
            **(also(corpus, corpus.roles) if also else {}),
            "fingerprint": corpus.fingerprint(),
            "hardware": hardware(machine),
            "commit": machine["git"]["commit"],
            "uncommitted_changes": machine["git"]["dirty"],
        }
        found = [paired.compared(line, paired.newest(known, other, keys[other])) for other in setting.references]
        line |= found[0] | ({"others": found[1:]} if found[1:] else {}) if found else {}
        known.append(line)
        append_result(output, line)
        accuracy, f1 = (np.mean(line["test"][m]) for m in ("accuracy", "f1_macro"))
        say(f"{name}: {setting.name}: accuracy {accuracy:.4f}, macro-F1 {f1:.4f}")


class Materials:
    """Materials of settings one after another: posts are read anew only when what is read of them changes.

    Young cascades share the posts of the whole ones: what is read of a post depends on no other (but selection does).
    """

    def __init__(self, say: Callable[[str], None]):
        self._say, self._kept = say, ("", None)

    def corpus(self, config: ConfigDict) -> CascadeCorpus:
        """The cascades of a config as its material has them: cut, and divided."""
        corpus = setup.load_corpus(self._whole(config))
        return corpus if config.model.fusion else dataclasses.replace(corpus, cascades=cut(corpus.cascades, config.cascades))

    @staticmethod
    def _whole(config: ConfigDict) -> ConfigDict:
        whole = config.copy_and_resolve_references()
        if not config.model.fusion:
            whole.cascades.first_posts, whole.cascades.first_minutes = 0, 0.0
        return whole

    def __call__(self, config: ConfigDict) -> CascadeMaterial:
        whole = self._whole(config)
        read = {
            k: v for k, v in whole.cascades.to_dict().items() if k not in ("protocol", "choose_on", "batch_size", "direction")
        }
        key = json.dumps([whole.data.to_dict(), read, whole.encoder.to_dict(), bool(whole.model.fusion)], default=str)
        if self._kept[0] != key:
            self._kept = "", None  # two of them would not fit
            self._kept = key, setup.prepare(whole, setup.load_corpus(whole), self._say)
        return dataclasses.replace(self._kept[1], corpus=self.corpus(config))


def _tested(program: sweep.Trials, trials: Sequence[dict], probabilities: np.ndarray):
    return [(p, program.tested(trial)) for p, trial in zip(probabilities, trials)]


YOUNGER = {"selection": {"eps_rule": "median"}, "augmentation": {"least_share": 0.9}}
"""Fields of config.cascades that are younger than some lines: at these values, which those had, the digests leave them out."""


def protocol(config: ConfigDict, setting: CascadeSetting, seeds: int) -> str:
    """A digest of all that a setting's line depends on."""
    whole = json.loads(named(config).to_json_best_effort())
    for part, fields in YOUNGER.items():
        there = whole["cascades"][part]
        whole["cascades"][part] = {name: value for name, value in there.items() if name not in fields or fields[name] != value}
    if not config.model.fusion:
        del whole["cascades"]["augmentation"]["encoder"]  # younger too, and nothing reads it there
    told = [whole, seeds, setting.folds, setting.against, *setting.also_against]
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]
