"""Encoding throughput: every layer's mean of AG News texts by MiniLM-L6, beside PyTorch, sentence-transformers, ONNX Runtime.

    TEXTFUSE_DATA=DIR python -m experiments.benchmark_encoding [--documents=1000] [--rounds=5] [--growth] [--profile]

Texts in, the mean of each of layers 0 to 6 for each document out; tokenisation, and our packing, are in the time.
Ours: packed rows of 64, 96 and 128 tokens, bfloat16 and float32.
Theirs: ``encoding_contenders``, batches of 32 padded to their longest.
In every round each contender encodes all texts once, in an order that is reversed from round to round; a line of
``experiments/results/benchmark_encoding.jsonl`` holds the medians over rounds and the median of the rounds' ratios.
Before that, float32 results must agree to 1e-4. Peak memory is that of a fresh process that encodes 256 of the texts.

Further lines: the share of the machine's own matrix-product speed, and the accuracy of logistic regression on bfloat16 and on
float32 features. ``--growth`` times more and longer texts and draws docs/figures/encoding_growth.png; ``--profile`` prints
where the time of a batch goes, and ends. Needs requirements-benchmarks.txt, beside requirements-dev.txt, so that
the tests' environment stays small; ``--without=onnx,sentence_transformers`` does without.
"""

from __future__ import annotations

import gc
import importlib.metadata
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from experiments import encoding_contenders as peers
from experiments import encoding_costs as costs
from textfuse_jax.config import MINILM, default_config
from textfuse_jax.encoders.checkpoints import locate
from textfuse_jax.evaluation import records
from textfuse_jax.evaluation.figures import save
from textfuse_jax.evaluation.records import append_result, environment, hardware
from textfuse_jax.heap import keep_freed_memory
from textfuse_jax.training.setup import load_corpus

ROOT = pathlib.Path(__file__).resolve().parents[1]
FIGURE = ROOT / "docs" / "figures" / "encoding_growth.png"
TOLERANCE = 1e-4

DOCUMENTS = flags.DEFINE_integer("documents", 1000, "test texts encoded in every round")
ROUNDS = flags.DEFINE_integer("rounds", 5, "alternations")
OUTPUT = flags.DEFINE_string(
    "output", str(ROOT / "experiments" / "results" / "benchmark_encoding.jsonl"), "file of the JSON lines"
)
WITHOUT = flags.DEFINE_list("without", [], f"contenders to leave out: {', '.join(peers.PACKAGES)}")
DOWNSTREAM = flags.DEFINE_list("downstream", ["4000", "2000"], "train and validation texts of logistic regression; 0,0 = none")
GROWTH = flags.DEFINE_bool("growth", False, "also time more and longer texts")
FIGURE_PATH = flags.DEFINE_string("figure", str(FIGURE), "where --growth draws")
PROFILE = flags.DEFINE_bool("profile", False, "print where the time of one batch goes, and end")
MEMORY_OF = flags.DEFINE_string("memory_of", "", "for the benchmark's own use: print the peak memory of this contender, in MB")
ONNX_FILE = flags.DEFINE_string("onnx_file", "", "for the benchmark's own use: the exported model")
MAX_LENGTH = flags.DEFINE_integer("max_length", peers.MAX_LENGTH, "for the benchmark's own use: where texts are cut, in tokens")


def peak_memory(name: str, onnx_file: str, texts: Sequence[str], max_length: int = peers.MAX_LENGTH) -> float | None:
    """Peak memory in MB of a fresh process that encodes the texts; None where the system doesn't tell."""
    given = [f"--memory_of={name}", f"--onnx_file={onnx_file}", f"--max_length={max_length}"]
    command = [sys.executable, "-m", "experiments.benchmark_encoding", *given]
    done = subprocess.run(command, cwd=ROOT, input=json.dumps(list(texts)), stdout=subprocess.PIPE, text=True, check=True)
    told = done.stdout.split()[-1]
    return None if told == "unknown" else float(told)


