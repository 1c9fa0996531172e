"""The graph of one document, drawn as the indented outline of its text: what a person can check by reading.

Units stand in reading order from top to bottom, each under the unit that holds it (a sentence above its phrases) and
indented by its level. Lines on the left join a unit to its holder; arcs on the right join the others, the heavier the edge
the wider and darker. Colour is the attention that pooling gave the unit (``SHARES``).
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from textfuse_jax.evaluation.figures import BLUE, GREEN, ORANGE, VERMILION, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_NODES = 60  # of one document; beyond, a page can't be read
WRAP = 76  # characters a line of a box of the coarsest level
HOLDER_LINES = 2  # of a unit whose parts stand below it anyway
LINE, GAP, INDENT, WIDTH, ARCS = 0.175, 0.09, 0.4, 6.0, 2.0  # inches: a text line, between boxes, a level, boxes, arcs
HEAD, FOOT, MARGIN = 0.55, 0.75, 0.2  # inches: title, legends, sides
LEVEL_COLOURS = (BLUE, GREEN, "#CC79A7")  # of the arcs within level 0, 1, 2
HIERARCHY = "#555555"
SHARES = {
    "pool/looks": "attention, through self-attention",
    "pool/beta": "pooling attention $\\beta$ of the unit",
}
"""What a model's ``out`` may have of the units' shares in what is pooled -> what the scale calls it; the first that is there is
drawn, because behind self-attention beta weighs mixtures of units."""


class DocumentGraph(NamedTuple):
    """The nodes and edges of one document, indices counted from 0 within it.

    Attributes:
      level: scale of each node, 0 the finest; parent: node that holds it, -1 for none; beta: its share in what is pooled,
        one of ``SHARES``, or None.
      senders, receivers, weight: the edges, without padding.
    """

    level: Int[np.ndarray, "u"]
    parent: Int[np.ndarray, "u"]
    senders: Int[np.ndarray, "e"]
    receivers: Int[np.ndarray, "e"]
    weight: Float[np.ndarray, "e"]
    beta: Float[np.ndarray, "u"] | None


def document_graph(
    slot: int,
    document: Int[np.ndarray, "u"],
    level: Int[np.ndarray, "u"],
    parent: Int[np.ndarray, "u"],
    senders: Int[np.ndarray, "e"],
    receivers: Int[np.ndarray, "e"],
    weight: Float[np.ndarray, "e"],
    beta: Float[np.ndarray, "u"] | None = None,
) -> DocumentGraph:
    """Cut one document out of one row of ``NodeRows``; its nodes keep their order.

    Raises:
      ValueError: the slot holds no node, or an edge joins the document to another (which no model of this package makes).
    """
    document, senders, receivers, parent = map(np.asarray, (document, senders, receivers, parent))
    mine = np.flatnonzero(document == slot)
    if not len(mine):
        raise ValueError(f"slot {slot} holds no node; slots with nodes: {sorted(set(document.tolist()))}")
    new = np.full(max(len(document), int(parent.max(initial=0)), int(senders.max(initial=0))) + 1, -1)
    new[mine] = np.arange(len(mine))
    inside = np.isin(senders, mine)
    if (inside != np.isin(receivers, mine)).any():
        edge = int(np.argmax(inside != np.isin(receivers, mine)))
        raise ValueError(f"edge {edge} ({senders[edge]} to {receivers[edge]}) leaves the document in slot {slot}")
    return DocumentGraph(
        level=np.asarray(level)[mine],
        parent=new[parent[mine]],
        senders=new[senders[inside]],
        receivers=new[receivers[inside]],
        weight=np.asarray(weight)[inside],
        beta=None if beta is None else np.asarray(beta)[mine],
    )


def share_of(out: Mapping[str, object]) -> str | None:
    """Which of ``SHARES`` is to be drawn of a model's ``out``; None: it has none."""
    return next((share for share in SHARES if share in out), None)


def reading_order(level: Int[np.ndarray, "u"], parent: Int[np.ndarray, "u"]) -> list[int]:
    """Nodes depth first: each directly before those it holds, siblings by index (their order in the text)."""
    children: dict[int, list[int]] = {}
    for node, holder in enumerate(parent.tolist()):
        children.setdefault(holder if 0 <= holder < len(level) and holder != node else -1, []).append(node)
    order: list[int] = []
    waiting = children.get(-1, [])[::-1]
    while waiting:
        node = waiting.pop()
        order.append(node)
        waiting += children.get(node, [])[::-1]
    return order


def undirected(senders: Int[np.ndarray, "e"], receivers: Int[np.ndarray, "e"], weight: Float[np.ndarray, "e"]) -> dict:
    """Edges as (lower node, higher node) -> weight: both directions are one line, the heavier counts; self-loops go."""
    edges: dict[tuple[int, int], float] = {}
    for a, b, w in zip(np.asarray(senders).tolist(), np.asarray(receivers).tolist(), np.asarray(weight).tolist()):
        if a != b:
            edge = (min(a, b), max(a, b))
            edges[edge] = max(w, edges.get(edge, w))
    return edges


