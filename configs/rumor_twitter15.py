"""Cascade fusion (TAPE) on Twitter15: true, false, unverified rumour or none, from posts' words and their tree.

    python launch.py --config=configs/rumor_twitter15.py --sweep="data.fold=0..4"

The epoch is chosen on an inner validation part; as published, on the test fold, by ``--config.cascades.choose_on=test``.
What the nodes carry: docs/cascades.md. ``--config.cascades.task=rumour`` tells rumours from the rest,
``--config.cascades.tree=all`` takes the tree of all reposts, which have no text.

Variants: ``:fused``, ``:runlocal`` (seconds), ``:docstrings`` (trees of docstrings), ``:scratch`` (words alone); join by commas.
"""

from configs.rumor_pheme import cascades


def get_config(arg=None):
    """The model of rumor_pheme.py."""
    return cascades("rumor_twitter15", "twitter15", arg)
