"""Figures hold what they were given: the numbers, the labels, the marks; and their files aren't blank."""

import matplotlib.image
import numpy as np
import pytest
from matplotlib.text import Text

from textfuse_jax.evaluation import figures as f
from textfuse_jax.evaluation import graph_drawing as g
from textfuse_jax.evaluation import setting_figures as s
from textfuse_jax.evaluation.calibration import reliability_bins


def words(figure) -> str:
    return "\n".join(t.get_text() for t in figure.findobj(Text) if t.get_text())


def assert_drawn(figure, path) -> np.ndarray:
    pixels = matplotlib.image.imread(f.save(figure, path))
    assert pixels.shape[0] > 300 and pixels.shape[1] > 300
    assert pixels[..., :3].var() > 1e-3
    return pixels


def test_learning_curve(tmp_path):
    steps = np.arange(1, 41)
    figure = f.learning_curve(steps, 2.0 / steps, np.array([20, 40]), np.array([0.4, 0.5]), np.array([0.9, 0.8]), best_step=20)
    assert_drawn(figure, tmp_path / "made" / "curve.png")
    text = words(figure)
    for expected in ("training step", "loss (nats per document)", "validation accuracy (%)", "best step 20, accuracy 90.00 %"):
        assert expected in text
    below = figure.axes[1].lines[0]
    np.testing.assert_allclose(below.get_ydata(), [90, 80])


def test_learning_curve_of_a_run_that_was_never_evaluated(tmp_path):
    none = np.array([])
    assert_drawn(f.learning_curve(np.array([1, 2]), np.array([1.0, 0.5]), none, none, none), tmp_path / "a.png")


def test_moving_average_is_centred_and_skips_nan():
    np.testing.assert_allclose(f.moving_average(np.array([0.0, 3.0, 6.0, 0.0]), 1), [1.5, 3.0, 3.0, 3.0])
    np.testing.assert_allclose(f.moving_average(np.array([1.0, np.nan, 3.0]), 1), [1.0, 2.0, 3.0])
    np.testing.assert_allclose(f.moving_average(np.array([1.0, 5.0]), 0), [1.0, 5.0])


def test_confusion_matrix_shows_counts_shares_and_names(tmp_path):
    figure = f.confusion_matrix(np.array([[3, 1], [0, 1234]]), ["cost < $5 or $6", "rest"])
    text = words(figure)
    for expected in ("1,234", "75.0 %", "25.0 %", "predicted class", "true class", "rest", "1,238 documents, 99.92 % right"):
        assert expected in text
    assert_drawn(figure, tmp_path / "c.png")
    image = figure.axes[0].images[0].get_array()
    np.testing.assert_allclose(image, [[0.75, 0.25], [0, 1]])


def test_confusion_matrix_of_many_classes_and_of_an_empty_row(tmp_path):
    counts = np.eye(20, dtype=int) * 50
    counts[3] = 0
    assert_drawn(f.confusion_matrix(counts, [f"a long newsgroup name {i}" for i in range(20)]), tmp_path / "c.png")
    with pytest.raises(ValueError, match="2 class names"):
        f.confusion_matrix(counts, ["a", "b"])


def test_reliability_diagram_states_both_errors(tmp_path):
    confidence, correct = np.full(100, 0.9), np.arange(100) < 60
    figure = f.reliability_diagram(confidence, correct, np.full(100, 0.6), temperature=2.5)
    text = words(figure)
    assert "as trained, ECE 30.00 %" in text and "scaled, T = 2.50, ECE 0.00 %" in text
    assert "documents" in text and "stated probability of the prediction" in text
    assert_drawn(figure, tmp_path / "r.png")
    heights = sorted(bar.get_height() for bar in figure.axes[1].patches)
    assert heights[-2:] == [100, 100] and heights[:-2] == [0] * 28
    assert "scaled" not in words(f.reliability_diagram(confidence, correct))