def tell_memory(name: str) -> None:
    """What ``peak_memory`` reads; texts come from standard input."""
    peers.make(name, ONNX_FILE.value, MAX_LENGTH.value)(json.load(sys.stdin))
    print(records.peak_memory() or "unknown")


def difference(mine: np.ndarray, theirs: np.ndarray) -> float:
    """Largest difference of any value; against sentence-transformers, of last layers scaled to length 1."""
    if theirs.shape[1] == 1:
        mine = mine[:, -1:] / np.linalg.norm(mine[:, -1:], axis=-1, keepdims=True)
    return float(np.abs(mine - theirs).max())


def check_agreement(contenders: Mapping[str, peers.Encode], texts: Sequence[str]) -> dict[tuple[str, str], float]:
    """Largest difference of each pair of ours and theirs; a first call, so it compiles too.

    Raises:
      AssertionError: two float32 encoders differ by more than ``TOLERANCE``.
    """
    means = {name: encode(texts) for name, encode in contenders.items()}
    found = {(a, b): difference(means[a], means[b]) for a in peers.DTYPES for b in contenders if b not in peers.DTYPES}
    for (a, b), value in found.items():
        print(f"largest difference, ours {a} and {b}: {value:.2e}", flush=True)
        assert not (a == "float32" and "bfloat16" not in b) or value <= TOLERANCE, (a, b, value)
    return found


def compare(contenders: Mapping[str, peers.Encode], texts: Sequence[str]) -> tuple[dict[str, list[float]], dict]:
    """Documents a second of each contender in each round; GFLOP/s of mere products, dtype -> (a layer's, large) in each."""
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    products: dict[str, list[tuple[float, float]]] = {dtype: [] for dtype in peers.DTYPES}
    for part in range(ROUNDS.value):
        names = list(contenders)
        for name in names if part % 2 == 0 else reversed(names):
            start = time.perf_counter()
            contenders[name](texts)
            rates[name].append(len(texts) / (time.perf_counter() - start))
            if name in peers.DTYPES:
                products[name].append(costs.product_rates(contenders[name].architecture, name))
        print({name: round(values[-1], 1) for name, values in rates.items()}, flush=True)
    return rates, products


def flop_line(mine: peers.Ours, dtype: str, rate: float, products: Sequence[tuple[float, float]], texts: Sequence[str]) -> dict:
    """Our GFLOP/s in the products of real tokens, and with padding, beside mere products of the same shapes."""
    batches, lengths = mine.batches(texts)
    plan = batches.plans[0]
    held = np.concatenate([np.full(plan.shapes[i].rows, plan.shapes[i].tokens) for i in plan.shape])
    per_second = rate / len(texts) * 1e-9
    real, padded = (costs.forward_flop(mine.architecture, x) * per_second for x in (lengths, held))
    same, large = (statistics.median(values) for values in zip(*products))
    return {
        "name": f"encode_{dtype}_flop_share",
        "ours": round(real, 1),
        "theirs": round(same, 1),
        "ratio": round(real / same, 3),
        "unit": "GFLOP/s",
        "what": "ours: products of real tokens, whole run; theirs: mere products of the layers' shapes, 2,048 tokens",
        "ours_with_padding": round(padded, 1),
        "ratio_with_padding": round(padded / same, 3),
        "product_2048": round(large, 1),
        "ratio_of_product_2048": round(real / large, 3),
        "padding_waste": round(batches.waste, 4),
    }


