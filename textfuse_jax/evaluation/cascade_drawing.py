"""A cascade drawn as the outline of its replies: each post under the one it replies to, coloured by its share."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float, Int

from textfuse_jax.evaluation.figures import BLUE, new_figure
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