def test_length_strata_cover_every_length_once():
    lengths = np.array([3, 3, 3, 4, 5, 9, 9, 20])
    ranges = f.length_strata(lengths, 4)
    assert [sum(low <= n <= high for low, high in ranges) for n in lengths] == [1] * 8
    assert f.length_strata(np.array([7, 7, 7])) == [(7, 7)]


def test_length_accuracy_by_hand(tmp_path):
    figure = f.length_accuracy(np.array([5] * 4 + [10] * 4), np.array([1, 1, 1, 0, 1, 1, 0, 0]), strata=2)
    text = words(figure)
    for expected in ("75.0 %", "50.0 %", "all documents, 62.50 %", "n = 4", "text length (tokens)", "accuracy (%)"):
        assert expected in text
    assert_drawn(figure, tmp_path / "l.png")
    with pytest.raises(ValueError, match="n >= 1"):
        f.length_accuracy(np.array([]), np.array([]))


# The graph of one document: phrases 0, 1 in sentence 3, phrase 2 in sentence 4.
LEVEL, PARENT = np.array([0, 0, 0, 1, 1]), np.array([3, 3, 4, -1, -1])
TEXTS = ["Oil at $50", "and $60\x00 soon,", "they said", "Oil at $50 and $60 soon,", "they said"]


def _graph(**changes):
    edges = {
        "senders": np.array([0, 1, 1, 0, 3, 2, 0]),
        "receivers": np.array([1, 0, 2, 0, 4, 4, 3]),
        "weight": np.array([0.2, 0.8, 0.4, 1.0, 0.3, 0.5, 0.5]),
    }
    fields = {"level": LEVEL, "parent": PARENT, "beta": np.array([0.5, 0.2, 0.1, 0.1, 0.1])} | edges | changes
    return g.DocumentGraph(**fields)


def test_sentences_stand_above_their_phrases():
    assert g.reading_order(LEVEL, PARENT) == [3, 0, 1, 4, 2]
    assert g.reading_order(np.zeros(3, int), np.full(3, -1)) == [0, 1, 2]


def test_both_directions_are_one_line_and_self_loops_none():
    graph = _graph()
    assert g.undirected(graph.senders, graph.receivers, graph.weight) == {
        (0, 1): 0.8,
        (1, 2): 0.4,
        (3, 4): 0.3,
        (2, 4): 0.5,
        (0, 3): 0.5,
    }


def test_drawing_shows_units_attention_and_verdict(tmp_path):
    figure = g.draw_document_graph(TEXTS, _graph(), title="Oil $50 $60", label="Business", predicted="World", probability=0.613)
    text = words(figure)
    for expected in ("Oil at $50", "and $60", "0.50", "label Business, predicted World with 61.3 %", "Oil $50 $60"):
        assert expected in text
    for expected in ("phrase and phrase", "sentence and sentence", "phrase in its sentence", "the widest 0.80"):
        assert expected in text
    assert "\x00" not in text and "pooling attention" in text
    assert_drawn(figure, tmp_path / "g.png")


def test_the_scale_says_which_attention_is_drawn(tmp_path):
    """Of a model whose units see one another first, what is looked at, not the share of their mixtures."""
    assert g.share_of({"pool/beta": 0, "graph": 0}) == "pool/beta" and g.share_of({"graph": 0}) is None
    share = g.share_of({"pool/beta": 0, "pool/looks": 0})
    figure = g.draw_document_graph(TEXTS, _graph(), share=share)
    assert "through self-attention" in words(figure) and "pooling attention" not in words(figure)
    figure.draw_without_rendering()
    label = figure.axes[1].xaxis.label.get_window_extent()
    assert label.x0 >= 0 and not label.overlaps(figure.legends[0].get_window_extent())
    assert_drawn(figure, tmp_path / "g.png")


