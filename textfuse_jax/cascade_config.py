"""The fields of a config that only sets of cascades read, and their checks."""

from __future__ import annotations

from typing import Any

from ml_collections import ConfigDict

from textfuse_jax.data import selection
from textfuse_jax.data.cascade_protocols import PROTOCOLS
from textfuse_jax.data.cascade_rows import DIRECTIONS
from textfuse_jax.data.cascade_sets import SOURCES
from textfuse_jax.encoders.checkpoints import MINILM
from textfuse_jax.llm.prompts import rewriting

INPUTS = ("encoder", "words", "source", "time")
AUGMENTATIONS = ("", "original", "parent", "file", "provider")


def cascade_fields() -> ConfigDict:
    """Every field of ``config.cascades`` with its default."""
    c = ConfigDict()
    c.task = ""  # what is told apart: see data/cascade_sets.py TASKS; "" = the first of the set
    c.tree = "posts"  # Twitter15, 16: posts (those with words) | all (bare reposts too, which have no text)
    c.drop_broken = False  # leave out cascades that can't be used, with a warning; False = they are an error
    c.most_posts = 0  # larger cascades keep their first so many posts; 0 = all. Memory grows with the largest
    c.first_posts = 0  # early detection: only the first so many posts are known; 0 = all
    c.first_minutes = 0.0  # early detection: only the posts of so many minutes are known; 0 = all
    c.protocol = "folds"  # folds (data.folds) | events (one left out) | time (the newest tested)
    c.choose_on = "validation"  # validation (clean) | test (published: the epoch is chosen on the test cascades, as BiGCN does)
    c.batch_size = 32  # training cascades a step; a sweep over folds puts as many more into a batch as it leaves out
    c.direction = "both"  # of the edges that rows come with: both | top_down | bottom_up
    c.inputs = ("encoder",)  # of encoder (frozen features), words (hashed), time; source: its words, for model.wide or lexical
    c.taps = ("06/document",)  # layers of the encoder whose means are a post's features, side by side
    c.most_words = 32  # of a post, for "words"; later ones are not seen
    c.most_source_words = 40  # of the source, for "source"; of tweets 1 in 300 has more
    c.characters = False  # "words" are characters and pairs of them, for scripts without spaces
    chosen = c.selection = ConfigDict()  # phase 2; read where there is an augmentation
    chosen.rule = "dbscan"  # dbscan | random | degree | all | none
    chosen.share = 0.3  # of the posts of each cascade that have text
    chosen.eps = 0.0  # radius of DBSCAN; 0 = each cascade's own, from its k-distances
    chosen.eps_rule = "median"  # of an eps of 0: median | knee
    chosen.min_samples = 3
    augmentation = c.augmentation = ConfigDict()  # phase 3
    augmentation.source = ""  # provider (config.llm) | file | original, parent (no LLM: see docs/cascades.md); "" = no fusion
    augmentation.encoder = MINILM  # as TAPE: checkpoint that rewritten texts are read by, whatever config.encoder reads the posts
    augmentation.path = ""  # source "file": JSON lines {"id": "CASCADE/POST", "text"}, POST counted from 0, before any cut
    augmentation.template = "expand/1"  # expand/1 | paraphrase/1 | context/1 (the posts above are shown) | "my_lab.prompts:MINE"
    augmentation.least_share = 0.9  # of the selected posts that must get a text from provider or file; with fewer a run stops
    return c


def check_cascades(config: ConfigDict, need: Any) -> None:
    """Tells the faults of ``config.cascades``; nothing for sets of texts."""
    if config.data.source not in SOURCES:
        return
    c = config.cascades
    need.one_of("cascades.protocol", *PROTOCOLS)
    need.one_of("cascades.choose_on", "validation", "test")
    need.one_of("cascades.direction", *DIRECTIONS)
    anew = bool(config.model.edges) or config.model.propagate.endswith(":TwoWay")
    need(
        "cascades.direction",
        c.direction == "both" or not anew,
        '"both" where the model makes the edges from the replies itself: set model.edges_args.replies.direction (or Delays), '
        "or model.edges=() and another model.propagate than TwoWay",
    )
    need.one_of("cascades.tree", "posts", "all")
    need.one_of("cascades.selection.rule", *selection.RULES)
    for field, must, _ in selection.faults(c.selection):
        need(f"cascades.selection.{field}", False, must)
    need.one_of("cascades.augmentation.source", *AUGMENTATIONS)
    need.positive("cascades.batch_size", "cascades.most_words", "cascades.most_source_words")
    need.positive("cascades.most_posts", "cascades.first_posts", "cascades.first_minutes", least=0)
    need("cascades.inputs", bool(c.inputs) and all(name in INPUTS for name in c.inputs), f"at least one of {', '.join(INPUTS)}")
    need(
        "cascades.inputs",
        "source" in c.inputs or not (config.model.wide or config.model.lexical),
        'with "source" where model.wide or model.lexical reads the words of the source',
    )
    need("cascades.inputs", set(c.inputs) != {"source"}, 'with features of posts beside "source"')
    need("cascades.taps", len(c.taps) > 0, 'at least one tap "layer/document"')
    need("data.folds", config.data.folds > 1 or c.protocol != "folds", 'at least 2 with cascades.protocol "folds"')
    source = c.augmentation.source
    need("cascades.augmentation.path", source != "file" or bool(c.augmentation.path), 'the file where the source is "file"')
    need(
        "llm.provider",
        source != "provider" or bool(config.llm.provider),
        'a provider where cascades.augmentation.source is "provider"',
    )
    fuses = bool(config.model.fusion)
    need(
        "cascades.augmentation.source",
        not fuses or bool(source),
        'provider (config.llm), file, original or parent (no LLM) with model.fusion; or set model.fusion to ""',
    )
    need("cascades.augmentation.least_share", 0 <= c.augmentation.least_share <= 1, "in [0, 1]")
    try:
        rewriting(c.augmentation.template)
    except ValueError as error:
        need.faults.append(f"config.cascades.augmentation.template: {error}")
    need("cascades.augmentation.encoder", c.augmentation.encoder not in ("", "scratch"), "a checkpoint with weights")
    need("model.fusion", fuses or not source, "one of textfuse_jax.models.fusion where cascades.augmentation.source is set")
