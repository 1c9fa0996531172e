"""LabelFusion on GoEmotions, 28 labels, any number a text: tuned MiniLM, a threshold for each label.

python launch.py --config=configs/goemotions_labelfusion.py
"""

from configs.agnews_labelfusion import encoder_alone
from textfuse_jax.config import default_config, finish


def get_config(arg=None):
    """The complete split of the release: 43,410 rows to train on less those whose text is held out too."""
    config = default_config()
    config.name = "goemotions_labelfusion"
    encoder_alone(config)
    config.data.source = "file"
    config.data.path = "goemotions.csv.gz"
    config.data.split_column = "split"
    config.data.label_column = "label_names"
    config.data.label_separator = ";"
    config.data.max_length = 64
    config.data.window_stride = 32
    config.loss.name = "binary"
    config.optimizer.learning_rate = 2e-3
    config.optimizer.encoder_learning_rate = 2e-4
    config.training.total_epochs = 4
    config.training.average_decay = 0.995
    config.training.select_by = "f1_macro"
    config.training.checkpoint_every_steps = 400
    config.fusion.combiner = "mlp"
    config.fusion.folds = 0
    return finish(config, arg)
