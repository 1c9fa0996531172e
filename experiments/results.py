"""Tables from the record: ``docs/results.md``, and the blocks between marks of README.md, docs/performance.md, docs/llm.md.

    python -m experiments.results        (or: make results)

Reads ``experiments/results/*.jsonl`` alone; nothing is typed by hand.
"""

from __future__ import annotations

import pathlib
import re

from experiments import cascade_tables, fusion_tables
from experiments.study_tables import sections
from textfuse_jax.evaluation.records import read_results
from textfuse_jax.evaluation.report import markdown_table

ROOT = pathlib.Path(__file__).resolve().parents[1]
RESULTS = ROOT / "experiments" / "results"
HIGHLIGHTS = (
    (
        "encode_minilm_agnews_bfloat16_vs_torch_arrival_float32",
        "encoding, all layers",
        "PyTorch + transformers, float32, as they come",
    ),
    (
        "encode_minilm_agnews_bfloat16_vs_torch_sorted_bfloat16",
        "encoding, all layers",
        "PyTorch + transformers, bfloat16, by length",
    ),
    ("encode_minilm_agnews_bfloat16_vs_onnx", "encoding, all layers", "ONNX Runtime, float32"),
    ("train_pyramid_gnn_agnews_bfloat16_vs_torch_pyg_float32", "training Pyramid-GNN", "PyTorch + PyTorch Geometric, float32"),
    ("train_gcn_vs_pyg_eager", "GCN on cascades", "PyTorch Geometric"),
    ("train_gat_vs_pyg_eager", "GAT on cascades", "PyTorch Geometric"),
    ("train_gcn_trials_vs_pyg_eager", "GCN, 5 folds x 5 seeds together", "PyTorch Geometric, one by one"),
    ("sweep_160_trials_linear_head_vs_one_by_one", "160 trials of a linear head as one program", "the same step, one by one"),
    ("sweep_160_trials_hidden_layer_vs_one_by_one", "160 trials of a hidden layer as one program", "the same step, one by one"),
    ("sweep_160_trials_graph_model_vs_one_by_one", "160 trials of a graph model as one program", "the same step, one by one"),
)
"""Names of recorded comparisons, what ours and what theirs is."""
TARGETS = (
    ("encode_minilm_agnews_bfloat16_vs_torch_sorted_bfloat16", 1.0, "encoding beside PyTorch bfloat16, by length"),
    ("encode_minilm_agnews_bfloat16_vs_torch_sorted_float32", 1.5, "encoding beside PyTorch float32, by length"),
    ("encode_minilm_agnews_bfloat16_vs_torch_arrival_float32", 3.0, "encoding beside PyTorch float32, as texts come"),
    ("encode_minilm_agnews_bfloat16_vs_onnx", 1.1, "encoding beside ONNX Runtime float32"),
    ("encode_bfloat16_flop_share", 0.65, "encoding, share of the rate of mere bfloat16 products of the same shapes"),
    ("train_minilm_agnews_bfloat16_vs_torch_float32", 1.5, "training beside PyTorch float32, encoder and linear head"),
    ("train_pyramid_gnn_agnews_bfloat16_vs_torch_pyg_float32", 1.5, "training beside the same whole model in PyTorch"),
    ("train_gcn_vs_pyg_eager", 2.5, "epoch of GCN on PHEME beside PyTorch Geometric"),
    ("train_gcn_trials_vs_pyg_eager", 5.0, "a trial of 25 trained together beside PyTorch Geometric"),
    ("sweep_160_trials_linear_head_vs_one_by_one", 5.0, "160 trials of a head beside one by one"),
)
"""Names of recorded comparisons, the ratio this project set itself, what is compared."""
METRICS = (("accuracy", "accuracy"), ("f1_macro", "macro-F1"), ("precision_macro", "precision"), ("auc_ovr", "AUC"))


