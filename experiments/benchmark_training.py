"""Training throughput beside PyTorch: the same 2,000 AG News texts, one run, alternating.

    TEXTFUSE_DATA=DIR python -m experiments.benchmark_training [--documents=2000] [--rounds=5]

Ours: the whole Pyramid-GNN of configs/agnews_pyramid.py on packed rows, one pass a step, AdamW, dropout, bfloat16 and float32.
Theirs, float32, AdamW, dropout, batches of 32 sorted by length and padded to their longest (what ``group_by_length`` does):
``torch``: AutoModel, mean pooling and a linear layer, a fine-tune as most people write it; ``torch_pyg``: the same whole model in
PyTorch and PyTorch Geometric (``pyramid_reference``), whose logits must agree with ours to 1e-3 with the same weights.
Tokenised beforehand on both sides; collating and packing are in the time. Each round trains every side on a fifth of an epoch, in
alternating order; a line of ``experiments/results/benchmark_training.jsonl`` holds the medians over rounds and the median of the
rounds' ratios. Peak memory is that of a process of its own that trains one part (JAX is loaded on either side). Needs
requirements-dev.txt. Takes about 6 minutes on 2 cores.
"""

from __future__ import annotations

import dataclasses
import gc
import pathlib
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import jax
import numpy as np
from absl import app, flags

from configs import agnews_pyramid
from experiments.encoding_contenders import all_cores
from experiments.workload import make_workload
from textfuse_jax.data.pipeline import evaluation_batches
from textfuse_jax.encoders.checkpoints import locate
from textfuse_jax.evaluation.records import append_result, environment, hardware, peak_memory
from textfuse_jax.heap import keep_freed_memory
from textfuse_jax.training import assembly, setup
from textfuse_jax.training.inference import predict_logits
from textfuse_jax.training.parallel import Jit, make_mesh
from textfuse_jax.training.step import unflatten

RESULTS = pathlib.Path(__file__).parent / "results" / "benchmark_training.jsonl"
TOLERANCE = 1e-3
"""Of logits: the choice of nearest neighbours may turn on the last digit of a cosine."""
DOCUMENTS = flags.DEFINE_integer("documents", 2000, "texts trained on, divided into as many parts as rounds")
ROUNDS = flags.DEFINE_integer("rounds", 5, "alternations")
OUTPUT = flags.DEFINE_string("output", str(RESULTS), "file the JSON lines are appended to")
MEMORY = flags.DEFINE_bool("memory", True, "measure peak memory, in processes of their own")
MEMORY_OF = flags.DEFINE_string("memory_of", "", "(the benchmark's own use) side whose peak memory to print")


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


def sorted_batches(lengths: np.ndarray, part: np.ndarray, seed: int) -> list[np.ndarray]:
    """Documents of a part in batches of 32 sorted by length, the batches shuffled: what ``group_by_length`` does."""
    order = part[np.argsort(lengths[part], kind="stable")]
    groups = [order[i : i + 32] for i in range(0, len(order), 32)]
    return [groups[i] for i in np.random.default_rng(seed).permutation(len(groups))]


def theirs(corpus, parts: list[np.ndarray], whole: bool) -> Callable[[int], float]:
    """A fine-tune in PyTorch as its users write it: returns ``run(part)``, documents a second.

    Args:
      whole: the whole Pyramid-GNN; otherwise the encoder, mean pooling and a linear layer.
    """
    import torch
    from transformers import AutoModel

    from experiments import pyramid_reference

    config = agnews_pyramid.get_config()
    folder, encoder = locate(config.encoder.checkpoint), setup.load_text_encoder(config, corpus.train.texts)
    encoded = setup.encode_split(config, encoder.tokenizer, corpus.train.texts)
    if whole:
        model = pyramid_reference.PyramidGNN(folder, len(corpus.class_names)).train()
        parameters, forward = list(model.parameters()), model
    else:
        alone = AutoModel.from_pretrained(folder).train()
        head = torch.nn.Linear(alone.config.hidden_size, len(corpus.class_names))
        parameters = [*alone.parameters(), *head.parameters()]

        def forward(batch):
            hidden = alone(input_ids=batch["tokens"], attention_mask=batch["mask"]).last_hidden_state
            mask = batch["mask"][..., None]
            return head((hidden * mask).sum(1) / mask.sum(1))

    optimizer = torch.optim.AdamW(parameters, lr=1e-4)

    def train_on(group: np.ndarray) -> None:
        batch = pyramid_reference.collate(encoded, group, encoded.pad_id)
        labels = torch.as_tensor(corpus.train.labels[group], dtype=torch.long)
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(forward(batch), labels).backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()

    def run(part: int) -> float:
        start = time.perf_counter()
        for group in sorted_batches(encoded.lengths, parts[part], part):
            train_on(group)
        return len(parts[part]) / (time.perf_counter() - start)

    train_on(parts[0][:32])  # warm-up
    return run


