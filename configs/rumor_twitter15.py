"""Cascade fusion (TAPE) on Twitter15: true, false, unverified rumour or none, from posts' words and their tree.

    python launch.py --config=configs/rumor_twitter15.py --sweep="data.fold=0..4"

The epoch is chosen on an inner validation part; as published, on the test fold, by ``--config.cascades.choose_on=test``.
What the nodes carry: docs/cascades.md. ``--config.cascades.task=rumour`` tells rumours from the rest,
``--config.cascades.tree=all`` takes the tree of all reposts, which have no text.

Measured (docs/results.md; one core of an AMD EPYC): as published, 5 folds by 3 seeds, accuracy 0.849 and macro-F1 0.849, sd over
both 0.028 and 0.029, 13.6 minutes for the 15 trials (BiGCN 0.886; the digits of the ids alone 0.840). Clean: 0.821 and 0.820
(ids alone 0.834); rumour or not, clean: 0.928 and 0.901 (ids alone 0.985).

Variants: ``:fused``, ``:tape`` and ``:tape_gat`` (TAPE's model, as in rumor_pheme.py), ``:runlocal`` (seconds), ``:docstrings``
(trees of docstrings), ``:scratch`` (words alone); join by commas.
"""

from configs.rumor_pheme import cascades


def get_config(arg=None):
    """The model of rumor_pheme.py."""
    return cascades("rumor_twitter15", "twitter15", arg)
