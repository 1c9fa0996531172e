"""The fused classifier: members calibrated, joined, weighed by validation; never worse than a member beyond noise."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import safetensors.numpy
from jaxtyping import Bool, Float

from textfuse_jax.config import default_config
from textfuse_jax.data.corpus import DataError
from textfuse_jax.evaluation.calibration import fit_temperature, unseen
from textfuse_jax.evaluation.metrics import decide
from textfuse_jax.evaluation.statistics import paired_bootstrap
from textfuse_jax.fusion import last_word, network
from textfuse_jax.fusion.combiners import COMBINERS, probabilities_of
from textfuse_jax.fusion.opinion import Members, evidence
from textfuse_jax.fusion.thresholds import tune_thresholds

FORMAT = 3
FEWEST = 20
"""Opinions of a member below which its temperature isn't fitted on a split."""
ENOUGH = 100
"""Documents with an LLM's opinion from which on what is decided for such is decided on them alone, not on all."""
BOOTSTRAP = 500

SETTINGS = ("combiner", "hidden", "dropout", "drop_members", "learning_rate", "steps", "batch", "seeds", "harm")
"""Fields of ``config.fusion`` that are read here; ``config.py`` says what they mean."""


@dataclasses.dataclass(frozen=True)
class Fused:
    """A fitted fusion; everything that prediction needs.

    Attributes:
      names, kinds: of the members, the encoder first.
      class_names: in the order of the scores.
      multi_label: whether a document has any number of labels.
      settings: the fields of ``SETTINGS``.
      member_temperature: T of each member's evidence; for the encoder of the whole training split.
      arrays: of the combiner.
      weight: of the fused logits and of each member's evidence (``last_word``), [without any LLM's opinion, with one].
      bias: of each class, likewise.
      thresholds: multi-label, of each label, [without, with]; None otherwise.
      fallback: [without, with]: the member that took the fusion's place there, or -1. Where it has no opinion the fusion stays.
      note: what was decided and why, one line for people.
      facts: numbers behind it: validation scores of fusion and members, what the network's training chose.
      models: of the members that tell it: name -> the model whose answers were fitted on, as its provider calls it.
    """

    names: tuple[str, ...]
    kinds: tuple[str, ...]
    class_names: tuple[str, ...]
    multi_label: bool
    settings: dict[str, Any]
    member_temperature: Float[np.ndarray, "m"]
    arrays: dict[str, np.ndarray]
    weight: Float[np.ndarray, "2 1+m"]
    bias: Float[np.ndarray, "2 c"]
    thresholds: Float[np.ndarray, "2 c"] | None
    fallback: tuple[int, int]
    note: str
    facts: dict[str, Any]
    models: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def evidence(self, members: Members) -> Float[np.ndarray, "n m c"]:
        """The members' calibrated log-odds.

        Raises:
          DataError: other members than those the fusion was fitted with, by name or by kind (another model).
        """
        if (members.names, members.kinds) != (self.names, self.kinds):
            mine, theirs = (
                dict(zip(names, kinds)) for names, kinds in ((self.names, self.kinds), (members.names, members.kinds))
            )
            raise DataError(f"the fusion was fitted with the members {mine}, got {theirs}; a changed model needs a new fit")
        return evidence(members.scores, members.present, self.multi_label) / self.member_temperature[None, :, None]

    def probabilities(self, members: Members) -> Float[np.ndarray, "n c"]:
        """Probability of each class or label of documents, whatever opinions of LLMs are missing."""
        x = self.evidence(members)
        fused, side = _joined(self.settings, self.arrays, x, members), members.answered.astype(int)
        p = probabilities_of(last_word.apply(self.weight[side], self.bias[side], fused, x), self.multi_label)
        return _replaced(p, x, members, self.fallback, self.multi_label)

    def decide(self, members: Members, probabilities: Float[np.ndarray, "n c"]) -> Bool[np.ndarray, "n c"]:
        """Predicted classes: the most probable one, or every label at or above its threshold."""
        if self.thresholds is None:
            return decide(probabilities, None)
        return probabilities >= self.thresholds[members.answered.astype(int)]

    def member(self, members: Members, m: int) -> Float[np.ndarray, "n c"]:
        """Calibrated probabilities of one member alone; the encoder's where it has no opinion."""
        return alone(self.evidence(members), members, m, self.multi_label)

    def member_thresholds(self, held: Members, labels: np.ndarray, m: int) -> Float[np.ndarray, "c"] | None:
        """Multi-label: thresholds of one member alone, tuned on validation documents like the fusion's."""
        return tune_thresholds(labels, self.member(held, m)) if self.multi_label else None

    def save(self, folder: pathlib.Path) -> None:
        """Writes fusion.json and fusion.safetensors; the first last, so that a fusion is whole or not there."""
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {f"combiner/{name}": np.ascontiguousarray(value) for name, value in self.arrays.items()}
        tensors |= {"member_temperature": self.member_temperature, "weight": self.weight, "bias": self.bias}
        if self.thresholds is not None:
            tensors["thresholds"] = self.thresholds
        safetensors.numpy.save_file({name: np.asarray(value) for name, value in tensors.items()}, folder / "fusion.safetensors")
        plain = {"format": FORMAT} | {
            name: getattr(self, name)
            for name in ("names", "kinds", "class_names", "multi_label", "settings", "fallback", "note", "facts", "models")
        }
        (folder / "fusion.json").write_text(json.dumps(plain, indent=1), encoding="utf-8")


