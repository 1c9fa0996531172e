"""Phase 3: the chosen posts rewritten, by an LLM, from a file, or not ("original", "parent"); which, every result tells."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Bool, Int

from textfuse_jax.config_checks import ConfigError
from textfuse_jax.data.cascades import Cascades
from textfuse_jax.data.corpus import DataError
from textfuse_jax.data.tabular import read_table
from textfuse_jax.llm import prompts
from textfuse_jax.llm.budget import Budget, DryRun, dry_run
from textfuse_jax.llm.cache import Cache
from textfuse_jax.llm.client import ask
from textfuse_jax.llm.providers import ProviderError, settings_of
from textfuse_jax.llm.types import Report

UNASKED = {"original": "original (no LLM)", "parent": "parent (no LLM: the post replied to, then the post)"}
"""Sources that ask nobody, and how results name them."""
MENDED = {
    "file": 'add them to config.cascades.augmentation.path, with ids "CASCADE/POST"',
    "provider": "for budget raise config.llm.budget, for cut config.llm.max_output_tokens, for failed see the provider and "
    "config.llm.attempts; answers that came are kept in config.llm.cache, and a second start asks for the missing ones alone",
}
"""What helps where rewritten texts are missing."""
MOST_ABOVE = 20  # posts between the source and a post that its context shows: a chain of n posts would take n * n
FIRST = "(none: the post is the first)"


@dataclasses.dataclass(frozen=True)
class Rewritten:
    """What became of the chosen posts.

    Attributes:
      posts: index of each post that has a rewritten text.
      texts: of these.
      facts: source, posts asked for, those that are missing and why; of a file its ids that no post has; calls, answers from the
        cache and cost where an LLM was asked.
    """

    posts: Int[np.ndarray, "m"]
    texts: list[str]
    facts: dict[str, Any]


def post_names(cascades: Cascades) -> list[str]:
    """``"CASCADE/POST"`` for each post, POST its place in the cascade as it was read: ids of requests and in files of texts."""
    owners = np.repeat(np.arange(len(cascades)), cascades.sizes)
    return [f"{cascades.ids[i]}/{j}" for i, j in zip(owners.tolist(), cascades.place.tolist())]


def rewrite(
    config: Any, cascades: Cascades, selected: Bool[np.ndarray, "k"], say: Callable[[str], None], run: str = ""
) -> Rewritten:
    """Rewrites the selected posts as ``config.cascades.augmentation`` says.

    What an LLM is asked and what that takes is said before anything is sent; with ``config.llm.dry_run`` that is all. A post
    that got no text counts as not selected, and is told; where fewer than ``least_share`` of them got one, or none, it stops.
    Answers that were paid for are in ``config.llm.cache``: a second start asks for the missing ones alone.

    Args:
      run: name of the run, whose earlier spending counts to ``config.llm.budget``; "": only this process's does.

    Raises:
      ConfigError: no source; a provider that can't be used; too few posts got a text.
      DataNotFound, DataError: the file isn't there, or names a post twice.
      DryRun: ``config.llm.dry_run``.
    """
    options = config.cascades.augmentation
    posts = np.flatnonzero(selected)
    if options.source in UNASKED:
        texts = unasked(cascades, options.source)
        return Rewritten(
            posts, [texts[i] for i in posts], {"source": UNASKED[options.source], "asked": len(posts), "missing": {}}
        )
    if options.source == "file":
        found = _from_file(pathlib.Path(options.path), cascades, posts, say)
    elif options.source == "provider":
        found = _from_provider(config, cascades, posts, say, run)
    else:
        raise ConfigError(
            "no source of rewritten texts: config.cascades.augmentation.source must be provider (with config.llm), file (with "
            ".augmentation.path), original (the posts themselves, no LLM) or parent (each after the post it replies to, no LLM); "
            'or leave fusion out with config.model.fusion=""'
        )
    if len(found.posts) < len(posts):
        first = post_names(cascades)[np.setdiff1d(posts, found.posts)[0]]
        told = f"{len(posts) - len(found.posts)} of {len(posts)} selected posts, {first!r} the first, have no rewritten text by "
        told += f"{found.facts['source']}: {found.facts['missing']}"
        if len(found.posts) < max(options.least_share * len(posts), 1):
            raise ConfigError(
                f"{told}, but config.cascades.augmentation.least_share = {options.least_share:g} of them must; "
                f"{MENDED[options.source]}; or lower least_share: posts without a text count as not selected"
            )
        say(f"warning: {told}; they count as not selected")
    return found


def unasked(cascades: Cascades, source: str) -> list[str]:
    """The text of each post by a source of ``UNASKED``: "original", its own; "parent", before it that of the post replied to."""
    if source == "original":
        return cascades.texts
    above = np.maximum(cascades.parent, 0) + np.repeat(cascades.bounds[:-1], cascades.sizes)
    joined = zip(cascades.texts, cascades.parent.tolist(), above.tolist())
    return [f"{cascades.texts[i]} {text}".strip() if parent >= 0 and text.strip() else text for text, parent, i in joined]


def _from_file(path: pathlib.Path, cascades: Cascades, posts: Int[np.ndarray, "m"], say: Callable[[str], None]) -> Rewritten:
    table, names = read_table(path), post_names(cascades)
    known, rows = {}, {}
    for row, identity, text in zip(table.rows, map(str, table.column("id")), table.column("text")):
        if rows.setdefault(identity, row) != row:
            before = rows[identity]
            raise DataError(f"{table.source}, row {row}, column 'id': {identity!r} is that of row {before} too; keep one of them")
        known[identity] = text
    unmatched = sorted(known.keys() - set(names))
    if unmatched:
        say(
            f"warning: {path.name}: {len(unmatched)} of {len(known)} ids, e.g. {unmatched[0]!r}, are of no post that is left of "
            f'these cascades; ids read "CASCADE/POST", e.g. {names[0]!r}'
        )
    found = [i for i in posts.tolist() if isinstance(known.get(names[i]), str) and known[names[i]].strip()]
    missing = {"absent": len(posts) - len(found)} if len(found) < len(posts) else {}
    facts = {"source": f"file {path.name}", "asked": len(posts), "missing": missing, "unmatched": len(unmatched)}
    return Rewritten(np.array(found, np.int64), [known[names[i]] for i in found], facts)


def _from_provider(
    config: Any, cascades: Cascades, posts: Int[np.ndarray, "m"], say: Callable[[str], None], run: str
) -> Rewritten:
    options, members = config.cascades.augmentation, settings_of(config.llm)
    if len(members) != 1:
        raise ConfigError(f"posts are rewritten by one model: config.llm must name one, got {len(members)}")
    (settings,) = members.values()
    names, template = post_names(cascades), prompts.rewriting(options.template)
    contexts = None
    if template.takes_context:
        start = np.repeat(cascades.bounds[:-1], cascades.sizes)
        contexts = [conversation(cascades, i, start[i]) for i in posts.tolist()]
    texts = [cascades.texts[i] for i in posts]
    requests = prompts.rewrite([names[i] for i in posts], texts, template=template, contexts=contexts)
    budget = Budget(limit=config.llm.budget, run=run) if config.llm.budget > 0 else None
    try:
        with Cache(config.llm.cache) as cache:
            say(f"{settings.label} will be asked to rewrite the selected posts: {dry_run(requests, settings, cache)}")
            if config.llm.dry_run:
                raise DryRun("llm.dry_run: nothing was sent, nothing was trained")
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
    return Rewritten(posts[kept], [answers[i].text for i in kept], facts)


def conversation(cascades: Cascades, post: int, first: int) -> str:
    """What came before a post, a line each: the source of its cascade (which begins at ``first``) and the posts from there to the
    one it replies to; of more than ``MOST_ABOVE`` between, "..." and the last ones. Posts without text are left out."""
    between: list[str] = []
    at = int(cascades.parent[post])
    if at < 0:
        return FIRST
    while at > 0 and len(between) < MOST_ABOVE:
        between.append(cascades.texts[first + at])
        at = int(cascades.parent[first + at])
    lines = [cascades.texts[first], *(["..."] if at > 0 else []), *reversed(between)]
    return "\n".join(line for line in lines if line.strip())
