"""Cascade fusion (TAPE) on Twitter16: true, false, unverified rumour or none, from posts' words and their tree.

    python launch.py --config=configs/rumor_twitter16.py --sweep="data.fold=0..4"

The epoch is chosen on an inner validation part; as published, on the test fold, by ``--config.cascades.choose_on=test``.
What the nodes carry: docs/cascades.md. ``--config.cascades.task=rumour`` tells rumours from the rest,
``--config.cascades.tree=all`` takes the tree of all reposts, which have no text.

Measured (docs/results.md; one core of an AMD EPYC): as published, 5 folds by 3 seeds, accuracy 0.866 and macro-F1 0.865, sd over
both 0.019 and 0.020, 6.4 minutes for the 15 trials (BiGCN 0.880; the digits of the ids alone 0.886). Clean: 0.830 and 0.828
(ids alone 0.894); rumour or not, clean: 0.911 and 0.876 (ids alone 0.963).

Variants: ``:fused``, ``:tape`` and ``:tape_gat`` (TAPE's model, as in rumor_pheme.py), ``:runlocal`` (seconds), ``:docstrings``
(trees of docstrings), ``:scratch`` (words alone); join by commas.
"""

from configs.rumor_pheme import cascades


def get_config(arg=None):
    """The model of rumor_pheme.py."""
    return cascades("rumor_twitter16", "twitter16", arg)
