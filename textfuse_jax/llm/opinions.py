"""The opinion of a member about documents, whoever it is: a language model, a file of its answers, or an encoder's zero-shot."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float

from textfuse_jax.llm import local, prompts
from textfuse_jax.llm.cache import Cache
from textfuse_jax.llm.client import Budget, ask_many
from textfuse_jax.llm.providers import Settings
from textfuse_jax.llm.scores import scores_of
from textfuse_jax.llm.types import Report, Request


@dataclasses.dataclass(frozen=True)
class Opinion:
    """What one member says of n documents.

    Attributes:
      name: of the member.
      kind: what every result must be labelled with, e.g. "llm openai/gpt-4o-mini", "replay answers.jsonl".
      scores, present, missing, how: as in ``scores.Scores``.
      report: of calls, tokens, cost; None of the local provider, which makes none.
    """

    name: str
    kind: str
    scores: Float[np.ndarray, "n c"]
    present: Bool[np.ndarray, "n"]
    missing: Mapping[str, int]
    how: Mapping[str, int]
    report: Report | None


def kind_of(settings: Settings) -> str:
    """What results with this member are labelled with."""
    if settings.provider == "local":
        return local.KIND
    if settings.provider == "replay":
        return f"replay {settings.model}"
    return f"llm {settings.label}"


def questions(
    ids: Sequence[str],
    texts: Sequence[str],
    task: prompts.Task,
    *,
    template: str | prompts.Template = "",
    shots: Sequence[Sequence[prompts.Shot]] | None = None,
    samples: int = 1,
) -> list[Request]:
    """``prompts.label`` by a template that fits; "" = "few_shot/1" with shots, "zero_shot/1" without."""
    template = template or ("zero_shot/1" if shots is None else "few_shot/1")
    return prompts.label(ids, texts, task, template=template, shots=shots, samples=samples)


def ask_opinions(
    members: Mapping[str, Settings],
    ids: Sequence[str],
    texts: Sequence[str],
    task: prompts.Task,
    cache: Cache,
    *,
    template: str | prompts.Template = "",
    shots: Sequence[Sequence[prompts.Shot]] | None = None,
    how: str = "auto",
    samples: int = 1,
    budget: Budget | None = None,
    embed: local.Embed | None = None,
    progress: bool = True,
    say: Callable[[str], None] = print,
) -> dict[str, Opinion]:
    """The opinions of several members, asked side by side; arguments as of ``prompts.label``, ``scores_of`` and ``client.ask``.

    Args:
      template, shots, samples: as of ``questions``.
      embed: texts -> vectors, for members of the provider "local".

    Raises:
      ValueError: a local member without ``embed``; several samples at temperature 0.
      ProviderError, ReplayError: see ``client.ask``.
    """
    requests = questions(ids, texts, task, template=template, shots=shots, samples=samples)
    made: dict[str, Opinion] = {}
    jobs = {name: (requests, s) for name, s in members.items() if s.provider != "local"}
    for name, (_, settings) in jobs.items():
        if samples > 1 and settings.temperature == 0 and settings.provider != "replay":
            raise ValueError(f"llm.samples = {samples} needs a temperature above 0 ({name}): at 0 the samples are one answer")
    answered = ask_many(jobs, cache, budget=budget, progress=progress, say=say) if jobs else {}
    for name, settings in members.items():
        if settings.provider == "local":
            if embed is None:
                raise ValueError(f"member {name!r} of the provider local needs embed: texts -> vectors of an encoder")
            scores = local.opinion_of(texts, task, embed)
            made[name] = Opinion(name, kind_of(settings), scores, np.ones(len(texts), bool), {}, {"cosine": len(texts)}, None)
            continue
        answers = answered[name]
        found = scores_of(answers, task.class_names, multi_label=task.multi_label, how=how, samples=samples)
        fields = (found.scores, found.present, found.missing, found.how, Report.of(answers))
        made[name] = Opinion(name, kind_of(settings), *fields)
        if found.missing:
            told = ", ".join(f"{count:,} {reason}" for reason, count in found.missing.items())
            say(f"{name}: {int(found.present.sum()):,} of {len(texts):,} documents have an opinion; answers missing: {told}")
    return made


def ask_opinion(name: str, ids, texts, task: prompts.Task, settings: Settings, cache: Cache, **options) -> Opinion:
    """``ask_opinions`` of one member."""
    return ask_opinions({name: settings}, ids, texts, task, cache, **options)[name]
