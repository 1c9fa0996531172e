"""The whole model: packed = alone = padded, permuted documents, devices, gradients, parts from outside, the config."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from tests.models.fake import FakeEncoder, document, edge_set, init, pack, tokens_of
from textfuse_jax.models import edges as E
from textfuse_jax.models.classifier import TextGraphClassifier, build_model, taps_of
from textfuse_jax.models.head import Head
from textfuse_jax.models.message_passing import GAT, GCN
from textfuse_jax.models.pooling import Attention, Hybrid, Max, Mean
from textfuse_jax.models.pyramid import Pyramid, Single

LEVELS = ("00/phrase", "01/sentence", "01/document")
SHAPES = (document((2, 3), (1, 2)), document((1,)), document((4, 1, 2)), document((2,), (2, 1), (1,)), document((3, 3)))
DOCUMENTS = [(shape, tokens_of(shape, seed)) for seed, shape in enumerate(SHAPES)]
SIZES = {"t": 40, "phrases": 14, "sentences": 8, "slots": 4}
PACKED = [[DOCUMENTS[i] for i in row] for row in [(0, 1), (2, 3, 4), (), (), ()]]
ALONE = [[d] for d in DOCUMENTS]
MOVED = [[DOCUMENTS[i] for i in row] for row in [(), (4, 1, 0), (), (3, 2), ()]]

KINDS = {
    "none": (),
    "window": (E.window,),
    "knn": (functools.partial(E.knn, k=2),),
    "saliency": (E.saliency,),
    "learned": (E.LearnedSaliency(width=4),),
    "hierarchy": (E.hierarchy,),
    "random": (E.random,),
    "full": (E.full,),
    "union": (E.window, E.knn, E.hierarchy),
}
POOLINGS = {
    "mean": Mean(),
    "max": Max(),
    "attention": Attention(),
    "hybrid": Hybrid(alpha="learned", self_attention=True),
    "sentences": Hybrid(levels=(1,)),
}


def model(edges=KINDS["union"], propagate=None, pooling=None, **kwargs):
    """A small classifier on the fake encoder."""
    return TextGraphClassifier(
        encoder=FakeEncoder(LEVELS),
        pyramid=Pyramid(LEVELS, ("phrase", "sentence"), width=8, combine="attention"),
        edges=edges,
        propagate=GCN(8, rounds=1) if propagate is None else propagate,
        pooling=Hybrid() if pooling is None else pooling,
        head=Head(3),
        **kwargs,
    )


def by_document(rows, z):
    """Slots -> the documents in DOCUMENTS' order, told apart by their tokens."""
    found = {}
    for r, s in zip(*np.nonzero(np.asarray(rows.example) >= 0)):
        ids = np.asarray(rows.tokens[r])[np.asarray(rows.document[r]) == s]
        (i,) = [i for i, (_, own) in enumerate(DOCUMENTS) if np.array_equal(own, ids)]
        found[i] = np.asarray(z[r, s])
    return np.stack([found[i] for i in range(len(DOCUMENTS))])


class EveryPart(nn.Module):
    """One encoder and pyramid, then each kind of edges, GCN and GAT, each pooling; to compile each part but once, the graphs
    of all kinds become the rows of one batch."""

    @nn.compact
    def __call__(self, rows, *, train):
        """Logits by the names of edges, propagation, pooling."""
        taps, out = FakeEncoder(LEVELS)(rows, train=train)
        pyramid = Pyramid(LEVELS, ("phrase", "sentence"), width=8, combine="attention")
        nodes, _ = pyramid(taps, rows, saliency=out["encoder/saliency"], train=train)
        graphs = []
        for kind in KINDS.values():
            builders = [b.clone(parent=self) if isinstance(b, nn.Module) else b for b in kind]
            graphs.append(E.add_self_loops(E.union(*builders)(nodes)[0]))
        u, e = nodes.document.shape[1], max(g.weight.shape[1] for g in graphs)

        def widen(x, fill):
            return jnp.pad(x, ((0, 0), (0, e - x.shape[1])), constant_values=fill)

        graphs = [
            g.replace(senders=widen(g.senders, u), receivers=widen(g.receivers, u), weight=widen(g.weight, 0)) for g in graphs
        ]
        batch = jax.tree.map(lambda *x: jnp.concatenate(x), *graphs)
        logits, head = {}, Head(3)
        for name, layer in {"gcn": GCN(8, rounds=1), "gat": GAT(8, rounds=1, heads=2)}.items():
            after, _ = layer(batch, train=train)
            for pool, module in POOLINGS.items():
                z, _ = module.clone(parent=self)(after, rows.slots, train=train)
                for kind, own in zip(KINDS, jnp.split(head(z, train=train)[0], len(KINDS))):
                    logits[kind, name, pool] = own
        return logits