def test_heavier_edges_are_wider_and_darker():
    figure = g.draw_document_graph(TEXTS, _graph())
    arcs = [p for p in figure.axes[0].patches if type(p).__name__ == "PathPatch"]
    assert len(arcs) == 5
    widths, alphas = [p.get_linewidth() for p in arcs], [p.get_alpha() for p in arcs]
    assert widths == sorted(widths) and alphas == sorted(alphas) and widths[-1] > 2 * widths[0]


def test_drawing_without_edges_or_attention(tmp_path):
    empty = np.array([], int)
    figure = g.draw_document_graph(TEXTS, _graph(senders=empty, receivers=empty, weight=np.array([]), beta=None), title="t")
    assert "edges" not in words(figure) and "attention" not in words(figure)
    assert_drawn(figure, tmp_path / "g.png")
    with pytest.raises(ValueError, match="5 nodes and 1 texts"):
        g.draw_document_graph(["a"], _graph())
    nameless = g.draw_document_graph(["", *TEXTS[1:]], _graph(), level_names=("token", "sentence"))
    assert "(special token)" in words(nameless) and "(no text)" in words(g.draw_document_graph(["", *TEXTS[1:]], _graph()))


def test_one_document_is_cut_out_of_its_row():
    """Slot 1 of a row of 6 nodes, padding nodes and edges at 6."""
    document, level, parent = np.array([0, 1, 1, 0, 1, 2]), np.array([0, 0, 0, 1, 1, 0]), np.array([3, 4, 4, 6, 6, 6])
    senders, receivers = np.array([0, 1, 4, 6, 2]), np.array([3, 2, 1, 6, 2])
    cut = g.document_graph(1, document, level, parent, senders, receivers, np.arange(5.0), np.arange(6.0))
    assert cut.level.tolist() == [0, 0, 1] and cut.parent.tolist() == [2, 2, -1]
    assert cut.senders.tolist() == [0, 2, 1] and cut.receivers.tolist() == [1, 0, 1]
    assert cut.weight.tolist() == [1, 2, 4] and cut.beta.tolist() == [1, 2, 4]
    with pytest.raises(ValueError, match="slot 3 holds no node"):
        g.document_graph(3, document, level, parent, senders, receivers, np.arange(5.0))
    with pytest.raises(ValueError, match=r"edge 0 \(0 to 1\) leaves the document"):
        g.document_graph(0, document, level, parent, np.array([0]), np.array([1]), np.ones(1))


def test_shares_of_several_documents_stand_on_one_scale(tmp_path):
    documents = [("World", ["talks ended", "on Friday"], np.array([0.9, 0.1])), ("Sports", ["a goal"], np.array([0.5]))]
    figure = g.draw_shares(documents, title="alpha = 0")
    assert {"alpha = 0", "label World", "label Sports", "talks ended", "0.10", "0.50"} <= set(words(figure).split("\n"))
    colours = [patch.get_facecolor() for patch in figure.axes[0].patches]
    assert len(set(colours)) == 3 and figure.axes[1].get_xlim() == (0, 0.9)
    assert_drawn(figure, tmp_path / "shares.png")


def test_settings_as_dots_and_as_lines(tmp_path):
    rows = [s.Dots("encoder", [0.8, 0.9], [0.82, 0.88]), s.Dots("full", [0.7], beside="encoder")]
    dots = s.setting_dots({"": rows}, "test accuracy")
    assert {"encoder", "full"} <= set(words(dots).split("\n")) and "95 % interval" in words(dots)
    assert "published" not in words(dots) and "not measured" not in words(dots) and "what others are compared" in words(dots)
    (line,) = [line for line in dots.axes[0].lines if line.get_linestyle() == "--"]
    assert line.get_xdata().tolist() == pytest.approx([0.85] * 2) and line.get_ydata().tolist() == [-0.5, 1.5]
    assert_drawn(dots, tmp_path / "dots.png")
    series = {"a": [(4000, [0.9, 0.92]), (1000, [0.8, 0.82])], "b": [(1000, [0.7])]}
    lines = s.setting_lines({"": series}, "training rows", "accuracy", log="x", floor=0.75)
    assert lines.axes[0].get_ylim()[0] == 0.75
    assert {"a", "b", "training rows", "1,000", "4,000"} <= set(words(lines).split("\n"))
    assert_drawn(lines, tmp_path / "lines.png")


