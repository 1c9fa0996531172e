"""The finished model in one folder: parameters, tokenizer, architecture, classes, config; all that prediction needs."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import shutil
from typing import Any

import tokenizers
from ml_collections import ConfigDict

from textfuse_jax.encoders.architecture import Architecture
from textfuse_jax.encoders.tokenizers import load_tokenizer
from textfuse_jax.training import checkpoints
from textfuse_jax.training.parallel import leads, wait


@dataclasses.dataclass(frozen=True)
class Finished:
    """A finished model, loaded.

    Attributes:
      config: as plain nested dicts.
      class_names: in the order of the logits.
      tokenizer, architecture: of the encoder; None where the model reads none.
      posts: of a run of cascades how posts were selected and rewritten.
    """

    config: dict[str, Any]
    class_names: tuple[str, ...]
    multi_label: bool
    tokenizer: tokenizers.Tokenizer | None
    architecture: Architecture | None
    params: dict[str, Any]
    posts: dict[str, Any] = dataclasses.field(default_factory=dict)


def save(folder: pathlib.Path, config: ConfigDict, trained: dict[str, Any]) -> None:
    """Writes the model of a finished training, whole or not at all; a run on cached features gets its encoder back.

    Of several processes all must call it: Orbax waits for every one.
    """
    part = folder.with_name(folder.name + ".part")
    if leads():
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
    wait("export begins")
    corpus = trained["corpus"]
    params, facts = trained["material"].export(part, dict(trained["params"]))
    checkpoints.save_params(part / "params", params)
    if not leads():
        return
    facts |= {
        "class_names": list(corpus.class_names),
        "multi_label": corpus.multi_label,
        "config": json.loads(config.to_json_best_effort()),
    }
    (part / "model.json").write_text(json.dumps(facts, indent=1))
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(part, folder)


def read_facts(folder: pathlib.Path) -> dict[str, Any]:
    """What is told of a finished model: config, classes, architecture.

    Raises:
      FileNotFoundError: the folder holds no finished model.
    """
    if not (folder / "model.json").exists():
        raise FileNotFoundError(
            f"{folder} holds no finished model; has its run ended? go on with launch.py --workdir={folder.parent} --resume"
        )
    return json.loads((folder / "model.json").read_text())


def load(folder: pathlib.Path) -> Finished:
    """Reads what ``save`` wrote.

    Raises:
      FileNotFoundError: the folder holds no finished model.
    """
    facts = read_facts(folder)
    shape = facts.get("architecture")
    return Finished(
        config=facts["config"],
        class_names=tuple(facts["class_names"]),
        multi_label=facts["multi_label"],
        tokenizer=load_tokenizer(folder) if shape else None,
        architecture=Architecture(**shape | {"kinds": tuple(shape.get("kinds", ()))}) if shape else None,
        params=checkpoints.load_params(folder / "params"),
        posts=facts.get("posts", {}),
    )