@pytest.fixture(scope="module")
def every():
    """Logits of each combination for each way to lay the documents out."""
    every = EveryPart()
    rows = {name: pack(layout, **SIZES) for name, layout in {"packed": PACKED, "alone": ALONE, "moved": MOVED}.items()}
    wider = {"t": 57, "phrases": 23, "sentences": 11, "slots": 6}
    rows["padded"] = pack([[], *PACKED, []], **wider)
    params = init(every, rows["packed"], train=False)
    run = jax.jit(functools.partial(every.apply, train=False))
    return {name: {k: by_document(r, z) for k, z in run(params, r).items()} for name, r in rows.items()}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layer", ["gcn", "gat"])
@pytest.mark.parametrize("pool", POOLINGS)
def test_packed_alone_moved_and_padded_give_the_same_logits(every, kind, layer, pool):
    packed = every["packed"][kind, layer, pool]
    assert np.ptp(packed, axis=0).max() > 1e-3, "documents differ"
    for layout in ("alone", "moved", "padded"):
        np.testing.assert_allclose(every[layout][kind, layer, pool], packed, atol=1e-5, err_msg=layout)


def test_kinds_of_edges_differ(every):
    """So the test above compares what it says."""
    logits = [every["packed"][kind, "gcn", "mean"] for kind in KINDS]
    for i, one in enumerate(logits):
        assert all(np.abs(one - other).max() > 1e-4 for other in logits[:i])


def test_the_graph_that_messages_pass_along():
    rows = pack([[DOCUMENTS[0], DOCUMENTS[1]]], **SIZES)
    m = model(edges=(E.window, E.hierarchy), document_taps=("01/document",))
    params = init(m, rows, train=False)
    logits, out = jax.jit(functools.partial(m.apply, train=False))(params, rows)
    # document 0: phrases 0..3 in sentences 14, 15; document 1: phrase 4 in sentence 16
    both_ways = {(0, 1), (1, 2), (2, 3), (0, 2), (1, 3), (14, 15), (0, 14), (1, 14), (2, 15), (3, 15), (4, 16)}
    expected = both_ways | {(b, a) for a, b in both_ways} | {(v, v) for v in (0, 1, 2, 3, 4, 14, 15, 16)}
    assert edge_set(out["graph"]) == dict.fromkeys(expected, 1.0)
    assert set(out) >= {"encoder/saliency", "pyramid/00/phrase", "pyramid/attention", "propagate/coefficient", "pool/beta"}
    assert logits.shape == (1, 4, 3) and out["pool/z"].shape == (1, 4, 8 + 12)
    taps, _ = m.encoder.apply({"params": params["params"]["encoder"]}, rows, train=False)
    np.testing.assert_allclose(out["pool/z"][0, :2, 8:], taps["01/document"][0, :2], atol=1e-6)


def test_slots_that_are_none():
    rows = pack([[DOCUMENTS[0], DOCUMENTS[1]]], **SIZES)
    cached, _ = FakeEncoder(LEVELS).init_with_output(jax.random.key(0), rows, train=False)[0]
    rows = rows.replace(features=cached)
    alone = TextGraphClassifier(None, None, None, None, None, None, document_taps=("01/document",))
    np.testing.assert_array_equal(alone.apply({}, rows, train=False)[0], cached["01/document"])
    averaged = TextGraphClassifier(None, Single("01/sentence", ("sentence",)), None, None, Mean(), None)
    z, out = averaged.apply({}, rows, train=False)
    np.testing.assert_allclose(z[0, 0], cached["01/sentence"][0, :2].mean(0), rtol=1e-6)
    assert edge_set(out["graph"]) == {(v, v): 1.0 for v in range(3)}
    bare = TextGraphClassifier(None, Single("01/sentence", ("sentence",)), None, None, Mean(), None, self_loops=False)
    assert edge_set(bare.apply({}, rows, train=False)[1]["graph"]) == {}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"pooling": None}, "needs a pooling"),
        ({"pyramid": None}, "needs document_taps"),
        ({"document_taps": ("09/document",)}, "document tap '09/document' is not among"),
        ({"pyramid": Single("00/phrase", ("phrase",)), "edges": E.hierarchy}, "need two node scales, got nodes"),
        ({"encoder": None, "edges": (functools.partial(E.saliency, hubs=1),)}, "LearnedSaliency"),
    ],
)
def test_slots_that_do_not_go_together(fields, message):
    rows = pack([[DOCUMENTS[0]]], **SIZES)
    features = {tap: jnp.zeros((1, u, 12)) for tap, u in zip(LEVELS, (14, 8, 4))}
    with pytest.raises(ValueError, match=message):
        init(model().clone(**fields), rows.replace(features=features), train=False)