def score(value: float | None, interval: list[float] | None = None) -> str:
    """A share with four digits, and its 95 % interval."""
    if value is None:
        return "–"
    return f"{value:.4f}" + (f" [{interval[0]:.3f}, {interval[1]:.3f}]" if interval else "")


def letters(runs: list[dict]) -> list[str]:
    """A letter for each run, by which the lists below a table refer to it."""
    return [f"({chr(ord('a') + i)})" for i in range(len(runs))]


def runs_table(runs: list[dict]) -> str:
    """Test scores of recorded runs, each with its reference and published line."""
    rows, published = [], {}
    references: set[str] = set()
    for label, run in zip(letters(runs), runs):
        rows.append(
            [f"{run['config']} {label}", f"{run['data']['train']:,}", f"{run['test']['n']:,}", str(run["seed"])]
            + [score(run["validation"]["accuracy"])]
            + [score(run["test"][key], run["test"]["ci95"].get(key)) for key, _ in METRICS]
            + [f"{run['training']['seconds'] / 60:.1f} min"]
        )
        for scores in run["reference"].values():
            if run["fingerprint"] in references:
                continue  # runs on the same rows share their reference
            references.add(run["fingerprint"])
            of = " of characters" if scores.get("of") == "characters" else ""
            rows.append(
                [f"TF-IDF{of} + logistic regression", f"{run['data']['train']:,}", f"{scores['n']:,}", "–", "–"]
                + [score(scores[key]) for key, _ in METRICS]
                + [f"{scores['seconds'] / 60:.2f} min"]
            )
        if "published" in run:
            published[run["published"]["source"].split(" (")[0]] = run["published"]
    for source, scores in published.items():
        rows.append([f"published, {source}", "–", "–", "–", "–"] + [score(scores.get(key)) for key, _ in METRICS] + ["–"])
    header = [
        "run",
        "train rows",
        "test rows",
        "seed",
        "validation accuracy",
        *(f"{name} [95 %]" for _, name in METRICS),
        "training",
    ]
    return markdown_table(header, rows)


def comparisons(runs: list[dict]) -> str:
    """One line a run: difference from the reference with its interval, McNemar's p, and where it ran."""
    lines = []
    for label, run in zip(letters(runs), runs):
        c = run["comparison"]
        if "accuracy_difference" not in c:
            continue
        low, high = (100 * x for x in c["accuracy_difference_ci95"])
        lines.append(
            f"- {label} {run['data']['train']:,} rows: {100 * c['accuracy_difference']:+.2f} points over TF-IDF + "
            f"logistic regression (95 % {low:+.2f} to {high:+.2f}), McNemar p = {c['mcnemar_p_vs_tfidf_logreg']:.2g}; "
            f"{run['training']['documents_per_second']:.0f} documents/s, {run['hardware']}"
        )
    return "\n".join(lines)


def newest(pattern: str, name: str | None = None) -> list[dict]:
    """The newest line of more than one round of each comparison on each hardware in the files of that pattern; of ``name`` all of
    the newest commit."""
    records = [r for path in sorted(RESULTS.glob(pattern)) for r in read_results(path)]
    if name:
        mine = [r for r in records if r["name"] == name]
        last = [r for r in mine if r["commit"] == mine[-1]["commit"]]
        return list({(r.get("scaling"), r.get("engine"), r.get("devices")): r for r in last}.values())
    found = {(r["name"], r["hardware"]): r for r in records if "ratio" in r and r.get("rounds", 2) > 1}  # one round is no median
    return list(found.values())


def leading(runs: list[dict]) -> list[dict]:
    """The last run of each config on each number of rows, the best first: what the README shows; docs/results.md has all."""
    last = {(run["config"], run["data"]["train"]): run for run in runs}
    return sorted(last.values(), key=lambda run: -run["test"]["accuracy"])


