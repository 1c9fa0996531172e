"""Strong and weak scaling of training over devices: both engines and FSDP, measured, and a projection beyond.

    TEXTFUSE_DATA=DIR python -m experiments.scaling_study [--devices=1,2,4,8] [--steps=6] [--dtype=bfloat16]

Every point is a process of its own. Where there are fewer accelerators than a point asks for, it runs on virtual CPU devices of
``XLA_FLAGS=--xla_force_host_platform_device_count``: these share the machine's cores, so their speeds show overhead, not
scaling, and the table says "virtual". What they do show: every engine on every number of devices takes the same steps; the
losses of 20 steps at dropout 0.1 in float32, without nearest neighbours and ReLU, are compared with one device's
(``--check_steps``).

A point: documents/s, efficiency against the fewest devices of the same kind (virtual ones are another kind than accelerators),
the time of a step, of its input (assembling and copying a batch) and of an all-reduce of as many bytes as the gradients, timed
alone (FSDP gathers and scatters instead: a lower bound there); what is left of the step is called compute. FLOPs and bytes of a
device's step from XLA's cost analysis, model FLOP utilisation against the matrix-product rate measured on a device, times the
devices (virtual devices share one machine: times one). The projection to 8, 64 and 512 devices takes the measured step of one
device (whatever hardware the study runs on, and ``--assumed_step_ms`` beside it, since a CPU's step says little of
accelerators) and models a ring all-reduce, ``2 (n-1)/n bytes / bandwidth + 2 (n-1) latency``, without overlap: a projection,
not a measurement. JSON lines go to ``experiments/results/scaling_study.jsonl``, the figure to ``docs/figures/scaling.png``.
Takes about 20 minutes on 2 cores.
"""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import time

import numpy as np
from absl import app, flags

HERE = pathlib.Path(__file__).parent
DEVICES = flags.DEFINE_list("devices", ["1", "2", "4", "8"], "numbers of devices")
ENGINES = flags.DEFINE_list("engines", ["jit", "fsdp", "pmap"], "jit, fsdp, pmap")
STEPS = flags.DEFINE_integer("steps", 6, "steps timed a point, after the first two")
CHECK_STEPS = flags.DEFINE_integer("check_steps", 20, "steps whose losses are compared")
DTYPE = flags.DEFINE_string("dtype", "bfloat16", "of the products in the timed points")
ROWS = flags.DEFINE_integer("rows", 8, "rows of 128 tokens: of a batch (strong), of a device (weak)")
BANDWIDTH = flags.DEFINE_float("bandwidth", 100.0, "GB/s each way between accelerators, for the projection")
LATENCY = flags.DEFINE_float("latency", 5.0, "microseconds a hop, for the projection")
ASSUMED = flags.DEFINE_float("assumed_step_ms", 5.0, "a step that is assumed, not measured, for the projection's second line")
OUTPUT = flags.DEFINE_string("output", str(HERE / "results" / "scaling_study.jsonl"), "file the JSON lines are appended to")
FIGURE = flags.DEFINE_string("figure", str(HERE.parent / "docs" / "figures" / "scaling.png"), "where the figure goes")
POINT = flags.DEFINE_string("point", None, "(used by the study itself) JSON of one point to measure in this process")


def engine_of(name: str, devices: int):
    """The engine of that name on the first devices."""
    from textfuse_jax.training.parallel import Jit, Pmap, make_mesh

    mesh = make_mesh(devices)
    return {"jit": lambda: Jit(mesh), "fsdp": lambda: Jit(mesh, ((".", -1),)), "pmap": lambda: Pmap(mesh)}[name]()


