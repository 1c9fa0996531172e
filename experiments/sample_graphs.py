"""Graphs of a text of our own as trained models see it: each kind of edges and nodes, and where attention-hybrid pooling looks.

    TEXTFUSE_DATA=DIR python -m experiments.sample_graphs [:runlocal]

Rows of data sets aren't ours to pass on, so the texts are ``study_graphs.SAMPLES``: graphs are drawn of the first that has
enough units and not too many, where attention looks of all such. A seed of each row that is drawn is
trained as its study trains it, at the rate that its recorded line chose; the test split isn't read. About 5 minutes of one core.
"""

from __future__ import annotations

import dataclasses
import importlib
import sys
from collections.abc import Sequence
from typing import Any

from experiments.study import RESULTS, WORK, Setting, Study, regime
from experiments.study_extras import ATTENTION, kind_of
from experiments.study_graphs import all_sample_graphs
from experiments.study_training import Materials
from textfuse_jax.evaluation.records import append_result, environment, hardware, read_results
from textfuse_jax.training import sweep
from textfuse_jax.training.grid import with_fields

STUDIES = ("graph_construction", "baselines", "pooling_share")


def wanted(study: Study) -> list[Setting]:
    """The rows that are drawn: one of each kind of edges and nodes, or those whose pooling is looked at."""
    if study.name in ATTENTION:
        return [setting for setting in study.settings if setting.name in ATTENTION[study.name]]
    found: dict[str, Setting] = {}
    for setting in study.settings:
        model = study.config(setting).model
        if not setting.fit and model.edges and model.propagate.endswith("GCN"):
            found.setdefault(kind_of(setting.fields), setting)
    return list(found.values())


def point_of(study: str, setting: str) -> dict[str, Any]:
    """The point of its grid that the newest line of a row chose.

    Raises:
      ValueError: the row isn't recorded.
    """
    path = RESULTS / f"{study}.jsonl"
    lines = [line for line in (read_results(path) if path.exists() else []) if line["setting"] == setting]
    if not lines:
        raise ValueError(f"{path.name} has no line of {setting!r}; run python -m experiments.{study} first")
    return dict(lines[-1]["chosen"][0])


def main(arguments: Sequence[str]) -> None:
    """A line a row."""
    if [argument.lstrip(":") for argument in arguments] not in ([], ["runlocal"]):
        raise SystemExit("usage: python -m experiments.sample_graphs [:runlocal]")
    machine, output = environment(), (WORK / "local" if arguments else RESULTS) / "sample_graphs.jsonl"
    if arguments:
        output.unlink(missing_ok=True)
    for name in STUDIES:
        study: Study = importlib.import_module(f"experiments.{name}").STUDY
        settings = wanted(study)
        if arguments:
            study = dataclasses.replace(study, settings=settings[:1]).small()
            settings, points = study.settings, [{} for _ in study.settings]
        else:
            points = [point_of(name, setting.name) for setting in settings]
        configs = [with_fields(study.config(setting), point) for setting, point in zip(settings, points)]
        materials = Materials(configs, print, kept=1)
        for setting, config, point in zip(settings, configs, points):
            config.data.seed = max(config.data.seed, 0)
            material = materials(config)
            program = sweep.Trials(config, material, ["seed"], 1, print)
            (result,) = program.run([{"seed": 0}])
            record = {
                "study": name,
                "setting": setting.name,
                "sample_graphs": all_sample_graphs(program)[0][: None if name in ATTENTION else 1],
                "regime": regime(config),
                "data": {"name": material.corpus.name, "train": len(material.corpus.train)},
                "seed": 0,
                "point": point,
                "validation": result["validation"].get("accuracy"),
                "seconds": round(program.seconds, 1),
                "fingerprint": material.corpus.fingerprint(),
                "hardware": hardware(machine),
                "commit": machine["git"]["commit"],
                "uncommitted_changes": machine["git"]["dirty"],
            }
            append_result(output, record)


if __name__ == "__main__":
    main(sys.argv[1:])