def highlights(records: list[dict]) -> str:
    """The comparisons of the README, in words: a row a comparison, a column for each of the two machines measured last."""
    shown = {name for name, *_ in HIGHLIGHTS}
    machines = list(dict.fromkeys(r["hardware"] for r in records if r["name"] in shown))[-2:]
    found = {(r["name"], r["hardware"]): r for r in records}
    rows = []
    for name, ours, theirs in HIGHLIGHTS:
        cells = [found.get((name, machine)) for machine in machines]
        known = [r and f"{r['ratio']:.2f}x ({r['ours']:,g} : {r['theirs']:,g} {r['unit']})" for r in cells]
        rows.append([ours, theirs, *(cell or "not measured" for cell in known)])
    return markdown_table(["what", "beside", *machines], rows, left=2)


def target_table(records: list[dict]) -> str:
    """What was wanted and what was measured, a column a machine."""
    machines = list(dict.fromkeys(r["hardware"] for r in records if r["name"] in {name for name, *_ in TARGETS}))
    found = {(r["name"], r["hardware"]): r["ratio"] for r in records}
    rows = []
    for name, wanted, what in TARGETS:
        cells = [found.get((name, machine)) for machine in machines]
        shown = [told(ratio, ".2f") + (" (short)" if ratio is not None and round(ratio, 2) < wanted else "") for ratio in cells]
        rows.append([what, f"{wanted:g}", *shown])
    return markdown_table(["comparison, ratio", "wanted", *machines], rows)


def told(value: float | None, form: str) -> str:
    """A number, or that it wasn't measured."""
    return "not measured" if value is None else format(value, form)


def benchmark_table(records: list[dict]) -> str:
    """Speed beside what a user would pick instead."""
    header = ["comparison", "ours", "theirs", "ratio", "unit", "peak memory, MB", "documents, rounds", "commit", "hardware"]
    records = sorted(records, key=lambda r: (r["name"].partition("_vs_")[0], r["name"]))  # stable: hardware as it came
    rows = [[r["name"], *(told(r[k], form) for k, form in (("ours", ","), ("theirs", ","), ("ratio", ".2f")))] for r in records]
    about = [
        [
            f"{r['documents']:,}, {r['rounds']}" if "documents" in r else "–",
            (r["commit"] or "none")[:7] + "*" * bool(r.get("dirty")),
        ]
        for r in records
    ]
    whole = [[*row, r["unit"], memory(r), *more, r["hardware"]] for row, r, more in zip(rows, records, about)]
    return markdown_table(header, whole) + "\n\n`*`: with uncommitted changes. Rows of older commits are of older code."


def memory(record: dict) -> str:
    """Peak memory of both sides, each in a process of its own, or of the process that held both."""
    peak = record.get("peak_memory_mb")
    if isinstance(peak, dict):
        return " / ".join(told(peak[side], ",.0f") for side in ("ours", "theirs"))
    return f"{peak:,} (both)" if peak else "–"


