"""python -m textfuse_jax.fusion create-config FILE: a commented config to start from."""

from __future__ import annotations

import argparse
import pathlib
import sys
from collections.abc import Sequence

STARTER = '''"""LabelFusion on your own texts. Edit, then either of:

    python launch.py --config={path}
    AutoFusionClassifier(config="{path}").fit(texts, labels)
"""

from textfuse_jax.config import default_config, finish


def get_config(arg=None):
    """Every field and what it means: textfuse_jax/config.py; variants such as :runlocal work here too."""
    config = default_config()
    config.name = "{name}"

    # The documents: CSV, TSV, JSONL or Parquet with these columns.
    config.data.source = "file"
    config.data.path = "train.csv"
    config.data.text_columns = ("text",)
    config.data.label_column = "label"
    # config.data.test_path = "test.csv"  # else a fifth of the rows is held out
    # config.data.label_separator = ";"  # several labels a document; then also:
    # config.loss.name = "binary"

    # The encoder: "cached" = frozen, minutes; "tuned" = trained end to end, once and once a fold.
    config.encoder.mode = "cached"
    config.model.pyramid, config.model.propagate, config.model.edges = "", "", ()
    config.model.document_taps = ("02/document", "04/document", "06/document")
    config.model.lexical = "textfuse_jax.models.lexical:BagOfNgrams"
    config.model.lexical_args.width = 64
    config.model.head_args.dropout = 0.5
    config.optimizer.learning_rate = 3e-3
    config.optimizer.weight_decay = 0.5
    config.training.total_epochs = 8
    config.training.average_decay = 0.99

    # The LLM. "local" asks none: zero-shot vectors of the encoder. For a real one set provider and model and export its key
    # (OPENAI_API_KEY, DEEPSEEK_API_KEY, GEMINI_API_KEY); "compatible" is any server of the chat-completions protocol.
    config.llm.provider = "local"
    config.llm.model = "zero-shot"
    # config.llm.provider, config.llm.model = "openai", "gpt-4o-mini"
    # config.llm.provider, config.llm.base_url, config.llm.model = "compatible", "http://localhost:11434/v1", "llama3.2"
    # config.llm.provider, config.llm.replay_path = "replay", "answers.jsonl"  # stored answers, no network
    # config.llm.descriptions = dict(World="politics and events abroad")  # class name -> what it means
    # config.llm.price_input, config.llm.price_output = 0.15, 0.60  # per million tokens, as your contract says
    # config.llm.budget = 5.0  # stops in time and keeps what was paid
    # config.llm.dry_run = True  # say what would be asked, its cost and time, and stop there
    # config.llm.call_share = 0.2  # ask about the fifth of the documents from whose opinion most is expected
    # config.llm.shots = 8  # examples from the training split in the prompt

    # The fusion.
    config.fusion.asked_rows = 2000  # of validation, and of training: most documents that LLMs are asked about to fit
    config.fusion.combiner = "mlp"  # mlp | voting | weighted | stacking | per_class
    config.fusion.folds = 5  # for what the encoder says of documents it hasn't seen; 0 = fit on half of validation
    return finish(config, arg)
'''


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m textfuse_jax.fusion", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    create = commands.add_parser("create-config", help="write a commented starter config")
    create.add_argument("file", help="a new file, e.g. my_fusion.py")
    path = pathlib.Path(parser.parse_args(arguments).file)
    if path.suffix != ".py":
        print(f"error: {path} must end in .py: a config is Python, as launch.py reads it", file=sys.stderr)
        return 2
    if path.exists():
        print(f"error: {path} is there already; take another name or remove it", file=sys.stderr)
        return 2
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(STARTER.format(path=path.as_posix(), name=path.stem), encoding="utf-8")
    print(f"{path} written; edit it, then python launch.py --config={path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