def downstream_line(contenders: Mapping[str, peers.Encode], corpus) -> dict:
    """Validation accuracy of logistic regression on layer 6 and 3 means, both precisions on the same texts."""
    scores, predicted = {}, {}
    for dtype in peers.DTYPES:
        train, test = (
            contenders[dtype](split.texts)[:, [3, 6]].reshape(len(split), -1) for split in (corpus.train, corpus.validation)
        )
        classifier = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=2000))
        predicted[dtype] = classifier.fit(train, corpus.train.labels).predict(test)
        scores[dtype] = float((predicted[dtype] == corpus.validation.labels).mean())
    ours, theirs = scores["bfloat16"], scores["float32"]
    return {
        "name": "encode_downstream_accuracy_bfloat16_vs_float32",
        "ours": round(ours, 4),
        "theirs": round(theirs, 4),
        "ratio": round(ours / theirs, 4),
        "unit": "accuracy",
        "what": "logistic regression on document means of layers 3 and 6; ours: bfloat16 products, theirs: float32 products",
        "difference": round(ours - theirs, 4),
        "predictions_that_differ": int((predicted["bfloat16"] != predicted["float32"]).sum()),
        "train": len(corpus.train),
        "validation": len(corpus.validation),
        "padding_waste": round(contenders["bfloat16"].batches(corpus.validation.texts)[0].waste, 4),
    }


def growth_line(texts: Sequence[str]) -> dict:
    """Times of 250 to 2,000 texts, and of 128 texts of 32 to 512 tokens in rows of that length; draws both."""
    names, counts, lengths = ("bfloat16", "torch_sorted_float32"), (250, 500, 1000, 2000), (32, 64, 128, 256, 512)
    long = [" ".join(texts[i : i + 24]) for i in range(128)]  # more than 512 tokens each
    cases = [(name, "documents", count) for name in names for count in counts]
    cases += [(name, "tokens", length) for name in names for length in lengths]
    given = {case: long if case[1] == "tokens" else texts[: case[2]] for case in cases}
    encode = {case: peers.make(case[0], max_length=case[2] if case[1] == "tokens" else peers.MAX_LENGTH) for case in cases}
    times: dict[tuple, list[float]] = {case: [] for case in cases}
    for case in cases:
        encode[case](given[case][:64])  # compiles
    for _ in range(ROUNDS.value):  # a busy time of the machine falls on all cases
        for case in cases:
            start = time.perf_counter()
            encode[case](given[case])
            times[case].append(time.perf_counter() - start)
    median = {case: statistics.median(values) for case, values in times.items()}
    peak = {case: peak_memory(case[0], "", given[case], case[2] if case[1] == "tokens" else peers.MAX_LENGTH) for case in cases}
    by_count = {name: [median[name, "documents", count] for count in counts] for name in names}
    by_length = {name: [median[name, "tokens", length] for length in lengths] for name in names}
    per_text = {name: [1e3 * t / len(long) for t in times] for name, times in by_length.items()}
    shown = {"bfloat16": "ours, bfloat16", "torch_sorted_float32": "PyTorch, float32, by length"}
    named = [{shown[name]: times for name, times in group.items()} for group in (by_count, per_text)]
    panels = [("documents", "seconds", counts, named[0]), ("tokens per document", "ms per document", lengths, named[1])]
    save(costs.growth_figure(panels), FIGURE_PATH.value)
    return {
        "name": "encode_growth",
        "unit": "slope of log time",
        "documents": counts,
        "tokens": lengths,
        **{f"seconds_by_documents_{name}": [round(t, 3) for t in times] for name, times in by_count.items()},
        **{f"slope_documents_{name}": round(costs.slope(counts, times), 3) for name, times in by_count.items()},
        **{f"ms_per_document_by_tokens_{name}": [round(t, 2) for t in times] for name, times in per_text.items()},
        **{f"slope_tokens_{name}": round(costs.slope(lengths, times), 3) for name, times in per_text.items()},
        **{f"peak_mb_by_documents_{name}": [peak[name, "documents", count] for count in counts] for name in names},
        **{f"peak_mb_by_tokens_{name}": [peak[name, "tokens", length] for length in lengths] for name in names},
    }


