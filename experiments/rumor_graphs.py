"""Cascades drawn: posts coloured by the attention of pooling, and by what was selected for rewriting; no texts.

    TEXTFUSE_DATA=DIR python -m experiments.rumor_graphs [:runlocal]

TAPE's GAT with gated fusion on PHEME, fold 0, with attention pooling in the mean's place; DBSCAN selects 30 % of the posts. The
cascades are the first validation cascades of each class, of a size that can be read. Writes docs/figures/rumor_graphs.png and a
line with what of the attention lies on the source and on selected posts. About a minute on a core, features once before.
``:runlocal``: trees of docstrings, nothing selected by features.
"""

from __future__ import annotations

import importlib
import sys

import numpy as np

from experiments.rumor_fusion import GAT, fused
from experiments.study import RESULTS, WORK
from textfuse_jax.data.corpus import VALIDATION
from textfuse_jax.data.selection import select
from textfuse_jax.evaluation import figures
from textfuse_jax.evaluation.cascade_drawing import draw_trees
from textfuse_jax.evaluation.records import append_result, environment, hardware
from textfuse_jax.training import setup, sweep
from textfuse_jax.training.grid import with_fields

FIGURE = RESULTS.parents[1] / "docs" / "figures" / "rumor_graphs.png"
ATTENTION = {"model.pooling": "textfuse_jax.models.pooling:Attention", "training.total_epochs": 8}
SHOWN, FEWEST, MOST = 4, 12, 30  # cascades, of each class alike; posts


def main() -> None:
    """The command line."""
    arguments = [argument.lstrip(":") for argument in sys.argv[1:]]
    if arguments not in ([], ["runlocal"]):
        raise SystemExit("usage: python -m experiments.rumor_graphs [:runlocal]")
    local = bool(arguments)
    fields = {k: v for k, v in GAT.items() if not (local and k == "cascades.inputs")} | ATTENTION
    fields = fields | {"training.total_epochs": 1} if local else fused("Gated", fields=fields)
    config = importlib.import_module("configs.rumor_pheme").get_config("docstrings,scratch" if local else None)
    config = with_fields(config, fields | {"data.folds": 5, "data.seed": 0})
    material = setup.prepare(config, setup.load_corpus(config), print)
    program = sweep.Trials(config, material, ["data.fold", "seed"], 1, print)
    (result,) = program.run([{"data.fold": 0, "seed": 0}])
    corpus, cascades = material.corpus, material.corpus.cascades
    if local:
        selected, _ = select(cascades, np.ones((cascades.posts, 1), np.float32), rule="degree")
    else:
        selected = material.posts["selected"]
    beta = attention(program, cascades)
    held = np.flatnonzero(corpus.roles[0] & VALIDATION)
    readable = [i for i in held.tolist() if FEWEST <= cascades.sizes[i] <= MOST]
    classes = range(len(corpus.class_names))
    each = max(1, SHOWN // len(classes))
    shown = [i for label in classes for i in [i for i in readable if cascades.labels[i] == label][:each]][:SHOWN]
    of = lambda values: [values[cascades.bounds[i] : cascades.bounds[i + 1]] for i in shown]  # noqa: E731
    figure = draw_trees(
        of(cascades.parent),
        {"attention of pooling": of(beta), "selected (blue)": of(selected)},
        [f"{corpus.class_names[cascades.labels[i]]}, {cascades.sizes[i]} posts" for i in shown],
        f"{cascades.name}: the source on top; darker: a larger share of what is pooled",
    )
    figures.save(figure, WORK / "local" / "rumor_graphs.png" if local else FIGURE)
    many = [i for i in held.tolist() if cascades.sizes[i] >= FEWEST]
    parts = [slice(cascades.bounds[i], cascades.bounds[i + 1]) for i in many]
    line = {
        "study": "rumor_graphs",
        "cascades": len(many),
        "of_at_least_posts": FEWEST,
        "attention_on_source": float(np.mean([beta[p][0] for p in parts])),
        "uniform_on_source": float(np.mean([1 / len(beta[p]) for p in parts])),
        "attention_on_selected": float(np.mean([beta[p][selected[p]].sum() for p in parts])),
        "uniform_on_selected": float(np.mean([selected[p].mean() for p in parts])),
        "validation": result["validation"]["accuracy"],
        **{fact: value for fact, value in material.notes().items() if fact in ("selection", "augmentation")},
    }
    machine = environment()
    line |= {"hardware": hardware(machine), "commit": machine["git"]["commit"], "uncommitted_changes": machine["git"]["dirty"]}
    append_result(WORK / "local" / "rumor_graphs.jsonl" if local else RESULTS / "rumor_graphs.jsonl", line)
    print({key: value for key, value in line.items() if isinstance(value, float)})


def attention(program: sweep.Trials, cascades) -> np.ndarray:
    """Share of each validation post in the pooled vector of its cascade, by the best weights; f32 [posts], else 0."""
    beta = np.zeros(cascades.posts, np.float32)
    for batch in range(program.held_batches):
        post, share = (x[0] for x in program.outputs(lambda rows, out: (rows.post, out["pool/beta"]), batch))
        inside = post < cascades.posts
        beta[post[inside]] = share[inside]
    return beta


if __name__ == "__main__":
    main()
