"""What ``make demo`` runs: the whole method on the embedded docstrings corpus with MiniLM from an installed package.

    python launch.py --config=configs/quickstart.py

Measured once on two cores of an AMD EPYC: test accuracy 0.778 (95 % 0.749 to 0.806) on 832 docstrings, TF-IDF + logistic
regression 0.746; 4.4 minutes from start to report. What is installed decides the corpus, so scores differ between machines.

Variants: ``:runlocal`` (seconds), ``:docstrings`` (what it is already), ``:scratch`` (no pretrained weights); join by commas.
"""

from textfuse_jax.config import default_config, docstrings, finish


def get_config(arg=None):
    """A run of minutes on two cores: some thousand docstrings, tuned MiniLM."""
    config = default_config()
    docstrings(config)
    config.name = "quickstart"
    config.model.head_args.dropout = 0.1
    config.data.train_rows = 2400
    config.training.total_epochs = 2
    config.training.average_decay = 0.95
    return finish(config, arg)