@pytest.mark.parametrize("propagate", [GCN(8, rounds=1, dropout=0.1), GAT(8, rounds=1, heads=2, attention_dropout=0.1)])
def test_gradients_are_finite_with_empty_rows_and_documents_of_one_node(propagate):
    rows = pack([[DOCUMENTS[1]], [], [DOCUMENTS[0], DOCUMENTS[1]]], **SIZES)
    m = model((*KINDS["union"], E.saliency, E.LearnedSaliency(width=4)), propagate, Hybrid("learned", self_attention=True))
    params = init(m, rows, train=False)

    @jax.jit
    def gradient(p, key):
        def loss(p):
            logits, _ = m.apply(p, rows, train=True, rngs={"dropout": key})
            return (jax.nn.logsumexp(logits, -1) * rows.weight).sum()

        return jax.grad(loss)(p)

    grads = gradient(params, jax.random.key(1))
    flat = jax.tree_util.tree_flatten_with_path(grads)[0]
    bad = [jax.tree_util.keystr(path) for path, g in flat if not jnp.isfinite(g).all()]
    no_effect = "['params']['pooling']['self_key']['bias']"  # a softmax doesn't see what all its logits share
    still = [jax.tree_util.keystr(path) for path, g in flat if not g.any() and jax.tree_util.keystr(path) != no_effect]
    assert not bad and not still, (bad, still)


def test_rows_on_four_devices_give_the_same_without_communication():
    rows = pack([*PACKED[:2], *MOVED[1:4:2]], **SIZES)
    m = model((*KINDS["union"], E.saliency), GAT(8, rounds=1, heads=2), Hybrid("learned"))
    params = init(m, rows, train=False)

    def logits(p, r):
        return m.apply(p, r, train=False)[0]

    expected = jax.jit(logits)(params, rows)
    mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))
    over_rows, everywhere = (NamedSharding(mesh, PartitionSpec(*axis)) for axis in (("data",), ()))
    spread = jax.device_put(rows, over_rows)
    run = jax.jit(logits, in_shardings=(everywhere, over_rows), out_shardings=over_rows)
    compiled = run.lower(params, spread).compile()
    talk = [line for line in compiled.as_text().splitlines() if "all-gather" in line or "all-reduce" in line]
    assert not talk, talk
    np.testing.assert_allclose(compiled(jax.device_put(params, everywhere), spread), expected, atol=1e-5)


def config(**fields):
    """A config.model as experiments have it, small."""
    names = {"pyramid": "pyramid:Pyramid", "propagate": "message_passing:GCN", "pooling": "pooling:Hybrid", "head": "head:Head"}
    c = ConfigDict({slot: f"textfuse_jax.models.{name}" for slot, name in names.items()})
    c.update({f"{slot}_args": ConfigDict() for slot in (*names, "edges")})
    c.update({"levels": LEVELS, "nodes": ("phrase", "sentence"), "width": 8, "document_taps": ()})
    c.edges = tuple(f"textfuse_jax.models.edges:{kind}" for kind in ("window", "knn"))
    with c.unlocked():
        c.update(fields)
    return c.lock()


def test_a_model_from_a_config():
    c = config(
        edges_args={"knn": {"k": 2}},
        propagate="textfuse_jax.models.message_passing:GAT",
        propagate_args={"heads": 2},
        pooling_args={"alpha": "learned"},
        head_args={"hidden": 5},
        document_taps=("01/document",),
    )
    encoder = FakeEncoder(taps_of(c))
    built = build_model(c, encoder, classes=3)
    assert encoder.taps == tuple(sorted(LEVELS))
    assert built.pyramid == Pyramid(LEVELS, ("phrase", "sentence"), 8)
    assert built.edges[0] is E.window and built.edges[1].func is E.knn and built.edges[1].keywords == {"k": 2}
    assert built.propagate == GAT(8, heads=2)
    assert built.pooling == Hybrid("learned")
    assert built.head == Head(3, hidden=5)
    assert (built.self_loops, built.document_taps) == (True, ("01/document",))


