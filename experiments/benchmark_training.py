"""Training throughput beside PyTorch + transformers: the same encoder, the same 2,000 AG News texts, one run, alternating.

    TEXTFUSE_DATA=DIR python -m experiments.benchmark_training [--documents=2000] [--rounds=5]

Ours: the whole Pyramid-GNN model on packed rows, AdamW, dropout 0.1. Theirs: AutoModel + mean pooling + a linear layer, AdamW,
dropout 0.1, float32, batches of 32 sorted by length and padded to their longest (what ``group_by_length`` does). Each round
trains both on a fifth of an epoch, in alternating order; a line of ``experiments/results/benchmark_training.jsonl``
holds the medians over rounds and the median of the rounds' ratios. Needs requirements-dev.txt (PyTorch). Takes about
5 minutes on 2 cores.
"""

from __future__ import annotations

import dataclasses
import gc
import pathlib
import statistics
import time
from collections.abc import Callable

import jax
import numpy as np
from absl import app, flags

from configs import agnews_pyramid
from experiments.workload import make_workload
from textfuse_jax.encoders.checkpoints import locate
from textfuse_jax.evaluation.records import append_result, environment, hardware
from textfuse_jax.heap import keep_freed_memory
from textfuse_jax.training import setup
from textfuse_jax.training.parallel import Jit, make_mesh

RESULTS = pathlib.Path(__file__).parent / "results" / "benchmark_training.jsonl"
DOCUMENTS = flags.DEFINE_integer("documents", 2000, "texts trained on, divided into as many parts as rounds")
ROUNDS = flags.DEFINE_integer("rounds", 5, "alternations")
OUTPUT = flags.DEFINE_string("output", str(RESULTS), "file the JSON lines are appended to")


@dataclasses.dataclass
class Ours:
    """Our training of the config's model: compiled once; ``run(part)`` takes one part of an epoch, documents a second."""

    config: object
    run: Callable[[int], float]
    waste: float
    compilations: Callable[[], int]


def ours(dtype: str, corpus, rounds: int) -> Ours:
    """A training of the whole model in ``dtype``."""
    config = agnews_pyramid.get_config()
    config.encoder.dtype = dtype
    config.loss.consistency = config.training.average_decay = 0.0  # one pass a step and no average of weights, as theirs
    work = make_workload(config, corpus, Jit(make_mesh(1)))
    batches = work.batches
    steps = np.array_split(np.arange(batches.total_steps), rounds)
    held = {"state": work.state}

    def run(part: int) -> float:
        documents, start = 0, time.perf_counter()
        for number in steps[part]:
            rows = batches.batch(int(number))
            documents += int((rows.example >= 0).sum())
            held["state"], _ = work.step(held["state"], rows, work.key)
        jax.block_until_ready(held["state"].step)
        return documents / (time.perf_counter() - start)

    held["state"], _ = work.step(held["state"], batches.batch(0), work.key)  # compiles
    return Ours(config, run, batches.waste, lambda: work.step._cache_size())


def theirs(corpus, parts: list[np.ndarray]) -> Callable[[int], float]:
    """A fine-tune of the same encoder as its users write it: returns ``run(part)``, documents a second."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    folder = locate(agnews_pyramid.get_config().encoder.checkpoint)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    encoder = AutoModel.from_pretrained(folder).train()
    head = torch.nn.Linear(encoder.config.hidden_size, len(corpus.class_names))
    optimizer = torch.optim.AdamW([*encoder.parameters(), *head.parameters()], lr=1e-4)
    max_length = agnews_pyramid.get_config().data.max_length
    tokens = tokenizer(corpus.train.texts, truncation=True, max_length=max_length)["input_ids"]

    def batches(part: int) -> list[np.ndarray]:
        order = parts[part][np.argsort([len(tokens[i]) for i in parts[part]], kind="stable")]
        groups = [order[i : i + 32] for i in range(0, len(order), 32)]
        return [groups[i] for i in np.random.default_rng(part).permutation(len(groups))]

    def train_on(group: np.ndarray) -> None:
        padded = tokenizer.pad({"input_ids": [tokens[i] for i in group]}, return_tensors="pt")
        mask = padded["attention_mask"]
        hidden = encoder(input_ids=padded["input_ids"], attention_mask=mask).last_hidden_state
        pooled = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        loss = torch.nn.functional.cross_entropy(head(pooled), torch.as_tensor(corpus.train.labels[group], dtype=torch.long))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_([*encoder.parameters(), *head.parameters()], 1.0)
        optimizer.step()

    def run(part: int) -> float:
        start = time.perf_counter()
        for group in batches(part):
            train_on(group)
        return len(parts[part]) / (time.perf_counter() - start)

    train_on(parts[0][:32])  # warm-up
    return run


def main(_: list[str]) -> None:
    """Alternates, prints and appends one line a comparison."""
    keep_freed_memory()  # of the process, so both sides gain
    config = agnews_pyramid.get_config()
    config.data.train_rows, config.data.validation_rows, config.data.test_rows = DOCUMENTS.value, 100, 100
    corpus = setup.load_corpus(config)
    parts = np.array_split(np.arange(len(corpus.train)), ROUNDS.value)
    machine = hardware(environment())
    reference = theirs(corpus, parts)
    for dtype in ("bfloat16", "float32"):
        mine, rates = ours(dtype, corpus, ROUNDS.value), {"ours": [], "theirs": []}
        for part in range(len(parts)):
            turns = [("ours", mine.run), ("theirs", reference)]
            for name, run in turns if part % 2 == 0 else reversed(turns):
                rates[name].append(run(part))
        record = {
            "name": f"train_minilm_agnews_{dtype}_vs_torch_float32",
            "ours": round(statistics.median(rates["ours"]), 2),
            "theirs": round(statistics.median(rates["theirs"]), 2),
            "ratio": round(statistics.median(a / b for a, b in zip(rates["ours"], rates["theirs"])), 3),
            "unit": "documents/s",
            "documents": len(corpus.train),
            "rounds": ROUNDS.value,
            "padding_waste": round(mine.waste, 4),
            "compilations": mine.compilations(),
            "hardware": machine,
            "commit": environment()["git"]["commit"],
        }
        print(record, flush=True)
        append_result(OUTPUT.value, record)
        del mine
        gc.collect()


if __name__ == "__main__":
    app.run(main)
