"""Cascade fusion (TAPE) on PHEME: rumour or not, from the texts of all posts and the tree of their replies.

    python launch.py --config=configs/rumor_pheme.py                             # fold 0 of 5, inner validation
    python launch.py --config=configs/rumor_pheme.py --sweep="data.fold=0..4"    # 5-fold cross-validation

TEXTFUSE_DATA names a folder with the set. Features of every post by frozen MiniLM, once; then the two-way GCN with root
enhancement, and beside it, trained apart and averaged, a linear model of the source's words and pairs of words. ``:fused`` puts
TAPE's phases 2 to 4 on: the selected posts are rewritten by an LLM with
``--config.cascades.augmentation.source=provider`` and config.llm, or stand in a file (``file``). Its default asks no LLM:
``original``, the posts themselves, whose vectors this model has already; it measures what a fusion by itself does.
One event left out: ``--config.cascades.protocol=events --config.data.folds=9 --sweep="data.fold=0..8"``. See docs/results.md.

Variants: ``:fused``, ``:runlocal`` (seconds), ``:docstrings`` (trees of docstrings), ``:scratch`` (words alone); join by commas.
"""

from textfuse_jax.config import default_config, finish


def get_config(arg=None):
    """PHEME, 6,425 threads of nine events."""
    return cascades("rumor_pheme", "pheme", arg)


def cascades(name, source, arg, **fields):
    """What the configs of cascades have in common: TAPE's training, our model.

    Args:
      name: of the config.
      source: data.source.
      arg: variants, ``fused`` among them.
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
    if "fused" in names:  # phases 2 to 4
        config.model.fusion = "textfuse_jax.models.fusion:Gated"
        config.cascades.augmentation.source = "original"
    return finish(config, ",".join(n for n in names if n != "fused"))
