"""Phase 3: the chosen posts rewritten, by an LLM, from a file, or not ("original", "parent"); which, every result tells."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Bool, Int

from textfuse_jax.config import ConfigError
from textfuse_jax.data.cascades import Cascades
from textfuse_jax.data.corpus import DataError
from textfuse_jax.data.tabular import read_table
from textfuse_jax.llm import prompts
from textfuse_jax.llm.budget import Budget
from textfuse_jax.llm.cache import Cache
from textfuse_jax.llm.client import ask
from textfuse_jax.llm.providers import ProviderError, settings_of
from textfuse_jax.llm.types import Report

UNASKED = {"original": "original (no LLM)", "parent": "parent (no LLM: the post replied to, then the post)"}
"""Sources that ask nobody, and how results name them."""


@dataclasses.dataclass(frozen=True)
class Rewritten:
    """What became of the chosen posts.

    Attributes:
      posts: index of each post that has a rewritten text.
      texts: of these.
      facts: source, posts asked for, those that are missing and why, calls, tokens and cost where an LLM was asked.
    """

    posts: Int[np.ndarray, "m"]
    texts: list[str]
    facts: dict[str, Any]


def post_names(cascades: Cascades) -> list[str]:
    """``"CASCADE/POST"`` for each post, POST counted from 0 in its cascade: ids of requests and of files of rewritten texts."""
    return [f"{identity}/{j}" for identity, size in zip(cascades.ids, cascades.sizes.tolist()) for j in range(size)]


def rewrite(
    config: Any, cascades: Cascades, selected: Bool[np.ndarray, "k"], say: Callable[[str], None], run: str = ""
) -> Rewritten:
    """Rewrites the selected posts as ``config.cascades.augmentation`` says.

    A post whose rewriting failed counts as not selected, and is told. Answers that were paid for are in ``config.llm.cache``: a
    run that was killed asks for the missing ones alone.

    Args:
      run: name of the run, whose earlier spending counts to ``config.llm.budget``; "": only this process's does.

    Raises:
      ConfigError: no source; a provider that can't be used.
      DataNotFound, DataError: the file isn't there, or holds none of the posts.
    """
    options = config.cascades.augmentation
    posts = np.flatnonzero(selected)
    if options.source in UNASKED:
        texts = unasked(cascades, options.source)
        return Rewritten(
            posts, [texts[i] for i in posts], {"source": UNASKED[options.source], "asked": len(posts), "missing": {}}
        )
    if options.source == "file":
        return _from_file(pathlib.Path(options.path), cascades, posts)
    if options.source == "provider":
        return _from_provider(config, cascades, posts, say, run)
    raise ConfigError(
        "no source of rewritten texts: config.cascades.augmentation.source must be provider (with config.llm), file (with "
        ".augmentation.path), original (the posts themselves, no LLM) or parent (each after the post it replies to, no LLM); or "
        'leave fusion out with config.model.fusion=""'
    )


def unasked(cascades: Cascades, source: str) -> list[str]:
    """The text of each post by a source of ``UNASKED``: "original", its own; "parent", before it that of the post replied to."""
    if source == "original":
        return cascades.texts
    above = np.maximum(cascades.parent, 0) + np.repeat(cascades.bounds[:-1], cascades.sizes)
    joined = zip(cascades.texts, cascades.parent.tolist(), above.tolist())
    return [f"{cascades.texts[i]} {text}".strip() if parent >= 0 and text.strip() else text for text, parent, i in joined]


def _from_file(path: pathlib.Path, cascades: Cascades, posts: Int[np.ndarray, "m"]) -> Rewritten:
    table, names = read_table(path), post_names(cascades)
    known = {str(identity): text for identity, text in zip(table.column("id"), table.column("text"))}
    found = [i for i in posts.tolist() if isinstance(known.get(names[i]), str) and known[names[i]].strip()]
    if len(posts) and not found:
        raise DataError(
            f'{path.name} holds none of the {len(posts)} selected posts; its ids must read "CASCADE/POST", '
            f"e.g. {names[posts[0]]!r}"
        )
    facts = {"source": f"file {path.name}", "asked": len(posts), "missing": _counted(absent=len(posts) - len(found))}
    return Rewritten(np.array(found, np.int64), [known[names[i]] for i in found], facts)


def _from_provider(
    config: Any, cascades: Cascades, posts: Int[np.ndarray, "m"], say: Callable[[str], None], run: str
) -> Rewritten:
    options, members = config.cascades.augmentation, settings_of(config.llm)
    if len(members) != 1:
        raise ConfigError(f"posts are rewritten by one model: config.llm must name one, got {len(members)}")
    (settings,) = members.values()
    names = post_names(cascades)
    contexts = None
    if options.template.startswith("context"):
        start = np.repeat(cascades.bounds[:-1], cascades.sizes)
        above = np.maximum(cascades.parent, 0) + start
        contexts = [cascades.texts[above[i]] if cascades.parent[i] >= 0 else "" for i in posts]
    texts = [cascades.texts[i] for i in posts]
    requests = prompts.rewrite([names[i] for i in posts], texts, template=options.template, contexts=contexts)
    budget = Budget(limit=config.llm.budget, run=run) if config.llm.budget > 0 else None
    try:
        with Cache(config.llm.cache) as cache:
            answers = ask(requests, settings, cache, budget=budget, say=say)
    except ProviderError as error:
        raise ConfigError(f"config.llm: {error}") from error
    report = Report.of(answers)
    kept = [i for i, answer in enumerate(answers) if not answer.fault and answer.text.strip()]
    facts = {
        "source": f"llm {settings.label}, template {options.template}",
        "asked": len(posts),
        "missing": dict(report.missing),
        "calls": report.calls,
        "from_cache": report.from_cache,
        "cost": report.cost,
    }
    if len(kept) < len(posts):
        say(f"warning: {len(posts) - len(kept)} of {len(posts)} selected posts have no rewritten text: {dict(report.missing)}")
    return Rewritten(posts[kept], [answers[i].text for i in kept], facts)


def _counted(**reasons: int) -> dict[str, int]:
    return {reason: count for reason, count in reasons.items() if count}
