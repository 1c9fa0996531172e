"""LabelFusion on AG News, the paper's 4,000 training rows: tuned MiniLM and an LLM's opinion of every document.

python launch.py --config=configs/agnews_labelfusion.py
"""

from textfuse_jax.config import default_config, finish


def encoder_alone(config):
    """The member that learns: tuned MiniLM, mean of its last layer, no graph; more passes over fewer rows."""
    config.model.pyramid, config.model.propagate, config.model.edges = "", "", ()
    config.model.document_taps = ("06/document",)
    config.model.head_args.dropout = 0.1
    config.optimizer.learning_rate = 1e-3
    config.optimizer.encoder_learning_rate = 1e-4
    config.optimizer.layer_decay = 0.9


def get_config(arg=None):
    """The encoder is tuned once on all rows and once for each fold, so that the fusion learns from what it hasn't seen."""
    config = default_config()
    config.name = "agnews_labelfusion"
    encoder_alone(config)
    config.data.train_rows = 4000
    config.data.validation_rows = 2000
    config.data.tokens_per_batch = 1024
    config.training.total_epochs = 3
    config.training.average_decay = 0.99
    config.fusion.folds = 3
    return finish(config, arg)