def logits_apart(corpus) -> float:
    """Largest difference of the logits of both whole models with the same weights, float32, 24 documents."""
    import torch

    from experiments import pyramid_reference

    config = agnews_pyramid.get_config()
    config.encoder.dtype = "float32"
    encoder = setup.load_text_encoder(config, corpus.train.texts)
    encoded = setup.encode_split(config, encoder.tokenizer, corpus.train.texts[:24])
    batches = evaluation_batches(encoded, corpus.train.labels[:24], tokens_per_batch=2048)
    model = assembly.make_model(config, encoder.architecture, len(corpus.class_names))
    params = assembly.init_params(model, batches.batch(0), 0, encoder.params)
    kernel = params["head/logits/kernel"]
    params["head/logits/kernel"] = 0.05 * jax.random.normal(jax.random.key(1), kernel.shape)  # it starts at zero
    forward = jax.jit(lambda tree, rows: assembly.predictor(model)(unflatten(tree), rows)[0])
    mine = predict_logits(forward, params, batches, 24, len(corpus.class_names), make_mesh(1))
    reference = pyramid_reference.PyramidGNN(locate(config.encoder.checkpoint), len(corpus.class_names)).eval()
    reference.load(params)
    with torch.no_grad():
        other = reference(pyramid_reference.collate(encoded, np.arange(24), encoded.pad_id)).numpy()
    return float(np.abs(mine - other).max())


def memory_of(side: str) -> int | None:
    """Peak memory in MB of a process of its own that trains one part; None if not asked for."""
    if not MEMORY.value:
        return None
    sizes = [f"--documents={DOCUMENTS.value}", f"--rounds={ROUNDS.value}"]
    command = [sys.executable, "-m", "experiments.benchmark_training", *sizes, f"--memory_of={side}"]
    return int(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.split()[-1])


def main(_: list[str]) -> None:
    """Alternates, prints and appends one line a comparison."""
    keep_freed_memory()  # of the process, so both sides gain
    config = agnews_pyramid.get_config()
    config.data.train_rows, config.data.validation_rows, config.data.test_rows = DOCUMENTS.value, 100, 100
    corpus = setup.load_corpus(config)
    parts = np.array_split(np.arange(len(corpus.train)), ROUNDS.value)
    if MEMORY_OF.value:
        side = MEMORY_OF.value
        run = theirs(corpus, parts, side == "torch_pyg") if "torch" in side else ours(side, corpus, ROUNDS.value).run
        run(0)
        print(peak_memory())
        return
    facts = environment()
    apart = logits_apart(corpus)
    print(f"whole models with the same weights: logits within {apart:.1e}", flush=True)
    if not apart < TOLERANCE:
        raise SystemExit(f"the two models differ by {apart:.1e} > {TOLERANCE}: speeds would compare different things")
    threads, memory = all_cores(), {side: memory_of(side) for side in ("bfloat16", "float32", "torch", "torch_pyg")}
    reference = {"torch": theirs(corpus, parts, whole=False), "torch_pyg": theirs(corpus, parts, whole=True)}
    for dtype in ("bfloat16", "float32"):
        mine = ours(dtype, corpus, ROUNDS.value)
        turns = {"ours": mine.run, **reference}
        rates: dict[str, list[float]] = {name: [] for name in turns}
        for part in range(len(parts)):
            for name in list(turns) if part % 2 == 0 else reversed(turns):
                rates[name].append(turns[name](part))
        for other, what in (("torch", "minilm_agnews"), ("torch_pyg", "pyramid_gnn_agnews")):
            record = {
                "name": f"train_{what}_{dtype}_vs_{other}_float32",
                "ours": round(statistics.median(rates["ours"]), 2),
                "theirs": round(statistics.median(rates[other]), 2),
                "ratio": round(statistics.median(a / b for a, b in zip(rates["ours"], rates[other])), 3),
                "unit": "documents/s",
                "documents": len(corpus.train),
                "rounds": ROUNDS.value,
                "padding_waste": round(mine.waste, 4),
                "compilations": mine.compilations(),
                "logits_apart": apart,
                "peak_memory_mb": {"ours": memory[dtype], "theirs": memory[other]},
                "torch_threads": threads,
                "hardware": hardware(facts),
                "commit": facts["git"]["commit"],
                "dirty": facts["git"]["dirty"],
            }
            print(record, flush=True)
            append_result(OUTPUT.value, record)
        del mine, turns
        gc.collect()


if __name__ == "__main__":
    app.run(main)
