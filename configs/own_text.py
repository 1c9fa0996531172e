"""The method on your own CSV, TSV, JSONL or Parquet: MiniLM tuned end to end, pyramid, unit graph, hybrid pooling.

    python launch.py --config=configs/own_text.py --config.data.path=train.csv

It reads the columns ``text`` and ``label``; others by ``--config.data.text_columns="('title','body')"`` and
``--config.data.label_column=topic``. A test file is named by ``--config.data.test_path``, else a fifth of the rows is held out.
Several labels a document: ``--config.data.label_separator=";" --config.loss.name=binary``. All fields of data stand in
textfuse_jax/data/sources.py. Texts are cut at ``data.max_length`` tokens, and the run tells how many were; long ones want
``--config.data.long_documents=windows``, which reads all of them at a cost that grows with their length.

Variants: ``:runlocal`` (seconds), ``:docstrings`` (embedded corpus), ``:scratch`` (no pretrained weights); join by commas.
"""

from textfuse_jax.config import default_config, finish


def get_config(arg=None):
    """The model of agnews_pyramid.py; epochs end when validation gets worse twice."""
    config = default_config()
    config.name = "own_text"
    config.data.source = "file"
    config.data.path = "train.csv"
    config.model.document_taps = ("06/document",)
    config.model.head_args.dropout = 0.3
    config.model.pyramid_args.dropout = 0.1
    config.model.propagate_args.dropout = 0.1
    config.optimizer.learning_rate = 5e-4
    config.optimizer.layer_decay = 0.9
    config.training.total_epochs = 4
    config.training.patience = 2
    config.training.average_decay = 0.99
    return finish(config, arg)