def draw_document_graph(
    texts: Sequence[str],
    graph: DocumentGraph,
    *,
    title: str = "",
    label: str | None = None,
    predicted: str | None = None,
    probability: float | None = None,
    level_names: Sequence[str] = ("phrase", "sentence", "document"),
    share: str = "pool/beta",
) -> Figure:
    """The units of one document and the edges between them.

    Args:
      texts: text of each node.
      graph: see ``DocumentGraph``; ``document_graph`` cuts it out of a row. Without edges only the units are drawn.
      title: the document's text or id; its start becomes the title.
      label, predicted, probability: true class, predicted class and its probability, for the second line.
      level_names: what a node of level 0, 1, ... is, for the legend; a token without text is a special one.
      share: which of ``SHARES`` ``graph.beta`` is.

    Raises:
      ValueError: no node, more than 60, or as many texts as there aren't nodes.
    """
    n = len(graph.level)
    if not 0 < n <= MAX_NODES or len(texts) != n:
        raise ValueError(f"need 1 to {MAX_NODES} nodes and a text for each, got {n} nodes and {len(texts)} texts")
    depth, holders = int(graph.level.max()) - graph.level, set(np.asarray(graph.parent).tolist())
    boxes, bottom = [Box(0, 0, 0, "")] * n, 0.0
    for node in reading_order(graph.level, graph.parent):
        kept = HOLDER_LINES if node in holders else None
        lines = textwrap.wrap(printable(texts[node]), WRAP - 6 * int(depth[node]), max_lines=kept, placeholder=" …")
        lines = lines or ["(special token)" if _scale(graph, node, level_names) == "token" else "(no text)"]
        height = LINE * len(lines) + 0.13
        bottom += GAP if graph.level[node] == 0 else 2 * GAP
        boxes[node] = Box(INDENT * float(depth[node]), bottom, height, "\n".join(lines))
        bottom += height
    page = (WIDTH + ARCS + 2 * MARGIN, bottom + HEAD + FOOT)
    figure = new_figure(*page)
    figure.set_layout_engine("none")  # everything is placed in inches
    ax = figure.add_axes((MARGIN / page[0], FOOT / page[1], (WIDTH + ARCS) / page[0], bottom / page[1]))
    ax.set(xlim=(0, WIDTH + ARCS), ylim=(bottom, 0))
    ax.axis("off")
    _draw_edges(ax, graph, boxes, level_names)
    draw_boxes(figure, ax, boxes, graph.beta, SHARES[share])

    verdict = [f"label {label}"] if label is not None else []
    if predicted is not None:
        verdict.append(f"predicted {predicted}" + ("" if probability is None else f" with {100 * probability:.1f} %"))
    x, y = MARGIN / page[0], 1 - 0.12 / page[1]
    figure.text(
        x, y, textwrap.shorten(printable(title), 88, placeholder=" …"), fontsize=11, weight="bold", va="top", parse_math=False
    )
    figure.text(x, y - 0.24 / page[1], ", ".join(verdict), fontsize=10, va="top", parse_math=False)
    return figure


def draw_shares(
    documents: Sequence[tuple[str, Sequence[str], Float[np.ndarray, "u"]]], *, title: str = "", share: str = "pool/beta"
) -> Figure:
    """What pooling looks at in several documents, one below the other, on one scale.

    Args:
      documents: of each its label, the texts of its units in reading order, and the share of each.
      title: stands above.
      share: which of ``SHARES`` that is.
    """
    boxes, heads, bottom = [], [], 0.0
    for label, texts, _ in documents:
        heads.append((label, bottom + 2.2 * GAP))
        bottom += LINE + 4 * GAP
        for text in texts:
            lines = textwrap.wrap(printable(text), WRAP)
            boxes.append(Box(0, bottom, LINE * len(lines) + 0.13, "\n".join(lines)))
            bottom += boxes[-1].height + GAP
    page = (WIDTH + 2 * MARGIN, bottom + HEAD + FOOT)
    figure = new_figure(*page)
    figure.set_layout_engine("none")  # everything is placed in inches
    ax = figure.add_axes((MARGIN / page[0], FOOT / page[1], WIDTH / page[0], bottom / page[1]))
    ax.set(xlim=(0, WIDTH), ylim=(bottom, 0))
    ax.axis("off")
    draw_boxes(figure, ax, boxes, np.concatenate([shares for _, _, shares in documents]), SHARES[share])
    for label, top in heads:
        ax.text(0, top, f"label {label}", fontsize=10, va="top", parse_math=False)
    told = textwrap.shorten(printable(title), 70, placeholder=" …")
    figure.text(MARGIN / page[0], 1 - 0.12 / page[1], told, fontsize=11, weight="bold", va="top", parse_math=False)
    return figure


class Box(NamedTuple):
    """Where a unit stands, in inches from the upper left corner of the drawing, and its wrapped text."""

    left: float
    top: float
    height: float
    text: str

    @property
    def middle(self) -> float:
        return self.top + self.height / 2