def scaling_tables() -> str:
    """What ``scaling_study`` measured, its check and its projection."""
    if not (RESULTS / "scaling_study.jsonl").exists():
        return "The scaling study: not measured."
    points, checks = newest("scaling_study.jsonl", "scaling"), newest("scaling_study.jsonl", "same_losses")
    header = [
        "scaling",
        "engine",
        "devices",
        "documents/s",
        "efficiency",
        "step, ms",
        "compute, ms",
        "collective, ms",
        "input, ms",
        "GFLOP, GB a device",
        "MFU",
        "peak, MB",
    ]
    rows = [
        [p["scaling"], p["engine"], f"{p['devices']}{' virtual' if p['virtual'] else ''}", f"{p['documents_per_second']:.1f}"]
        + [f"{p['efficiency']:.2f}", f"{p['step_ms']:.0f}", f"{max(0, p['step_ms'] - p['collective_ms']):.0f}"]
        + [f"{p['collective_ms']:.0f}", f"{p['input_ms']:.1f}", f"{p['xla_gflop']:,.0f}, {p['xla_gigabytes']:,.1f}"]
        + [f"{p['model_flop_utilisation']:.0%}", f"{p['peak_memory_mb']:,}"]
        for p in points
    ]
    same = [[c["engine"], str(c["devices"]), f"{c['largest_relative_difference']:.1e}"] for c in checks]
    projections = newest("scaling_study.jsonl", "projection")
    if not (points and checks and projections):
        return "The scaling study: not finished."
    projection = projections[-1]
    said = {
        key: ", ".join(f"{n} devices {share:.1%}" for n, share in projection.get(key, {}).items())
        for key in ("efficiency", "efficiency_of_assumed")
    }
    assumed = (
        f" With a step of {projection['assumed_step_ms']:.0f} ms, which is an assumption of what an accelerator takes: "
        f"{said['efficiency_of_assumed']}."
        if said["efficiency_of_assumed"]
        else ""
    )
    step = (
        f"of {projection['step_ms']:.0f} ms, one {projection['kind']}" if "step_ms" in projection else "measured on this hardware"
    )
    return "\n\n".join(
        [
            markdown_table(header, rows, left=3),
            "Largest relative difference of the losses of 20 steps from one device (float32, dropout 0.1, a smooth model):",
            markdown_table(["engine", "devices", "difference"], same),
            f"Projection from a step {step}, not a measurement of so many devices (weak scaling, "
            f"{projection['bandwidth_gb_s']:.0f} GB/s a link, {projection['latency_us']:.0f} us a hop, no overlap): "
            f"{said['efficiency']}.{assumed}",
        ]
    )


def growth_table() -> str:
    """Time and memory of a step at the ends of each curve of ``benchmark_growth``, and the slopes of the log-log lines."""
    path = RESULTS / "benchmark_growth.jsonl"
    lines = {r["name"]: r for r in read_results(path)} if path.exists() else {}
    rows = []
    for name, r in lines.items():
        span = f"{r['x'][0]:,} to {r['x'][-1]:,}"
        times, sizes = (f"{r[k][0]:g} to {r[k][-1]:g}" for k in ("step_ms", "memory_mb"))
        rows.append(
            [name.removeprefix("growth_").replace("_", " "), span, times, f"{r['slope']:.2f}", sizes, f"{r['slope_memory']:.2f}"]
        )
    encoding = [r for r in read_results(RESULTS / "benchmark_encoding.jsonl") if r["name"] == "encode_growth"]
    for r in encoding[-1:]:
        for what, unit in (("documents", "seconds_by_documents"), ("tokens", "ms_per_document_by_tokens")):
            for side in ("bfloat16", "torch_sorted_float32"):
                times, xs = r[f"{unit}_{side}"], r[what]
                span, told_times = (
                    f"{xs[0]:,} to {xs[-1]:,}",
                    f"{times[0]:g} to {times[-1]:g} ({unit.split('_by_')[0].replace('_', ' ')})",
                )
                peak = r.get(f"peak_mb_by_{what}_{side}")
                held = f"{peak[0]:g} to {peak[-1]:g} (process)" if peak else "–"
                rows.append([f"encoding, {what}, {side}", span, told_times, f"{r[f'slope_{what}_{side}']:.2f}", held, "–"])
    header = ["what grows", "from, to", "ms a step", "slope", "MB a step", "slope"]
    return markdown_table(header, rows) if rows else "Not measured."


