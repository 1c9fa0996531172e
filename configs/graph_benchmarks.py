"""The sets on which text graphs are compared: R8, Ohsumed, MR, 20 Newsgroups (TextGCN's splits), TREC; the whole method, tuned.

    TEXTFUSE_DATA=DIR python launch.py --config=configs/graph_benchmarks.py:r8

``:r8``, ``:ohsumed``, ``:mr``, ``:20newsgroups`` or ``:trec``; R8 where none is named. Rows are read from NAME.csv.gz with the
columns split, label and text.

Variants: ``:runlocal`` (seconds), ``:docstrings`` (embedded corpus), ``:scratch`` (no pretrained weights); join by commas, as in
``:mr,runlocal``.
"""

from textfuse_jax.config import default_config, finish

WINDOWS = dict(max_length=256, row_lengths=(256,), long_documents="windows", window_stride=192)
SETS = {  # name -> fields of data; documents longer than 256 tokens are read whole, in windows
    "r8": WINDOWS,
    "ohsumed": WINDOWS,
    "mr": dict(),
    "20newsgroups": WINDOWS,
    "trec": dict(),
}
EPOCHS = {"r8": 8, "ohsumed": 12, "mr": 4, "20newsgroups": 6, "trec": 10}
"""Few rows a class want more passes; the best weights on validation are kept in any case."""


def get_config(arg=None):
    """The model of agnews_pyramid.py with document taps of three layers and the words themselves, which topics lie in."""
    names = (arg or "").split(",")
    name = next((n for n in names if n in SETS), "r8")
    config = default_config()
    config.name = f"graph_benchmarks_{name}"
    config.data.source, config.data.path, config.data.split_column = "file", f"{name}.csv.gz", "split"
    config.data.update(SETS[name])
    config.model.document_taps = ("02/document", "04/document", "06/document")
    config.model.lexical = "textfuse_jax.models.lexical:BagOfNgrams"
    config.model.lexical_args.width, config.model.lexical_args.dropout = 64, 0.2
    config.model.head_args.dropout = 0.3
    config.model.pyramid_args.dropout = 0.1
    config.model.propagate_args.dropout = 0.1
    config.optimizer.learning_rate = 5e-4
    config.optimizer.layer_decay = 0.9
    config.training.total_epochs = EPOCHS[name]
    config.training.average_decay = 0.99
    return finish(config, ",".join(n for n in names if n not in SETS))
