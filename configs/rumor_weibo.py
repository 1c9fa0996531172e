"""Cascade fusion (TAPE) on Weibo: rumour or not, from the source and up to 40 reposts with text, encoder from scratch.

    python launch.py --config=configs/rumor_weibo.py --sweep="data.fold=0..4"

MiniLM reads no Chinese: a post is the sum of learned vectors of its characters and pairs of them (``cascades.characters``).

Variants: ``:runlocal`` (seconds), ``:docstrings`` (trees of docstrings), ``:scratch`` (what it is already); join by commas.
"""

from configs.rumor_pheme import cascades


def get_config(arg=None):
    """The model of rumor_pheme.py on characters."""
    if "fused" in (arg or "").split(","):
        raise ValueError("rumor_weibo has no variant fused: all-MiniLM-L6-v2, which reads rewritten texts, knows no Chinese")
    names = [name for name in (arg or "").split(",") if name and name != "scratch"]
    lengths = dict(most_words=64, most_source_words=160)
    return cascades("rumor_weibo", "weibo", ",".join(["scratch", *names]), characters=True, **lengths)