def llm_table() -> str:
    """What ``benchmark_llm`` measured of the client, the newest of each."""
    path = RESULTS / "benchmark_llm.jsonl"
    lines = {r["name"]: r for r in read_results(path)} if path.exists() else {}
    if not {"llm_faults", "llm_same", "llm_kills"} <= lines.keys():
        return "The client: not measured."
    f, same, k = lines["llm_faults"], lines["llm_same"], lines["llm_kills"]
    kinds = ", ".join(f"{count:,} {kind.replace('_', ' ')}" for kind, count in f["calls_by_kind"].items())
    rows = [
        ["documents asked, calls", f"{f['documents']:,}, {f['calls']:,} ({kinds})"],
        ["share of calls that failed", f"{f['fault_share']:.1%}"],
        ["documents lost, paid twice", f"{f['lost']}, {f['paid_twice']}"],
        ["limit, most calls in any 60 s", f"{f['requests_per_minute']:,}, {f['busiest_60_s']:,}"],
        ["calls a minute from start to end, share of the limit", f"{f['share_of_limit']:.3f} in {f['seconds']:.0f} s"],
        ["second run: calls, answers read a second", f"{f['warm_calls']}, {f['warm_answers_per_second']:,}"],
        ["answers made into scores a second", f"{f['scores_per_second']:,}"],
        [f"calls of {same['askers']} threads that ask the same at once", str(same["calls"])],
        [
            f"{k['kills']} kill -9: most answers paid for and lost by one ({k['in_flight']} in flight)",
            str(k["most_paid_and_lost_by_a_kill"]),
        ],
        [f"after them, of {k['documents']:,} documents: unanswered, paid again", f"{k['unanswered']}, {k['paid_again']}"],
    ]
    return markdown_table(["measured on loopback", f["hardware"]], rows)


def fill(path: pathlib.Path, mark: str, block: str) -> None:
    """Puts the block between ``<!-- mark -->`` and ``<!-- end of mark -->``."""
    marks = rf"(<!-- {mark} -->\n).*?(<!-- end of {mark} -->)"
    text, found = re.subn(marks, lambda m: f"{m[1]}\n{block}\n\n{m[2]}", path.read_text(), flags=re.S)
    if found != 1:
        raise SystemExit(f"{path} must hold <!-- {mark} --> and <!-- end of {mark} --> once")
    path.write_text(text)


def build() -> tuple[str, str]:
    """The text of docs/results.md, and the block of the README."""
    runs = read_results(RESULTS / "runs.jsonl") if (RESULTS / "runs.jsonl").exists() else []
    groups: dict[str, list[dict]] = {}
    for run in runs:
        groups.setdefault(run["data"]["name"], []).append(run)
    parts = ["# Results", "Made by `python -m experiments.results` from `experiments/results/*.jsonl`; 95 % bootstrap intervals."]
    block = []
    for name, group in groups.items():
        parts += [f"## {name}", runs_table(group), comparisons(group)]
        block += [f"**{name}**", runs_table(leading(group))]
        changed = [
            f"- {label} commit `{(run['commit'] or 'none')[:9]}`: {fields(run['changed'])}"
            for label, run in zip(letters(group), group)
        ]
        parts += ["Fields that differ from the defaults:", "\n".join(changed)]
    parts += sections()
    parts += cascade_tables.sections()
    parts += fusion_tables.sections()
    parts += ["## Speed", benchmark_table(newest("benchmark_*.jsonl"))]
    block += ["**Speed**, both in one run", highlights(newest("benchmark_*.jsonl"))]
    hardware = sorted({record["hardware"] for record in runs})
    parts.append(f"Hardware of the recorded runs: {'; '.join(hardware)}. On any other hardware: not measured.")
    return "\n\n".join(parts) + "\n", "\n\n".join(block)


def fields(changed: dict[str, str]) -> str:
    """``field = value`` of each changed field."""
    return ", ".join(f"`{field} = {value}`" for field, value in sorted(changed.items()) if field != "name") or "none"


def main() -> None:
    """Writes the four files."""
    page, block = build()
    (ROOT / "docs" / "results.md").write_text(page)
    fill(ROOT / "README.md", "results", block)
    performance = ROOT / "docs" / "performance.md"
    fill(performance, "benchmarks", benchmark_table(newest("benchmark_*.jsonl")))
    fill(performance, "targets", target_table(newest("benchmark_*.jsonl")))
    fill(performance, "scaling", scaling_tables())
    fill(performance, "growth", growth_table())
    fill(ROOT / "docs" / "llm.md", "llm", llm_table())
    print("docs/results.md, docs/performance.md, docs/llm.md and README.md written")


if __name__ == "__main__":
    main()