def test_settings_of_several_sets_have_a_panel_each(tmp_path):
    rows = [s.Dots("encoder", [0.8, 0.9], [0.82, 0.88]), s.Dots("TextGCN", [0.7], published=True), s.Dots("full", [0.9])]
    dots = s.setting_dots({"one": rows, "two": rows[:1], "three": rows, "four": rows}, "test accuracy")
    assert {"one", "four", "TextGCN"} <= set(words(dots).split("\n")) and "published (cross)" in words(dots)
    assert [ax.get_visible() for ax in dots.axes] == [True] * 4 + [False] * 2
    labels = [label.get_text() for label in dots.axes[0].get_yticklabels()]
    assert labels == ["encoder", "full", "TextGCN"]  # what is published comes last
    told = [[text.get_position()[1] for text in ax.texts if text.get_text() == "not measured"] for ax in dots.axes[:4]]
    assert told == [[], [1], [], []]  # nobody's number of TextGCN is missing
    assert_drawn(dots, tmp_path / "dots.png")
    series = {"b": [(0, [0.7, 0.8]), (1, [0.9])]}
    panels = {"one": {"a": [(1, [0.5])]} | series, "two": series}
    lines = s.setting_lines(panels, "length", "accuracy", ticks={0: "short", 1: "long"}, published={1: 0.9})
    assert {"one", "two", "short", "long", "published"} <= set(words(lines).split("\n"))
    colours = [[c.lines[0].get_color() for c in ax.containers if c.get_label() == "b"] for ax in lines.axes]
    assert colours == [[f.SERIES[1][0]]] * 2  # a series looks the same in every panel
    assert_drawn(lines, tmp_path / "lines.png")


def test_panels_that_share_an_axis_show_all_their_points(tmp_path):
    panels = {"one": {"a": [(1, [0.8]), (2, [0.81])]}, "two": {"a": [(1, [0.2]), (2, [0.95])]}}
    figure = s.setting_lines(panels, "width", "accuracy", log="x")
    for ax in figure.axes:
        assert ax.get_ylim()[0] < 0.2 and ax.get_ylim()[1] > 0.95
    assert [ax.get_ylim()[0] for ax in s.setting_lines(panels, "width", "accuracy", floor=0.5).axes] == [0.5, 0.5]
    apart = s.setting_lines(panels, "width", "accuracy", log={"one": "x", "two": "xy"}, share=False)
    assert [ax.get_yscale() for ax in apart.axes] == ["linear", "log"] and apart.axes[0].get_ylim()[0] > 0.7


def test_reliability_of_several_models(tmp_path):
    table = reliability_bins(np.array([0.9, 0.9, 0.9, 0.3]), np.array([True, True, False, False]))
    scaled = reliability_bins(np.array([0.7, 0.7, 0.7, 0.3]), np.array([True, True, False, False]))
    figure = s.reliability_panels({name: {"before": table, "after": scaled} for name in ("one", "two", "three", "four")})
    assert {"one", "four", "before scaling", "after scaling"} <= set(words(figure).split("\n"))
    assert [ax.get_visible() for ax in figure.axes] == [True] * 4 + [False] * 2
    drawn = {c.get_label(): c.lines[0].get_xydata() for c in figure.axes[0].containers}
    np.testing.assert_allclose(drawn["before scaling"], [[0.296, 0], [0.896, 2 / 3]], atol=1e-9)
    np.testing.assert_allclose(drawn["after scaling"], [[0.304, 0], [0.704, 2 / 3]], atol=1e-9)
    assert_drawn(figure, tmp_path / "reliability.png")