def load(folder: pathlib.Path) -> Fused:
    """Reads what ``Fused.save`` wrote: numbers and text, nothing that could run.

    Raises:
      FileNotFoundError: the folder holds no fusion.
      DataError: it was written in another format.
    """
    path = folder / "fusion.json"
    if not path.exists():
        raise FileNotFoundError(f"{folder} holds no fusion (no fusion.json); give the folder that save() wrote")
    plain = json.loads(path.read_text(encoding="utf-8"))
    if plain.pop("format", None) != FORMAT:
        raise DataError(f"{path}: format must be {FORMAT}, that of this version; fit and save again")
    tensors = safetensors.numpy.load_file(folder / "fusion.safetensors")
    arrays = {name.removeprefix("combiner/"): value for name, value in tensors.items() if name.startswith("combiner/")}
    for name in ("names", "kinds", "class_names", "fallback"):
        plain[name] = tuple(plain[name])
    return Fused(
        **plain,
        arrays=arrays,
        member_temperature=tensors["member_temperature"],
        weight=tensors["weight"],
        bias=tensors["bias"],
        thresholds=tensors.get("thresholds"),
    )


def fit(
    settings: Mapping[str, Any],
    train: tuple[Members, np.ndarray],
    validation: tuple[Members, np.ndarray],
    class_names: tuple[str, ...],
    seed: int = 0,
) -> Fused:
    """Fits a fusion.

    Args:
      settings: ``SETTINGS`` of ``config.fusion``; missing ones have their defaults, the combiner "mlp".
      train: members and labels the combiner learns from; the encoder's scores are out of fold.
      validation: of documents that neither encoder nor combiner has learned from; temperatures, thresholds and the decision
        between fusion and members are taken here.
      class_names: in the order of the scores.
      seed: of the networks.

    Raises:
      DataError: no documents to fit on.
    """
    defaults = default_config().fusion.to_dict() | {"combiner": "mlp"}
    settings = {name: settings.get(name) if settings.get(name) is not None else defaults[name] for name in SETTINGS}
    (fitted_on, labels), (held, held_labels) = train, validation
    multi_label = labels.ndim == 2
    if not len(fitted_on) or not len(held):
        raise DataError(f"a fusion needs training and validation documents, got {len(fitted_on)} and {len(held)}")
    x, y = (evidence(part.scores, part.present, multi_label) for part in (fitted_on, held))
    for_training, for_use = _temperatures(x, fitted_on, labels, y, held, held_labels)
    x, y = x / for_training[None, :, None], y / for_use[None, :, None]
    facts: dict[str, Any] = {}
    if len(held.names) == 1:
        return _encoder_alone(settings, held, held_labels, for_use, class_names, y[:, 0])
    if settings["combiner"] == "mlp":
        material = (x, fitted_on.present, fitted_on.vector, labels), (y, held.present, held.vector, held_labels)
        trained = network.fit(settings, *material, seed=seed)
        arrays, facts["network"] = trained.arrays, trained.facts
    else:
        arrays = COMBINERS[settings["combiner"]].fit(x, fitted_on.present, labels)
    everyone = np.arange(len(held))
    answered = np.flatnonzero(held.answered)  # an unanswered document tells nothing of what an answer is worth
    sides = (held.without_llms(), everyone), (held, answered if len(answered) >= ENOUGH else everyone)
    weight, bias, thresholds, fallback, notes = [], [], [], [], []
    for side, (part, rows) in enumerate(sides):
        part, truth = part.take(rows), held_labels[rows]
        ours = np.where(part.present[..., None], y[rows], 0.0)
        logits = _joined(settings, arrays, ours, part)
        w, b = last_word.fit(logits, ours, truth)
        p = probabilities_of(last_word.apply(w[None], b[None], logits, ours), multi_label)
        which, told, scores = _no_harm(p, ours, part, truth, settings["harm"], seed)
        facts[("without_llm", "with_llm")[side]] = scores
        weight.append(w)
        bias.append(b)
        fallback.append(which)
        notes.append(told)
        p = _replaced(p, ours, part, (which, which), multi_label)
        thresholds.append(tune_thresholds(truth, p) if multi_label else None)
    note = notes[1] if len(answered) else notes[0]
    return Fused(
        names=held.names,
        kinds=held.kinds,
        class_names=tuple(class_names),
        multi_label=multi_label,
        settings=settings,
        member_temperature=for_use,
        arrays=arrays,
        weight=np.stack(weight),
        bias=np.stack(bias),
        thresholds=np.stack(thresholds) if multi_label else None,
        fallback=(fallback[0], fallback[1]),
        note=note,
        facts=facts,
    )