def printable(text: str) -> str:
    """The text without control characters, for which no font has a glyph."""
    return "".join(character if character.isprintable() else " " for character in text)


def draw_boxes(
    figure: Figure,
    ax: Axes,
    boxes: Sequence[Box],
    beta: Float[np.ndarray, "u"] | None,
    label: str = SHARES["pool/beta"],
    edges: Sequence[str] | None = None,
    right: float = WIDTH,
) -> None:
    """The boxes with their texts, filled by ``beta``, whose scale gets the ``label``; ``edges``: colour of each border."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LinearSegmentedColormap, Normalize
    from matplotlib.patches import FancyBboxPatch

    colours = LinearSegmentedColormap.from_list("beta", ["#FFFFFF", "#FFE8B8", ORANGE])  # black text reads on all of them
    scale = Normalize(0.0, max(float(np.max(beta)), 1e-9) if beta is not None else 1.0)
    for node, box in enumerate(boxes):
        fill = "white" if beta is None else colours(scale(float(beta[node])))
        size = right - box.left, box.height
        style = {"boxstyle": "round,pad=0,rounding_size=0.06", "clip_on": False}
        style |= {"edgecolor": edges[node] if edges else "#555555", "linewidth": 1.8 if edges else 0.8}
        ax.add_patch(FancyBboxPatch((box.left, box.top), *size, facecolor=fill, zorder=3, **style))
        ax.text(box.left + 0.1, box.middle, box.text, va="center", fontsize=9.5, linespacing=1.25, zorder=4, parse_math=False)
        if beta is not None:
            ax.text(right - 0.08, box.middle, f"{beta[node]:.2f}", va="center", ha="right", fontsize=9.5, weight="bold", zorder=4)
    if beta is not None:
        width, height = figure.get_size_inches()
        bar_axes = figure.add_axes((MARGIN / width, 0.42 / height, 2.2 / width, 0.13 / height))
        bar = figure.colorbar(ScalarMappable(scale, colours), cax=bar_axes, orientation="horizontal")
        bar.set_label(label, fontsize=9, loc="left")
        bar.ax.tick_params(labelsize=8)


def _scale(graph: DocumentGraph, node: int, level_names: Sequence[str]) -> str:
    return level_names[min(int(graph.level[node]), len(level_names) - 1)]


def _draw_edges(ax: Axes, graph: DocumentGraph, boxes: Sequence[Box], level_names: Sequence[str]) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    edges = undirected(graph.senders, graph.receivers, graph.weight)
    heaviest = max(edges.values(), default=0.0) or 1.0
    longest = max((abs(boxes[a].middle - boxes[b].middle) for a, b in edges), default=1.0) or 1.0
    kinds: dict[str, tuple[str, str]] = {}
    for (a, b), weight in sorted(edges.items(), key=lambda item: item[1]):  # the heaviest last, on top
        strength = max(weight, 0.0) / heaviest
        fine, coarse = (a, b) if graph.level[a] <= graph.level[b] else (b, a)
        ends = [_scale(graph, k, level_names) for k in (fine, coarse)]
        if graph.parent[fine] == coarse:
            kind, colour, dash = f"{ends[0]} in its {ends[1]}", HIERARCHY, "-"
            x, y = boxes[coarse].left + INDENT / 2, boxes[fine].middle
            path = Path([(x, y), (boxes[fine].left, y)])
            ax.plot([x, x], [boxes[coarse].top + boxes[coarse].height, y], color=HIERARCHY, linewidth=0.8, zorder=1)
        else:
            same = graph.level[a] == graph.level[b]
            kind = f"{ends[0]} and {ends[1]}"
            colour, dash = (LEVEL_COLOURS[int(graph.level[a]) % len(LEVEL_COLOURS)] if same else VERMILION), "-" if same else "--"
            y_a, y_b = boxes[a].middle, boxes[b].middle
            reach = WIDTH + ARCS * (0.2 + 1.1 * (abs(y_a - y_b) / longest) ** 0.7)  # a Bezier arc comes to 3/4 of its handles
            path = Path([(WIDTH, y_a), (reach, y_a), (reach, y_b), (WIDTH, y_b)], [Path.MOVETO, *[Path.CURVE4] * 3])
        kinds[kind] = (colour, dash)
        style = {"linewidth": 0.5 + 3.0 * strength, "alpha": 0.2 + 0.75 * strength, "linestyle": dash, "capstyle": "round"}
        ax.add_patch(PathPatch(path, facecolor="none", edgecolor=colour, zorder=1 + strength, clip_on=False, **style))
    if kinds:
        handles = [Line2D([], [], color=colour, linestyle=dash, linewidth=2.2) for colour, dash in kinds.values()]
        note = f"edges: wider and darker = heavier, the widest {heaviest:.2f}"
        legend = ax.figure.legend(
            handles, kinds, title=note, loc="lower right", ncols=min(3, len(kinds)), fontsize=9, frameon=False
        )
        legend.get_title().set_fontsize(9)
