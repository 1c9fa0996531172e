"""Cascades drawn: as the outline of its replies with the texts, each post under the one it replies to, coloured by its share;
or as bare trees beside each other, where texts must not be shown or would not fit.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float, Int

from textfuse_jax.evaluation.figures import BLUE, GREY, new_figure
from textfuse_jax.evaluation.graph_drawing import GAP, HEAD, HIERARCHY, LINE, MARGIN, Box, draw_boxes, printable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_POSTS = 60  # beyond, a page can't be read
WIDTH, INDENT, FOOT = 8.0, 0.3, 0.75  # inches
DEEPEST = 9  # levels that are indented; replies below stand at the same place
WRAP = 88  # characters a line of the source
SELECTED, OTHER = BLUE, "#AAAAAA"


def reply_order(parent: Int[np.ndarray, "m"]) -> list[int]:
    """The posts as an outline: each followed by the replies below it, in their order."""
    below: dict[int, list[int]] = {}
    for post, above in enumerate(np.asarray(parent).tolist()):
        below.setdefault(above, []).append(post)
    order, pending = [], below.get(-1, [])[::-1]
    while pending:
        post = pending.pop()
        order.append(post)
        pending += below.get(post, [])[::-1]
    return order


def tree_places(parent: Int[np.ndarray, "m"]) -> tuple[Float[np.ndarray, "m"], Int[np.ndarray, "m"]]:
    """Where the posts of a tree are drawn: x, one apart for posts without replies and the middle of its replies for any other,
    and depth, 0 for the source.
    """
    parent, order = np.asarray(parent), reply_order(parent)
    x, depth, below = np.zeros(len(parent)), np.zeros(len(parent), int), [[] for _ in parent]
    for post in order[1:]:
        depth[post] = depth[parent[post]] + 1
        below[parent[post]].append(post)
    leaves = [post for post in order if not below[post]]
    x[leaves] = np.arange(len(leaves))
    for post in reversed(order):
        if below[post]:
            x[post] = (x[below[post][0]] + x[below[post][-1]]) / 2
    return x, depth


def draw_trees(
    parents: Sequence[Int[np.ndarray, "m"]],
    colours: Mapping[str, Sequence[np.ndarray]],
    titles: Sequence[str],
    title: str = "",
) -> Figure:
    """Trees of posts without their texts: a column a cascade, a row for each way to colour its posts.

    Args:
      parents: of each cascade, as in ``data.cascades.Cascade``.
      colours: name -> of each cascade a value a post: of bool, blue where True; of float, a share of the cascade's largest.
      titles: of the columns.
      title: of the figure.

    Raises:
      ValueError: no cascade, or lists of different lengths.
    """
    if not parents or len(titles) != len(parents) or any(len(values) != len(parents) for values in colours.values()):
        raise ValueError(f"need cascades, and a title and colours for each, got {len(parents)} cascades, {len(titles)} titles")
    figure = new_figure(2.6 * len(parents) + 0.8, 2.4 * len(colours) + 0.6)
    for row, (axes, (name, values)) in enumerate(
        zip(figure.subplots(len(colours), len(parents), squeeze=False), colours.items())
    ):
        for ax, parent, value, told in zip(axes, parents, values, titles):
            x, depth = tree_places(parent)
            for post, above in enumerate(np.asarray(parent).tolist()):
                if above >= 0:
                    ax.plot([x[post], x[above]], [depth[post], depth[above]], color=HIERARCHY, linewidth=0.8, zorder=1)
            shares = value.dtype != bool
            fill = value / max(float(value.max()), 1e-9) if shares else np.where(value, SELECTED, "#FFFFFF")
            ax.scatter(
                x,
                depth,
                s=42,
                c=fill,
                edgecolors=[GREY if shares or not v else SELECTED for v in value],
                linewidths=0.8,
                zorder=2,
                **({"cmap": "YlOrBr", "vmin": 0, "vmax": 1} if shares else {}),
            )
            ax.margins(0.12)
            ax.invert_yaxis()
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_visible(False)
            if not row:
                ax.set_title(told, fontsize=8)
        axes[0].set_ylabel(name, fontsize=8)
    figure.suptitle(title, fontsize=10)
    return figure


def draw_cascade(
    texts: Sequence[str],
    parent: Int[np.ndarray, "m"],
    *,
    share: Float[np.ndarray, "m"] | None = None,
    selected: Bool[np.ndarray, "m"] | None = None,
    minutes: Float[np.ndarray, "m"] | None = None,
    title: str = "",
    share_name: str = "share of the post in the pooled vector",
) -> Figure:
    """The posts of one cascade and their replies.

    Args:
      texts, parent: as in ``data.cascades.Cascade``.
      share: what fills the boxes; None: nothing.
      selected: posts with a blue border: those chosen for rewriting; None: no borders.
      minutes: of each post since the source, NaN where unknown; None: not told.
      title: the first line.
      share_name: of the scale of colours.

    Raises:
      ValueError: no post, more than 60, or lists of different lengths.
    """
    n = len(texts)
    if not 0 < n <= MAX_POSTS or len(parent) != n:
        raise ValueError(f"need 1 to {MAX_POSTS} posts and a parent for each, got {n} posts and {len(parent)} parents")
    boxes, depth, bottom = [Box(0, 0, 0, "")] * n, np.zeros(n, int), 0.0
    order = reply_order(parent)
    for post in order:
        depth[post] = 0 if parent[post] < 0 else depth[parent[post]] + 1
        left = INDENT * min(int(depth[post]), DEEPEST)
        when = "" if minutes is None or not minutes[post] > 0 else f"+{minutes[post]:.0f} min  "
        lines = textwrap.wrap(when + printable(texts[post]), int(WRAP - left * 11), max_lines=3, placeholder=" …")
        height = LINE * max(len(lines), 1) + 0.13
        bottom += GAP
        boxes[post] = Box(left, bottom, height, "\n".join(lines) or "(no text)")
        bottom += height
    page = (WIDTH + 2 * MARGIN, bottom + HEAD + FOOT)
    figure = new_figure(*page)
    figure.set_layout_engine("none")  # everything is placed in inches
    ax = figure.add_axes((MARGIN / page[0], FOOT / page[1], WIDTH / page[0], bottom / page[1]))
    ax.set(xlim=(0, WIDTH), ylim=(bottom, 0))
    ax.axis("off")
    for post in order:
        if parent[post] >= 0:
            above, box = boxes[parent[post]], boxes[post]
            x = above.left + INDENT / 2 if box.left > above.left else above.left - INDENT / 2
            ax.plot(
                [x, x, box.left], [above.top + above.height, box.middle, box.middle], color=HIERARCHY, linewidth=0.8, zorder=1
            )
    edges = None if selected is None else [SELECTED if chosen else OTHER for chosen in np.asarray(selected, bool)]
    draw_boxes(figure, ax, boxes, share, share_name, edges, WIDTH)
    figure.text(MARGIN / page[0], 1 - 0.12 / page[1], printable(title), fontsize=11, weight="bold", va="top", parse_math=False)
    if edges is not None:
        note = f"blue border: selected ({int(np.sum(selected))} of {n} posts)"
        figure.text(1 - MARGIN / page[0], 0.3 / page[1], note, fontsize=9, ha="right", color=BLUE)
    return figure
