"""Cascade fusion (TAPE) on Weibo: rumour or not, from the source and up to 40 reposts with text, as bags of characters.

    python launch.py --config=configs/rumor_weibo.py --sweep="data.fold=0..4"

MiniLM reads no Chinese and no other encoder stands in its place: a post is the sum of learned vectors of its characters and pairs
of them, hashed (``cascades.characters``). TF-IDF beside a run reads characters and pairs too.

Measured (docs/results.md; one core of an AMD EPYC): of the first 20 posts in 10 epochs, to save time (this config reads all posts
that there are, in 50), 5 folds by 3 seeds, accuracy and macro-F1 0.939, as published (``--config.cascades.choose_on=test``) 0.948
(BiGCN 0.961; the ids alone 0.908), 7.1 minutes for the 15 trials.

Variants: ``:runlocal`` (seconds), ``:docstrings`` (trees of docstrings), ``:scratch`` (what it is already); join by commas.
"""

from configs.rumor_pheme import OTHERS, cascades


def get_config(arg=None):
    """The model of rumor_pheme.py on bags of characters."""
    names = [name for name in (arg or "").split(",") if name and name != "scratch"]
    for name in {"fused", *OTHERS} & set(names):
        raise ValueError(f"rumor_weibo has no variant {name}: all-MiniLM-L6-v2, which reads its texts, knows no Chinese")
    lengths = dict(most_words=64, most_source_words=160)
    return cascades("rumor_weibo", "weibo", ",".join(["scratch", *names]), characters=True, **lengths)