def _encoder_alone(settings, held: Members, labels: np.ndarray, temperature: np.ndarray, class_names, calibrated) -> Fused:
    """The encoder without any LLM: calibrated, with thresholds."""
    p = probabilities_of(calibrated, labels.ndim == 2)
    thresholds = tune_thresholds(labels, p) if labels.ndim == 2 else None
    metric = "f1_macro" if labels.ndim == 2 else "accuracy"
    value = score(labels, decide(p, thresholds))
    return Fused(
        names=held.names,
        kinds=held.kinds,
        class_names=tuple(class_names),
        multi_label=labels.ndim == 2,
        settings=settings,
        member_temperature=temperature,
        arrays={},
        weight=np.array([[1.0, 0.0], [1.0, 0.0]]),
        bias=np.zeros((2, len(class_names))),
        thresholds=None if thresholds is None else np.stack([thresholds, thresholds]),
        fallback=(0, 0),
        note=f"no LLM: the encoder alone, {metric} {value:.4f} on validation",
        facts={"with_llm": {"metric": metric, "fused": value, "members": {held.names[0]: value}}},
    )


def _joined(settings: Mapping[str, Any], arrays: dict[str, np.ndarray], x: np.ndarray, members: Members) -> np.ndarray:
    if len(members.names) == 1:
        return x[:, 0]
    if settings["combiner"] == "mlp":
        return network.logits_of(settings, arrays, x, members.present, members.vector)
    return COMBINERS[settings["combiner"]].apply(arrays, x, members.present)