def median_seconds(function, repeats: int) -> float:
    """Median time of a call that waits for its result."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def measure(point: dict) -> dict:
    """One point: speeds where ``point["steps"]`` is set, the losses of ``point["check_steps"]`` steps in either case."""
    import jax
    import jax.numpy as jnp

    from configs import agnews_pyramid
    from experiments.workload import make_workload
    from textfuse_jax.evaluation.records import peak_memory
    from textfuse_jax.heap import keep_freed_memory
    from textfuse_jax.training import setup

    keep_freed_memory()
    config = agnews_pyramid.get_config()
    config.encoder.dtype, config.loss.consistency = point["dtype"], 0.0
    config.data.tokens_per_batch = 128 * point["rows"]
    config.data.train_rows, config.data.validation_rows, config.data.test_rows = point["documents"], 100, 100
    if point["check_steps"]:
        config.model.levels, config.model.document_taps = ("01/phrase", "02/sentence"), ()  # two layers: the check needs no more
        # A neighbour chosen by the last digit of a cosine, or a ReLU's kink, turns a rounding into a jump of 1e-5 to 2e-4.
        config.model.edges = tuple(f"textfuse_jax.models.edges:{kind}" for kind in ("window", "hierarchy"))
        config.model.propagate_args.activation = "gelu"
        config.optimizer.schedule, config.optimizer.warmup_fraction = "constant", 0.0
    engine = engine_of(point["engine"], point["devices"])
    work = make_workload(config, setup.load_corpus(config), engine, epochs=1 + point["check_steps"] // 4)
    state, losses, documents = work.state, [0.0], 0
    for number in range(point["check_steps"]):
        state, sums = work.step(state, engine.spread(work.batches.batch(number)), work.key)
        losses.append(float(engine.get(sums)["loss"]))
    found = {"losses": np.diff(losses).tolist(), "platform": jax.devices()[0].platform}
    if not point["steps"]:
        return found
    inputs, times = [], []
    lowered = work.step.lower(state, engine.spread(work.batches.batch(0)), work.key).compile()
    for number in range(2 + point["steps"]):
        start = time.perf_counter()
        batch = work.batches.batch(number)
        spread = jax.block_until_ready(engine.spread(batch))
        middle = time.perf_counter()
        state, _ = lowered(state, spread, work.key)
        jax.block_until_ready(state.step)
        if number >= 2:
            inputs.append(middle - start)
            times.append(time.perf_counter() - middle)
            documents += int((batch.example >= 0).sum())
    cost = lowered.cost_analysis()
    cost = cost[0] if isinstance(cost, list) else cost
    size = sum(x.size * 4 for x in work.params.values())
    collective = 0.0
    if point["devices"] > 1:
        share = jnp.ones((point["devices"], size // 4), jnp.float32)
        add = jax.pmap(lambda x: jax.lax.psum(x, "d"), axis_name="d", devices=list(engine.mesh.devices.flat))
        held = jax.block_until_ready(add(share))
        collective = median_seconds(lambda: jax.block_until_ready(add(held)), 3)
    a = jnp.ones((4096, 1536), point["dtype"])
    product = jax.jit(lambda a, b: jax.lax.dot_general(a, b, (((1,), (1,)), ((), ())), preferred_element_type=jnp.float32))
    jax.block_until_ready(product(a, a))
    rate = 2 * 4096 * 4096 * 1536 / median_seconds(lambda: jax.block_until_ready(product(a, a)), 5)
    tokens = 128 * point["rows"]
    weights = sum(x.size for name, x in work.params.items() if "transformer/layer" in name)
    model_flops = 6 * weights * tokens  # two a parameter and token forward, four backward; attention's few percent left out
    seconds = float(np.median(times))
    return found | {
        "documents_per_second": documents / (sum(times) + sum(inputs)),
        "step_ms": 1e3 * seconds,
        "input_ms": 1e3 * float(np.median(inputs)),
        "collective_ms": 1e3 * collective,
        "xla_gflop": cost.get("flops", 0.0) / 1e9,
        "xla_gigabytes": cost.get("bytes accessed", 0.0) / 1e9,
        "model_gflop": model_flops / 1e9,
        "product_gflop_per_second": rate / 1e9,
        "model_flop_utilisation": model_flops
        / seconds
        / (rate * (1 if jax.devices()[0].platform == "cpu" else point["devices"])),
        "parameter_megabytes": size / 1e6,
        "peak_memory_mb": peak_memory(),
        "kind": jax.devices()[0].device_kind,
    }


def run_point(point: dict, accelerators: int) -> dict:
    """Measures a point in a process of its own, on virtual CPU devices where there are too few accelerators."""
    flags_of = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={point['devices']}"
    virtual = point["devices"] > accelerators
    extra = {"XLA_FLAGS": flags_of.strip(), **({"JAX_PLATFORMS": "cpu"} if virtual else {})}
    command = [sys.executable, "-m", "experiments.scaling_study", f"--point={json.dumps(point)}"]
    done = subprocess.run(command, env=os.environ | extra, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"point {point} failed:\n{done.stderr[-3000:]}")
    return point | {"virtual": virtual} | json.loads(done.stdout.splitlines()[-1])


def project(step_ms: float, megabytes: float, devices: int) -> float:
    """Efficiency at so many devices of weak scaling: compute of one device, modelled ring all-reduce, no overlap."""
    transfer = 2 * (devices - 1) / devices * megabytes / BANDWIDTH.value  # MB / (GB/s) = ms
    ring = transfer + 2 * (devices - 1) * LATENCY.value / 1e3
    return step_ms / (step_ms + ring)


def compute_ms(point: dict) -> float:
    """What of a step is not the collective, timed alone."""
    return max(0.0, point["step_ms"] - point["collective_ms"])


def draw(points: list[dict], projections: dict[float, dict[int, float]], path: pathlib.Path) -> None:
    """Speed over devices for both kinds of scaling, the parts of a step (weak, jit), and the projection."""
    from textfuse_jax.evaluation import figures

    colours = {"jit": figures.BLUE, "fsdp": figures.GREEN, "pmap": figures.VERMILION}
    markers = {"jit": "o", "fsdp": "s", "pmap": "^"}
    figure = figures.new_figure(13.5, 3.8)
    axes = figure.subplots(1, 4)
    virtual = any(p["virtual"] for p in points)
    for ax, kind in zip(axes, ("strong", "weak")):
        for engine, colour in colours.items():
            mine = [p for p in points if p["engine"] == engine and p["scaling"] == kind]
            if mine:
                x, y = [p["devices"] for p in mine], [p["documents_per_second"] for p in mine]
                ax.plot(x, y, marker=markers[engine], color=colour, label=engine)
        ax.set_xscale("log", base=2)
        ax.set_ylim(0)
        ax.set_title(f"{kind} scaling" + (" (virtual devices on shared cores)" if virtual else ""), fontsize=9)
        ax.set_xlabel("devices")
        ax.set_ylabel("documents/s")
        ax.legend(frameon=False, fontsize=8)
    ax, mine = axes[2], [p for p in points if p["engine"] == "jit" and p["scaling"] == "weak"]
    below, parts = np.zeros(len(mine)), (("compute", figures.BLUE), ("collective", figures.ORANGE), ("input", figures.GREY))
    for name, colour in parts:
        height = np.array([compute_ms(p) if name == "compute" else p[f"{name}_ms"] for p in mine])
        ax.bar([str(p["devices"]) for p in mine], height, bottom=below, color=colour, label=name)
        below += height
    ax.set_title("a step, weak scaling, jit", fontsize=9)
    ax.set_xlabel("devices")
    ax.set_ylabel("ms")
    ax.legend(frameon=False, fontsize=8)
    ax = axes[3]
    for (step, shares), style in zip(projections.items(), ("o--", "s:")):
        ax.plot(list(shares), list(shares.values()), style, color=figures.GREY, label=f"a step of {step:.0f} ms")
    ax.legend(frameon=False, fontsize=8)
    ax.set_xscale("log", base=2)
    ax.set_ylim(0, 1.05)
    ax.set_title("weak-scaling efficiency: a projection", fontsize=9)
    ax.set_ylabel("efficiency, share of one device")
    ax.set_xlabel("devices")
    figures.save(figure, path)


def main(_: list[str]) -> None:
    """Checks the losses, measures every point, projects, draws."""
    if POINT.value:
        print(json.dumps(measure(json.loads(POINT.value))))
        return
    from textfuse_jax.evaluation.records import append_result, environment, hardware

    asked = [int(n) for n in DEVICES.value]
    probe = "import jax; d = jax.devices(); print(len(d) if d[0].platform != 'cpu' else 1)"
    accelerators = int(subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True).stdout)
    facts = environment()
    stamp = {"hardware": hardware(facts), "commit": facts["git"]["commit"]}
    check = {"steps": 0, "check_steps": CHECK_STEPS.value, "dtype": "float32", "rows": 8, "documents": 400, "scaling": "check"}
    expected: dict[str, np.ndarray] = {}  # platform -> losses of its first point
    for engine in ENGINES.value:
        for devices in asked:
            found = run_point(check | {"engine": engine, "devices": devices}, accelerators)
            losses = np.array(found["losses"])
            first = expected.setdefault(found["platform"], losses)  # an accelerator's products are rounded in another way
            apart = float(np.abs(losses / first - 1).max())
            print(f"{engine} on {devices}: losses of {len(losses)} steps within {apart:.1e} of the first's", flush=True)
            append_result(
                OUTPUT.value,
                {"name": "same_losses", "engine": engine, "devices": devices, "largest_relative_difference": apart} | stamp,
            )
    points = []
    for scaling in ("strong", "weak"):
        for engine in ENGINES.value:
            for devices in asked:
                rows = ROWS.value * (devices if scaling == "weak" else 1)
                point = {"scaling": scaling, "engine": engine, "devices": devices, "rows": rows, "documents": 1500}
                point["documents"] = max(point["documents"], 4 * rows * (STEPS.value + 3))  # some three texts a row
                point |= {"steps": STEPS.value, "check_steps": 0, "dtype": DTYPE.value}
                found = run_point(point, accelerators)
                like = [p for p in points if all(p[k] == found[k] for k in ("engine", "scaling", "platform"))]
                first = like[0] if like else found
                rate = found["documents_per_second"] / first["documents_per_second"]
                found["efficiency"] = rate * first["devices"] / devices
                points.append(found)
                told = {k: round(v, 3) if isinstance(v, float) else v for k, v in found.items() if k != "losses"}
                print(told, flush=True)
                append_result(OUTPUT.value, {"name": "scaling"} | told | stamp)
    one = next(p for p in points if p["devices"] == min(asked))
    steps = (one["step_ms"], ASSUMED.value)
    projections = {step: {n: project(step, one["parameter_megabytes"], n) for n in (1, 8, 64, 512)} for step in steps}
    measured, assumed = ({str(n): round(share, 4) for n, share in shares.items()} for shares in projections.values())
    line = {"name": "projection", "efficiency": measured, "step_ms": round(one["step_ms"], 1), "kind": one["kind"]}
    line |= {"assumed_step_ms": ASSUMED.value, "efficiency_of_assumed": assumed}
    line |= {"bandwidth_gb_s": BANDWIDTH.value, "latency_us": LATENCY.value}
    print(line, flush=True)
    append_result(OUTPUT.value, line | stamp)
    draw(points, projections, pathlib.Path(FIGURE.value))


if __name__ == "__main__":
    app.run(main)