def test_ways_to_write_a_config():
    built = build_model(config(edges=None, propagate=None, self_loops=False), None, 2)
    assert built.edges == () and built.propagate is None and not built.self_loops and built.encoder is None
    single = config(pyramid="textfuse_jax.models.pyramid:Single", pyramid_args={"width": None}, edges=())
    assert build_model(single, None, 2).pyramid == Single("01/document", ("phrase", "sentence"), None)
    assert build_model(single, None, 2).edges == ()
    assert taps_of(single) == ("01/document",)
    assert taps_of(config(pyramid="", document_taps=("01/sentence",))) == ("01/sentence",)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"edges_args": {"kn": {"k": 1}}}, "edges_args has 'kn', which is none of the edges"),
        ({"edges_args": {"knn": {"kk": 1}}}, "knn takes no argument 'kk'; did you mean 'k'"),
        ({"pooling_args": {"alpah": 1}}, "did you mean 'alpha'"),
        ({"propagate": "textfuse_jax.models.message_passing:GNC"}, "did you mean 'GCN'"),
    ],
)
def test_a_config_that_names_what_is_not_there(fields, message):
    with pytest.raises(ValueError, match=message):
        build_model(config(**fields), None, 2)


MY_LAB = '''
import jax.numpy as jnp
from textfuse_jax.segments import segment_max, segment_mean


def first(nodes):
    """Each node receives from the one before it: a kind of edges that the library doesn't have."""
    r, u = nodes.document.shape
    here = jnp.broadcast_to(jnp.arange(u), (r, u))
    same = jnp.pad(nodes.document[:, 1:] == nodes.document[:, :-1], ((0, 0), (1, 0))) & (nodes.document < nodes.slots)
    pick = lambda x: jnp.where(same, x, u)
    return nodes.replace(senders=pick(here - 1), receivers=pick(here), weight=same.astype(jnp.float32)), {}


def midrange(nodes, slots, *, train, scale=1.0):
    """A pooling that the library doesn't have."""
    high, low = (segment_max(x, nodes.document, slots) for x in (nodes.features, -nodes.features))
    return scale * (high - low) / 2, {"pool/high": high}
'''


def test_parts_from_outside_the_library(tmp_path, monkeypatch):
    (tmp_path / "my_lab_parts.py").write_text(MY_LAB)
    monkeypatch.syspath_prepend(tmp_path)
    rows = pack([[DOCUMENTS[0], DOCUMENTS[1]]], **SIZES)

    def logits(**fields):
        c = config(**fields)
        m = build_model(c, FakeEncoder(taps_of(c)), 3)
        return jax.jit(functools.partial(m.apply, train=False))(init(m, rows, train=False), rows)

    plain, _ = logits(pooling="textfuse_jax.models.pooling:Mean")
    pooled, out = logits(pooling="my_lab_parts:midrange", pooling_args={"scale": 2.0})
    assert "pool/high" in out and np.abs(plain - pooled)[0, :2].max() > 1e-3
    other, out = logits(pooling="textfuse_jax.models.pooling:Mean", edges=("my_lab_parts:first",))
    assert np.abs(plain - other)[0, :2].max() > 1e-3
    phrases = {(a, b) for a, b in edge_set(out["graph"]) if a != b and b < 5}
    assert phrases == {(0, 1), (1, 2), (2, 3)}


def test_static_edges_are_made_from_a_tap_and_do_not_move_with_the_pyramid():
    """The same neighbours whatever the pyramid's weights; the nodes' features are still the pyramid's."""
    rows = pack(PACKED, **SIZES)
    graphs = {}
    for tap in (None, "00/phrase"):
        classifier = model(edges=KINDS["knn"], edge_tap=tap)
        for seed in (0, 1):
            params = classifier.init(jax.random.key(seed), rows, train=False)
            fixed = classifier.init(jax.random.key(0), rows, train=False)["params"]
            params = {"params": params["params"] | {"encoder": fixed["encoder"]}} if "encoder" in fixed else params
            graphs[tap, seed] = classifier.apply(params, rows, train=False)[1]["graph"]
    assert edge_set(graphs["00/phrase", 0]) == edge_set(graphs["00/phrase", 1])
    assert edge_set(graphs[None, 0]) != edge_set(graphs[None, 1])
    assert graphs["00/phrase", 0].features.shape[-1] == 8
    with pytest.raises(ValueError, match="edge_tap"):
        model(edge_tap="07/phrase").init(jax.random.key(0), rows, train=False)
