"""Cascade fusion (TAPE) on PHEME: rumour or not, from the texts of all posts and the tree of their replies.

    python launch.py --config=configs/rumor_pheme.py                             # fold 0 of 5, inner validation
    python launch.py --config=configs/rumor_pheme.py --sweep="data.fold=0..4"    # 5-fold cross-validation

TEXTFUSE_DATA names a folder with the set. Features of every post by frozen MiniLM, once; then the two-way GCN with root
enhancement, and beside it, trained apart and averaged, a linear model of the source's words and pairs of words. ``:fused`` puts
TAPE's phases 2 to 4 on: the selected posts are rewritten by an LLM with
``--config.cascades.augmentation.source=provider`` and config.llm, or stand in a file (``file``). Its default asks no LLM:
``original``, the posts themselves, whose vectors this model has already; it measures what a fusion by itself does.
``:tape`` is TAPE's own model in the place of ours: MiniLM's last layer, 2 rounds of GCN of 64 with batch norm, gated fusion, mean
pooling; no root enhancement, no words beside it. ``:tape_gat`` the same with GAT. Both have phases 2 to 4 on, as ``:fused``.
One event left out: ``--config.cascades.protocol=events --config.data.folds=9 --sweep="data.fold=0..8"``.

Measured (docs/results.md; at most 10 epochs, one core of an AMD EPYC): 5 folds by 3 seeds accuracy 0.869 and macro-F1 0.860, sd
over both 0.009 and 0.010, 7 minutes for the 15 trials; one event left out 0.718 and 0.672, sd 0.19, 15 minutes for 27 trials. One
run takes 11.5 minutes from texts to report, most of it for features, which are kept.

Variants: ``:fused``, ``:tape``, ``:tape_gat``, ``:runlocal`` (seconds), ``:docstrings`` (trees of docstrings), ``:scratch``
(words alone); join by commas.
"""

from textfuse_jax.config import default_config, finish

MESSAGES = "textfuse_jax.models.message_passing:"
TAPE = {
    "cascades.inputs": ("encoder",),
    "cascades.taps": ("06/document",),
    "model.propagate": MESSAGES + "GCN",
    "model.propagate_args": {"rounds": 2, "residual": False, "norm": "batch", "activation": "relu", "dropout": 0.3},
    "model.edge_dropout": 0.0,
    "model.source_vector": False,
    "model.wide": "",
    "training.average_decay": 0.0,
}
"""What TAPE's model has otherwise than ours; the same are epochs, patience, width, optimizer, dropout of inputs and head."""
TAPE_GAT = TAPE | {"model.propagate": MESSAGES + "GAT", "model.propagate_args": TAPE["model.propagate_args"] | {"heads": 4}}
OTHERS = {"tape": TAPE, "tape_gat": TAPE_GAT}


def get_config(arg=None):
    """PHEME, 6,425 threads of nine events."""
    return cascades("rumor_pheme", "pheme", arg)


def cascades(name, source, arg, **fields):
    """What the configs of cascades have in common: TAPE's training, our model or TAPE's.

    Args:
      name: of the config.
      source: data.source.
      arg: variants, ``fused``, ``tape`` and ``tape_gat`` among them.
      **fields: further fields of config.cascades.
    """
    names = [n for n in (arg or "").split(",") if n]
    config = default_config()
    config.name = name
    config.data.source = source
    config.data.folds = 5
    config.data.max_length = 64  # word pieces of a post: 99 % of tweets have fewer
    config.data.window_stride = 32
    config.data.validation_fraction = 0.125  # of what isn't tested: 70 : 10 : 20
    config.cascades.update(fields)
    config.cascades.inputs = ("encoder", "source")
    config.cascades.taps = ("03/document", "06/document")
    config.encoder.mode = "cached"
    model = config.model
    model.width = 64
    model.edges = ("textfuse_jax.models.replies:replies",)
    model.propagate = "textfuse_jax.models.two_way:TwoWay"
    model.propagate_args.dropout = 0.3
    model.inputs_args.dropout = 0.2
    model.edge_dropout = 0.2
    model.source_vector = True
    model.pooling = "textfuse_jax.models.pooling:Mean"
    model.head_args.dropout = 0.5
    model.wide = "textfuse_jax.models.lexical:NgramLogits"
    model.wide_args.scale = 32.0  # with dropout 0.3 the linear model is as good as TF-IDF + logistic regression
    model.wide_args.dropout = 0.3
    config.optimizer.name = "adam"
    config.optimizer.learning_rate = 1e-3
    config.optimizer.weight_decay = 5e-4
    config.optimizer.schedule = "constant"
    config.optimizer.warmup_fraction = 0.0
    config.training.total_epochs = 50
    config.training.patience = 10
    config.training.average_decay = 0.99
    config.training.trials_at_once = 5
    config.training.log_every_steps = 100
    config.training.checkpoint_every_steps = 1000
    for other in (n for n in names if n in OTHERS):
        config.update_from_flattened_dict(OTHERS[other])
    if {"fused", *OTHERS} & set(names):  # phases 2 to 4
        config.model.fusion = "textfuse_jax.models.fusion:Gated"
        config.cascades.augmentation.source = "original"
    return finish(config, ",".join(n for n in names if n not in ("fused", *OTHERS)))
