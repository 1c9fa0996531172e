"""LabelFusion on AG News, the paper's 4,000 training rows: tuned MiniLM and an LLM's opinion of every document, fused.

    python launch.py --config=configs/agnews_labelfusion.py

Without an account the LLM is **simulated** from the paper's level of 84.4 % (fusion.simulated_accuracy) and every result says so.
Stored answers: ``--config.fusion.simulated_accuracy=0 --config.llm.provider=replay --config.llm.model=NAME
--config.llm.replay_path=answers.jsonl``. An API, with its key in the environment: ``--config.fusion.simulated_accuracy=0
--config.llm.provider=openai --config.llm.model=gpt-4o-mini --config.llm.call_share=0.2``: all 6,000 documents of training and
validation are asked about and a fifth of the test split; ``--config.llm.dry_run=True`` says what that takes. What it measures:
docs/labelfusion.md.

Variants: ``:runlocal`` (seconds), ``:docstrings`` (embedded corpus), ``:scratch`` (no pretrained weights); join by commas.
"""

from textfuse_jax.config import default_config, finish


def encoder_alone(config):
    """The member that learns: tuned MiniLM, mean of its last layer, no graph."""
    config.model.pyramid, config.model.propagate, config.model.edges = "", "", ()
    config.model.document_taps = ("06/document",)
    config.model.head_args.dropout = 0.1
    config.optimizer.learning_rate = 1e-3
    config.optimizer.encoder_learning_rate = 1e-4
    config.optimizer.layer_decay = 0.9
    config.evaluation.graphs = 0


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
    config.fusion.combiner = "mlp"
    config.fusion.folds = 3
    config.fusion.simulated_accuracy = 0.844
    config.fusion.asked_rows = 0
    config.evaluation.published = dict(accuracy=0.924)
    config.evaluation.published_data = "ag_news"
    config.evaluation.published_source = "LabelFusion, 500 test rows, GPT answers"
    return finish(config, arg)
