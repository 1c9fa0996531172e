"""The sets on which text graphs are compared: R8, Ohsumed, MR, 20 Newsgroups (TextGCN's splits), TREC; the whole method, tuned.

    TEXTFUSE_DATA=DIR python launch.py --config=configs/graph_benchmarks.py:r8

``:r8``, ``:ohsumed``, ``:mr``, ``:20newsgroups`` or ``:trec``; R8 where none is named. Rows are read from NAME.csv.gz with the
columns split, label and text.

Variants: ``:runlocal`` (seconds), ``:docstrings`` (embedded corpus), ``:scratch`` (no pretrained weights); join by commas, as in
``:mr,runlocal``.
"""

from textfuse_jax.config import default_config, finish

SETS = {  # name -> fields of data
    "r8": dict(max_length=128),
    "ohsumed": dict(max_length=256, row_lengths=(256,)),
    "mr": dict(),
    "20newsgroups": dict(max_length=256, row_lengths=(256,)),
    "trec": dict(),
}


def get_config(arg=None):
    """The model of agnews_pyramid.py with document taps of three layers."""
    names = (arg or "").split(",")
    name = next((n for n in names if n in SETS), "r8")
    config = default_config()
    config.name = f"graph_benchmarks_{name}"
    config.data.source, config.data.path, config.data.split_column = "file", f"{name}.csv.gz", "split"
    config.data.update(SETS[name])
    config.model.document_taps = ("02/document", "04/document", "06/document")
    config.model.head_args.dropout = 0.3
    config.model.pyramid_args.dropout = 0.1
    config.model.propagate_args.dropout = 0.1
    config.optimizer.learning_rate = 5e-4
    config.optimizer.layer_decay = 0.9
    config.training.total_epochs = 6
    config.training.average_decay = 0.99
    return finish(config, ",".join(n for n in names if n not in SETS))