def print_profile(texts: Sequence[str]) -> None:
    """A table of the parts of a forward pass, for both precisions."""
    for dtype in peers.DTYPES:
        mine = peers.Ours(dtype)
        rows = jax.tree.map(jnp.asarray, mine.batches(texts)[0].batch(0))
        whole = costs.seconds(mine.forward, rows, repeats=15, of=min)
        parts = costs.parts_of_forward(mine.architecture, mine.params, rows, dtype)
        print(f"\n{dtype}, {rows.tokens.shape[0]} rows of {rows.tokens.shape[1]} tokens, all layers, ms")
        for name, times, each in parts:
            print(f"  {name:36s} {1e3 * each:7.2f} x {times:2d} = {1e3 * each * times:7.1f}  {each * times / whole:6.1%}")
        total = sum(times * each for _, times, each in parts)
        print(f"  {'sum of parts':36s} {'':12s} {1e3 * total:7.1f}  {total / whole:6.1%}")
        print(f"  {'whole forward pass, one program':36s} {'':12s} {1e3 * whole:7.1f}")


def versions(name: str) -> str:
    """The packages a contender runs on."""
    own = {"onnx": ["onnxruntime"], "sentence_transformers": ["sentence-transformers", "torch"]}
    return ", ".join(f"{p} {importlib.metadata.version(p)}" for p in own.get(name, ["transformers", "torch"]))


def main(_: list[str]) -> None:
    """Checks, alternates, prints and appends one line a comparison."""
    keep_freed_memory()  # of the process, so both sides gain
    if MEMORY_OF.value:
        return tell_memory(MEMORY_OF.value)
    config, downstream = default_config(), [int(n) for n in DOWNSTREAM.value]
    config.data.train_rows, config.data.validation_rows = max(100, downstream[0]), max(100, downstream[1])
    config.data.test_rows = max(DOCUMENTS.value, 2000 if GROWTH.value else 256)
    if PROFILE.value:
        config.data.train_rows = config.data.validation_rows = 100
    else:
        peers.require(WITHOUT.value)
    corpus = load_corpus(config)
    if PROFILE.value:
        return print_profile(corpus.test.texts[:256])
    texts, git = corpus.test.texts[: DOCUMENTS.value], environment()["git"]
    shared = {"documents": len(texts), "rounds": ROUNDS.value, "hardware": hardware(environment())}
    shared |= {"commit": git["commit"], "dirty": git["dirty"], "torch_threads": peers.all_cores()}

    def record(line: dict) -> None:
        print(line, flush=True)
        append_result(OUTPUT.value, shared | line)

    with tempfile.TemporaryDirectory() as folder:
        file = str(pathlib.Path(folder) / "minilm.onnx")
        names = [*peers.DTYPES, *(name for name in peers.THEIRS if name not in WITHOUT.value)]
        for name in WITHOUT.value:
            print(f"{name}: left out, no line written", flush=True)
        if "onnx" in names:
            peers.export_onnx(locate(MINILM), pathlib.Path(file))
        memory = {name: peak_memory(name, file, corpus.test.texts[:256]) for name in names}
        contenders = {name: peers.make(name, file) for name in names}
        differences = check_agreement(contenders, corpus.test.texts[:256])
        rates, products = compare(contenders, texts)
    waste = round(contenders["bfloat16"].batches(texts)[0].waste, 4)
    for (mine, peer), value in differences.items():
        record(
            {
                "name": f"encode_minilm_agnews_{mine}_vs_{peer}",
                "ours": round(statistics.median(rates[mine]), 2),
                "theirs": round(statistics.median(rates[peer]), 2),
                "ratio": round(statistics.median(a / b for a, b in zip(rates[mine], rates[peer])), 3),
                "unit": "documents/s",
                "what": f"theirs: {peers.THEIRS[peer]}",
                "versions": versions(peer),
                "padding_waste": waste,
                "largest_difference": float(f"{value:.2e}"),
                "peak_memory_mb": {"ours": memory[mine], "theirs": memory[peer]},
            }
        )
    mine = {dtype: contenders[dtype] for dtype in peers.DTYPES}
    for dtype in peers.DTYPES:
        record(flop_line(mine[dtype], dtype, statistics.median(rates[dtype]), products[dtype], texts))
    del contenders
    gc.collect()
    if all(downstream):
        record(downstream_line(mine, corpus))
    if GROWTH.value:
        record(growth_line(corpus.test.texts))


if __name__ == "__main__":
    app.run(main)