def alone(x: np.ndarray, members: Members, m: int, multi_label: bool) -> np.ndarray:
    """Probabilities of member m by its evidence; the encoder's where it has no opinion."""
    return probabilities_of(np.where(members.present[:, m, None], x[:, m], x[:, 0]), multi_label)


def _replaced(p: np.ndarray, x: np.ndarray, members: Members, fallback: tuple[int, int], multi_label: bool) -> np.ndarray:
    """Probabilities with those of the member that took the fusion's place where it has an opinion."""
    side = members.answered
    for which, m in enumerate(fallback):
        if m >= 0:
            rows = (side == which) & members.present[:, m]
            p = np.where(rows[:, None], probabilities_of(x[:, m], multi_label), p)
    return p


def _temperatures(x, fitted_on: Members, labels, y, held: Members, held_labels) -> tuple[np.ndarray, np.ndarray]:
    """T [m] of the members on training and for use. An LLM is one model on both; the encoder's folds and the whole aren't."""

    def temperature(evidence: np.ndarray, truth: np.ndarray) -> float:
        return fit_temperature(evidence, truth, unseen(truth, evidence.shape[1]))

    for_training, for_use = np.ones(x.shape[1]), np.ones(x.shape[1])
    for m in range(x.shape[1]):
        seen, held_seen = fitted_on.present[:, m], held.present[:, m]
        here = seen.sum() >= FEWEST
        there = held_seen.sum() >= FEWEST
        if here:
            for_training[m] = temperature(x[seen, m], labels[seen])
        if there:
            for_use[m] = temperature(y[held_seen, m], held_labels[held_seen])
        if m and here and there:  # all that is known of it
            both = np.concatenate([x[seen, m], y[held_seen, m]]), np.concatenate([labels[seen], held_labels[held_seen]])
            for_training[m] = for_use[m] = temperature(*both)
        elif here != there:
            for_training[m] = for_use[m] = for_training[m] if here else for_use[m]
    return for_training, for_use


def score(labels: np.ndarray, predicted: np.ndarray) -> float:
    """Accuracy of one label a document, of decisions or probabilities [n, c]; macro-F1 of decisions on several."""
    if labels.ndim == 1:
        return float((predicted.argmax(1) == labels).mean())
    truth = labels > 0.5
    return float((2 * (truth & predicted).sum(0) / np.maximum(truth.sum(0) + predicted.sum(0), 1)).mean())


def _no_harm(p, x, members: Members, labels, harm: float, seed: int) -> tuple[int, str, dict[str, Any]]:
    """The member that is better than the fusion beyond noise or -1; what to say; validation scores of all."""
    multi_label = labels.ndim == 2
    metric = "f1_macro" if multi_label else "accuracy"

    def predicted(q: np.ndarray) -> np.ndarray:
        return decide(q, tune_thresholds(labels, q) if multi_label else None).astype(np.float64)

    fused = predicted(p)
    scores: dict[str, Any] = {"metric": metric, "fused": score(labels, fused > 0.5), "members": {}}
    worst, which = 0.0, -1
    for m, name in enumerate(members.names):
        if not members.present[:, m].any():
            continue
        member = predicted(alone(x, members, m, multi_label))
        scores["members"][name] = score(labels, member > 0.5)
        found = paired_bootstrap(labels, member, fused, (metric,), resamples=BOOTSTRAP, seed=seed)[metric]
        error = (found["ci95"][1] - found["ci95"][0]) / 3.92
        if found["difference"] > max(harm * error, worst):
            worst, which = found["difference"], m
    best = max(scores["members"].values(), default=0.0)
    if which < 0:
        return -1, f"fused: {metric} {scores['fused']:.4f} on validation, best member {best:.4f}", scores
    name = members.names[which]
    place = f"{name} alone takes the fusion's place: {metric} {scores['members'][name]:.4f} on validation"
    told = f"{place} against {scores['fused']:.4f}"
    return which, told + f", better by more than {harm:g} standard errors", scores
